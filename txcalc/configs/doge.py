"""Doge (SmallDoge): masks made of the values, learned skips, and experts that are pairs of keys (arXiv 2412.11834)."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import Branch, DynamicMask, FeedForward, Layer, MixtureOfExperts, Model, Residual, Router
from txcalc.configs import moe, rope
from txcalc.configs.common import activation, decoder_of, head_dims, optional, rms_norm, self_attention, swiglu
from txcalc.configs.heads import published
from txcalc.configs.llama import LLAMA_DEFAULTS
from txcalc.configs.llama_kin import head_norm
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

_EXPERT_KEYS: Final = ("num_experts", "num_experts_per_tok", "norm_topk_prob")


def _doge(r: Reader) -> Model:
    r.rounds_heads = True
    bias = r.flag("attention_bias")
    attention = self_attention(
        r,
        position=rope.rotary(r, head_dims(r)[3], whole=True),
        qkv_bias=bias,
        o_bias=bias,
        qk_norm=head_norm(r),
        window=optional(r, "sliding_window"),
        dynamic_mask=DynamicMask(keep=r.integer("keep_window_size"), bias=bias),
    )
    norm = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    branches = (Branch(sublayer=each, norm_in=norm) for each in (attention, _feed_forward(r)))
    layer = Layer(steps=tuple(Residual(branches=(branch,), learned_skip=True) for branch in branches))
    return decoder_of(r, [(layer, r.layers())], final_norm=norm, head=published("Doge", "sequence"))


def _feed_forward(r: Reader) -> FeedForward | MixtureOfExperts:
    """With experts, the dense feed-forward stands beside them; an expert is one channel, two vectors of the stream."""
    bias = r.flag("mlp_bias")
    dense = swiglu(r, bias=bias)
    if not r.flag("is_moe"):
        r.ignore(*_EXPERT_KEYS)
        return dense
    experts, hidden = r.integer("num_experts"), r.integer("hidden_size")
    chosen = moe.top_k(r, experts)
    r.flag("norm_topk_prob")  # a softmax over the chosen sums to one anyway
    r.notes.append("router scores of neighbouring tokens are mixed in transformers' forward pass of a whole sequence")
    return MixtureOfExperts(
        hidden_size=hidden,
        num_experts=experts,
        num_experts_per_tok=chosen,
        expert=FeedForward(hidden_size=hidden, intermediate_size=1, activation=activation(r), gated=False),
        router=Router(scoring="softmax_after_topk", product_keys=True),
        shared_expert=dense,
    )


TYPES: Final = {
    "doge": ModelType(
        build=_doge,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 32_768, "hidden_size": 1024, "intermediate_size": 2048,
            "num_attention_heads": 8, "sliding_window": None, "keep_window_size": 2048, "is_moe": False,
            "num_experts": 16_384, "num_experts_per_tok": 64, "norm_topk_prob": False,
        },
        origin="transformers 5.23 DogeConfig",
    ),
}  # fmt: skip
