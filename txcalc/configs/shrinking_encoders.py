"""Encoders whose tokens grow fewer on the way: Funnel, Perceiver. Their parameters are known, and no pass of them.

Sources: Dai et al. 2020 (arXiv 2006.03236); Jaegle et al. 2021 (arXiv 2107.14795).
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    CountedPart,
    Head,
    HeadTransform,
    LearnedPositions,
    Model,
    ProjectedDistances,
    Projection,
    SelfAttention,
    Stack,
    TokenEmbedding,
)
from txcalc.configs.common import activation, dtype_of, layer_norm, post_norm, quantization_of
from txcalc.configs.encoders import Plan, dense_classifier, encoder_model, known_task, plain_feed_forward, plain_plan
from txcalc.configs.heads import Task, class_of, classifier, num_labels
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType

FUNNEL_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 30_522,
    "block_sizes": [4, 4, 4],
    "block_repeats": None,
    "num_decoder_layers": 2,
    "d_model": 768,
    "n_head": 12,
    "d_head": 64,
    "d_inner": 3072,
    "hidden_act": "gelu_new",
    "layer_norm_eps": 1e-9,
    "tie_word_embeddings": True,
}
PERCEIVER_DEFAULTS: Final[dict[str, Any]] = {
    "num_latents": 256,
    "d_latents": 1280,
    "d_model": 768,
    "num_blocks": 1,
    "num_self_attends_per_block": 26,
    "num_self_attention_heads": 8,
    "num_cross_attention_heads": 8,
    "qk_channels": None,
    "v_channels": None,
    "cross_attention_shape_for_attention": "kv",
    "self_attention_widening_factor": 1,
    "cross_attention_widening_factor": 1,
    "vocab_size": 262,
    "max_position_embeddings": 2048,
}
_POOLED: Final = "its blocks halve the number of tokens, and what a pass costs is not described"
_LATENTS: Final = "a few latents read its inputs, and what a pass costs is not described"


# ---- Funnel ---------------------------------------------------------------------------------------------------------


def _funnel(r: Reader) -> Model:
    """Layers of XLNet's attention, equal in shape; those of the decoder only where every token is asked for."""
    r.ignore("pooling_type", "attention_type", "separate_cls", "truncate_seq", "pool_q_only", "initializer_std")
    r.ignore("hidden_dropout", "activation_dropout", "pad_token_id")
    tasks = "base masked_lm pretraining sequence_classification token_classification question_answering multiple_choice"
    task = known_task(r, tasks, prefix="Funnel FunnelBase", default="masked_lm")
    name = (r.config.get("architectures") or [""])[0]
    if name.startswith("FunnelBase") and name != "FunnelBaseModel":
        r.reasons.append(f"architectures = {name}: nobody's published class")
    short = name == "FunnelBaseModel" or task in ("sequence_classification", "multiple_choice")
    hidden = r.integer("d_model")
    norm = layer_norm(hidden, r.number("layer_norm_eps"))
    inner = plain_feed_forward(hidden, r.integer("d_inner"), activation(r))
    layers = _blocks(r) + (0 if short else r.integer("num_decoder_layers", minimum=0))
    r.ignore("num_decoder_layers")
    model = encoder_model(
        r,
        _funnel_plan(r, task, hidden),
        role="encoder",
        hidden=hidden,
        embedding=TokenEmbedding(vocab_size=r.integer("vocab_size"), embedding_size=hidden, norm=norm),
        layers=[(post_norm(_relative(r, hidden), inner, norm=norm), layers)],
        positions=None,
    )
    return model.replace(only_params=_POOLED)


def _blocks(r: Reader) -> int:
    """How many layers all blocks hold; one that is repeated is held once."""
    sizes, repeats = r.integers("block_sizes"), r.integers("block_repeats", minimum=1)
    if not sizes or (repeats and len(repeats) != len(sizes)):
        raise r.error("block_sizes", f"is {shown(sizes)}, block_repeats {shown(repeats)}: not one for each")
    if any(each > 1 for each in repeats):
        r.notes.append("block_repeats: a layer that runs several times is counted once")
    return sum(sizes)


def _relative(r: Reader, hidden: int) -> SelfAttention:
    heads, width = r.integer("n_head"), r.integer("d_head")
    return SelfAttention(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=width,
        v_head_dim=width,
        causal=False,
        k_bias=True,
        v_bias=True,
        o_bias=True,
        position=ProjectedDistances(segments=2),
    )


def _funnel_plan(r: Reader, task: Task, hidden: int) -> Plan:
    match task:
        case "masked_lm":
            tied, vocab = r.flag("tie_word_embeddings"), r.integer("vocab_size")
            return Plan(
                head=Head(
                    kind="masked_lm", input_size=hidden, output_size=vocab, tied=tied, bias=True, tied_to="encoder"
                )
            )
        case "pretraining":
            dense = Projection(in_size=hidden, out_size=hidden, bias=True, activation=activation(r))
            head = classifier(hidden, 1, role="encoder", bias=True)
            return Plan(head=head.replace(kind="discriminator", transform=HeadTransform(dense=dense)))
        case "sequence_classification":
            return Plan(head=dense_classifier(hidden, num_labels(r), "tanh", role="encoder"))
        case "multiple_choice":
            return Plan(head=dense_classifier(hidden, 1, "tanh", role="encoder"))
        case _:
            return plain_plan(r, task, role="encoder", hidden=hidden).replace(pooler=False)


# ---- Perceiver ------------------------------------------------------------------------------------------------------


def _perceiver(r: Reader) -> Model:
    """A text of bytes; classes for images, sound and flow have inputs that are not described."""
    r.ignore("image_size", "train_size", "num_frames", "audio_samples_per_frame", "samples_per_patch", "output_shape")
    r.ignore("output_num_channels", "_label_trainable_num_channels", "use_query_residual", "hidden_act")
    r.ignore("layer_norm_eps", "num_blocks", "tie_word_embeddings", "pad_token_id")
    name = class_of(r, "PerceiverForMaskedLM", "PerceiverForSequenceClassification")
    masked, width, latents = name == "PerceiverForMaskedLM", r.integer("d_model"), r.integer("d_latents")
    vocab, rows = r.integer("vocab_size"), r.integer("max_position_embeddings")
    if r.reasons:
        raise r.error("architectures", f"is {shown(r.config['architectures'])}: only Perceiver's text models are read")
    positions = LearnedPositions(rows=rows, width=width)
    stack = Stack(
        role="encoder",
        hidden_size=latents,
        embedding=TokenEmbedding(vocab_size=vocab, embedding_size=width, positions=positions),
        layers=(),
        runs=(),
    )
    decoder = _text_decoder(r, rows, width, latents) if masked else _label_decoder(r, latents)
    head = (
        Head(kind="masked_lm", input_size=width, output_size=vocab, tied=True, bias=True, tied_to="encoder")
        if masked
        else classifier(latents, num_labels(r), role="encoder", bias=True, pooled=True)
    )
    return Model(
        name="",
        model_type=r.model_type,
        stacks=(stack,),
        head=head,
        counted=(*_perceiver_encoder(r, width, latents), decoder),
        only_params=_LATENTS,
        dtype=dtype_of(r),
        quantization=quantization_of(r),
        max_position_embeddings=rows,
    )


_Tensors = tuple[tuple[str, tuple[int, ...], int], ...]


def _layer(q: int, kv: int, qk: int, v: int, out: int, widening: int, *, cross: bool, count: int = 1) -> _Tensors:
    """Attention of [q] over [kv] through [qk] and [v], and a feed-forward; norms before both, and of what is read."""
    inner = widening * q
    return (
        ("norms", (2, 2 * q + kv * cross), count),
        ("q_proj", (q + 1, qk), count),
        ("k_proj", (kv + 1, qk), count),
        ("v_proj", (kv + 1, v), count),
        ("o_proj", (v + 1, out), count),
        ("up_proj", (q + 1, inner), count),
        ("down_proj", (inner + 1, q), count),
    )


def _perceiver_encoder(r: Reader, width: int, latents: int) -> tuple[CountedPart, ...]:
    """Latents that read the text, then attend to each other; the block is held once however often it runs."""
    reading, own = r.integer("num_cross_attention_heads"), r.integer("num_self_attention_heads")
    shape = r.choice("cross_attention_shape_for_attention", ("q", "kv"))
    qk, v = r.optional_integer("qk_channels"), r.optional_integer("v_channels")
    across = qk or (latents if shape == "q" else width)
    within = qk or latents
    _require_heads(r, reading, latents, across, v or across)
    _require_heads(r, own, latents, within, v or within)
    wide = r.integer("cross_attention_widening_factor"), r.integer("self_attention_widening_factor")
    reads = _layer(latents, width, across, v or across, latents, wide[0], cross=True)
    layers = r.integer("num_self_attends_per_block", minimum=0)
    block = _layer(latents, latents, within, v or within, v or within, wide[1], cross=False, count=layers)
    return (
        CountedPart(name="latents", tensors=(("latents", (r.integer("num_latents"), latents), 1),)),
        CountedPart(name="reading", tensors=reads),
        CountedPart(name="block", tensors=block),
    )


def _require_heads(r: Reader, heads: int, *widths: int) -> None:
    for width in widths:
        if width % heads:
            raise r.error(
                "d_latents", f"or qk_channels or v_channels: {width} channels are no multiple of {heads} heads"
            )


def _text_decoder(r: Reader, rows: int, width: int, latents: int) -> CountedPart:
    """A query for each position reads the latents, in 8 heads of 32 channels."""
    heads, channels = 8, 8 * 32
    _require_heads(r, heads, width)
    queries = ("queries", (rows, width), 1)
    return CountedPart(
        name="decoder", tensors=(queries, *_layer(width, latents, channels, width, width, 1, cross=True))
    )


def _label_decoder(r: Reader, latents: int) -> CountedPart:
    """One query reads the latents."""
    query = ("queries", (1, latents), 1)
    reads = _layer(latents, latents, latents, latents, latents, 1, cross=True)
    return CountedPart(name="decoder", tensors=(query, *reads))


TYPES: Final = {
    "funnel": ModelType(
        build=_funnel,
        defaults=FUNNEL_DEFAULTS,
        aliases={"hidden_size": "d_model", "num_attention_heads": "n_head"},
        origin="transformers 5.23 FunnelConfig",
    ),
    "perceiver": ModelType(build=_perceiver, defaults=PERCEIVER_DEFAULTS, origin="transformers 5.23 PerceiverConfig"),
}
