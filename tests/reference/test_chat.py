"""Chat templates: what transformers renders of the same, from every place where a model keeps one; refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from txcalc.errors import ModelError
from txcalc.reference.chat import chat_prompt, template_of_directory, template_of_gguf

MARKS = """{{ bos_token }}{% for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}<s>You help.</s>
{% endif %}
<{{ message['role'] }}>{{ message['content'] | trim }}{{ eos_token }}
{% endfor %}
{% if add_generation_prompt %}<assistant>{% endif %}"""
NAMES = {"bos_token": "<b>", "eos_token": "<e>"}
QUESTION = "  What is {{ this }}?\n"


def theirs(template: str, names: dict[str, str]) -> str:
    message = [{"role": "user", "content": QUESTION}]
    rendered, _ = render_jinja_template([message], chat_template=template, add_generation_prompt=True, **names)
    text: str = rendered[0]
    return text


def test_a_prompt_is_what_transformers_renders() -> None:
    ours = chat_prompt(MARKS, NAMES, QUESTION, "x")
    assert ours == theirs(MARKS, NAMES)
    assert ours == "<b><s>You help.</s>\n<user>What is {{ this }}?<e>\n<assistant>"


@pytest.mark.parametrize("form", ["text", "by name", "file"])
def test_a_directory_keeps_its_template_in_one_of_three_ways(tmp_path: Path, form: str) -> None:
    by_name = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": MARKS}]
    config: dict[str, Any] = {"bos_token": "<b>", "eos_token": {"content": "<e>"}, "pad_token": None}
    config |= {} if form == "file" else {"chat_template": MARKS if form == "text" else by_name}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if form == "file":
        (tmp_path / "chat_template.jinja").write_text(MARKS)
    assert template_of_directory(str(tmp_path)) == (MARKS, NAMES)


def test_a_gguf_file_keeps_it_in_its_metadata() -> None:
    metadata = {
        "tokenizer.chat_template": MARKS, "tokenizer.ggml.tokens": ["<b>", "a", "<e>"],
        "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.padding_token_id": 99,
    }  # fmt: skip
    assert template_of_gguf(metadata, "x.gguf") == (MARKS, NAMES)


def test_a_model_without_a_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no chat template"):
        template_of_directory(str(tmp_path))
    with pytest.raises(ModelError, match=r"x.gguf has no chat template"):
        template_of_gguf({}, "x.gguf")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('only a system may begin') }}", "only a system may begin"),
        ("{% for %}", "Expected"),
        ("{{ messages[3].content.nothing }}", "no element 3"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% for i in range(999999999) %}{% endfor %}", "Range too big"),
    ],
)
def test_a_template_that_fails_or_reaches_out_is_one_line(template: str, reason: str) -> None:
    with pytest.raises(ModelError, match="its chat template fails: ") as caught:
        chat_prompt(template, {}, QUESTION, "x")
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
