"""OLMo 2: counts equal transformers' on the meta device; norms after the sublayers, norms across all heads."""

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
from txcalc.architecture import QKNorm
from txcalc.configs import architecture_of
from txcalc.errors import ModelError


def tiny(**keys: Any) -> dict[str, Any]:
    base = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 10}
    return {"model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"], "vocab_size": 30, **base, **keys}


def test_default_and_minimal_configs() -> None:
    assert_params_equal_meta({**default_config("olmo2"), "architectures": ["Olmo2ForCausalLM"]})
    assert_params_equal_meta({"model_type": "olmo2"})
    assert_params_equal_meta({"model_type": "olmo2", "num_hidden_layers": 1, "num_key_value_heads": None})


@few
@given(
    shapes(
        "olmo2",
        num_hidden_layers=layer_counts,
        intermediate_size=small,
        vocab_size=st.integers(2, 64),
        head_dim=maybe(even_widths),
        attention_bias=st.booleans(),
        tie_word_embeddings=st.booleans(),
        architectures=classes("Olmo2", "ForCausalLM", "Model", "ForSequenceClassification"),
        num_labels=st.integers(1, 5),
    )
)
def test_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_the_comparison_notices_missing_biases() -> None:
    assert_params_differ_from_meta(tiny(), tiny(attention_bias=True))


def test_layout() -> None:
    model = read(tiny())
    for step in model.main.layers[0].steps:
        (branch,) = step.branches
        assert branch.norm_out is not None
        assert (branch.norm_in, step.norm_in, step.norm_after) == (None, None, None)
    assert attention_of(model).qk_norm == QKNorm(kind="rmsnorm", scope="width", eps=1e-5)
    assert model.main.final_norm is not None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3; it must divide the 4 query heads"),
        ({"intermediate_size": [10]}, "intermediate_size is"),
        ({"hidden_act": "swiglu"}, "hidden_act is 'swiglu'"),
    ],
)
def test_bad_values(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(tiny(**keys))


@pytest.mark.parametrize(
    "keys", [{"clip_qkv": 8.0}, {"sliding_window": 4}, {"architectures": ["Olmo2ForTokenClassification"]}]
)
def test_what_is_not_known_makes_an_estimate(keys: dict[str, Any]) -> None:
    assert len(architecture_of(tiny(**keys)).reasons) == 1
