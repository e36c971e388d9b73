"""Mixtral: Mistral with eight experts in place of the feed-forward (Jiang et al. 2024, arXiv 2401.04088)."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import MixtureOfExperts, Model, Router
from txcalc.configs import moe, rope
from txcalc.configs.common import (
    activation,
    decoder_of,
    head_dims,
    optional,
    pre_norm,
    rms_norm,
    self_attention,
)
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

MIXTRAL_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "sliding_window": None,
    "num_experts_per_tok": 2,
    "num_local_experts": 8,
}


def _mixtral(r: Reader) -> Model:
    r.unused("attention_bias", False)
    hidden = r.integer("hidden_size")
    norm = rms_norm(hidden, r.number("rms_norm_eps"))
    position = rope.rotary(r, head_dims(r)[3], theta=1e6)
    attention = self_attention(r, position=position, window=optional(r, "sliding_window"))
    layer = pre_norm(attention, _experts(r, hidden), norm=norm)
    return decoder_of(r, [(layer, r.layers())], final_norm=norm, head={"prefix": "Mixtral"})


def _experts(r: Reader, hidden: int) -> MixtureOfExperts:
    experts = r.integer("num_experts")
    return MixtureOfExperts(
        hidden_size=hidden,
        num_experts=experts,
        num_experts_per_tok=moe.top_k(r, experts),
        expert=moe.gated(hidden, r.integer("intermediate_size"), activation(r)),
        router=Router(scoring="softmax", norm_topk_prob=True),
    )


TYPES: Final = {
    "mixtral": ModelType(
        build=_mixtral,
        defaults=MIXTRAL_DEFAULTS,
        aliases={"num_experts": "num_local_experts"},
        origin="transformers 5.23 MixtralConfig",
    ),
}
