"""Falcon: counts equal transformers' on the meta device; three decoder layouts, KV heads, ALiBi."""

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
    maybe,
    read,
    shapes,
    small,
)
from txcalc.architecture import Alibi, Rotary
from txcalc.configs import architecture_of
from txcalc.errors import ModelError

NEW = {"new_decoder_architecture": True, "num_kv_heads": 2}
SEQUENTIAL = {"parallel_attn": False, "multi_query": False, "alibi": True, "bias": True}


def tiny(**keys: Any) -> dict[str, Any]:
    base = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 30}
    return {"model_type": "falcon", "architectures": ["FalconForCausalLM"], **base, **keys}


def test_default_and_minimal_configs() -> None:
    assert_params_equal_meta({**default_config("falcon"), "architectures": ["FalconForCausalLM"]})
    assert_params_equal_meta({"model_type": "falcon"})
    assert_params_equal_meta({"model_type": "falcon", "num_hidden_layers": 1, "bias": None, "num_kv_heads": None})


layouts = st.one_of(
    st.fixed_dictionaries({"multi_query": st.booleans(), "parallel_attn": st.booleans()}),
    st.fixed_dictionaries({"new_decoder_architecture": st.just(True)}, optional={
        "num_ln_in_parallel_attn": st.sampled_from([None, 1, 2]), "multi_query": st.booleans()}),
)  # fmt: skip


@few
@given(
    shapes(
        "falcon",
        kv_heads_key="num_kv_heads",
        num_hidden_layers=layer_counts,
        ffn_hidden_size=maybe(st.none() | small),
        vocab_size=small,
        bias=st.booleans(),
        alibi=st.booleans(),
        tie_word_embeddings=st.booleans(),
        architectures=classes("Falcon"),
        num_labels=st.integers(1, 5),
    ),
    layouts,
)
def test_shapes(config: dict[str, Any], layout: dict[str, Any]) -> None:
    """Before the new architecture ``num_kv_heads`` means nothing: it is left at all heads, as files have it."""
    if "new_decoder_architecture" not in layout:
        config["num_kv_heads"] = config["num_attention_heads"]
    assert_params_equal_meta({**config, **layout})


def test_the_comparison_notices_broadcast_heads() -> None:
    assert_params_differ_from_meta(tiny(**{**NEW, "num_kv_heads": 4}), tiny(**NEW))


@pytest.mark.parametrize(
    ("keys", "kv_heads"),
    [
        ({}, 1),  # 7B: multi_query is the default
        ({"num_kv_heads": 4}, 1),  # as transformers writes 7B
        ({"multi_query": False}, 4),
        (NEW, 2),
        ({**NEW, "multi_query": False}, 2),
        ({"new_decoder_architecture": True}, 4),
    ],
)
def test_kv_heads(keys: dict[str, Any], kv_heads: int) -> None:
    assert attention_of(read(tiny(**keys))).num_key_value_heads == kv_heads


@pytest.mark.parametrize(
    ("keys", "shared", "own"),
    [
        ({}, True, False),  # 7B
        (NEW, False, True),  # 40B, 180B
        ({**NEW, "num_ln_in_parallel_attn": 1}, True, False),  # 11B
    ],
)
def test_norms_of_parallel_branches(keys: dict[str, Any], shared: bool, own: bool) -> None:
    (step,) = read(tiny(**keys)).main.layers[0].steps
    assert (step.norm_in is not None) == shared
    assert [branch.norm_in is not None for branch in step.branches] == [own, own]


def test_falcon_rw_runs_its_sublayers_in_sequence_with_alibi() -> None:
    model = read(tiny(**SEQUENTIAL))
    assert len(model.main.layers[0].steps) == 2
    assert attention_of(model).position == Alibi(before_scaling=True, rounded=True)
    rotary = attention_of(read(tiny())).position
    assert isinstance(rotary, Rotary)
    assert (rotary.rotary_dim, rotary.theta) == (6, 10_000.0)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({**NEW, "num_kv_heads": 3}, "num_kv_heads is 3; it must divide the 4 query heads"),
        ({"hidden_size": 25}, "hidden_size is 25; it is not a multiple of the 4 heads"),
        ({"activation": "swiglu"}, "activation is 'swiglu'"),
        ({"alibi": 1}, "alibi is 1; expected true or false"),
    ],
)
def test_bad_values(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(tiny(**keys))


@pytest.mark.parametrize(
    "keys",
    [
        {"num_kv_heads": 2},  # would be grouped heads, but without the new architecture is not
        {"num_key_value_heads": 4},
        {"n_layer": 3},
        {"head_dim": 8},
        {"partial_rotary_factor": 0.5},
        {"ff_factor": 2},
        {"apply_residual_connection_post_layernorm": True},
        {**NEW, "parallel_attn": False, "num_ln_in_parallel_attn": 1},
    ],
)
def test_what_is_not_known_makes_an_estimate(keys: dict[str, Any]) -> None:
    assert len(architecture_of(tiny(**keys)).reasons) == 1
