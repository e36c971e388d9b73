"""StableLM: counts equal transformers' on the meta device; parallel or not, a norm for each head."""

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
    few,
    layer_counts,
    read,
    shapes,
    small,
)
from txcalc.architecture import QKNorm, Rotary
from txcalc.configs import architecture_of
from txcalc.errors import ModelError


def tiny(**keys: Any) -> dict[str, Any]:
    base = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    sizes = {"intermediate_size": 10, "vocab_size": 30}
    return {"model_type": "stablelm", "architectures": ["StableLmForCausalLM"], **base, **sizes, **keys}


def test_default_and_minimal_configs() -> None:
    assert_params_equal_meta({**default_config("stablelm"), "architectures": ["StableLmForCausalLM"]})
    assert_params_equal_meta({"model_type": "stablelm"})
    assert_params_equal_meta({"model_type": "stablelm", "num_hidden_layers": 1})


@few
@given(
    shapes(
        "stablelm",
        num_hidden_layers=layer_counts,
        intermediate_size=small,
        vocab_size=small,
        use_qkv_bias=st.booleans(),
        qk_layernorm=st.booleans(),
        use_parallel_residual=st.booleans(),
        tie_word_embeddings=st.booleans(),
        architectures=classes(
            "StableLm", "ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification"
        ),
        num_labels=st.integers(1, 5),
    )
)
def test_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_the_comparison_notices_a_missing_norm() -> None:
    assert_params_differ_from_meta(tiny(use_parallel_residual=True), tiny())


def test_each_head_has_a_norm_without_bias_and_a_quarter_turns() -> None:
    a = attention_of(read(tiny(qk_layernorm=True)))
    assert a.qk_norm == QKNorm(kind="layernorm", scope="heads", eps=1e-5)
    assert isinstance(a.position, Rotary)
    assert a.position.rotary_dim == 4  # a quarter of 64 / 4
    assert (a.q_bias, a.o_bias) == (False, False)


def test_parallel_branches_share_one_norm() -> None:
    (step,) = read(tiny(use_parallel_residual=True)).main.layers[0].steps
    assert step.norm_in is not None
    assert [branch.norm_in for branch in step.branches] == [None, None]
    assert len(read(tiny()).main.layers[0].steps) == 2


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3; it must divide the 4 query heads"),
        ({"use_qkv_bias": 0}, "use_qkv_bias is 0; expected true or false"),
        ({"hidden_act": "swiglu"}, "hidden_act is 'swiglu'"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps is nan; expected a finite number"),
    ],
)
def test_bad_values(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(tiny(**keys))


@pytest.mark.parametrize("keys", [{"head_dim": 8}, {"rope_pct": 0.5}, {"architectures": ["StableLMEpochForCausalLM"]}])
def test_what_is_not_known_makes_an_estimate(keys: dict[str, Any]) -> None:
    assert len(architecture_of(tiny(**keys)).reasons) == 1
