"""Phi and Phi-3: counts equal transformers' on the meta device; shared norm, biased head, LongRoPE."""

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
from txcalc.architecture import LongRopeScaling, QKNorm, Rotary
from txcalc.configs import architecture_of
from txcalc.errors import ModelError

PUBLISHED = ("ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification")
TINY = {"hidden_size": 48, "num_attention_heads": 6, "num_hidden_layers": 2, "intermediate_size": 10, "vocab_size": 30,
        "pad_token_id": None}  # fmt: skip


def phi(**keys: Any) -> dict[str, Any]:
    return {"model_type": "phi", "architectures": ["PhiForCausalLM"], **TINY, **keys}


def phi3(**keys: Any) -> dict[str, Any]:
    return {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], **TINY, **keys}


@pytest.mark.parametrize(("model_type", "class_name"), [("phi", "PhiForCausalLM"), ("phi3", "Phi3ForCausalLM")])
def test_default_and_minimal_configs(model_type: str, class_name: str) -> None:
    assert_params_equal_meta({**default_config(model_type), "architectures": [class_name]})
    assert_params_equal_meta({"model_type": model_type})
    assert_params_equal_meta({"model_type": model_type, "num_hidden_layers": 1, "num_key_value_heads": None})


@few
@given(
    shapes(
        "phi",
        num_hidden_layers=layer_counts,
        intermediate_size=small,
        vocab_size=small,
        tie_word_embeddings=st.booleans(),
        qk_layernorm=st.booleans(),
        partial_rotary_factor=st.sampled_from([0.4, 0.5, 1.0]),
        architectures=classes("Phi", *PUBLISHED),
        num_labels=st.integers(1, 5),
    )
)
def test_phi_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@few
@given(
    shapes(
        "phi3",
        num_hidden_layers=layer_counts,
        intermediate_size=small,
        vocab_size=small,
        tie_word_embeddings=st.booleans(),
        head_dim=maybe(even_widths),
        sliding_window=st.none() | st.integers(1, 9),
        pad_token_id=None,
        architectures=classes("Phi3", *PUBLISHED),
        num_labels=st.integers(1, 5),
    )
)
def test_phi3_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_the_comparison_notices_a_missing_norm() -> None:
    assert_params_differ_from_meta(phi(qk_layernorm=False), phi(qk_layernorm=True))


def test_phi_runs_both_branches_on_one_normed_input() -> None:
    model = read(phi())
    (step,) = model.main.layers[0].steps
    assert step.norm_in is not None
    assert [branch.norm_in for branch in step.branches] == [None, None]
    assert model.head is not None
    assert model.head.bias


def test_phi_norms_heads_with_a_bias_before_rotation() -> None:
    a = attention_of(read(phi(qk_layernorm=True, partial_rotary_factor=0.5)))
    assert a.qk_norm == QKNorm(kind="layernorm", scope="head", eps=1e-5, bias=True)
    assert isinstance(a.position, Rotary)
    assert (a.position.rotary_dim, a.position.interleaved) == (4, False)  # half of 48 / 6


def test_phi3_has_one_window_in_every_layer() -> None:
    model = read(phi3(sliding_window=5))
    assert [attention_of(model, layer).window for layer in range(2)] == [5, 5]
    assert attention_of(read(phi3())).window is None


@pytest.mark.parametrize("name", ["longrope", "su", "yarn"])
def test_phi3_has_one_rotary_scaling_under_three_names(name: str) -> None:
    scaling = {"type": name, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    position = attention_of(read(phi3(rope_scaling=scaling, max_position_embeddings=131_072))).position
    assert isinstance(position, Rotary)
    assert position.scaling == LongRopeScaling(
        short_factor=(1.0,) * 4,
        long_factor=(2.0,) * 4,
        original_max_position_embeddings=4096,  # the type's default
        factor=32.0,  # 131,072 / 4,096
    )


def test_phi4_mini_turns_three_quarters_of_a_head() -> None:
    position = attention_of(read(phi3(partial_rotary_factor=0.75))).position
    assert isinstance(position, Rotary)
    assert position.rotary_dim == 6  # 0.75 * 48 / 6


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (phi(num_key_value_heads=4), "num_key_value_heads is 4; it must divide the 6 query heads"),
        (phi(intermediate_size=1.5), "intermediate_size is 1.5; expected a whole number"),
        (phi(hidden_act="swiglu"), "hidden_act is 'swiglu'"),
        (phi3(sliding_window=0), "sliding_window is 0; expected 1 to"),
        (phi3(rms_norm_eps=None), "rms_norm_eps is null; expected a number"),
    ],
)
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)


@pytest.mark.parametrize(
    "config",
    [
        phi(qk_layernorm=True, head_dim=4),
        phi(flash_attn=True),
        phi(architectures=["PhiForQuestionAnswering"]),
        phi3(lm_head_bias=True),
        phi3(full_attn_mod=2),
        phi3(layer_types=["full_attention"] * 2),
    ],
)
def test_what_is_not_known_makes_an_estimate(config: dict[str, Any]) -> None:
    assert len(architecture_of(config).reasons) == 1
