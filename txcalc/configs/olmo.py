"""OLMo 1 to 3, OLMoE and FlexOlmo: norms without weights, then norms on what sublayers give out, and experts."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import Layer, MixtureOfExperts, Model, Norm, QKNorm, Rotary, Router
from txcalc.configs import moe, rope
from txcalc.configs.common import (
    decoder_of,
    each_once,
    head_dims,
    layer_kinds,
    llama_like,
    output_norm,
    rms_norm,
    self_attention,
    swiglu,
    windows_of,
)
from txcalc.configs.dense import heads_fill_width
from txcalc.configs.heads import published
from txcalc.configs.llama import LLAMA_DEFAULTS
from txcalc.configs.llama_kin import both_biases
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType


def _width_norm(r: Reader) -> QKNorm:
    """One norm over all query heads and one over all key heads."""
    return QKNorm(kind="rmsnorm", scope="width", eps=r.number("rms_norm_eps"))


def _olmo(r: Reader) -> Model:
    """LayerNorm without weight or bias (arXiv 2402.00838, section 2.1)."""
    r.unused("mlp_bias", False)
    return llama_like(
        r,
        norm=Norm(kind="layernorm", width=r.integer("hidden_size"), eps=1e-5, weight=False),
        clip_qkv=r.optional_number("clip_qkv"),
        **both_biases(r),
        head=published("Olmo", "sequence"),
    )


def _olmo2(r: Reader) -> Model:
    return llama_like(
        r, qk_norm=_width_norm(r), arrange=output_norm, **both_biases(r), head=published("Olmo2", "sequence")
    )


# ---- OLMo 3 ---------------------------------------------------------------------------------------------------------


def _olmo3(r: Reader) -> Model:
    """Three layers with a window, then a full one, whose rotation alone is scaled."""
    num_layers, norm = r.layers(), rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    default = ["sliding_attention" if (i + 1) % 4 else "full_attention" for i in range(num_layers)]
    kinds = layer_kinds(r, num_layers, lambda: default)
    feed_forward, qk_norm = swiglu(r), _width_norm(r)

    def layer(key: tuple[str, int | None]) -> Layer:
        kind, window = key
        attention = self_attention(r, position=_rotary(r, kind), window=window, qk_norm=qk_norm, **both_biases(r))
        return output_norm(attention, feed_forward, norm=norm)

    layers = each_once(zip(kinds, windows_of(r, kinds), strict=True), layer)
    return decoder_of(r, layers, final_norm=norm, head=published("Olmo3", "sequence"))


def _rotary(r: Reader, kind: str) -> Rotary:
    """A flat setting, or one for each kind of layer; ``rope_scaling`` speaks of full layers."""
    settings = dict(rope.entry(r, kind))
    if kind == "full_attention":
        settings |= r.mapping("rope_scaling")
    return rope.rotary(r, head_dims(r)[3], theta=500_000.0, settings=settings, whole=True)


# ---- experts --------------------------------------------------------------------------------------------------------


def _experts(r: Reader) -> MixtureOfExperts:
    return moe.mixture(
        r,
        size="intermediate_size",
        num_experts="num_local_experts",
        router=Router(scoring="softmax", norm_topk_prob=r.flag("norm_topk_prob")),
    )


def _olmoe(r: Reader) -> Model:
    """Llama's layer with OLMo 2's norms of queries and keys (arXiv 2409.02060)."""
    heads_fill_width(r)
    return llama_like(
        r,
        feed_forward=_experts(r),
        qk_norm=_width_norm(r),
        clip_qkv=r.optional_number("clip_qkv"),
        **both_biases(r),
        head=published("Olmoe", ""),
    )


def _flex_olmo(r: Reader) -> Model:
    """OLMo 2's layer with experts (arXiv 2507.07024)."""
    return llama_like(
        r,
        theta=500_000.0,
        feed_forward=_experts(r),
        qk_norm=_width_norm(r),
        arrange=output_norm,
        **both_biases(r),
        head=published("FlexOlmo", ""),
    )


_DEFAULTS: Final[dict[str, Any]] = {
    **{key: value for key, value in LLAMA_DEFAULTS.items() if key != "mlp_bias"},
    "vocab_size": 50_304,
    "rms_norm_eps": 1e-5,
}
_ALIASES: Final = {"num_local_experts": "num_experts"}

TYPES: Final = {
    "olmo": ModelType(
        build=_olmo, defaults={**_DEFAULTS, "clip_qkv": None}, origin="transformers 5.23 OlmoConfig"
    ),
    "olmo2": ModelType(build=_olmo2, defaults=_DEFAULTS, origin="transformers 5.23 Olmo2Config"),
    "olmo3": ModelType(
        build=_olmo3, defaults={**_DEFAULTS, "sliding_window": 4096}, origin="transformers 5.23 Olmo3Config"
    ),
    "olmoe": ModelType(
        build=_olmoe,
        defaults={
            **_DEFAULTS, "hidden_size": 2048, "intermediate_size": 2048, "num_hidden_layers": 16,
            "num_attention_heads": 16, "max_position_embeddings": 4096, "clip_qkv": None, "num_experts_per_tok": 8,
            "num_experts": 64, "norm_topk_prob": False,
        },
        aliases=_ALIASES,
        origin="transformers 5.23 OlmoeConfig",
    ),
    "flex_olmo": ModelType(
        build=_flex_olmo,
        defaults={
            **_DEFAULTS, "vocab_size": 100_352, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6,
            "num_experts_per_tok": 5, "num_experts": 7, "norm_topk_prob": False,
        },
        aliases=_ALIASES,
        origin="transformers 5.23 FlexOlmoConfig",
    ),
}  # fmt: skip
