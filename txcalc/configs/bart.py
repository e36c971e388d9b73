"""BART: an encoder and a decoder, post-norm LayerNorm, biases everywhere, learned positions that start at row 2.

Source: Lewis et al. 2020 (arXiv 1910.13461), section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, Protocol, TypeVar

from txcalc.architecture import (
    CrossAttention,
    Head,
    LearnedPositions,
    Model,
    Role,
    SelfAttention,
    Sinusoidal,
    Stack,
    TokenEmbedding,
    UnusedTensor,
    runs_of,
)
from txcalc.configs.bert import first_position, idle_cross_attention
from txcalc.configs.common import (
    activation,
    dtype_of,
    each_once,
    layer_norm,
    post_norm,
    pre_norm,
    quantization_of,
)
from txcalc.configs.encoders import (
    biased_attention,
    dense_classifier,
    head_width,
    known_task,
    plain_feed_forward,
)
from txcalc.configs.heads import Task, classifier, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.record import Record

BART_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 50_265,
    "d_model": 1024,
    "encoder_layers": 12,
    "encoder_ffn_dim": 4096,
    "encoder_attention_heads": 16,
    "decoder_layers": 12,
    "decoder_ffn_dim": 4096,
    "decoder_attention_heads": 16,
    "max_position_embeddings": 1024,
    "activation_function": "gelu",
    "scale_embedding": False,
    "tie_word_embeddings": True,
}
BART_ALIASES: Final = {
    "hidden_size": "d_model",
    "num_hidden_layers": "encoder_layers",
    "num_attention_heads": "encoder_attention_heads",
}

_OFFSET: Final = 2  # fairseq's padding id plus one, which the position tables still leave room for
_EPS: Final = 1e-5  # torch's default; no field of the config


class Style(Record):
    """How an encoder-decoder of BART's family is built; the defaults are BART's own.

    ``final_normed``: each stack ends in a norm. ``positions``: ``learned``, ``stored`` - sines that are kept as a table
    - or ``computed``; ``paper_rates`` as in ``Sinusoidal``; ``offset``: the first token's row, None: the one after the
    padding token's id; ``rows``: the key that sizes a stack's table. ``bias``: on every matrix of attention, on that of
    the keys if ``key_bias`` says so too. ``scaled``: the stacks that heed ``scale_embedding``. ``norm_first``: those
    whose embedding is normed before positions are added. ``fixed_bias``: whether files hold ``final_logits_bias``.
    ``labels``: of a classifier whose config does not say.
    """

    prefix: str
    tasks: str = "seq2seq_lm causal_lm base sequence_classification question_answering"
    pre_normed: bool = False
    embedding_normed: bool = True
    final_normed: bool = False
    positions: Literal["learned", "stored", "computed"] = "learned"
    paper_rates: bool = False
    offset: int | None = _OFFSET
    rows: str = "max_position_embeddings"
    bias: bool = True
    key_bias: bool = True
    scaled: tuple[Role, ...] = ("encoder", "decoder")
    norm_first: tuple[Role, ...] = ()
    fixed_bias: bool = True
    default: Task = "seq2seq_lm"
    labels: int = 2


class Parts(Protocol):
    """Gives a stack's mixers or feed-forwards, one a layer, from the plain one."""

    def __call__(self, role: Role, plain: Any, depth: int) -> Sequence[Any]:  # noqa: D102 - the class says it
        ...


def _bart(r: Reader) -> Model:
    _first_release_keys(r)
    return bart_like(r, Style(prefix="Bart", labels=3))


def bart_like(r: Reader, style: Style, *, mixers: Parts | None = None, feed_forwards: Parts | None = None) -> Model:
    """BART and what is built like it; ``mixers`` and ``feed_forwards`` where the layers of a stack differ."""
    task = known_task(r, style.tasks, prefix=style.prefix, default=style.default)
    hidden, tied = r.integer("hidden_size"), r.flag("tie_word_embeddings")
    alone = task == "causal_lm"
    shared: Role | None = "encoder" if tied and not alone else None
    mix, feed = mixers or alike, feed_forwards or alike
    stacks = [] if alone else [stack_of(r, style, "encoder", mixers=mix, feed_forwards=feed)]
    r.ignore("num_hidden_layers", "num_attention_heads", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")
    stacks.append(stack_of(r, style, "decoder", mixers=mix, feed_forwards=feed, shared_with=shared, alone=alone))
    return Model(
        name="",
        model_type=r.model_type,
        stacks=tuple(stacks),
        head=_head(r, style, task, hidden),
        unused=_unused(r, style, hidden, alone=alone, tied=tied),
        dtype=dtype_of(r),
        quantization=quantization_of(r),
        max_position_embeddings=r.integer(style.rows.format(role="decoder")),
    )


def alike(role: Role, plain: Any, depth: int) -> Sequence[Any]:
    """The plain one in every layer."""
    return [plain] * depth


def _first_release_keys(r: Reader) -> None:
    """Switches of the first release, when one class served mBART too; BART's own values of them are still built."""
    r.ignore("classif_dropout", "force_bos_token_to_be_generated", "save_step", "extra_pos_embeddings")
    r.unused("normalize_before", False)
    r.unused("add_final_layer_norm", False)
    r.unused("normalize_embedding", True)
    r.unused("static_position_embeddings", False)
    r.unused("add_bias_logits", False)


def stack_of(
    r: Reader,
    style: Style,
    role: Role,
    *,
    mixers: Parts,
    feed_forwards: Parts,
    shared_with: Role | None = None,
    alone: bool = False,
) -> Stack:
    """One stack; ``alone``: a decoder without an encoder, which runs no cross-attention."""
    hidden, heads, depth = r.integer("hidden_size"), _heads(r, role), _depth(r, role)
    head_dim, norm = head_width(r, hidden, heads), layer_norm(hidden, _EPS)
    attention = biased_attention(hidden, heads, head_dim, causal=role == "decoder")
    crossed = [_biased(cross_attention_of(attention), style)] if role == "decoder" and not alone else []
    act = activation(r, "activation_function")
    plain = plain_feed_forward(hidden, r.integer(f"{role}_ffn_dim"), act)
    arrange = pre_norm if style.pre_normed else post_norm
    pairs = zip(
        mixers(role=role, plain=_biased(attention, style), depth=depth),
        feed_forwards(role=role, plain=plain, depth=depth),
        strict=True,
    )
    layers = each_once(pairs, lambda pair: arrange(pair[0], *crossed, pair[1], norm=norm))
    distinct, runs = runs_of(layers)
    return Stack(
        role=role,
        hidden_size=hidden,
        embedding=_embedding(r, style, hidden, role, shared_with),
        layers=distinct,
        runs=runs,
        final_norm=norm if style.final_normed else None,
    )


Attention = TypeVar("Attention", SelfAttention, CrossAttention)


def _biased(attention: Attention, style: Style) -> Attention:
    bias = style.bias
    return attention.replace(q_bias=bias, k_bias=bias and style.key_bias, v_bias=bias, o_bias=bias)


def _heads(r: Reader, role: Role) -> int:
    """The standard name stands for the encoder's heads and depth, as in every config that carries it."""
    return r.integer("num_attention_heads" if role == "encoder" else "decoder_attention_heads")


def _depth(r: Reader, role: Role) -> int:
    return r.layers("num_hidden_layers" if role == "encoder" else "decoder_layers")


def cross_attention_of(attention: SelfAttention) -> CrossAttention:
    """Cross-attention over an equally wide encoder, with the heads and biases of a self-attention."""
    return CrossAttention(
        hidden_size=attention.hidden_size,
        source_size=attention.hidden_size,
        num_attention_heads=attention.num_attention_heads,
        num_key_value_heads=attention.num_key_value_heads,
        head_dim=attention.head_dim,
        v_head_dim=attention.v_head_dim,
        q_bias=attention.q_bias,
        k_bias=attention.k_bias,
        v_bias=attention.v_bias,
        o_bias=attention.o_bias,
    )


def _embedding(r: Reader, style: Style, hidden: int, role: Role, shared_with: Role | None) -> TokenEmbedding:
    return TokenEmbedding(
        vocab_size=r.integer("vocab_size"),
        embedding_size=hidden,
        scale=hidden**0.5 if scaled_embedding(r) and role in style.scaled else 1.0,
        positions=position_table(r, style, hidden, role),
        norm=layer_norm(hidden, _EPS) if style.embedding_normed else None,
        norm_first=role in style.norm_first,
        shared_with=shared_with,
    )


def scaled_embedding(r: Reader) -> bool:
    """``scale_embedding``: tokens times the root of the width."""
    return r.raw("scale_embedding") is not None and r.flag("scale_embedding")


def position_table(r: Reader, style: Style, width: int, role: Role) -> LearnedPositions | Sinusoidal:
    """The positions of a stack: learned, or sines before cosines."""
    offset = first_position(r) if style.offset is None else style.offset
    table = r.integer(style.rows.format(role=role)) + offset
    if style.positions == "learned":
        return LearnedPositions(rows=table, width=width, offset=offset)
    stored = style.positions == "stored"
    return Sinusoidal(rows=table, width=width, offset=offset, stored=stored, paper_rates=style.paper_rates)


def _head(r: Reader, style: Style, task: Task, hidden: int) -> Head | None:
    """The language model's bias, ``final_logits_bias``, is a buffer of zeros and no parameter."""
    match task:
        case "base":
            return None
        case "sequence_classification":  # reads the decoder's state at the last end-of-sequence token
            return dense_classifier(hidden, num_labels(r, style.labels), "tanh", role="decoder")
        case "question_answering":
            return classifier(hidden, 2, role="decoder", bias=True)
    return Head(
        kind="lm",
        input_size=hidden,
        output_size=r.integer("vocab_size"),
        tied=r.flag("tie_word_embeddings"),
        fixed_bias=style.fixed_bias and task != "causal_lm",
        tied_to="decoder" if task == "causal_lm" else "encoder",
    )


def idle_of(r: Reader, style: Style) -> tuple[UnusedTensor, ...]:
    """The cross-attention of a decoder without its encoder."""
    biases = (3 + style.key_bias) * style.bias
    return idle_cross_attention(r, r.integer("hidden_size"), _depth(r, "decoder"), biases=biases)


def _unused(r: Reader, style: Style, hidden: int, *, alone: bool, tied: bool) -> tuple[UnusedTensor, ...]:
    """What transformers builds and does not read: a lone decoder's cross-attention, an untied model's shared table."""
    if alone:
        return idle_of(r, style)
    if tied:
        return ()
    r.notes.append(
        "tie_word_embeddings = false: encoder and decoder each have a token table, and a third is built that nothing "
        "reads, as in transformers 5; before, the three were one"
    )
    return (UnusedTensor(name="shared token table", shape=(r.integer("vocab_size"), hidden)),)


TYPES: Final = {
    "bart": ModelType(build=_bart, defaults=BART_DEFAULTS, aliases=BART_ALIASES, origin="transformers 5.23 BartConfig")
}
