"""Llama 4 (Meta 2025, model cards): experts weighted by a sigmoid, chunked rotary layers between unplaced ones."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    Connector,
    FeedForward,
    Head,
    LearnedPositions,
    LengthTemperature,
    MixtureOfExperts,
    Model,
    PatchEmbedding,
    Projection,
    QKNorm,
    Rotary,
    Router,
    SelfAttention,
    Stack,
    runs_of,
)
from txcalc.configs import moe, rope
from txcalc.configs.common import (
    activation,
    decoder_stack,
    dtype_of,
    each_once,
    head_dims,
    layer_kinds,
    layer_norm,
    optional,
    pre_norm,
    quantization_of,
    rms_norm,
    self_attention,
)
from txcalc.configs.encoders import biased_attention, head_width, plain_feed_forward
from txcalc.configs.heads import causal_head, task_of
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

TEXT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 202_048,
    "hidden_size": 5120,
    "intermediate_size": 8192,
    "intermediate_size_mlp": 16_384,
    "num_hidden_layers": 48,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "num_experts_per_tok": 1,
    "num_local_experts": 16,
    "moe_layers": None,
    "interleave_moe_layer_step": 1,
    "use_qk_norm": True,
    "no_rope_layers": None,
    "no_rope_layer_interval": 4,
    "attention_chunk_size": 8192,
    "attn_temperature_tuning": True,
    "floor_scale": 8192,
    "attn_scale": 0.1,
}
VISION_DEFAULTS: Final[dict[str, Any]] = {
    "hidden_size": 768,
    "hidden_act": "gelu",
    "num_hidden_layers": 34,
    "num_attention_heads": 16,
    "num_channels": 3,
    "intermediate_size": 5632,
    "vision_output_dim": 7680,
    "image_size": 448,
    "patch_size": 14,
    "norm_eps": 1e-5,
    "pixel_shuffle_ratio": 0.5,
    "projector_input_dim": 4096,
    "projector_output_dim": 4096,
    "multi_modal_projector_bias": False,
    "rope_theta": 10_000.0,
}
_KINDS: Final = ("full_attention", "chunked_attention")
_CLASSIFIERS: Final = {"sequence_classification", "token_classification", "question_answering"}


# ---- text -----------------------------------------------------------------------------------------------------------


def _text(r: Reader) -> Model:
    decoder = _decoder(r)
    return _model(r, r, (decoder,), _head(r, r, decoder, prefix="Llama4 Llama4Text"))


def _head(r: Reader, text: Reader, decoder: Stack, **fields: Any) -> Head | None:
    """The text part's own setting ties: transformers ties within the language model, whatever the outer config says."""
    head = causal_head(
        r, input_size=decoder.hidden_size, vocab_size=text.integer("vocab_size"), **{"without": _CLASSIFIERS, **fields}
    )
    return head and head.replace(tied=head.kind == "lm" and text.flag("tie_word_embeddings"))


def _decoder(r: Reader) -> Stack:
    r.ignore("for_llm_compressor", "cache_implementation", "intermediate_size_mlp", "intermediate_size")
    r.ignore("num_local_experts", "num_experts_per_tok")
    num_layers = r.layers()
    turned = _turned(r, num_layers)
    kinds = layer_kinds(r, num_layers, lambda: [_KINDS[turns] for turns in turned], known=_KINDS)
    norm = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    attention = {key: _attention(r, *key) for key in dict.fromkeys(zip(turned, kinds, strict=True))}
    sparse = _sparse(r, num_layers)
    feed_forward: dict[bool, FeedForward | MixtureOfExperts] = {
        experts: _experts(r) if experts else _dense(r) for experts in dict.fromkeys(sparse)
    }
    layers = each_once(
        zip(turned, kinds, sparse, strict=True),
        lambda key: pre_norm(attention[key[:2]], feed_forward[key[2]], norm=norm),
    )
    return decoder_stack(r, layers, final_norm=norm)


def _turned(r: Reader, num_layers: int) -> list[bool]:
    """Which layers have rotary positions: all but every ``no_rope_layer_interval``-th, or those marked 1."""
    r.ignore("no_rope_layer_interval")
    if r.integers("no_rope_layers"):
        return [bool(mark) for mark in r.integers("no_rope_layers", length=num_layers)]
    interval = r.integer("no_rope_layer_interval")
    return [(i + 1) % interval != 0 for i in range(num_layers)]


def _sparse(r: Reader, num_layers: int) -> list[bool]:
    """Which layers hold experts: those in ``moe_layers``, or every ``interleave_moe_layer_step``-th."""
    r.ignore("interleave_moe_layer_step")
    if r.raw("moe_layers") is not None:
        listed = set(r.integers("moe_layers"))
        return [i in listed for i in range(num_layers)]
    step = r.integer("interleave_moe_layer_step")
    return [(i + 1) % step == 0 for i in range(num_layers)]


def _attention(r: Reader, turns: bool, kind: str) -> SelfAttention:
    """Rotary layers norm their heads after the turn; the others sharpen far queries instead."""
    r.ignore("attention_chunk_size", "floor_scale", "attn_scale", "attn_temperature_tuning", "use_qk_norm")
    bias, head_dim = r.flag("attention_bias"), head_dims(r)[3]
    rotary = rope.rotary(r, head_dim, theta=500_000.0, interleaved=True, whole=True)
    normed = turns and r.flag("use_qk_norm")
    tuned = not turns and bool(r.raw("attn_temperature_tuning"))  # older files hold a number here
    return self_attention(
        r,
        position=rotary if turns else None,
        qkv_bias=bias,
        o_bias=bias,
        chunk=r.optional_integer("attention_chunk_size") if kind == "chunked_attention" else None,
        qk_norm=QKNorm(kind="rmsnorm", scope="head", eps=r.number("rms_norm_eps"), weight=False, after_rotary=True)
        if normed
        else None,
        temperature=LengthTemperature(factor=r.number("attn_scale"), length=r.integer("floor_scale"), first=1)
        if tuned
        else None,
    )


def _experts(r: Reader) -> MixtureOfExperts:
    """The sigmoid of a chosen expert's score multiplies its input; one more expert of that width sees every token."""
    return moe.mixture(
        r,
        size="intermediate_size",
        num_experts="num_local_experts",
        shared=r.integer("intermediate_size"),
        router=Router(scoring="sigmoid"),
        weight_input=True,
    )


def _dense(r: Reader) -> FeedForward:
    return moe.gated(r.integer("hidden_size"), r.integer("intermediate_size_mlp"), activation(r))


def _model(r: Reader, text: Reader, stacks: tuple[Stack, ...], head: Head | None, **fields: Any) -> Model:
    return Model(
        name="",
        model_type=r.model_type,
        stacks=stacks,
        head=head,
        dtype=dtype_of(r) or dtype_of(text),
        max_position_embeddings=optional(text, "max_position_embeddings"),
        quantization=quantization_of(r),
        **fields,
    )


# ---- with its tower -------------------------------------------------------------------------------------------------


def _whole(r: Reader) -> Model:
    r.ignore("boi_token_index", "eoi_token_index", "image_token_index", "boi_token_id", "eoi_token_id")
    r.ignore("image_token_id", "tie_word_embeddings")
    text = r.nested("text_config", defaults=TEXT_DEFAULTS)
    text.origin = "transformers 5.23 Llama4TextConfig"
    if text.model_type not in ("", "llama4_text"):
        r.reasons.append(f"text_config.model_type = {text.model_type!r}: read as a llama4_text")
    decoder = _decoder(text)
    if not r.config.get("architectures"):
        r.reasons.append("no architectures in the config: one of the type's classes holds the text part alone")
    if task_of(r, "seq2seq_lm") == "causal_lm":
        r.ignore("vision_config")
        return _model(r, text, (decoder,), _head(r, text, decoder, prefix="Llama4"))
    tower, connector = _tower(r, decoder.hidden_size)
    head = _head(r, text, decoder, default="seq2seq_lm", prefix="Llama4", without={*_CLASSIFIERS, "base"})
    return _model(r, text, (decoder, tower), head, connectors=(connector,))


def _tower(r: Reader, hidden: int) -> tuple[Stack, Connector]:
    """The tower; squares of its patches are joined and pass three matrices, the last into the decoder's width."""
    v = r.nested("vision_config", defaults=VISION_DEFAULTS)
    v.origin = "transformers 5.23 Llama4VisionConfig"
    if v.model_type not in ("", "llama4_vision_model"):
        raise v.error("model_type", f"is {v.model_type!r}; Llama 4's tower is a llama4_vision_model")
    v.unused("multi_modal_projector_bias", False)
    v.ignore("hidden_act", "norm_eps", "vision_feature_layer", "vision_feature_select_strategy", "projector_dropout")
    tower = _vision_stack(v)
    ratio = v.number("pixel_shuffle_ratio")
    if not 0 < ratio <= 1:
        raise v.error("pixel_shuffle_ratio", f"is {ratio}; expected more than 0, at most 1")
    merge, joined = round(1 / ratio), v.integer("intermediate_size")
    inner, out = v.integer("projector_input_dim"), v.integer("projector_output_dim")
    last = v.integer("vision_output_dim")
    if joined != tower.hidden_size * merge**2 or not inner == out == last:
        v.notes.append("images do not run: the widths between tower and decoder do not meet")
    projections = (
        Projection(in_size=joined, out_size=inner, activation="gelu"),
        Projection(in_size=out, out_size=out, activation="gelu"),
        Projection(in_size=last, out_size=hidden),
    )
    tokens = max(((tower.fixed_length or 1) - 1) // merge**2, 1)
    return tower, Connector(tower="vision", norm=None, projections=projections, tokens=tokens, merge=merge)


def _vision_stack(v: Reader) -> Stack:
    """Pre-norm layers with biases, between two norms; a class token stands last and is dropped again."""
    width, heads = v.integer("hidden_size"), v.integer("num_attention_heads")
    patch, norm = v.integer("patch_size"), layer_norm(width, 1e-5)
    side = v.integer("image_size", minimum=patch) // patch
    rotary = Rotary(theta=_theta(v), rotary_dim=head_width(v, width, heads), interleaved=True, axes=2)
    attention = biased_attention(width, heads, width // heads, causal=False).replace(position=rotary)
    layer = pre_norm(attention, plain_feed_forward(width, v.integer("intermediate_size"), "gelu"), norm=norm)
    layers, runs = runs_of([(layer, v.layers())])
    embedding = PatchEmbedding(
        image_size=v.integer("image_size"),
        patch_size=patch,
        num_channels=v.integer("num_channels"),
        hidden_size=width,
        bias=False,
        extra_tokens=1,
        positions=LearnedPositions(rows=side**2 + 1, width=width),
        norm=norm,
    )
    return Stack(
        role="vision",
        hidden_size=width,
        embedding=embedding,
        layers=layers,
        runs=runs,
        final_norm=norm,
        fixed_length=side**2 + 1,
    )


def _theta(v: Reader) -> float:
    v.ignore("rope_parameters", "rope_theta")
    found = v.mapping("rope_parameters").get("rope_theta")
    return float(found) if isinstance(found, int | float) else v.number("rope_theta")


TYPES: Final = {
    "llama4_text": ModelType(build=_text, defaults=TEXT_DEFAULTS, origin="transformers 5.23 Llama4TextConfig"),
    "llama4": ModelType(build=_whole, defaults={}, origin="transformers 5.23 Llama4Config"),
}
