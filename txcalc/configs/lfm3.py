"""LFM3: gated short convolutions, and windowed and full attention with a gate for each head between them.

Source: Liquid AI's model cards; the layers are LFM2's (arXiv 2511.23404, section 2) with norms on what they give out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import Layer, Model, QKNorm, Rotary, SelfAttention, ShortConvolution
from txcalc.configs import moe, rope
from txcalc.configs.common import (
    decoder_of,
    each_once,
    head_dims,
    layer_kinds,
    pre_norm,
    rms_norm,
    sandwich,
    self_attention,
)
from txcalc.configs.heads import published
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

LFM3_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 128_000,
    "hidden_size": 2048,
    "intermediate_size": 7680,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "max_position_embeddings": 128_000,
    "norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "conv_bias": False,
    "conv_L_cache": 7,
    "sliding_window": 256,
    "use_sandwich_norm": True,
    "use_attention_gate": True,
    "attention_bias": False,
}
_KINDS: Final = ("full_attention", "sliding_attention", "conv")
_ROTARY: Final[Mapping[str, Mapping[str, Any]]] = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.5},
}


def _lfm3(r: Reader) -> Model:
    num_layers, hidden = r.layers(), r.integer("hidden_size")
    norm = rms_norm(hidden, r.number("norm_eps"))
    kinds = layer_kinds(r, num_layers, lambda: _default_kinds(num_layers), known=_KINDS)
    r.ignore("sliding_window", "use_attention_gate", "attention_bias", "rope_parameters", "head_dim")
    r.ignore("num_attention_heads", "num_key_value_heads")  # where no layer attends
    mixers: dict[str, SelfAttention | ShortConvolution] = {
        kind: _attention(r, kind) for kind in dict.fromkeys(kinds) if kind != "conv"
    }
    mixers["conv"] = ShortConvolution(
        hidden_size=hidden, conv_kernel=r.integer("conv_L_cache"), bias=r.flag("conv_bias")
    )
    feed_forward = moe.gated(hidden, r.integer("intermediate_size"), "silu")
    arrange = sandwich if r.flag("use_sandwich_norm") else pre_norm

    def layer(kind: str) -> Layer:
        return arrange(mixers[kind], feed_forward, norm=norm)

    return decoder_of(r, each_once(kinds, layer), final_norm=norm, head=published("Lfm3", ""))


def _default_kinds(num_layers: int) -> list[str]:
    """Full attention in every fourth layer from the third, windowed attention two layers after each."""
    others = {0: "sliding_attention", 2: "full_attention"}
    return ["conv" if i == 0 else others.get(i % 4, "conv") for i in range(num_layers)]


def _attention(r: Reader, kind: str) -> SelfAttention:
    bias = r.flag("attention_bias")
    return self_attention(
        r,
        position=_position(r, kind),
        qkv_bias=bias,
        o_bias=bias,
        qk_norm=QKNorm(kind="rmsnorm", scope="head", eps=r.number("norm_eps")),
        window=r.optional_integer("sliding_window") if kind == "sliding_attention" else None,
        gate="head" if r.flag("use_attention_gate") else "none",
    )


def _position(r: Reader, kind: str) -> Rotary:
    """Each kind of attention has rotary settings of its own; the full one turns its quickest pairs alone."""
    return rope.proportional(r, head_dims(r)[3], rope.entry(r, kind) or _ROTARY[kind])


TYPES: Final = {
    "lfm3": ModelType(
        build=_lfm3, defaults=LFM3_DEFAULTS, aliases={"rms_norm_eps": "norm_eps"}, origin="transformers 5.23 Lfm3Config"
    ),
}
