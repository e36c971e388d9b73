"""JetMoE: attention heads and feed-forwards are both experts (Shen et al. 2024, arXiv 2404.07413, section 2)."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import ExpertHeads, Model, Router, SelfAttention
from txcalc.configs import moe, rope
from txcalc.configs.common import activation, decoder_of, pre_norm, rms_norm
from txcalc.configs.heads import published
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

JETMOE_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32_000,
    "hidden_size": 2048,
    "num_hidden_layers": 12,
    "num_key_value_heads": 16,
    "kv_channels": 128,
    "intermediate_size": 5632,
    "max_position_embeddings": 4096,
    "activation_function": "silu",
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-6,
}
_EPS: Final = 1e-6  # of the layers' norms, whatever rms_norm_eps is


def _jetmoe(r: Reader) -> Model:
    """Both mixtures send a token to ``num_experts_per_tok`` of ``num_local_experts``."""
    r.ignore("aux_loss_coef", "rotary_percent", "layer_types")
    hidden = r.integer("hidden_size")
    experts = moe.mixture(
        r,
        size="intermediate_size",
        router=Router(scoring="softmax_after_topk"),
        num_experts="num_local_experts",
        act=activation(r, "activation_function"),
        out_bias=True,
    )
    layer = pre_norm(_attention(r), experts, norm=rms_norm(hidden, _EPS))
    final = rms_norm(hidden, r.number("rms_norm_eps"))
    return decoder_of(r, [(layer, r.layers())], final_norm=final, head=published("JetMoe", "sequence"))


def _attention(r: Reader) -> SelfAttention:
    """As many query heads as keys, times the chosen experts, whatever ``num_attention_heads`` says."""
    kv_heads, width, chosen = r.integer("num_key_value_heads"), r.integer("kv_channels"), moe.top_k(r, _experts(r))
    r.unused("num_attention_heads", kv_heads * chosen)
    return SelfAttention(
        hidden_size=r.integer("hidden_size"),
        num_attention_heads=kv_heads * chosen,
        num_key_value_heads=kv_heads,
        head_dim=width,
        v_head_dim=width,
        position=rope.rotary(r, width, whole=True),
        expert_heads=ExpertHeads(num_experts=_experts(r), num_experts_per_tok=chosen),
    )


def _experts(r: Reader) -> int:
    return r.integer("num_local_experts")


TYPES: Final = {
    "jetmoe": ModelType(
        build=_jetmoe,
        defaults=JETMOE_DEFAULTS,
        aliases={"head_dim": "kv_channels"},
        origin="transformers 5.23 JetMoeConfig",
    ),
}
