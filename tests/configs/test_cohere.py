"""Cohere: counts equal transformers' on the meta device; one bias-free norm, normed heads, scaled logits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.transformers_meta import default_config
from tests.strategies import (
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    attention_of,
    classes,
    even_widths,
    few,
    layer_counts,
    maybe,
    read,
    shapes,
    small,
)
from txcalc.architecture import QKNorm, Rotary
from txcalc.configs import architecture_of
from txcalc.errors import ModelError


def tiny(**keys: Any) -> dict[str, Any]:
    base = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 10}
    return {"model_type": "cohere", "architectures": ["CohereForCausalLM"], "vocab_size": 30, **base, **keys}


def test_default_and_minimal_configs() -> None:
    assert_params_equal_meta({**default_config("cohere"), "architectures": ["CohereForCausalLM"]})
    assert_params_equal_meta({"model_type": "cohere"})
    assert_params_equal_meta({"model_type": "cohere", "num_hidden_layers": 1, "num_key_value_heads": None})


@few
@given(
    shapes(
        "cohere",
        num_hidden_layers=layer_counts,
        intermediate_size=small,
        vocab_size=small,
        head_dim=maybe(even_widths),
        attention_bias=st.booleans(),
        use_qk_norm=st.none() | st.booleans(),
        tie_word_embeddings=st.booleans(),
        architectures=classes("Cohere", "ForCausalLM", "Model"),
    )
)
def test_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_the_comparison_notices_a_missing_norm() -> None:
    assert_params_differ_from_meta(tiny(use_qk_norm=False), tiny(use_qk_norm=True))


def test_layout() -> None:
    model = read(tiny(use_qk_norm=True))
    (step,) = model.main.layers[0].steps
    assert step.norm_in is not None
    assert (step.norm_in.kind, step.norm_in.bias) == ("layernorm", False)
    assert attention_of(model).qk_norm == QKNorm(kind="layernorm", scope="heads", eps=1e-5)
    assert model.head is not None
    assert (model.head.scale, model.head.tied) == (0.0625, True)
    position = attention_of(model).position
    assert isinstance(position, Rotary)
    assert (position.interleaved, position.theta, position.rotary_dim) == (True, 500_000.0, 6)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3; it must divide the 4 query heads"),
        ({"logit_scale": "1/16"}, 'logit_scale is "1/16"; expected a number'),
        ({"hidden_act": "swiglu"}, "hidden_act is 'swiglu'"),
    ],
)
def test_bad_values(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(tiny(**keys))


@pytest.mark.parametrize(
    "keys", [{"layer_switch": 4}, {"sliding_window": 4}, {"architectures": ["CohereForSequenceClassification"]}]
)
def test_what_is_not_known_makes_an_estimate(keys: dict[str, Any]) -> None:
    assert len(architecture_of(tiny(**keys)).reasons) == 1
