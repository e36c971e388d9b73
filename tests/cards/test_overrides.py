"""``--set``: a field under its own name, the standard name or a path; what no adapter reads is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cards.conftest import refused
from tests.oracles import transformers_meta
from txcalc.cards import find, load
from txcalc.cards.overrides import parse_value, with_overrides
from txcalc.errors import ModelError, UsageError
from txcalc.formulas.params import params


def total(model: Any) -> int:
    return int(params(model).figures()["params.total"])


@pytest.mark.parametrize(
    ("card", "overrides", "path"),
    [
        ("llama3-8b", {"num_hidden_layers": "16"}, ("num_hidden_layers",)),
        ("gpt2", {"num_hidden_layers": "16"}, ("n_layer",)),
        ("gpt2", {"n_layer": "16"}, ("n_layer",)),
        ("mpt-7b", {"num_hidden_layers": "16"}, ("n_layers",)),
        ("gemma-3-27b", {"num_hidden_layers": "16"}, ("text_config", "num_hidden_layers")),
        ("gemma-3-27b", {"text_config.num_hidden_layers": "16"}, ("text_config", "num_hidden_layers")),
        ("gemma-3-27b", {"vocab_size": "1000"}, ("text_config", "vocab_size")),
        ("gemma-3-27b", {"vision_config.num_hidden_layers": "2"}, ("vision_config", "num_hidden_layers")),
        ("llama3.1-8b", {"rope_scaling.factor": "16"}, ("rope_scaling", "factor")),
        ("llama3-8b", {"head_dim": "64"}, ("head_dim",)),
        ("transformer-base", {"norm_position": "pre"}, ("norm_position",)),
    ],
)
def test_where_a_key_goes(card: str, overrides: dict[str, str], path: tuple[str, ...]) -> None:
    before = json.dumps(dict(find(card).config))
    config, _ = with_overrides(find(card).config, overrides)
    reached: Any = config
    for name in path:
        reached = reached[name]
    assert reached == parse_value("", next(iter(overrides.values())))
    assert json.dumps(dict(find(card).config)) == before, "the card itself was changed"


@pytest.mark.parametrize(
    ("card", "overrides"),
    [
        ("llama3-8b", {"num_hidden_layers": 3, "vocab_size": 1000}),
        ("gpt2", {"num_hidden_layers": 5, "hidden_size": 384}),
        ("qwen3-4b", {"num_hidden_layers": 2, "tie_word_embeddings": False}),
        ("gemma-3-1b", {"num_hidden_layers": 7, "intermediate_size": 640}),
    ],
)
def test_a_what_if_counts_as_transformers_does(card: str, overrides: dict[str, Any]) -> None:
    """The oracle is told the change under the type's own names, so a key that went nowhere would show."""
    spelt = {"num_hidden_layers": "n_layer", "hidden_size": "n_embd"} if card == "gpt2" else {}
    config = {**find(card).config, **{spelt.get(key, key): value for key, value in overrides.items()}}
    assert total(load(card, overrides=overrides)) == transformers_meta.num_params(config)


def test_an_explicit_head_dim_stays() -> None:
    """Qwen3-4B: head_dim 128 is not 2560/32; with half the width it is 128 still."""
    attention = load("qwen3-4b", overrides={"hidden_size": "1280"}).main.layers[0].sublayers()[0]
    assert attention.head_dim == 128  # type: ignore[union-attr]


def test_the_name_says_what_was_changed() -> None:
    model = load("llama3-8b", overrides={"num_hidden_layers": "16", "vocab_size": "32k"}, gqa="4")
    assert model.name == "llama3-8b with num_hidden_layers=16, vocab_size=32k, 4 KV heads"


@pytest.mark.parametrize(
    ("card", "overrides", "words", "hint"),
    [
        ("llama3-8b", {"num_layer": "8"}, "num_layer is not a field of llama", "num_hidden_layers"),
        ("llama3-8b", {"n_layer": "8"}, "n_layer is not a field of llama", ""),
        ("llama3-8b", {"": "8"}, "is not a field", ""),
        ("gemma-3-27b", {"num_layer": "8"}, "text_config.num_layer is not a field", "text_config.num_hidden_layers"),
        ("gemma-3-27b", {"text_config.head_dims": "8"}, "text_config.head_dims", "text_config.head_dim"),
        ("mpt-7b", {"attn_config.kv_n_heads": "8"}, "attn_config.kv_n_heads is not a field", ""),
        ("transformer-base", {"num_hidden_layer": "8"}, "num_hidden_layer is not a key", "num_hidden_layers"),
        ("llama3.1-8b", {"rope_scaling.factr": "8"}, "rope_scaling has no factr", "factor"),
        ("llama3-8b", {"rope_scaling.factor": "8"}, "rope_scaling is null, not an object", ""),
        ("llama3.1-8b", {"rope_scalling.factor": "8"}, "rope_scalling is not in the config", "rope_scaling"),
        ("gpt-oss-20b", {"num_hidden_layers": "8"}, "layer_types has 24 entries for 8 layers", "drop it"),
        ("llama3-8b", {"num_hidden_layers": "0"}, "num_hidden_layers is 0", ""),
        ("llama3-8b", {"num_hidden_layers": 10**30}, "num_hidden_layers is a number of about", ""),
        ("llama3-8b", {"tie_word_embeddings": "True"}, 'tie_word_embeddings is "True"; expected true or false', ""),
        ("llama3-8b", {"hidden_size": "wide"}, 'hidden_size is "wide"; expected a whole number', ""),
        ("llama3-8b", {"num_attention_heads": "33"}, "num_key_value_heads is 8; it must divide the 33", ""),
        ("llama3-8b", {"model_type": "lama"}, 'unknown model_type "lama"', "llama"),
    ],
)
def test_a_change_that_means_nothing_is_refused(card: str, overrides: dict[str, Any], words: str, hint: str) -> None:
    with refused(words, hint=hint, kind=ModelError):
        load(card, overrides=overrides)


@pytest.mark.parametrize("text", ["{bad", '"open', "[1,", "", " ", "NaN", "Infinity", "1e400", "9" * 5000, "[" * 10**5])
def test_a_value_that_cannot_be_read(text: str) -> None:
    with refused("--set hidden_size", hint="a value is", kind=UsageError):
        load("llama3-8b", overrides={"hidden_size": text})


def test_a_key_of_thousands_of_letters() -> None:
    with refused("10,000 characters", kind=UsageError):
        load("llama3-8b", overrides={"a." * 5000: "1"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16),
        ("-1", -1),
        ("1e-5", 1e-5),
        ("true", True),
        ("null", None),
        ("gelu", "gelu"),
        ('"gelu"', "gelu"),
        ('"16"', "16"),
        ("32k", 32_768),
        ("1M", 1_048_576),
        ("[1, 2]", [1, 2]),
        ('{"type": "yarn"}', {"type": "yarn"}),
        ("float16", "float16"),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert parse_value("key", text) == value
    assert type(parse_value("key", text)) is type(value)


@given(st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_value_is_read_or_refused(text: str) -> None:
    try:
        parse_value("key", text)
    except UsageError as error:
        assert error.hint  # noqa: PT017 - both outcomes are right


@pytest.mark.parametrize(
    ("card", "key", "value", "gqa"),
    [
        ("llama3-8b", "num_key_value_heads", "8", 4),
        ("gemma-2-2b", "num_key_value_heads", "2", "mha"),
        ("falcon-7b", "multi_query", "true", 71),
    ],
)
def test_two_numbers_of_kv_heads_that_disagree(card: str, key: str, value: str, gqa: str | int) -> None:
    with refused(f"--gqa {gqa} and --set {key}={value} disagree", hint="leave out one", kind=UsageError):
        load(card, overrides={key: value}, gqa=gqa)


def test_two_numbers_of_kv_heads_that_agree() -> None:
    both = load("llama3-8b", overrides={"num_key_value_heads": "4"}, gqa=4)
    assert (
        total(both) == total(load("llama3-8b", gqa=4)) == total(load("llama3-8b", overrides={"num_key_value_heads": 4}))
    )


def test_keys_without_bearing_may_be_set() -> None:
    assert total(load("llama3-8b", overrides={"attention_dropout": "0.1"})) == 8_030_261_248
