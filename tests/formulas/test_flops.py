"""FLOPs by hand, in every phase and mask; properties for any shape; what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txcalc.architecture import FeedForward, MixtureOfExperts, Router
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.expression import symbol
from txcalc.formulas.flops import flops
from txcalc.formulas.flops_sublayers import sublayer_flops
from txcalc.formulas.flops_work import Work
from txcalc.result import Node

LLAMA3_8B: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
TINY = {**LLAMA3_8B, "hidden_size": 64, "num_attention_heads": 8, "intermediate_size": 96, "vocab_size": 40}
TINY["num_hidden_layers"] = 2
T5 = {"model_type": "t5", "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 4, "vocab_size": 10}
DEEPSEEK: dict[str, Any] = {
    **TINY,
    "model_type": "deepseek_v3",
    "architectures": ["DeepseekV3ForCausalLM"],
    "num_hidden_layers": 1,
    "num_key_value_heads": 8,
    "first_k_dense_replace": 1,
    "q_lora_rank": 12,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 10,
}


def tree(config: dict[str, Any], **question: Any) -> Node:
    return flops(architecture_of(config), **question)


def figures(config: dict[str, Any], **question: Any) -> dict[str, int | float]:
    return tree(config, **question).figures()


# ---- by hand --------------------------------------------------------------------------------------------------------

# Weights of a layer: q and o 4096 * 4096, k and v 4096 * 1024, three matrices of 4096 * 14336; 32 layers; head
# 4096 * 128256. Two FLOPs a weight and token: 2 * 7,504,658,432.
WEIGHTS = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14_336) + 4096 * 128_256
HEAD = 2 * 4096 * 128_256


def test_forward() -> None:
    """2,048 tokens: 2 * weights each, and 4 * 32 heads * 128 * 2048 * 2048 in each of 32 layers."""
    attention = 32 * 4 * 32 * 128 * 2048**2
    assert figures(LLAMA3_8B, seq=2048)["flops.matmul"] == 2 * WEIGHTS * 2048 + attention == 32_938_104_193_024
    assert figures(LLAMA3_8B, seq=2048)["flops.attention"] == attention == 2_199_023_255_552
    assert figures(LLAMA3_8B, seq=2048)["flops.per_token"] == 16_083_058_688


def test_prefill_gives_logits_once() -> None:
    forward, prefill = (figures(LLAMA3_8B, seq=2048, phase=phase)["flops.matmul"] for phase in ("forward", "prefill"))
    assert forward - prefill == 2047 * HEAD


def test_decode() -> None:
    """One token against 32,768 cached ones meets 32,769 keys: 2 * weights + 32 * 4 * 32 * 128 * 32769."""
    found = figures(LLAMA3_8B, ctx=32_768, phase="decode")
    assert found["flops.attention"] == 32 * 4 * 32 * 128 * 32_769
    assert found["flops.matmul"] == 2 * WEIGHTS + 32 * 4 * 32 * 128 * 32_769 == 32_189_710_336


def test_training_is_three_forward_passes() -> None:
    found = figures(LLAMA3_8B, seq=2048, phase="train")
    assert found["flops.forward"] == 32_938_104_193_024
    assert found["flops.backward"] == 2 * 32_938_104_193_024
    assert found["flops.matmul"] == 3 * 32_938_104_193_024
    assert found["flops.attention"] == 3 * 2_199_023_255_552


def test_masks() -> None:
    """At 4 tokens a head meets 16, 8 or 1 + 2 + 3 + 4 = 10 pairs, each 4 * 8 FLOPs; 8 heads, 2 layers."""
    for mask, pairs in (("full", 16), ("half", 8), ("exact", 10)):
        assert figures(TINY, seq=4, mask=mask)["flops.attention"] == 2 * 8 * pairs * 4 * 8


def test_a_window_is_ignored_in_the_square_and_kept_in_the_exact_count() -> None:
    """Window 3 at 5 tokens: 1 + 2 + 3 + 3 + 3 = 12 pairs of 25; a decode step meets 3 keys."""
    config = {**TINY, "model_type": "mistral", "sliding_window": 3}
    each = 2 * 8 * 4 * 8
    assert figures(config, seq=5)["flops.attention"] == 25 * each
    assert figures(config, seq=5, mask="exact")["flops.attention"] == 12 * each
    assert figures(config, ctx=5, phase="decode")["flops.attention"] == 3 * each


def test_two_stacks() -> None:
    """T5 of one layer and 4 heads of 4, width 16: encoder over 5 tokens, decoder over 3.
    Encoder: 5 * (4 * 16*16 + 2 * 16*24) * 2 + 4 * 16 * 25; decoder: 3 tokens through self-attention (4 matrices),
    cross q and o, feed-forward; 5 source tokens through cross k and v; 4 * 16 * (9 + 15) products; head 3 * 16 * 10."""
    encoder = 2 * 5 * (4 * 256 + 2 * 384) + 4 * 16 * 25
    decoder = 2 * 3 * (4 * 256 + 2 * 256 + 2 * 384) + 2 * 5 * 2 * 256 + 4 * 16 * (9 + 15)
    head = 2 * 3 * 16 * 10
    assert figures(T5, seq=3, source_seq=5)["flops.matmul"] == encoder + decoder + head
    assert figures(T5, seq=3, source_seq=5)["flops.attention"] == 4 * 16 * (25 + 9 + 15)


def test_decoding_runs_no_encoder() -> None:
    """One token: self-attention against 4 keys, cross-attention against 5 cached ones, no source projections."""
    found = figures(T5, ctx=3, source_seq=5, phase="decode")["flops.matmul"]
    assert found == 2 * (4 * 256 + 2 * 256 + 2 * 384) + 4 * 16 * (4 + 5) + 2 * 16 * 10


def test_half_and_exact_leave_an_encoder_whole() -> None:
    """Bidirectional and cross-attention have no mask: only the decoder's own 9 pairs shrink."""
    assert figures(T5, seq=3, source_seq=5, mask="exact")["flops.attention"] == 4 * 16 * (25 + 6 + 15)


def test_latent_attention_expanded_and_absorbed() -> None:
    """8 heads, latent 16, rotary 4, keys 8 + 4, values 10; 6 tokens. Both share q_a, q_b, kv_a, o. Expanded:
    kv_b 16 * 8 * 18 a token, products 12 and 10 wide. Absorbed: 8 * 8 * 16 and 8 * 16 * 10 a token, products 20 and
    16 wide: more here, and far less where one token meets a long cache."""
    shared = 64 * 12 + 12 * 8 * 12 + 64 * 20 + 8 * 10 * 64
    rest = 3 * 64 * 96 + 64 * 40
    expanded = 2 * 6 * (shared + rest + 16 * 8 * 18) + 2 * 8 * 36 * (12 + 10)
    absorbed = 2 * 6 * (shared + rest + 8 * 8 * 16 + 8 * 16 * 10) + 2 * 8 * 36 * (20 + 16)
    assert figures(DEEPSEEK, seq=6)["flops.matmul"] == expanded
    assert figures(DEEPSEEK, seq=6, mla="absorbed")["flops.matmul"] == absorbed


def test_latent_decoding_expands_the_whole_cache_or_absorbs() -> None:
    """Against 99 tokens: 100 latents through kv_b, or none."""
    expanded, absorbed = (
        figures(DEEPSEEK, ctx=99, phase="decode", mla=mla)["flops.matmul"] for mla in ("expanded", "absorbed")
    )
    difference = 2 * 100 * 16 * 8 * 18 + 2 * 8 * 100 * 22 - (2 * (8 * 8 * 16 + 8 * 16 * 10) + 2 * 8 * 100 * 36)
    assert expanded - absorbed == difference > 0


def test_experts() -> None:
    """Router 64 * 4, two of four experts of 3 * 64 * 96 a token; all of them where an implementation runs them."""
    config = {**TINY, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 4}
    config |= {"num_experts_per_tok": 2}
    routed, everything = (figures(config, seq=1, moe=moe)["flops.matmul"] for moe in ("routed", "all_experts"))
    assert everything - routed == 2 * 2 * (2 * 3 * 64 * 96)


def test_a_convolution_on_the_input_costs_its_backward_once() -> None:
    """Patches of 4 * 4 * 3 pixels to 32 channels: 4 of them. Backward of the rest is twice its forward."""
    config = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "image_size": 8,
        "patch_size": 4,
    }
    found = figures(config, phase="train")
    patches = 2 * 4 * 3 * 4 * 4 * 32
    assert found["flops.backward"] == 2 * found["flops.forward"] - patches


# ---- the tree -------------------------------------------------------------------------------------------------------


def test_rows_add_up_and_carry_their_formula() -> None:
    whole = tree(LLAMA3_8B, seq=128).find("flops.matmul")
    scores = next(node for _, node in whole.walk() if node.name == "scores")
    assert scores.formula() == "2 * B * N * T * S * H"
    assert scores.value == 2 * 32 * 128 * 128 * 128
    for _, node in whole.walk():
        if node.children:
            times = int(node.count) if node.count is not None else 1
            assert node.value == times * sum(int(child.value) for child in node.children)


def test_elementwise_is_an_estimate_and_stays_outside_the_sum() -> None:
    found = tree(LLAMA3_8B, seq=128)
    estimate = found.find("flops.elementwise")
    assert estimate.basis == "estimated"
    assert estimate.aside
    assert estimate.reason
    assert found.value == found.find("flops.matmul").value
    assert 0 < estimate.value < found.value / 10


def test_the_convention_is_said() -> None:
    assert "windows ignored" in tree(TINY, seq=4).convention
    assert "the masks keep" in tree(TINY, seq=4, mask="exact").convention
    mixtral = {**TINY, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}
    assert "every expert" in tree(mixtral, seq=4, moe="all_experts").convention
    assert "expert" not in tree(TINY, seq=4).convention


def test_experts_that_may_do_nothing_make_an_estimate() -> None:
    """LongCat's router may choose experts without weights; how often is not known from the shape."""
    expert = FeedForward(hidden_size=8, intermediate_size=4, activation="silu", gated=True)
    router = Router(zero_experts=2)
    moe = MixtureOfExperts(hidden_size=8, num_experts=4, num_experts_per_tok=2, expert=expert, router=router)
    B, T = symbol("B", 1), symbol("T", 3)
    routed = sublayer_flops(moe, Work(B=B, T=T, S=T, rows=B * T))
    assert (routed.basis, bool(routed.reason)) == ("estimated", True)
    assert routed.value == 2 * 3 * (8 * 6 + 2 * 3 * 8 * 4)
    assert sublayer_flops(moe, Work(B=B, T=T, S=T, rows=B * T, moe="all_experts")).basis == "exact"


# ---- properties -----------------------------------------------------------------------------------------------------

shapes = st.fixed_dictionaries(
    {
        "num_hidden_layers": st.integers(1, 5),
        "num_key_value_heads": st.sampled_from([1, 2, 4, 8]),
        "intermediate_size": st.integers(1, 200),
        "vocab_size": st.integers(1, 500),
    }
)


@given(shape=shapes, seq=st.integers(1, 300), batch=st.integers(1, 8), phase=st.sampled_from(["forward", "train"]))
@settings(max_examples=40, deadline=None)
def test_linear_in_batch_and_layers(shape: dict[str, int], seq: int, batch: int, phase: str) -> None:
    config = {**TINY, **shape}
    one, many = (figures(config, seq=seq, batch=each, phase=phase)["flops.matmul"] for each in (1, batch))
    assert many == batch * one
    fewer = figures({**config, "num_hidden_layers": 1}, seq=seq, phase=phase)["flops.matmul"]
    head = (3 if phase == "train" else 1) * 2 * seq * 64 * shape["vocab_size"]
    assert one - head == shape["num_hidden_layers"] * (fewer - head)


@given(shape=shapes, seq=st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_masks_are_ordered_and_a_prefill_is_the_sum_of_its_decode_steps(shape: dict[str, int], seq: int) -> None:
    config = {**TINY, **shape}
    full, half, exact = (figures(config, seq=seq, mask=mask)["flops.attention"] for mask in ("full", "half", "exact"))
    assert half <= exact <= full == 2 * half
    steps = [figures(config, ctx=ctx, phase="decode")["flops.attention"] for ctx in range(1, min(seq, 12))]
    first = figures(config, seq=1)["flops.attention"]
    assert first + sum(steps) == figures(config, seq=min(seq, 12), mask="exact")["flops.attention"]


def test_more_kv_heads_cost_projections_not_products() -> None:
    few, many = (figures({**TINY, "num_key_value_heads": heads}, seq=32) for heads in (1, 8))
    assert few["flops.attention"] == many["flops.attention"]
    assert many["flops.matmul"] - few["flops.matmul"] == 2 * 32 * 2 * 2 * 64 * 7 * 8


# ---- what is refused ------------------------------------------------------------------------------------------------

BERT = {"model_type": "bert", "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1}
BOTH_WAYS = {"model_type": "gemma3_text", "num_hidden_layers": 2, "use_bidirectional_attention": True}


@pytest.mark.parametrize(
    ("config", "question", "message"),
    [
        (TINY, {}, "no length is given"),
        (TINY, {"seq": 0}, "seq is 0"),
        (TINY, {"seq": 8, "batch": -1}, "batch is -1"),
        (TINY, {"seq": True}, "seq is True"),
        (TINY, {"seq": 8, "ctx": 8}, "seq and ctx are both given"),
        (TINY, {"seq": 8, "phase": "decode"}, "seq is not for it"),
        (TINY, {"phase": "decode"}, "no length is given"),
        (TINY, {"seq": 8, "phase": "backward"}, "phase is 'backward'"),
        (TINY, {"seq": 8, "mask": "causal"}, "mask is 'causal'"),
        (TINY, {"seq": 8, "logits": "none"}, "logits is 'none'"),
        (TINY, {"seq": 8, "moe": "top1"}, "moe is 'top1'"),
        (TINY, {"seq": 8, "mla": "fused"}, "mla is 'fused'"),
        (TINY, {"seq": 8, "source_seq": 8}, "no encoder"),
        (TINY, {"seq": 8, "images": 1}, "no vision tower"),
        (TINY, {"seq": 8, "images": -1}, "images is -1"),
        (BERT, {"ctx": 8, "phase": "decode"}, "has no decoder"),
        (BOTH_WAYS, {"ctx": 8, "phase": "decode"}, "its tokens see later ones"),
    ],
)
def test_refused(config: dict[str, Any], question: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        tree(config, **question)


BLOCKS = {"longformer": {}, "led": {}, "longt5": {}, "big_bird": {"block_size": 2, "num_random_blocks": 3}}


@pytest.mark.parametrize("model_type", BLOCKS)
def test_what_published_code_runs_in_blocks_is_an_estimate_of_the_whole_square(model_type: str) -> None:
    """BigBird's sequences of at most (5 + 2 * 3) * 2 = 22 tokens run in full; pairs that masks keep are a count."""
    model = architecture_of({"model_type": model_type, **BLOCKS[model_type]})
    assert "padded blocks" in flops(model, seq=23).find("flops.matmul").reason
    assert flops(model, seq=23, mask="exact").find("flops.matmul").basis == "exact"
    assert (flops(model, seq=22).find("flops.matmul").basis == "exact") == (model_type == "big_bird")
