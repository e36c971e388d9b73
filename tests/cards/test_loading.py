"""From what a user typed to a Model: which door a text takes, and KV heads in place of the model's own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cards.conftest import refused
from tests.oracles import transformers_meta
from txcalc.architecture import CrossAttention, SelfAttention
from txcalc.cards import find, load
from txcalc.errors import ModelError, RequestError, UsageError
from txcalc.formulas.params import params


def total(model: Any) -> int:
    return int(params(model).figures()["params.total"])


def kv_heads(model: Any) -> set[int]:
    return {
        each.num_key_value_heads
        for stack in model.stacks
        for layer in stack.layers
        for each in layer.sublayers()
        if isinstance(each, SelfAttention | CrossAttention)
    }


# ---- which door -----------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a config in ``gpt2/`` that is not GPT-2, and one in ``org/name/``."""
    config = {**find("llama3-8b").config, "num_hidden_layers": 1}
    for directory in ("gpt2", "my-model", "org/name"):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_bare_name_is_a_card_before_it_is_a_directory(here: Path) -> None:
    assert load("gpt2").model_type == "gpt2"
    assert load("./gpt2").model_type == "llama"
    assert load("gpt2" + os.sep).model_type == "llama"


def test_a_name_that_no_card_has_may_be_a_directory(here: Path) -> None:
    assert load("my-model").main.num_hidden_layers == 1


def test_what_looks_like_a_hub_id_may_be_a_directory(here: Path) -> None:
    assert load("org/name").main.num_hidden_layers == 1
    assert load(str(here / "my-model" / "config.json")).name == "my-model"


def test_a_card_of_ones_own(here: Path) -> None:
    (here / "mine.yaml").write_text("config:\n  model_type: llama\n  num_hidden_layers: 2\n  vocab_size: 100\n")
    (here / "named.yml").write_text("name: own\nconfig: {model_type: llama}\n")
    (here / "bare.yaml").write_text("model_type: llama\nnum_hidden_layers: 3\n")
    (here / "card.json").write_text('{"name": "json", "config": {"model_type": "llama"}}')
    assert load("mine.yaml").main.num_hidden_layers == 2
    assert load("named.yml").name == "own"
    assert load("bare.yaml").main.num_hidden_layers == 3
    assert load("card.json").name == "json"


def test_a_misspelt_key_of_ones_own_card(here: Path) -> None:
    (here / "mine.yaml").write_text("name: mine\nconfg:\n  model_type: llama\n")
    with refused("mine.yaml", "confg", hint="config", kind=ModelError):
        load("mine.yaml")
    (here / "mine.yaml").write_text("name: mine\ntitel: x\nconfig:\n  model_type: llama\n")
    with refused("mine.yaml", "titel", hint="title", kind=ModelError):
        load("mine.yaml")
    (here / "mine.yaml").write_text("config: 3\n")
    with refused("mine.yaml", "config is 3", kind=ModelError):
        load("mine.yaml")


@pytest.mark.parametrize("name", ["org/other", "org/other@main", "org/other@v1.0", "meta-llama/Meta-Llama-3-8B@main"])
def test_hub_ids_are_looked_up_in_the_cache_first(name: str) -> None:
    with refused(name, "not in the cache", "offline", hint="HF_HUB_OFFLINE", kind=ModelError):
        load(name)


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("gpt-4", "OpenAI"),
        ("GPT-4o-mini", "OpenAI"),
        ("gpt-3.5-turbo", "OpenAI"),
        ("gpt-5", "OpenAI"),
        ("o1", "OpenAI"),
        ("o3-mini", "OpenAI"),
        ("openai/gpt-4o", "OpenAI"),
        ("claude-3-opus", "Anthropic"),
        ("anthropic/claude-3.5-sonnet", "Anthropic"),
        ("gemini-1.5-pro", "Google"),
        ("grok-4", "xAI"),
    ],
)
def test_closed_models_are_refused_with_the_reason(name: str, owner: str) -> None:
    with refused(name, owner, "never published", kind=ModelError):
        load(name)


@pytest.mark.parametrize("name", ["gpt-oss-20b", "gpt2", "gpt-j-6b", "gpt3-175b", "palm-540b", "gemma-2b"])
def test_open_models_with_like_names_are_not(name: str) -> None:
    assert load(name).name == name


def test_someone_elses_model_named_like_a_closed_one_is_not() -> None:
    with refused("hub is offline"):
        load("someone/gpt4-x-alpaca")


def test_an_empty_name() -> None:
    for name in ("", "  "):
        with refused("empty", hint="txcalc cards"):
            load(name)


def test_strict_makes_an_error_of_an_estimate(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({**find("llama3-8b").config, "new_thing": 3}))
    assert load(str(path)).reasons
    with refused(str(path), "new_thing", kind=ModelError):
        load(str(path), strict=True)


# ---- KV heads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gqa", "expected"), [("8", 8), ("4", 4), (2, 2), ("1", 1), ("mqa", 1), ("mha", 32), ("MHA", 32)]
)
def test_kv_heads_of_llama3_8b(gqa: str | int, expected: int) -> None:
    """Against transformers with that many heads in the config."""
    model = load("llama3-8b", gqa=gqa, overrides={"num_hidden_layers": 2})
    config = {**find("llama3-8b").config, "num_hidden_layers": 2, "num_key_value_heads": expected}
    assert kv_heads(model) == {expected}
    assert total(model) == transformers_meta.num_params(config)


def test_a_model_that_knows_no_gqa_can_be_asked_all_the_same() -> None:
    """GPT-2: 12 heads of 64; 4 KV heads save 12 * 2 * (768 + 1) * 8 * 64 parameters."""
    assert total(load("gpt2")) - total(load("gpt2", gqa=4)) == 12 * 2 * (768 + 1) * 8 * 64


def test_the_name_says_the_heads() -> None:
    assert load("llama3-8b", gqa="1").name == "llama3-8b with 1 KV head"
    assert load("llama3-8b", gqa="mha").name == "llama3-8b with as many KV heads as query heads"


@pytest.mark.parametrize("gqa", ["5", "0", "-1", 64])
def test_heads_that_do_not_divide(gqa: str | int) -> None:
    with refused(str(gqa), "32 query heads", hint="1, 2, 4, 8, 16, 32", kind=RequestError):
        load("llama3-8b", gqa=gqa)


@pytest.mark.parametrize("gqa", ["x", "", "4.0", 4.0, True, "9" * 50])
def test_heads_that_cannot_be_read(gqa: Any) -> None:
    with refused("--gqa", "not a number of KV heads", hint="mha", kind=UsageError):
        load("llama3-8b", gqa=gqa)


@pytest.mark.parametrize(("name", "why"), [("deepseek-v3", "latent"), ("mamba-130m", "no attention")])
def test_models_without_kv_heads(name: str, why: str) -> None:
    with refused(name, why, kind=RequestError):
        load(name, gqa=8)
