"""Qwen2 and Qwen3: counts equal transformers' on the meta device; windows, biases, normed heads."""

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
from txcalc.architecture import SelfAttention
from txcalc.configs import architecture_of
from txcalc.errors import ModelError

CLASSES = {"qwen2": "Qwen2", "qwen3": "Qwen3"}
TINY = {"hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "num_hidden_layers": 3,
        "intermediate_size": 10, "vocab_size": 30}  # fmt: skip


def tiny(model_type: str, **keys: Any) -> dict[str, Any]:
    return {"model_type": model_type, "architectures": [CLASSES[model_type] + "ForCausalLM"], **TINY, **keys}


def attention(model_type: str, layer: int = 0, **keys: Any) -> SelfAttention:
    return attention_of(read(tiny(model_type, **keys)), layer)


@pytest.mark.parametrize("model_type", CLASSES)
def test_default_config(model_type: str) -> None:
    assert_params_equal_meta({**default_config(model_type), "architectures": [CLASSES[model_type] + "ForCausalLM"]})


@pytest.mark.parametrize("model_type", CLASSES)
def test_minimal_config(model_type: str) -> None:
    assert_params_equal_meta({"model_type": model_type})
    assert_params_equal_meta({"model_type": model_type, "num_hidden_layers": 1, "num_key_value_heads": None})


@few
@given(
    shapes(
        "qwen2",
        num_hidden_layers=layer_counts,
        intermediate_size=small,
        vocab_size=small,
        tie_word_embeddings=st.booleans(),
        head_dim=maybe(even_widths),
        use_sliding_window=st.booleans(),
        max_window_layers=st.integers(0, 4),
        architectures=classes("Qwen2"),
        num_labels=st.integers(1, 5),
    )
)
def test_qwen2_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@few
@given(
    shapes(
        "qwen3",
        num_hidden_layers=layer_counts,
        intermediate_size=small,
        vocab_size=small,
        tie_word_embeddings=st.booleans(),
        head_dim=maybe(even_widths),
        attention_bias=st.booleans(),
        architectures=classes("Qwen3"),
        num_labels=st.integers(1, 5),
    )
)
def test_qwen3_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_the_comparison_notices_a_missing_bias() -> None:
    assert_params_differ_from_meta(
        tiny("qwen3", attention_bias=False, head_dim=4), tiny("qwen3", attention_bias=True, head_dim=4)
    )


def test_qwen2_has_biases_on_queries_keys_and_values_alone() -> None:
    a = attention("qwen2")
    assert (a.q_bias, a.k_bias, a.v_bias, a.o_bias) == (True, True, True, False)
    assert a.qk_norm is None


def test_qwen3_norms_each_head_before_rotation() -> None:
    a = attention("qwen3")
    assert a.qk_norm is not None
    assert (a.qk_norm.kind, a.qk_norm.scope, a.qk_norm.after_rotary) == ("rmsnorm", "head", False)
    assert a.head_dim == 128  # the type's default, not 24 / 6


@pytest.mark.parametrize("model_type", CLASSES)
def test_windows_start_at_max_window_layers(model_type: str) -> None:
    keys = {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}
    assert [attention(model_type, layer, **keys).window for layer in range(3)] == [None, 7, 7]
    off = {**keys, "use_sliding_window": False}
    assert [attention(model_type, layer, **off).window for layer in range(3)] == [None, None, None]


def test_layer_types_decide_windows() -> None:
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    keys: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 7, "layer_types": kinds}
    assert [attention("qwen3", layer, **keys).window for layer in range(3)] == [7, None, 7]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"num_key_value_heads": 4}, "num_key_value_heads is 4; it must divide the 6 query heads"),
        ({"hidden_size": "24"}, 'hidden_size is "24"; expected a whole number'),
        ({"hidden_size": 25}, "hidden_size is 25; it is not a multiple of the 6 heads"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'"),
        ({"use_sliding_window": "yes"}, 'use_sliding_window is "yes"; expected true or false'),
        ({"layer_types": ["sliding_attention"] * 3}, "no window is in use"),
        ({"layer_types": ["full_attention"]}, "has 1 entries for 3 layers"),
    ],
)
def test_bad_values(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words.replace("(", r"\(")):
        architecture_of(tiny("qwen2", **keys))


def test_a_default_that_does_not_fit_says_so() -> None:
    with pytest.raises(ModelError, match="is 32 \\(the type's default\\); it must divide the 6 query heads") as caught:
        architecture_of({"model_type": "qwen2", "num_attention_heads": 6, "hidden_size": 24})
    assert caught.value.hint == "set num_key_value_heads"


@pytest.mark.parametrize(
    "keys",
    [
        {"dual_chunk_attention_config": {"chunk_size": 4}},
        {"use_mrope": True},
        {"partial_rotary_factor": 0.5},
        {"attention_bias": False},
        {"architectures": ["Qwen2ForRewardModel"]},
    ],
)
def test_what_is_not_known_makes_an_estimate(keys: dict[str, Any]) -> None:
    assert len(architecture_of(tiny("qwen2", **keys)).reasons) == 1
