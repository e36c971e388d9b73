"""Types with gates, several streams, or keys chosen by content: counts equal transformers' on the meta device.

What is computed is held by their logits (tests/reference).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.configs.width import BARE, CAUSAL, SEQUENCE, TOKEN, assert_default_and_minimal, drawn, four
from tests.strategies import (
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    attention_of,
    even_widths,
    few,
    maybe,
    read,
    small,
)
from txcalc.architecture import LatentAttention
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.kv_cache import kv_cache

width = st.integers(1, 12)
RANKS = {"kv_lora_rank": width, "qk_nope_head_dim": width, "v_head_dim": width, "attention_bias": st.booleans(),
         "qk_rope_head_dim": even_widths, "q_lora_rank": width}  # fmt: skip
ROUTED = {"num_experts_per_tok": st.integers(1, 2), "moe_intermediate_size": width}
V3 = {**ROUTED, "n_routed_experts": st.sampled_from([2, 4, 6]), "n_shared_experts": st.integers(0, 2)}
LISTED = {"mlp_layer_types": maybe(four("dense", "sparse")), "num_hidden_layers": 4}
INDEX = {"index_n_heads": st.integers(1, 3), "index_head_dim": 12, "index_topk": st.integers(1, 9)}
EXPERTS = {**ROUTED, "num_experts": st.sampled_from([2, 4])}
LOCAL = maybe(four("full_attention", "sliding_attention"))
BIAS = {"attention_bias": st.booleans(), "head_dim": even_widths}
FREQUENCIES = st.lists(st.integers(0, 1), min_size=4, max_size=4)

SHAPES = {
    "axk2": drawn("axk2", "AXK2", (CAUSAL, BARE, SEQUENCE, TOKEN), **RANKS, **V3, **INDEX, gated_norm_rank=width,
                  num_hidden_layers=st.integers(1, 4), first_k_dense_replace=maybe(st.integers(0, 4)),
                  moe_layer_freq=maybe(st.integers(1, 2)), n_group=st.just(2), topk_group=1),
    "axk2 listed": drawn("axk2", "AXK2", **RANKS, **V3, **INDEX, **LISTED, gated_norm_rank=width),
    "hy_v4": drawn("hy_v4", "HYV4", **RANKS, **V3, **INDEX, **LISTED, hc_mult=st.integers(1, 4),
                   indexer_types=maybe(four("full", "shared").map(lambda kinds: ["full", *kinds[1:]]))),
    "dots3_note_text": drawn(
        "dots3_note_text", "Dots3Note", **RANKS, **V3 | {"n_shared_experts": st.integers(1, 2)}, **INDEX, **LISTED,
        layer_types=maybe(four("full_attention", "sliding_attention")), use_dsa=maybe(st.booleans()),
        swa_num_attention_heads=3, swa_num_key_value_heads=3, swa_q_lora_rank=width,
        swa_kv_lora_rank=width, swa_head_dim=24, swa_qk_nope_head_dim=st.sampled_from([12, 18]),
        swa_v_head_dim=width, shared_experts_intermediate_size=small, moe_shared_expert_intermediate_size=maybe(small),
        first_k_dense_replace=maybe(st.integers(0, 4)), moe_layer_freq=maybe(st.integers(1, 2) | FREQUENCIES),
        architectures=st.sampled_from([["Dots3NoteForCausalLM"], ["Dots3NoteTextModel"]]),
    ).map(lambda config: {**config, "num_key_value_heads": config["num_attention_heads"]}),
    "doge": drawn("doge", "Doge", (CAUSAL, BARE, SEQUENCE), attention_bias=st.booleans(), mlp_bias=st.booleans(),
                  sliding_window=st.none() | small, is_moe=st.booleans(), num_experts=st.integers(4, 30),
                  num_experts_per_tok=st.integers(1, 4), head_dim=maybe(even_widths)),
    "flint": drawn("flint", "Flint", **BIAS, **EXPERTS, layer_types=LOCAL, num_hidden_layers=4,
                   shared_expert_intermediate_size=st.integers(0, 20), decoder_sparse_step=st.integers(1, 3),
                   mlp_only_layers=maybe(st.lists(st.integers(0, 4), max_size=3))),
    "beam": drawn("beam", "Beam", **BIAS, **EXPERTS, **LISTED, layer_types=LOCAL, n_group=2, topk_group=1,
                  final_logit_softcapping=st.none() | st.just(5.0)),
    "minimax_m3_vl_text": drawn(
        "minimax_m3_vl_text", "MiniMaxM3VL", **LISTED, head_dim=even_widths, num_local_experts=st.integers(2, 4),
        num_experts_per_tok=st.integers(1, 2), dense_intermediate_size=small, shared_intermediate_size=small,
        layer_types=maybe(four("full_attention", "minimax_m3_sparse")), index_n_heads=1, index_head_dim=12,
        moe_layer_freq=maybe(FREQUENCIES),
        sparse_attention_config=maybe(st.fixed_dictionaries({
            "sparse_attention_freq": FREQUENCIES, "sparse_num_index_heads": st.just(1),
            "sparse_index_dim": st.sampled_from([12, 16])})),
        architectures=st.sampled_from([["MiniMaxM3VLForCausalLM"], ["MiniMaxM3VLTextModel"]])),
}  # fmt: skip


@pytest.mark.parametrize("model_type", [name for name in SHAPES if " " not in name])
def test_default_and_minimal_configs(model_type: str) -> None:
    assert_default_and_minimal(model_type)


@pytest.mark.parametrize("name", SHAPES)
@few
@given(data=st.data())
def test_shapes(name: str, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(SHAPES[name]))


TINY = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 4, "intermediate_size": 10, "vocab_size": 30}
LATENT = {**TINY, "kv_lora_rank": 5, "q_lora_rank": 7, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 3,
          "n_routed_experts": 2, "num_experts_per_tok": 1}  # fmt: skip
DOTS = {"model_type": "dots3_note_text", **LATENT, "num_key_value_heads": 4, "index_head_dim": 6}


@pytest.mark.parametrize(
    ("model_type", "ours", "theirs"),
    [
        ("axk2", {"gated_norm_rank": 2}, {"gated_norm_rank": 3}),
        ("hy_v4", {"hc_mult": 2}, {"hc_mult": 3}),
        ("dots3_note_text", {"use_dsa": True}, {"use_dsa": False}),
        ("doge", {"is_moe": False}, {"is_moe": True, "num_experts": 9, "num_experts_per_tok": 2}),
        ("beam", {"attention_bias": False}, {"attention_bias": True}),
        ("minimax_m3_vl_text", {}, {"layer_types": ["minimax_m3_sparse"] * 4}),
    ],
)
def test_the_comparison_notices(model_type: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    sizes = LATENT if model_type in ("axk2", "hy_v4", "dots3_note_text") else TINY
    tiny = {"model_type": model_type, **sizes, "num_key_value_heads": 4, "pad_token_id": 0}
    assert_params_differ_from_meta({**tiny, **ours}, {**tiny, **theirs})


def cached(config: dict[str, Any], ctx: int) -> int:
    return int(kv_cache(read(config), ctx=ctx, kv_dtype="bf16").figures()["kv_cache.total_bytes"])


def test_what_dots3_keeps() -> None:
    """Layers 0, 1: 5 + 2 of a latent and 6 of an indexer, 13 elements a token; 2, 3: 8 + 2 in a window of 4.

    10 tokens, 2 bytes: 2 * 13 * 10 * 2 = 520, and 2 * 10 * 4 * 2 = 160.
    """
    local = {"swa_kv_lora_rank": 8, "swa_head_dim": 6, "swa_qk_nope_head_dim": 4, "sliding_window_size": 4}
    assert cached({**DOTS, **local}, 10) == 520 + 160
    kinds = ["indexed_attention", "indexed_attention", "sliding_attention", "sliding_attention"]
    entry = {"kv_lora_rank": 8, "head_dim": 6}
    canonical = {**DOTS, "layer_types": kinds, "per_layer_config": {"02": entry, "3": entry}, "sliding_window": 4,
                 "pad_token_id": 0}  # fmt: skip
    assert cached(canonical, 10) == 520 + 160
    assert_params_equal_meta(canonical)
    assert_params_equal_meta({**canonical, "per_layer_config": None, "head_dim": 6})


def test_what_minimax_m3_keeps() -> None:
    """2 * 2 heads * 6 = 24 elements a token in 4 layers, and 12 more for the indexer of two; 10 tokens, 2 bytes."""
    kinds = ["full_attention", "minimax_m3_sparse"] * 2
    config = {"model_type": "minimax_m3_vl_text", **TINY, "num_key_value_heads": 2, "head_dim": 6, "layer_types": kinds,
              "index_head_dim": 12}  # fmt: skip
    assert cached(config, 10) == (4 * 24 + 2 * 12) * 10 * 2


def test_hy4_layers_that_take_the_choice_before_them() -> None:
    """The first two layers and every fourth after the second have an indexer."""
    layers = read({"model_type": "hy_v4", **LATENT, "num_hidden_layers": 7}).main.sequence()
    found = [each for layer in layers for each in layer.sublayers() if isinstance(each, LatentAttention)]
    assert [each.indexer.shared for each in found if each.indexer] == [False, False, True, True, True, False, True]


def test_beams_sums_and_temperature() -> None:
    """Step n scales what is added by 1 / sqrt(n) and the stream by sqrt((n - 1) / n), the first step being the 2nd."""
    model = read({"model_type": "beam", **TINY, "num_key_value_heads": 2})
    first = next(model.main.sequence()).steps
    assert [(step.branches[0].scale, step.skip_scale) for step in first] == [
        (0.5**0.5, 0.5**0.5),
        (3**-0.5, (2 / 3) ** 0.5),
    ]
    assert attention_of(model, 0).temperature is None
    assert attention_of(model, 3).position is None
    assert attention_of(model, 3).temperature is not None


@pytest.mark.parametrize(
    ("model_type", "keys", "words"),
    [
        ("axk2", {"n_group": 2}, "n_group and topk_group must both be set, or neither"),
        ("axk2", {"q_lora_rank": None}, "q_lora_rank is null; expected a whole number"),
        ("hy_v4", {"indexer_types": ["shared"] * 4}, "must say full or shared for each layer, full for the first"),
        ("dots3_note_text", {"swa_qk_nope_head_dim": 300}, "leaves nothing of a head to turn"),
        ("dots3_note_text", {"per_layer_config": {"0": 5}}, "per_layer_config is 5 for layer 0; expected an object"),
        ("doge", {"is_moe": True, "num_experts": 2}, "num_experts_per_tok is 64; there are 2 experts"),
        ("beam", {"rope_parameters": {"sliding_attention": 5}}, "has 5 for sliding_attention"),
        ("minimax_m3_vl_text", {"layer_types": ["sliding_attention"] * 4}, "layer_types holds 'sliding_attention'"),
    ],
)
def test_bad_values(model_type: str, keys: dict[str, Any], words: str) -> None:
    sizes = LATENT if model_type in ("axk2", "hy_v4", "dots3_note_text") else {**TINY, "num_key_value_heads": 2}
    with pytest.raises(ModelError, match=words):
        architecture_of({"model_type": model_type, **sizes, **keys})


@pytest.mark.parametrize(
    ("model_type", "keys"),
    [
        ("axk2", {"rope_interleave": False}),
        ("dots3_note_text", {"per_layer_config": {"0": {"surprise": 5}}}),
        ("flint", {"architectures": ["FlintForSequenceClassification"]}),
        ("dots3_note_text", {"architectures": ["Dots3NoteModel"]}),
        ("minimax_m3_vl_text", {"architectures": ["MiniMaxM3VLTextForCausalLM"]}),
        ("beam", {"rope_parameters": {"sliding_attention": {"rope_theta": 1e4}}}),
    ],
)
def test_what_is_not_known_makes_an_estimate(model_type: str, keys: dict[str, Any]) -> None:
    sizes = LATENT if model_type in ("axk2", "dots3_note_text") else {**TINY, "num_key_value_heads": 2}
    assert len(architecture_of({"model_type": model_type, **sizes, **keys}).reasons) == 1
