"""SigLIP's vision tower (Zhai et al. 2023, arXiv 2303.15343): alone, or before a language model."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    AttentionPooling,
    CrossAttention,
    FeedForward,
    LearnedPositions,
    Model,
    Norm,
    PatchEmbedding,
    SelfAttention,
    Stack,
    runs_of,
)
from txcalc.configs.common import activation, dtype_of, layer_norm, pre_norm, quantization_of
from txcalc.configs.heads import task_of
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

SIGLIP_VISION_DEFAULTS: Final[dict[str, Any]] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "vision_use_head": True,
}
ORIGIN: Final = "transformers 5.23 SiglipVisionConfig"


def vision_stack(r: Reader) -> Stack:
    """The tower: patches without a class token, pre-norm layers, a final norm, and perhaps a pooled output."""
    hidden, feed_forward = r.integer("hidden_size"), _feed_forward(r)
    attention, norm = _attention(r, hidden), layer_norm(hidden, r.number("layer_norm_eps"))
    layers, runs = runs_of([(pre_norm(attention, feed_forward, norm=norm), r.layers())])
    return Stack(
        role="vision",
        hidden_size=hidden,
        embedding=_patches(r, hidden),
        layers=layers,
        runs=runs,
        final_norm=norm,
        attention_pooling=_pooling(attention, norm, feed_forward) if r.flag("vision_use_head") else None,
        fixed_length=patches_per_side(r) ** 2,
    )


def patches_per_side(r: Reader) -> int:
    """How many whole patches fit along the image's side."""
    patch = r.integer("patch_size")
    return r.integer("image_size", minimum=patch) // patch


def _patches(r: Reader, hidden: int) -> PatchEmbedding:
    return PatchEmbedding(
        image_size=r.integer("image_size"),
        patch_size=r.integer("patch_size"),
        num_channels=r.integer("num_channels"),
        hidden_size=hidden,
        bias=True,
        positions=LearnedPositions(rows=patches_per_side(r) ** 2, width=hidden),
    )


def _attention(r: Reader, hidden: int) -> SelfAttention:
    heads = r.integer("num_attention_heads")
    if hidden % heads:
        raise r.error("hidden_size", f"is {hidden}; it is not a multiple of the {heads} heads")
    return SelfAttention(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        v_head_dim=hidden // heads,
        causal=False,
        q_bias=True,
        k_bias=True,
        v_bias=True,
        o_bias=True,
    )


def _pooling(attention: SelfAttention, norm: Norm, feed_forward: FeedForward) -> AttentionPooling:
    """The same shapes as a layer's, with one query in place of the tokens."""
    pooled = CrossAttention(
        hidden_size=attention.hidden_size,
        source_size=attention.hidden_size,
        num_attention_heads=attention.num_attention_heads,
        num_key_value_heads=attention.num_key_value_heads,
        head_dim=attention.head_dim,
        v_head_dim=attention.v_head_dim,
        q_bias=True,
        k_bias=True,
        v_bias=True,
        o_bias=True,
    )
    return AttentionPooling(attention=pooled, norm=norm, feed_forward=feed_forward)


def _feed_forward(r: Reader) -> FeedForward:
    return FeedForward(
        hidden_size=r.integer("hidden_size"),
        intermediate_size=r.integer("intermediate_size"),
        activation=activation(r),
        gated=False,
        up_bias=True,
        down_bias=True,
    )


def _siglip_vision(r: Reader) -> Model:
    if task_of(r, "base", prefix="SiglipVision") != "base":
        r.reasons.append("a head on SigLIP's vision tower alone is not known: taken as the bare model")
    return Model(
        name="",
        model_type=r.model_type,
        stacks=(vision_stack(r),),
        head=None,
        dtype=dtype_of(r),
        quantization=quantization_of(r),
    )


TYPES: Final = {
    "siglip_vision_model": ModelType(build=_siglip_vision, defaults=SIGLIP_VISION_DEFAULTS, origin=ORIGIN),
}
