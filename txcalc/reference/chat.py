"""A question in the form that a chat model was trained on: its own template, a text in Jinja's language.

The template comes with the model and is no code of ours: it runs in Jinja's sandbox, where it reaches nothing but the
messages.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NoReturn

from txcalc.cards.files import read_mapping
from txcalc.errors import MissingExtraError, ModelError

_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


def template_of_directory(path: str) -> tuple[str, dict[str, str]]:
    """(template, names of the special tokens that it may use) of a directory.

    Raises:
        ModelError: it has no template.
    """
    config_path, own_file = (os.path.join(path, name) for name in ("tokenizer_config.json", "chat_template.jinja"))
    config = read_mapping(config_path) if os.path.isfile(config_path) else {}
    template = config.get("chat_template")
    if os.path.isfile(own_file):
        with open(own_file, encoding="utf-8", errors="replace") as file:
            template = file.read(1_000_000)
    if isinstance(template, list):  # several by name
        named = {each.get("name"): each.get("template") for each in template if isinstance(each, dict)}
        template = named.get("default")
    tokens = {name: config[name] for name in _TOKENS if name in config}
    names = {name: token.get("content") if isinstance(token, dict) else token for name, token in tokens.items()}
    return _required(template, path), {name: token for name, token in names.items() if isinstance(token, str)}


def template_of_gguf(metadata: Mapping[str, Any], path: str) -> tuple[str, dict[str, str]]:
    """The same of a GGUF file's metadata.

    Raises:
        ModelError: it has no template.
    """
    tokens = metadata.get("tokenizer.ggml.tokens")
    names = {}
    for key, name in (("bos", "bos_token"), ("eos", "eos_token"), ("unknown", "unk_token"), ("padding", "pad_token")):
        number = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(tokens, list) and isinstance(number, int) and 0 <= number < len(tokens):
            names[name] = str(tokens[number])
    return _required(metadata.get("tokenizer.chat_template"), path), names


def chat_prompt(template: str, names: Mapping[str, str], question: str, path: str) -> str:
    """What the model reads so that it answers: one message of the user, and the beginning of the answer.

    Raises:
        ModelError: the template is none, or refuses.
        MissingExtraError: jinja2, which comes with torch, is not installed.
    """
    try:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ModuleNotFoundError:
        raise MissingExtraError("chat templates need jinja2", "pip install jinja2") from None

    def refuse(reason: str) -> NoReturn:
        raise TemplateError(reason)

    loops = ["jinja2.ext.loopcontrols"]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=loops)
    environment.globals["raise_exception"] = refuse
    messages = [{"role": "user", "content": question}]
    try:
        return environment.from_string(template).render(messages=messages, add_generation_prompt=True, **names)
    except Exception as error:  # a template can fail in any way that Python can
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"{path}: its chat template fails: {reason}", "leave --chat out") from None


def _required(template: object, path: str) -> str:
    if not isinstance(template, str) or not template.strip():
        raise ModelError(f"{path} has no chat template", "leave --chat out: the prompt is then gone on from as it is")
    return template
