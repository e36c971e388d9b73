"""Llama and Mistral against transformers on the meta device: defaults, varied shapes, minimal configs, windows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import transformers_meta
from tests.strategies import assert_params_equal_meta, configs
from txcalc.architecture import SelfAttention
from txcalc.configs import architecture_of
from txcalc.formulas.params import params

SHAPES: dict[str, Any] = {
    "hidden_size": st.sampled_from([32, 64, 96]),
    "intermediate_size": st.integers(1, 200),
    "num_hidden_layers": st.integers(1, 5),
    "num_attention_heads": st.sampled_from([4, 8]),
    "num_key_value_heads": st.sampled_from([None, 1, 2, 4]),
    "head_dim": st.sampled_from([None, 8, 24]),
    "vocab_size": st.integers(1, 500),
    "tie_word_embeddings": st.booleans(),
}
CLASSES = ["ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"]


@pytest.mark.parametrize("prefix", ["Llama", "Mistral"])
@pytest.mark.parametrize("ending", CLASSES)
def test_defaults_of_every_class(prefix: str, ending: str) -> None:
    config = {**transformers_meta.default_config(prefix.lower()), "num_hidden_layers": 2}
    assert_params_equal_meta({**config, "architectures": [prefix + ending]})


@given(config=configs("llama", **SHAPES, attention_bias=st.booleans(), mlp_bias=st.booleans()))
@settings(max_examples=25, deadline=None)
def test_llama_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta({**config, "architectures": ["LlamaForCausalLM"]})


MISTRAL = {**SHAPES, "num_key_value_heads": st.sampled_from([1, 2, 4]), "sliding_window": st.sampled_from([None, 1, 9])}


@given(config=configs("mistral", **MISTRAL))
@settings(max_examples=25, deadline=None)
def test_mistral_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta({**config, "architectures": ["MistralForCausalLM"]})


@pytest.mark.parametrize("model_type", ["llama", "mistral"])
def test_a_minimal_config_takes_the_type_s_defaults(model_type: str) -> None:
    config = {"model_type": model_type, "num_hidden_layers": 1}
    assert_params_equal_meta(config)
    assert any(key == "hidden_size" and "transformers" in origin for key, _, origin in architecture_of(config).assumed)


def test_the_oracle_notices_a_missing_bias() -> None:
    """Negative control: biases that the config asks for, left out."""
    config = {"model_type": "llama", "num_hidden_layers": 1, "attention_bias": True}
    without = architecture_of({**config, "attention_bias": False})
    assert params(without).figures()["params.total"] != transformers_meta.num_params(config)


def windows(config: dict[str, Any]) -> list[int | None]:
    model = architecture_of(config)
    return [
        each.window for layer in model.main.sequence() for each in layer.sublayers() if isinstance(each, SelfAttention)
    ]


def test_mistral_has_one_window_for_all_layers() -> None:
    config = {"model_type": "mistral", "num_hidden_layers": 2}
    assert windows(config) == [4096, 4096]
    assert windows({**config, "sliding_window": None}) == [None, None]
    assert architecture_of({**config, "layer_types": ["full_attention", "sliding_attention"]}).reasons


SMALL = {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1}


def test_a_single_channel_cannot_be_turned() -> None:
    """transformers multiplies it by the cosines of a pair: keys of 2 channels in the cache, products of 2."""
    assert any("turn pairs" in reason for reason in architecture_of({**SMALL, "head_dim": 1}).reasons)
    assert not architecture_of({**SMALL, "head_dim": 2}).reasons
