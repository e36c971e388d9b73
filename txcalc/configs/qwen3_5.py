"""Qwen3.5: Qwen3-Next's layers, dense or with experts, and a vision tower before them (Qwen 2026, model cards)."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from txcalc.architecture import (
    Connector,
    FeedForward,
    LearnedPositions,
    Model,
    PatchEmbedding,
    Projection,
    Rotary,
    SelfAttention,
    Stack,
    runs_of,
)
from txcalc.configs import moe, prediction
from txcalc.configs.common import (
    activation,
    decoder_stack,
    dtype_of,
    each_once,
    layer_norm,
    optional,
    pre_norm,
    quantization_of,
    rms_norm,
)
from txcalc.configs.heads import causal_head
from txcalc.configs.qwen_moe import gated_mixers, mixture
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

_SHARED: Final[dict[str, Any]] = {
    "vocab_size": 248_320,
    "num_attention_heads": 16,
    "hidden_act": "silu",
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "head_dim": 256,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "full_attention_interval": 4,
}
QWEN3_5_DEFAULTS: Final[dict[str, Any]] = {
    **_SHARED,
    "hidden_size": 4096,
    "intermediate_size": 12_288,
    "num_hidden_layers": 32,
    "num_key_value_heads": 4,
}
QWEN3_5_MOE_DEFAULTS: Final[dict[str, Any]] = {
    **_SHARED,
    "hidden_size": 2048,
    "num_hidden_layers": 40,
    "num_key_value_heads": 2,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "num_experts_per_tok": 8,
    "num_experts": 256,
}
VISION_DEFAULTS: Final[dict[str, Any]] = {
    "depth": 27,
    "hidden_size": 1152,
    "hidden_act": "gelu_pytorch_tanh",
    "intermediate_size": 4304,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 3584,
    "num_position_embeddings": 2304,
}
_WITHOUT_BEARING: Final = (
    "image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id", "mlp_only_layers",
    "mamba_ssm_dtype", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings", "partial_rotary_factor",
    "attn_output_gate", "language_model_only",
)  # fmt: skip


class _Kin(NamedTuple):
    """What tells the dense type from the one with experts."""

    prefix: str
    text: dict[str, Any]
    sparse: bool


_DENSE: Final = _Kin("Qwen3_5", QWEN3_5_DEFAULTS, sparse=False)
_MOE: Final = _Kin("Qwen3_5Moe", QWEN3_5_MOE_DEFAULTS, sparse=True)
_CLASSIFIED: Final = {"sequence_classification", "token_classification"}


# ---- text -----------------------------------------------------------------------------------------------------------


def _decoder(r: Reader, kin: _Kin) -> Stack:
    """Three gated delta networks, then gated attention, over and over; behind each a feed-forward or experts."""
    r.ignore(*_WITHOUT_BEARING)
    r.unused("attn_output_gate", True)
    r.unused("norm_topk_prob", True)
    norm = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"), unit_offset=True)
    kinds, mixers = gated_mixers(r)
    if kin.sparse:
        r.ignore("intermediate_size", "decoder_sparse_step")
        feed_forward: Any = mixture(r, shared_expert=True, norm_topk_prob=True)
    else:
        feed_forward = moe.gated(r.integer("hidden_size"), r.integer("intermediate_size"), activation(r))
    layers = each_once(kinds, lambda kind: pre_norm(mixers[kind], feed_forward, norm=norm))
    return decoder_stack(r, layers, final_norm=norm)


def _text(kin: _Kin) -> ModelType:
    def build(r: Reader) -> Model:
        if _class_of(r) == f"{kin.prefix}Model":
            r.reasons.append(
                f"architectures = {kin.prefix}Model: has a vision tower that {r.model_type} says nothing of"
            )
        return _text_model(r, r, kin)

    origin = f"transformers 5.23 {kin.prefix}TextConfig"
    return ModelType(build=build, defaults=kin.text, origin=origin, extra=prediction.attending)


def _text_model(r: Reader, text: Reader, kin: _Kin) -> Model:
    """The decoder alone. ``text`` is ``r``, or the part of it that describes the decoder."""
    decoder = _decoder(text, kin)
    head = causal_head(
        r,
        input_size=decoder.hidden_size,
        vocab_size=text.integer("vocab_size"),
        prefix=f"{kin.prefix} {kin.prefix}Text",
        without={"question_answering", *(_CLASSIFIED if kin.sparse else ())},
    )
    return _model(r, text, (decoder,), head=head)


def _model(r: Reader, text: Reader, stacks: tuple[Stack, ...], **fields: Any) -> Model:
    return Model(
        name="",
        model_type=r.model_type,
        stacks=stacks,
        dtype=dtype_of(r) or dtype_of(text),
        max_position_embeddings=optional(text, "max_position_embeddings"),
        quantization=quantization_of(r),
        **fields,
    )


# ---- with a tower ---------------------------------------------------------------------------------------------------


def _whole(kin: _Kin) -> ModelType:
    def build(r: Reader) -> Model:
        r.ignore(*_WITHOUT_BEARING)
        text = r.nested("text_config", defaults=kin.text)
        text.origin = f"transformers 5.23 {kin.prefix}TextConfig"
        text.ignore("tie_word_embeddings")  # the outer config ties
        if text.model_type not in ("", f"{r.model_type}_text"):
            r.reasons.append(f"text_config.model_type = {text.model_type!r}: read as a {r.model_type}_text")
        if _class_of(r).endswith("ForCausalLM"):
            r.ignore("vision_config")
            return _text_model(r, text, kin)
        if not _class_of(r):
            r.reasons.append(
                "no architectures: counted with the vision tower, as checkpoints are published; a causal "
                "language model of the same config has none"
            )
        decoder = _decoder(text, kin)
        tower, connector = _tower(r, decoder.hidden_size)
        head = causal_head(
            r,
            input_size=decoder.hidden_size,
            vocab_size=text.integer("vocab_size"),
            default="seq2seq_lm",
            prefix=kin.prefix,
            without={"question_answering", *(_CLASSIFIED if kin.sparse else ())},
        )
        return _model(r, text, (decoder, tower), head=head, connectors=(connector,))

    defaults = {"tie_word_embeddings": False}
    origin = f"transformers 5.23 {kin.prefix}Config"
    return ModelType(build=build, defaults=defaults, origin=origin, extra=prediction.attending)


def _class_of(r: Reader) -> str:
    """The first entry of ``architectures``; empty where there is none."""
    names = r.config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def _tower(r: Reader, hidden: int) -> tuple[Stack, Connector]:
    """The tower, and what joins squares of its patches and maps them to the decoder's width."""
    aliases = {"num_hidden_layers": "depth", "num_attention_heads": "num_heads"}
    v = r.nested("vision_config", defaults=VISION_DEFAULTS, aliases=aliases)
    v.origin = "transformers 5.23 Qwen3_5VisionConfig"
    v.unused("deepstack_visual_indexes", [])
    if v.model_type not in ("", r.model_type, f"{r.model_type}_vision"):
        raise v.error("model_type", f"is {v.model_type!r}; {r.model_type}'s tower is a {r.model_type}_vision")
    width, out, merge = v.integer("hidden_size"), v.integer("out_hidden_size"), v.integer("spatial_merge_size")
    if out != hidden:
        r.notes.append(f"images do not run: the tower ends in {out} channels, the decoder has {hidden}")
    joined = width * merge**2
    tower = _vision_stack(v, width)
    return tower, Connector(
        tower="vision",
        norm=layer_norm(width, 1e-6),
        projections=(
            Projection(in_size=joined, out_size=joined, bias=True, activation="gelu"),
            Projection(in_size=joined, out_size=out, bias=True),
        ),
        tokens=max((tower.fixed_length or 0) // merge**2, 1),
        merge=merge,
    )


def _vision_stack(v: Reader, width: int) -> Stack:
    """Pre-norm layers without a final norm; the position table is stretched to the image's grid, whatever it is."""
    layer = pre_norm(_vision_attention(v, width), _vision_feed_forward(v, width), norm=layer_norm(width, 1e-6))
    layers, runs = runs_of([(layer, v.integer("depth"))])
    rows, patch = v.integer("num_position_embeddings"), v.integer("patch_size")
    side = int(rows**0.5)
    v.notes.append(f"images may have any size: figures for one are for {side} * {side} patches")
    embedding = PatchEmbedding(
        image_size=side * patch,
        patch_size=patch,
        num_channels=v.integer("in_channels"),
        hidden_size=width,
        bias=True,
        temporal_patch_size=v.integer("temporal_patch_size"),
        positions=LearnedPositions(rows=rows, width=width),
    )
    return Stack(
        role="vision", hidden_size=width, embedding=embedding, layers=layers, runs=runs, fixed_length=side * side
    )


def _vision_attention(v: Reader, width: int) -> SelfAttention:
    heads = v.integer("num_heads")
    if width % heads or width // heads % 4:
        raise v.error("hidden_size", f"is {width}; each of the {heads} heads needs a multiple of 4 channels")
    head_dim = width // heads
    return SelfAttention(
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=head_dim,
        v_head_dim=head_dim,
        q_bias=True,
        k_bias=True,
        v_bias=True,
        o_bias=True,
        causal=False,
        position=_axial(v, head_dim),
    )


def _axial(v: Reader, head_dim: int) -> Rotary:
    """Rows turn one half of the channels, columns the other."""
    given = v.mapping("rope_parameters")
    kind = given.get("rope_type", "axial")
    if kind != "axial" or set(given) - {"rope_type", "rope_theta"}:
        v.reasons.append(f"vision_config.rope_parameters = {dict(given)}: not an axial rotary that txcalc knows")
    theta = given.get("rope_theta", 10_000.0)
    return Rotary(theta=float(theta) if isinstance(theta, int | float) else 10_000.0, rotary_dim=head_dim, axes=2)


def _vision_feed_forward(v: Reader, width: int) -> FeedForward:
    return FeedForward(
        hidden_size=width,
        intermediate_size=v.integer("intermediate_size"),
        activation=activation(v),
        gated=False,
        up_bias=True,
        down_bias=True,
    )


TYPES: Final = {
    "qwen3_5_text": _text(_DENSE),
    "qwen3_5_moe_text": _text(_MOE),
    "qwen3_5": _whole(_DENSE),
    "qwen3_5_moe": _whole(_MOE),
}
