"""Inkling and Inkling 2: counts and FLOPs equal transformers' on the meta device; their caches by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.configs.width import assert_default_and_minimal, drawn, four
from tests.oracles import flop_counter
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, few, maybe, read, small
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache
from txcalc.reference import build

width = st.integers(1, 12)
SHARED: dict[str, Any] = {
    "num_hidden_layers": 4, "intermediate_size": None, "head_dim": width, "swa_num_attention_heads": 6,
    "swa_num_key_value_heads": st.sampled_from([1, 2, 3]), "swa_head_dim": width, "sliding_window_size": small,
    "d_rel": width, "rel_extent": small, "conv_kernel_size": st.integers(1, 4),
    "n_routed_experts": st.integers(2, 4), "num_experts_per_tok": st.integers(1, 2),
    "layer_types": maybe(four("hybrid", "hybrid_sliding")),
}  # fmt: skip
SHAPES = {
    "inkling_text": drawn(
        "inkling_text", "", **SHARED | {"intermediate_size": small}, moe_intermediate_size=small,
        n_shared_experts=st.integers(1, 3), dense_mlp_idx=maybe(st.integers(0, 4)),
        local_layer_ids=maybe(st.lists(st.integers(0, 4))), mlp_layer_types=maybe(four("dense", "sparse")),
        dense_intermediate_size=maybe(small), unpadded_vocab_size=maybe(st.just(1)),
        architectures=st.sampled_from([["InklingForCausalLM"], ["InklingTextModel"]])),
    "inkling2_text": drawn(
        "inkling2_text", "", **SHARED, moe_intermediate_size=small, n_layers_per_attn_res_block=st.integers(1, 3),
        architectures=st.sampled_from([["Inkling2ForCausalLM"], ["Inkling2TextModel"]])),
}  # fmt: skip
TINY: dict[str, Any] = {
    "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "swa_num_attention_heads": 6, "swa_num_key_value_heads": 3, "swa_head_dim": 6, "num_hidden_layers": 7,
    "moe_intermediate_size": 24, "vocab_size": 67, "num_experts_per_tok": 2, "n_routed_experts": 6, "d_rel": 5,
    "rel_extent": 9, "sliding_window_size": 5, "pad_token_id": 0,
}  # fmt: skip
FIRST = {"model_type": "inkling_text", "architectures": ["InklingForCausalLM"], **TINY, "intermediate_size": 20,
         "mlp_layer_types": ["dense", *["sparse"] * 6]}  # fmt: skip
SECOND = {"model_type": "inkling2_text", "architectures": ["Inkling2ForCausalLM"], **TINY,
          "n_layers_per_attn_res_block": 3}  # fmt: skip


@pytest.mark.parametrize("model_type", SHAPES)
def test_default_and_minimal_configs(model_type: str) -> None:
    assert_default_and_minimal(model_type)


@pytest.mark.parametrize("model_type", SHAPES)
@few
@given(data=st.data())
def test_shapes(model_type: str, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(SHAPES[model_type]))


@pytest.mark.parametrize(
    ("config", "other"),
    [
        (FIRST, {"mlp_layer_types": ["sparse"] * 7}),
        (FIRST, {"conv_kernel_size": 3}),
        (SECOND, {"d_rel": 4}),
        (SECOND, {"layer_types": ["hybrid_sliding"] * 7}),
    ],
)
def test_the_comparison_notices(config: dict[str, Any], other: dict[str, Any]) -> None:
    assert_params_differ_from_meta(config, {**config, **other})


@pytest.mark.parametrize("config", [FIRST, SECOND], ids=["inkling", "inkling 2"])
def test_forward_flops(config: dict[str, Any]) -> None:
    """In blocks of 3 layers, 7 layers read from up to 4 sums."""
    model = flop_counter.model_of(config)
    counted = flop_counter.forward(model, **flop_counter.inputs_of(model, batch=3, seq=13))
    assert flops(read(config), batch=3, seq=13).figures()["flops.matmul"] == counted
    assert flops(read({**config, "rel_extent": 8}), batch=3, seq=13).figures()["flops.matmul"] != counted


def test_how_much_earlier_depth_is_read() -> None:
    """Another number of layers a block changes nothing but what is read: that is counted too."""
    config = {**SECOND, "n_layers_per_attn_res_block": 2}
    model = flop_counter.model_of(config)
    counted = flop_counter.forward(model, **flop_counter.inputs_of(model, batch=2, seq=6))
    ours = flops(read(config), batch=2, seq=6).figures()["flops.matmul"]
    assert ours == counted
    assert ours != flops(read(SECOND), batch=2, seq=6).figures()["flops.matmul"]


@pytest.mark.parametrize("config", [FIRST, SECOND], ids=["inkling", "inkling 2"])
def test_cache_by_hand(config: dict[str, Any]) -> None:
    """10 tokens, 2 bytes. Layer 5 of 7 is full: 2 * 2 * 8 * 10 = 320; six windows of 5: 6 * 2 * 3 * 6 * 5 = 1,080.

    Windows of convolutions, 3 inputs each: keys and values 3 * (2 * 2 * 8 + 6 * 2 * 3 * 6) = 744, outputs of two steps
    a layer 14 * 3 * 32 = 1,344.
    """
    found = kv_cache(read(config), ctx=10, kv_dtype="bf16").figures()
    assert found["kv_cache.total_bytes"] == (320 + 1080) * 2
    assert found["kv_cache.state_bytes"] == (744 + 1344) * 2


def test_the_reference_refuses_them_by_name() -> None:
    with pytest.raises(RequestError, match="biases by distance that tokens make"):
        build(read(FIRST))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**FIRST, "swa_num_key_value_heads": 4}, "swa_num_key_value_heads is 4; it must divide the 6 query heads"),
        ({**FIRST, "layer_types": ["full_attention"] * 7}, "layer_types holds 'full_attention'"),
        ({**FIRST, "logits_mup_width_multiplier": 0}, "logits_mup_width_multiplier is 0; states are divided by it"),
        ({**SECOND, "scoring_func": "softmax"}, "scoring_func is 'softmax'"),
    ],
)
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)


@pytest.mark.parametrize("config", [{**FIRST, "architectures": ["InklingModel"]}, {**SECOND, "surprise": 3}])
def test_what_is_not_known_makes_an_estimate(config: dict[str, Any]) -> None:
    assert len(architecture_of(config).reasons) == 1
