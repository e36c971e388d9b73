"""Gemma 1 (arXiv 2403.08295), 2 (arXiv 2408.00118) and 3 (arXiv 2503.19786), with 3's vision tower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import (
    Connector,
    FeedForward,
    Layer,
    Model,
    Projection,
    QKNorm,
    Rotary,
    SelfAttention,
    Stack,
)
from txcalc.configs import moe, rope, siglip
from txcalc.configs.common import (
    Arrangement,
    activation,
    decoder_of,
    decoder_stack,
    dtype_of,
    each_once,
    head_dims,
    layer_kinds,
    optional,
    pre_norm,
    quantization_of,
    rms_norm,
    sandwich,
    self_attention,
)
from txcalc.configs.heads import causal_head, published
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

KINDS: Final = ("full_attention", "sliding_attention")
_BASES: Final = {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"}  # Gemma 3

_SHARED_DEFAULTS: Final[dict[str, Any]] = {
    "head_dim": 256,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "attention_bias": False,
}
GEMMA_DEFAULTS: Final[dict[str, Any]] = {
    **_SHARED_DEFAULTS,
    "vocab_size": 256_000,
    "hidden_size": 3072,
    "intermediate_size": 24_576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192,
    "use_bidirectional_attention": None,
}
GEMMA2_DEFAULTS: Final[dict[str, Any]] = {
    **_SHARED_DEFAULTS,
    "vocab_size": 256_000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "final_logit_softcapping": 30.0,
    "attn_logit_softcapping": 50.0,
    "use_bidirectional_attention": None,
}
GEMMA3_TEXT_DEFAULTS: Final[dict[str, Any]] = {
    **GEMMA2_DEFAULTS,
    "vocab_size": 262_208,
    "max_position_embeddings": 131_072,
    "final_logit_softcapping": None,
    "attn_logit_softcapping": None,
    "use_bidirectional_attention": False,
    "sliding_window_pattern": 6,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
}
GEMMA3_DEFAULTS: Final[dict[str, Any]] = {"tie_word_embeddings": True, "mm_tokens_per_image": 256}


# ---- Gemma 1 --------------------------------------------------------------------------------------------------------


def _gemma(r: Reader) -> Model:
    r.ignore("hidden_activation", "cache_implementation")  # the type reads hidden_act; which cache a runtime keeps
    hidden, bias = r.integer("hidden_size"), r.flag("attention_bias")
    norm = rms_norm(hidden, r.number("rms_norm_eps"), unit_offset=True)
    attention = self_attention(
        r, position=rope.rotary(r, head_dims(r)[3]), qkv_bias=bias, o_bias=bias, causal=_causal(r)
    )
    act = "gelu_tanh" if r.text("hidden_act") == "gelu" else activation(r)  # the first files say gelu and mean tanh's
    layer = pre_norm(attention, moe.gated(hidden, r.integer("intermediate_size"), act), norm=norm)
    head = {"prefix": "Gemma", "without": {"question_answering"}}
    return decoder_of(r, [(layer, r.layers())], final_norm=norm, head=head, embedding_scale=hidden**0.5)


def _causal(r: Reader) -> bool:
    return r.raw("use_bidirectional_attention") is None or not r.flag("use_bidirectional_attention")


# ---- Gemma 2 and 3 --------------------------------------------------------------------------------------------------


def _gemma2(r: Reader, prefix: str = "Gemma2", **arrange: Any) -> Model:
    r.ignore("hidden_act", "cache_implementation", "sliding_window_size")  # hidden_activation and sliding_window count
    num_layers = r.layers()
    kinds = layer_kinds(r, num_layers, lambda: _every(2, num_layers), known=KINDS)
    position = rope.rotary(r, head_dims(r)[3])
    softcap = r.optional_number("attn_logit_softcapping")
    made = {kind: _attention(r, kind, position, softcap=softcap) for kind in KINDS}
    tasks = "sequence token" if prefix == "Gemma2" else ""
    head = {**published(prefix, tasks), "softcap": _final_softcap(r)}
    return decoder_of(r, **_layers(r, kinds, made, **arrange), head=head)


def _vaultgemma(r: Reader) -> Model:
    """Gemma 2 without the norms after each sublayer (arXiv 2510.15001)."""
    return _gemma2(r, "VaultGemma", arrange=pre_norm)


def _gemma3_text(r: Reader) -> Model:
    head = {"without": {"token_classification", "question_answering"}, "softcap": _final_softcap(r)}
    return decoder_of(r, **_gemma3_layers(r), head=head)


def _gemma3_layers(r: Reader) -> dict[str, Any]:
    """What ``decoder_stack`` takes: five local layers, then a global one; local and global rotary bases differ."""
    # the score's softcap is carried and never applied in this type
    r.ignore("hidden_act", "cache_implementation", "attn_logit_softcapping")
    num_layers, head_dim = r.layers(), head_dims(r)[3]
    norm = QKNorm(kind="rmsnorm", scope="head", eps=r.number("rms_norm_eps"), unit_offset=True)
    made = {kind: _attention(r, kind, gemma3_rotary(r, kind, head_dim), qk_norm=norm) for kind in KINDS}
    return _layers(r, _gemma3_kinds(r, num_layers), made)


def _gemma3_kinds(r: Reader, num_layers: int) -> list[str]:
    r.ignore("sliding_window_pattern", "_sliding_window_pattern")

    def default() -> list[str]:
        pattern = r.integer("sliding_window_pattern")
        r.unused("_sliding_window_pattern", pattern)
        return _every(pattern, num_layers)

    return layer_kinds(r, num_layers, default, known=KINDS)


def gemma3_rotary(r: Reader, kind: str, head_dim: int) -> Rotary:
    """``rope_theta`` and ``rope_scaling`` speak of global layers; local ones have a base of their own, unscaled."""
    found = r.mapping("rope_parameters").get(kind)
    settings: dict[str, Any] = dict(found) if isinstance(found, Mapping) else {}
    if kind == "full_attention":
        settings |= r.mapping("rope_scaling")
    settings.setdefault("rope_theta", r.number(_BASES[kind]))
    return rope.rotary(r, head_dim, settings=settings)


def _attention(r: Reader, kind: str, position: Rotary, **fields: Any) -> SelfAttention:
    """The scores' scale is its own setting; the window belongs to local layers."""
    r.ignore("sliding_window")
    bias, scalar = r.flag("attention_bias"), r.integer("query_pre_attn_scalar")
    return self_attention(
        r,
        position=position,
        qkv_bias=bias,
        o_bias=bias,
        window=optional(r, "sliding_window") if kind == "sliding_attention" else None,
        causal=_causal(r),
        scale=scalar**-0.5,
        **fields,
    )


def _layers(
    r: Reader, kinds: list[str], attention: Mapping[str, SelfAttention], *, arrange: Arrangement = sandwich
) -> dict[str, Any]:
    hidden = r.integer("hidden_size")
    norm = rms_norm(hidden, r.number("rms_norm_eps"), unit_offset=True)
    feed_forward: FeedForward = moe.gated(hidden, r.integer("intermediate_size"), activation(r, "hidden_activation"))

    def layer(kind: str) -> Layer:
        return arrange(attention[kind], feed_forward, norm=norm)

    return {"layers": each_once(kinds, layer), "final_norm": norm, "embedding_scale": hidden**0.5}


def _every(pattern: int, num_layers: int) -> list[str]:
    """Every ``pattern``-th layer is global, the others local."""
    return ["sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(num_layers)]


def _final_softcap(r: Reader) -> float | None:
    return r.optional_number("final_logit_softcapping")


# ---- Gemma 3 with its tower -----------------------------------------------------------------------------------------


def _gemma3(r: Reader) -> Model:
    r.ignore("boi_token_index", "eoi_token_index", "image_token_index", "image_token_id")  # which token stands where
    text = r.nested("text_config", defaults=GEMMA3_TEXT_DEFAULTS)
    text.origin = "transformers 5.23 Gemma3TextConfig"
    text.ignore("tie_word_embeddings", "final_logit_softcapping")  # the outer config ties; this class caps nothing
    if text.model_type not in ("", "gemma3_text"):
        r.reasons.append(f"text_config.model_type = {text.model_type!r}: read as a gemma3_text")
    decoder = decoder_stack(text, **_gemma3_layers(text))
    tower, connector = siglip_tower(r, decoder.hidden_size)
    head = causal_head(
        r,
        input_size=decoder.hidden_size,
        vocab_size=text.integer("vocab_size"),
        default="seq2seq_lm",
        prefix="Gemma3",
        without={"causal_lm", "token_classification", "question_answering"},
    )
    return Model(
        name="",
        model_type=r.model_type,
        stacks=(decoder, tower),
        head=head,
        connectors=(connector,),
        dtype=dtype_of(r) or dtype_of(text),
        max_position_embeddings=optional(text, "max_position_embeddings"),
        quantization=quantization_of(r),
    )


def siglip_tower(r: Reader, hidden: int) -> tuple[Stack, Connector]:
    """The vision tower and what turns its patches into ``mm_tokens_per_image`` tokens of the decoder."""
    vision = r.nested("vision_config", defaults=siglip.SIGLIP_VISION_DEFAULTS)
    vision.origin = siglip.ORIGIN
    if vision.model_type not in ("", "siglip_vision_model"):
        raise vision.error("model_type", f"is {vision.model_type!r}; Gemma 3's tower is a siglip_vision_model")
    tower = siglip.vision_stack(vision)
    tokens = r.integer("mm_tokens_per_image")
    pool = siglip.patches_per_side(vision) // int(tokens**0.5)
    if not pool:
        r.notes.append(f"images do not run: {tower.fixed_length} patches are fewer than {tokens} tokens an image")
    norm = rms_norm(tower.hidden_size, vision.number("layer_norm_eps"), unit_offset=True)
    projection = Projection(in_size=tower.hidden_size, out_size=hidden)
    return tower, Connector(tower="vision", norm=norm, projections=(projection,), tokens=tokens, pool=pool)


TYPES: Final = {
    "gemma": ModelType(build=_gemma, defaults=GEMMA_DEFAULTS, origin="transformers 5.23 GemmaConfig"),
    "gemma2": ModelType(build=_gemma2, defaults=GEMMA2_DEFAULTS, origin="transformers 5.23 Gemma2Config"),
    "vaultgemma": ModelType(
        build=_vaultgemma,
        defaults=GEMMA2_DEFAULTS,
        origin="transformers 5.23 VaultGemmaConfig",
    ),
    "gemma3_text": ModelType(
        build=_gemma3_text, defaults=GEMMA3_TEXT_DEFAULTS, origin="transformers 5.23 Gemma3TextConfig"
    ),
    "gemma3": ModelType(build=_gemma3, defaults=GEMMA3_DEFAULTS, origin="transformers 5.23 Gemma3Config"),
}
