"""Gemma 4 with its towers: images through a small transformer, sound through a conformer; ``unified`` has none.

Gemma 4 Unified maps pixels and waveforms straight into the decoder's width. Sound and those maps are counted by their
tensors: no command runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import (
    Connector,
    CountedPart,
    LearnedPositions,
    Model,
    Norm,
    PatchEmbedding,
    Projection,
    QKNorm,
    Rotary,
    SelfAttention,
    Stack,
    runs_of,
)
from txcalc.configs import moe
from txcalc.configs.common import activation, dtype_of, optional, quantization_of, rms_norm, sandwich
from txcalc.configs.gemma4 import CLASSIFIERS, TEXT_DEFAULTS, UNIFIED_TEXT_DEFAULTS, gemma4_decoder, gemma4_head
from txcalc.configs.heads import task_of
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

VISION_DEFAULTS: Final[dict[str, Any]] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 16,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "head_dim": 64,
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
    "pooling_kernel_size": 3,
    "patch_size": 16,
    "position_embedding_size": 10_240,
    "default_output_length": 280,
}
AUDIO_DEFAULTS: Final[dict[str, Any]] = {
    "hidden_size": 1024,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "subsampling_conv_channels": [128, 32],
    "conv_kernel_size": 5,
    "output_proj_dims": 1536,
}
UNIFIED_VISION_DEFAULTS: Final[dict[str, Any]] = {
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "mm_embed_dim": 3840,
    "mm_posemb_size": 1120,
    "output_proj_dims": 3840,
}
_TOKENS: Final = (
    "boi_token_id", "eoi_token_id", "image_token_id", "video_token_id", "boa_token_id", "eoa_token_index",
    "eoa_token_id", "audio_token_id",
)  # fmt: skip
_INERT: Final = (
    "use_clipped_linears", "standardize", "attention_bias", "max_position_embeddings", "global_head_dim",
    "image_seq_length", "video_seq_length", "rms_norm_eps", "hidden_act", "chunk_size_feed_forward",
)  # fmt: skip
_SOUND: Final = (
    "residual_weight", "attention_chunk_size", "attention_context_left", "attention_context_right",
    "attention_logit_cap", "attention_invalid_logits_value", "gradient_clipping", "hidden_act",
)  # fmt: skip


# ---- the whole ------------------------------------------------------------------------------------------------------


def _gemma4(r: Reader) -> Model:
    return _whole(r, "Gemma4", TEXT_DEFAULTS, _vision, _audio)


def _unified(r: Reader) -> Model:
    return _whole(r, "Gemma4Unified", UNIFIED_TEXT_DEFAULTS, _unified_vision, _unified_audio)


def _whole(r: Reader, prefix: str, defaults: Mapping[str, Any], vision: Any, audio: Any) -> Model:
    r.ignore(*_TOKENS, "vision_soft_tokens_per_image")
    text = r.nested("text_config", defaults=defaults)
    text.origin = f"transformers 5.23 {prefix}TextConfig"
    text.ignore("tie_word_embeddings")  # the outer config ties
    if text.model_type not in ("", f"{r.model_type}_text"):
        raise text.error("model_type", f"is {text.model_type!r}; this type's decoder is a {r.model_type}_text")
    decoder = gemma4_decoder(text)
    alone = task_of(r, "seq2seq_lm") == "causal_lm"
    without = CLASSIFIERS if alone else {*CLASSIFIERS, "causal_lm"}
    head = gemma4_head(r, text, decoder, default="seq2seq_lm", prefix=prefix, without=without)
    parts: dict[str, Any] = {"stacks": (decoder,), "connectors": (), "counted": ()}
    if alone:
        r.ignore("vision_config", "audio_config")
    else:
        for name, read in (("vision_config", vision), ("audio_config", audio)):
            _add(parts, r, name, read, decoder.hidden_size)
    return Model(
        name="",
        model_type=r.model_type,
        head=head,
        dtype=dtype_of(r) or dtype_of(text),
        max_position_embeddings=optional(text, "max_position_embeddings"),
        quantization=quantization_of(r),
        **parts,
    )


def _add(parts: dict[str, Any], r: Reader, name: str, read: Any, hidden: int) -> None:
    """A tower, where the config describes one: null and nothing say that there is none."""
    r.ignore(name)
    if r.config.get(name) is None:
        return
    stack, connector, counted = read(r, hidden)
    parts["stacks"] += (stack,) if stack else ()
    parts["connectors"] += (connector,) if connector else ()
    parts["counted"] += (counted,) if counted else ()


def _nested(r: Reader, name: str, defaults: Mapping[str, Any], ending: str) -> Reader:
    inner = r.nested(name, defaults=defaults)
    inner.origin = f"transformers 5.23, the defaults of {r.model_type}_{ending}"
    if inner.model_type not in ("", f"{r.model_type}_{ending}"):
        raise inner.error("model_type", f"is {inner.model_type!r}; {r.model_type}'s is a {r.model_type}_{ending}")
    return inner


# ---- images ---------------------------------------------------------------------------------------------------------


def _vision(r: Reader, hidden: int) -> tuple[Stack, Connector, None]:
    """The tower; its patches are averaged over squares, normed without a weight and mapped to the decoder's width."""
    v = _nested(r, "vision_config", VISION_DEFAULTS, "vision")
    v.ignore(*_INERT)
    width, pool, tokens = v.integer("hidden_size"), v.integer("pooling_kernel_size"), v.integer("default_output_length")
    v.notes.append(f"images may have any size: figures for one are for {tokens} tokens of {pool} * {pool} patches")
    norm = rms_norm(width, v.number("rms_norm_eps"))
    inner = moe.gated(width, v.integer("intermediate_size"), activation(v, "hidden_activation"))
    layers, runs = runs_of([(sandwich(_attention(v, width), inner, norm=norm), v.layers())])
    patch, rows = v.integer("patch_size"), v.integer("position_embedding_size")
    embedding = PatchEmbedding(
        image_size=int((tokens * pool**2) ** 0.5) * patch,
        patch_size=patch,
        num_channels=3,
        hidden_size=width,
        bias=False,
        positions=LearnedPositions(rows=2 * rows, width=width),  # a table for each axis
    )
    stack = Stack(
        role="vision",
        hidden_size=width,
        embedding=embedding,
        layers=layers,
        runs=runs,
        fixed_length=tokens * pool**2,
    )
    plain = Norm(kind="rmsnorm", width=width, eps=norm.eps, weight=False)
    projection = Projection(in_size=width, out_size=hidden)
    connector = Connector(
        tower="vision", norm=plain, projections=(projection,), tokens=tokens, pool=pool, pool_by_product=pool > 1
    )
    return stack, connector, None


def _attention(v: Reader, width: int) -> SelfAttention:
    heads, kv_heads, head_dim = (v.integer(name) for name in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    if heads % kv_heads:
        raise v.error("num_key_value_heads", f"is {kv_heads}; it must divide the {heads} query heads")
    v.ignore("rope_parameters", "rope_theta")
    theta = v.mapping("rope_parameters").get("rope_theta", 100.0)
    return SelfAttention(
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        v_head_dim=head_dim,
        causal=False,
        qk_norm=QKNorm(kind="rmsnorm", scope="head", eps=v.number("rms_norm_eps"), v_norm=True),
        position=Rotary(theta=float(theta), rotary_dim=head_dim, axes=2),
        scale=1.0,
    )


def _unified_vision(r: Reader, hidden: int) -> tuple[None, None, CountedPart]:
    """Pixels of a merged patch between two LayerNorms, positions by row and column, one more LayerNorm, a matrix."""
    v = _nested(r, "vision_config", UNIFIED_VISION_DEFAULTS, "vision")
    v.ignore("rms_norm_eps", "num_soft_tokens", "model_patch_size")
    pixels = 3 * (v.integer("patch_size") * v.integer("pooling_kernel_size")) ** 2
    width, out = v.integer("mm_embed_dim"), v.integer("output_proj_dims")
    tensors = (
        ("pixel_norm", (pixels,), 2),
        ("patches", (pixels, width), 1),
        ("patch_bias", (width,), 1),
        ("norms", (width,), 4),
        ("positions", (v.integer("mm_posemb_size"), 2, width), 1),
        ("projection", (out, hidden), 1),
    )
    return None, None, CountedPart(name="images", tensors=tensors)


# ---- sound ----------------------------------------------------------------------------------------------------------


def _audio(r: Reader, hidden: int) -> tuple[None, None, CountedPart]:
    """Two convolutions of 3 * 3, conformer layers (Gulati et al. 2020, arXiv 2005.08100), and maps to the decoder."""
    a = _nested(r, "audio_config", AUDIO_DEFAULTS, "audio")
    a.ignore(*_INERT, *_SOUND)
    width, heads, out = a.integer("hidden_size"), a.integer("num_attention_heads"), a.integer("output_proj_dims")
    first, second = a.integers("subsampling_conv_channels", length=2, minimum=1)
    num_layers, inner = a.layers(), width // heads * heads
    tensors = (
        ("convolutions", (3, 3, first * (1 + second)), 1),
        ("convolution_norms", (first + second,), 1),
        ("in_proj", (first // 4 * second, width), 1),
        ("feed_forwards", (width, 4 * width), 4 * num_layers),
        ("attention", (width, inner), 4 * num_layers),
        ("attention_out", (width, width), num_layers),
        ("channel_scale", (width // heads,), num_layers),
        ("convolution_in", (width, 2 * width), num_layers),
        ("convolution_taps", (width, a.integer("conv_kernel_size")), num_layers),
        ("convolution_out", (width, width), num_layers),
        ("norms", (width,), 9 * num_layers),
        ("out_proj", (width, out), 1),
        ("out_bias", (out,), 1),
        ("projection", (out, hidden), 1),
    )
    return None, None, CountedPart(name="sound", tensors=tensors)


def _unified_audio(r: Reader, hidden: int) -> tuple[None, None, CountedPart]:
    """A frame of the waveform times one matrix; its length has four names."""
    a = _nested(r, "audio_config", {"audio_embed_dim": 640}, "audio")
    a.ignore("rms_norm_eps", "audio_embed_dim")
    names = ("audio_embed_dim", "hidden_size", "output_proj_dims", "audio_samples_per_token")
    frames = {a.integer(name) for name in names if a.has(name)} or {a.integer("audio_embed_dim")}
    if len(frames) > 1:
        raise a.error("audio_embed_dim", f"has other names with other values: {sorted(frames)}", "give one of them")
    frame = frames.pop()
    return None, None, CountedPart(name="sound", tensors=(("projection", (frame, hidden), 1),))


TYPES: Final = {
    "gemma4": ModelType(build=_gemma4, defaults={"tie_word_embeddings": True}, origin="transformers 5.23 Gemma4Config"),
    "gemma4_unified": ModelType(
        build=_unified, defaults={"tie_word_embeddings": True}, origin="transformers 5.23 Gemma4UnifiedConfig"
    ),
}
