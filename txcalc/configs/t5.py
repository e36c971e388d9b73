"""T5: an encoder and a decoder, pre-norm RMSNorm without biases, relative positions, scores that are not scaled.

Sources: Raffel et al. 2020 (arXiv 1910.10683), section 2.1; gated feed-forward: Shazeer 2020 (arXiv 2002.05202).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol

from txcalc.architecture import (
    CrossAttention,
    FeedForward,
    Head,
    Model,
    RelativeBias,
    Role,
    SelfAttention,
    Stack,
    TokenEmbedding,
    runs_of,
)
from txcalc.configs.common import ACTIVATIONS, dtype_of, each_once, pre_norm, quantization_of, rms_norm
from txcalc.configs.encoders import dense_classifier, foreign_spelling, known_task
from txcalc.configs.heads import Task, classifier, num_labels
from txcalc.configs.reader import MAX_LAYERS, Reader
from txcalc.configs.registry import ModelType
from txcalc.record import Record

T5_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32_128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 6,
    "num_decoder_layers": None,
    "num_heads": 8,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
    "tie_word_embeddings": True,
}
T5_ALIASES: Final = {
    "hidden_size": "d_model",
    "intermediate_size": "d_ff",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "head_dim": "d_kv",
}

_TASKS: Final = """
seq2seq_lm base encoder sequence_classification token_classification question_answering
"""


class Kin(Record):
    """How a type differs from T5.

    ``table``: where relative biases are stored, once a stack or in every layer. ``always_tied``: its checkpoints hold
    one table whatever the config says. ``scales``: whether a tied head reads scaled states - ``setting``: as newer
    files say, else yes.
    """

    prefix: str
    tasks: str = _TASKS
    table: Literal["layer", "stack"] = "stack"
    always_tied: bool = False
    scales: Literal["setting", "tied", "never"] = "setting"


class LayersOf(Protocol):
    """Gives a stack's attentions or feed-forwards, one a layer, from the plain one."""

    def __call__(self, role: Role, plain: Any, depth: int) -> Sequence[Any]:  # noqa: D102 - the class says it
        ...


def alike(role: Role, plain: Any, depth: int) -> Sequence[Any]:
    """The plain one in every layer."""
    return [plain] * depth


class _Shape(Record):
    """The widths that both stacks share."""

    hidden: int
    heads: int
    head_dim: int
    eps: float
    feed_forward: FeedForward


def _shape(r: Reader, feed_forward: Callable[[Reader, int], FeedForward]) -> _Shape:
    hidden, heads = r.integer("hidden_size"), r.integer("num_attention_heads")
    return _Shape(
        hidden=hidden,
        heads=heads,
        head_dim=r.integer("head_dim"),
        eps=r.number("layer_norm_epsilon"),
        feed_forward=feed_forward(r, hidden),
    )


def gated_or_not(r: Reader, hidden: int) -> FeedForward:
    """``feed_forward_proj``: ``relu``, ``gated-gelu`` (the tanh form); two keys of newer files overrule its parts."""
    written = r.text("feed_forward_proj")
    parts = written.split("-")
    if len(parts) > 2 or (len(parts) == 2 and parts[0] != "gated"):
        raise r.error("feed_forward_proj", f"is {written!r}; expected an activation, or gated- and an activation")
    gated = r.flag("is_gated_act") if r.has("is_gated_act") else parts[0] == "gated"
    key = "dense_act_fn" if r.has("dense_act_fn") else "feed_forward_proj"
    name = r.text(key) if key == "dense_act_fn" else "gelu_new" if written == "gated-gelu" else parts[-1]
    if name not in ACTIVATIONS:
        raise r.error(key, f"is {written if key == 'feed_forward_proj' else name!r}; known: {', '.join(ACTIVATIONS)}")
    return FeedForward(
        hidden_size=hidden,
        intermediate_size=r.integer("intermediate_size"),
        activation=ACTIVATIONS[name],
        gated=gated,
    )


def _stack(
    r: Reader, kin: Kin, shape: _Shape, role: Role, num_layers: int, attentions: LayersOf, feed_forwards: LayersOf
) -> Stack:
    """One stack; T5's table of relative positions is stored once, and every layer of the stack reads it."""
    norm = rms_norm(shape.hidden, shape.eps)
    bias = RelativeBias(
        num_buckets=r.integer("relative_attention_num_buckets"),
        max_distance=r.integer("relative_attention_max_distance"),
        bidirectional=role == "encoder",
        table=kin.table,
    )
    attention = _self_attention(shape, role, bias)
    crossed = [_cross_attention(shape)] if role == "decoder" else []
    pairs = zip(
        attentions(role=role, plain=attention, depth=num_layers),
        feed_forwards(role=role, plain=shape.feed_forward, depth=num_layers),
        strict=True,
    )
    distinct, runs = runs_of(each_once(pairs, lambda pair: pre_norm(pair[0], *crossed, pair[1], norm=norm)))
    once = kin.table == "stack"
    return Stack(
        role=role,
        hidden_size=shape.hidden,
        embedding=TokenEmbedding(
            vocab_size=r.integer("vocab_size"),
            embedding_size=shape.hidden,
            shared_with="encoder" if role == "decoder" else None,
        ),
        layers=distinct,
        runs=runs,
        final_norm=norm,
        relative_bias=bias if once else None,
        relative_bias_heads=shape.heads if once else 0,
    )


def _self_attention(shape: _Shape, role: Role, bias: RelativeBias) -> SelfAttention:
    return SelfAttention(
        hidden_size=shape.hidden,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.head_dim,
        v_head_dim=shape.head_dim,
        causal=role == "decoder",
        position=bias,
        scale=1.0,  # the initialisation takes the place of 1 / sqrt(head_dim)
    )


def _cross_attention(shape: _Shape) -> CrossAttention:
    return CrossAttention(
        hidden_size=shape.hidden,
        source_size=shape.hidden,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.head_dim,
        v_head_dim=shape.head_dim,
        scale=1.0,
    )


def _depths(r: Reader) -> tuple[int, int]:
    """Layers of encoder and decoder: as many in both where the config names one number.

    A config that gives only the standard name gets the type's own default for its decoder, as transformers reads it.
    """
    depth = r.layers()
    decoder = r.raw("num_decoder_layers")
    if decoder is not None:
        return depth, r.integer("num_decoder_layers", maximum=MAX_LAYERS)
    if "num_hidden_layers" in r.config and r.config.get("num_layers") is None:
        default = int(r.defaults["num_layers"])
        r.notes.append(
            f"num_hidden_layers is T5's encoder; without num_decoder_layers its decoder has {default} layers"
        )
        return depth, default
    return depth, depth


def _head(r: Reader, kin: Kin, task: Task, hidden: int) -> Head | None:
    match task:
        case "base" | "encoder":
            return None
        case "sequence_classification":  # reads the decoder's state at the last end-of-sequence token
            return dense_classifier(hidden, num_labels(r), "tanh", role="decoder")
        case "token_classification":
            return classifier(hidden, num_labels(r), role="encoder", bias=True)
        case "question_answering":
            return classifier(hidden, num_labels(r), role="decoder", bias=True)
    tied = kin.always_tied or _is_tied(r)
    return Head(
        kind="lm",
        input_size=hidden,
        output_size=r.integer("vocab_size"),
        tied=tied,
        scale=hidden**-0.5 if _scales_hidden(r, kin, tied) else 1.0,
        tied_to="encoder",
    )


def _is_tied(r: Reader) -> bool:
    """T5 v1.1, mT5 and UL2 say false, and their checkpoints hold a head of its own; null counts as true.

    transformers 5 ties the head of every T5 that it builds; on loading such a checkpoint it keeps the two apart.
    """
    tied = r.raw("tie_word_embeddings") is None or r.flag("tie_word_embeddings")
    if not tied:
        r.notes.append("a head of its own, as the config says; transformers 5 would build this T5 with a tied one")
    return tied


def _scales_hidden(r: Reader, kin: Kin, tied: bool) -> bool:
    """A tied head reads hidden states times hidden_size**-0.5, unless a newer file says otherwise."""
    if kin.scales != "setting":
        return tied and kin.scales == "tied"
    if kin.always_tied:  # what the config says of tying, it says of scaling
        named = "scale_decoder_outputs" if r.has("scale_decoder_outputs") else "tie_word_embeddings"
        return r.raw(named) is not None and r.flag(named)
    scales = r.flag("scale_decoder_outputs") if r.has("scale_decoder_outputs") else tied
    if tied and not scales:
        r.reasons.append(
            "scale_decoder_outputs = false beside a tied head: T5 v1.1 written anew; "
            "whether its checkpoint holds a head of its own is not in the config"
        )
    return scales


def t5_like(
    r: Reader,
    kin: Kin,
    *,
    feed_forward: Callable[[Reader, int], FeedForward] = gated_or_not,
    attentions: LayersOf = alike,
    feed_forwards: LayersOf = alike,
) -> Model:
    """T5 and the types that are built like it; the functions say where layers differ."""
    r.ignore("n_positions", "tie_word_embeddings", "scale_decoder_outputs")
    foreign_spelling(r, "intermediate_size")
    task = known_task(r, kin.tasks, prefix=kin.prefix, default="seq2seq_lm")
    if task in ("encoder", "token_classification") and r.config.get("is_decoder") is True:
        r.reasons.append(
            "is_decoder = true on an encoder: transformers builds cross-attention into it that nothing runs"
        )
    shape, (depth, decoder_depth) = _shape(r, feed_forward), _depths(r)
    stacks = [_stack(r, kin, shape, "encoder", depth, attentions, feed_forwards)]
    if task not in ("encoder", "token_classification"):
        stacks.append(_stack(r, kin, shape, "decoder", decoder_depth, attentions, feed_forwards))
    return Model(
        name="",
        model_type=r.model_type,
        stacks=tuple(stacks),
        head=_head(r, kin, task, shape.hidden),
        dtype=dtype_of(r),
        quantization=quantization_of(r),
    )


def _t5(r: Reader) -> Model:
    return t5_like(r, Kin(prefix="T5"))


TYPES: Final = {
    "t5": ModelType(build=_t5, defaults=T5_DEFAULTS, aliases=T5_ALIASES, origin="transformers 5.23 T5Config")
}
