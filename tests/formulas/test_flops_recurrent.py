"""Recurrent mixers in chunked form equal to what transformers runs, layer by layer and over chunk boundaries."""

from __future__ import annotations

from typing import Any

import pytest
from torch.utils.flop_counter import FlopCounterMode

from tests.oracles import flop_counter
from txcalc.architecture import (
    FeedForward,
    GatedDeltaNet,
    LinearAttention,
    Mamba2,
    MixtureOfExperts,
    RealGatedRecurrence,
    Router,
    SelfAttention,
    Sublayer,
)
from txcalc.expression import symbol
from txcalc.formulas.flops_sublayers import sublayer_flops
from txcalc.formulas.flops_work import Work

BATCH, V, D = 2, 50, 32
HEAD = 2 * D * V  # FLOPs of the head a token


def flops_of(tokens: int, *sublayers: Sublayer, **choices: Any) -> int:
    """FLOPs of these sublayers for BATCH sequences of ``tokens``."""
    B, T = symbol("B", BATCH), symbol("T", tokens)
    work = Work(B=B, T=T, S=symbol("S", tokens), rows=B * T, **choices)
    return sum(int(sublayer_flops(each, work).value) for each in sublayers)


def transformers_flops(config: dict[str, Any], tokens: int) -> int:
    model = flop_counter.model_of({"vocab_size": V, "hidden_size": D, "pad_token_id": 0, **config})
    return flop_counter.forward(model, input_ids=flop_counter.tokens(BATCH, tokens), use_cache=False)


MAMBA2 = Mamba2(hidden_size=D, num_heads=8, head_dim=8, state_size=12, n_groups=2, conv_kernel=4, chunk_size=16)
MAMBA2_CONFIG = {
    "model_type": "mamba2",
    "architectures": ["Mamba2ForCausalLM"],
    "num_heads": 8,
    "head_dim": 8,
    "state_size": 12,
    "n_groups": 2,
    "chunk_size": 16,
    "num_hidden_layers": 1,
}


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 40])
def test_mamba2(tokens: int) -> None:
    """Whole chunks of 16, and what is padded to one."""
    assert flops_of(tokens, MAMBA2) + BATCH * tokens * HEAD == transformers_flops(MAMBA2_CONFIG, tokens)


LIGHTNING = LinearAttention(hidden_size=D, num_heads=4, head_dim=8, feature_map="lightning", block_size=4)
ATTENTION = SelfAttention(hidden_size=D, num_attention_heads=4, num_key_value_heads=2, head_dim=8, v_head_dim=8)
EXPERTS = MixtureOfExperts(
    hidden_size=D,
    num_experts=4,
    num_experts_per_tok=2,
    expert=FeedForward(hidden_size=D, intermediate_size=24, activation="silu", gated=True),
    router=Router(),
)


@pytest.mark.parametrize("tokens", [3, 4, 10])
def test_lightning_attention(tokens: int) -> None:
    """Blocks of 4; the last one as long as what is left."""
    config = {
        "model_type": "minimax",
        "architectures": ["MiniMaxForCausalLM"],
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "block_size": 4,
        "layer_types": ["linear_attention", "full_attention"],
    }
    found = flops_of(tokens, LIGHTNING, ATTENTION, EXPERTS, EXPERTS)
    assert found + BATCH * tokens * HEAD == transformers_flops(config, tokens)


def test_real_gated_recurrence() -> None:
    """Two recurrent blocks and one attention; each with a gated feed-forward of half the configured width."""
    config = {
        "model_type": "recurrent_gemma",
        "architectures": ["RecurrentGemmaForCausalLM"],
        "lru_width": 48,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "attention_window_size": 8,
    }
    recurrence = RealGatedRecurrence(hidden_size=D, lru_width=48, num_heads=4, conv_kernel=4)
    feed_forward = FeedForward(hidden_size=D, intermediate_size=32, activation="gelu", gated=True)
    attention = ATTENTION.replace(num_key_value_heads=1)
    found = flops_of(9, recurrence, recurrence, attention, feed_forward, feed_forward, feed_forward)
    assert found + BATCH * 9 * HEAD == transformers_flops(config, 9)


DELTA = GatedDeltaNet(
    hidden_size=D,
    num_k_heads=4,
    num_v_heads=4,
    head_k_dim=8,
    head_v_dim=8,
    conv_kernel=4,
    norm_eps=1e-6,
    decay="channel",
    gate_rank=8,
)


@pytest.mark.parametrize("tokens", [5, 64, 70])
def test_delta_attention_with_a_decay_for_each_channel(tokens: int) -> None:
    """Chunks of 64; Kimi Linear's layers counted one by one."""
    config = {
        "model_type": "kimi_linear",
        "vocab_size": V,
        "hidden_size": D,
        "pad_token_id": 0,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "intermediate_size": 24,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 2,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_head_dim": 8,
        "linear_num_heads": 4,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4,
        "v_head_dim": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    }
    model = flop_counter.model_of(config)
    with flop_counter.no_values_read(), FlopCounterMode(display=False, depth=None) as counter:
        model(input_ids=flop_counter.tokens(BATCH, tokens), use_cache=False)
    modules = counter.get_flop_counts()
    (layer,) = [counts for name, counts in modules.items() if name.endswith("layers.0.self_attn")]
    assert flops_of(tokens, DELTA) == sum(layer.values())


def test_the_forms_differ() -> None:
    """Negative control: step by step there are no products within chunks, and chunks of another length cost others."""
    assert flops_of(40, MAMBA2, scan="recurrent") < flops_of(40, MAMBA2)
    assert flops_of(40, MAMBA2.replace(chunk_size=8)) != flops_of(40, MAMBA2)
    assert flops_of(40, LIGHTNING.replace(block_size=8)) != flops_of(40, LIGHTNING)
    assert flops_of(70, DELTA.replace(decay="head")) != flops_of(70, DELTA)
