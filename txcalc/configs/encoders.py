"""What BERT and its kin share: bidirectional post-norm layers, and a head for every task they are published with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from txcalc.architecture import (
    FeedForward,
    Head,
    HeadTransform,
    Layer,
    Model,
    Pooler,
    Projection,
    Role,
    SelfAttention,
    Stack,
    TokenEmbedding,
    UnusedTensor,
    runs_of,
)
from txcalc.architecture.feed_forward import Activation
from txcalc.configs.common import activation, dtype_of, layer_norm, quantization_of
from txcalc.configs.common import foreign_spelling as foreign_spelling  # for the modules that build on this one
from txcalc.configs.heads import Task, classifier, num_labels, task_of
from txcalc.configs.reader import Reader
from txcalc.record import Record

LM_TASKS: Final = ("masked_lm", "causal_lm", "pretraining")
"""Tasks whose head gives a score for every token of the vocabulary."""


class Plan(Record):
    """What a model of one task consists of beside its layers."""

    head: Head | None = None
    pooled_head: Head | None = None
    pooler: bool = False
    unused: tuple[UnusedTensor, ...] = ()


# ---- layers ---------------------------------------------------------------------------------------------------------


def head_width(r: Reader, hidden: int, heads: int, *, key: str = "hidden_size") -> int:
    """Width of one head: the model's width over its heads.

    Raises:
        ModelError: the heads do not divide the width.
    """
    if hidden % heads:
        raise r.error(key, f"is {hidden}; it is not a multiple of the {heads} heads")
    return hidden // heads


def biased_attention(hidden: int, heads: int, head_dim: int, *, causal: bool) -> SelfAttention:
    """Multi-head self-attention with a bias on every projection."""
    return SelfAttention(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=head_dim,
        v_head_dim=head_dim,
        causal=causal,
        q_bias=True,
        k_bias=True,
        v_bias=True,
        o_bias=True,
    )


def plain_feed_forward(hidden: int, inner: int, act: Activation, *, bias: bool = True) -> FeedForward:
    """Two matrices with a nonlinearity between them."""
    return FeedForward(
        hidden_size=hidden, intermediate_size=inner, activation=act, gated=False, up_bias=bias, down_bias=bias
    )


def bert_sublayers(r: Reader, *, role: Role) -> tuple[SelfAttention, FeedForward]:
    """BERT's attention and feed-forward, in the usual spelling: a bias on every matrix."""
    hidden, heads = r.integer("hidden_size"), r.integer("num_attention_heads")
    attention = biased_attention(hidden, heads, head_width(r, hidden, heads), causal=role == "decoder")
    return attention, plain_feed_forward(hidden, r.integer("intermediate_size"), activation(r))


def absolute_positions_only(r: Reader) -> None:
    """Older configs name the kind of positions; only absolute ones are still built.

    Raises:
        ModelError: relative ones.
    """
    r.ignore("position_embedding_type")
    value = r.config.get("position_embedding_type", "absolute")
    if value not in (None, "absolute"):
        raise r.error("position_embedding_type", f"is {value!r}; txcalc and transformers 5 build absolute positions")


# ---- heads ----------------------------------------------------------------------------------------------------------


def lm_plan(
    r: Reader,
    task: Task,
    *,
    role: Role,
    hidden: int,
    act: Activation,
    eps: float,
    width: int | None = None,
    spare_bias: bool = True,
) -> Plan:
    """A head over the vocabulary: dense, activation, LayerNorm, then the token table and a bias.

    ``width``: of the token table where it is not the model's. ``spare_bias``: untied, transformers keeps the tied
    head's bias beside the matrix's own, and reads only the latter.
    """
    tied, vocab = r.flag("tie_word_embeddings"), r.integer("vocab_size")
    width = width or hidden
    dense = Projection(in_size=hidden, out_size=width, bias=True, activation=act)
    head = Head(
        kind="lm" if task == "causal_lm" else "masked_lm",
        input_size=hidden,
        output_size=vocab,
        tied=tied,
        bias=True,
        transform=HeadTransform(dense=dense, norm=layer_norm(width, eps)),
        tied_to=role,
    )
    spare = () if tied or not spare_bias else (UnusedTensor(name="second output bias", shape=(vocab,)),)
    return Plan(head=head, unused=spare)


def dense_classifier(hidden: int, outputs: int, act: Activation, *, role: Role) -> Head:
    """A classifier on one vector: dense, activation, linear, with biases (RoBERTa, DistilBERT, BART, T5)."""
    transform = HeadTransform(dense=Projection(in_size=hidden, out_size=hidden, bias=True, activation=act))
    return classifier(hidden, outputs, role=role, bias=True, pooled=True).replace(transform=transform)


def plain_plan(r: Reader, task: Task, *, role: Role, hidden: int, labels: int | None = None) -> Plan:
    """BERT's heads that are one linear map: on the pooled vector, or on every position without a pooler."""
    if task == "base":
        return Plan(pooler=True)
    per_token = task in ("token_classification", "question_answering")
    outputs = {"multiple_choice": 1, "next_sentence": 2}.get(task) or labels or num_labels(r)
    return Plan(
        head=classifier(hidden, outputs, role=role, bias=True, pooled=not per_token),
        pooler=not per_token,
    )


def known_task(r: Reader, known: str, *, prefix: str, default: Task) -> Task:
    """The task of ``architectures`` if it is among ``known``; else ``default``, and the result is an estimate."""
    task = task_of(r, default, prefix=prefix)
    if task in known.split():
        return task
    what = f"a {task.replace('_', ' ')} head is not known for {r.model_type}"
    r.reasons.append(f"{what}, taken as {default.replace('_', ' ')}")
    return default


# ---- the whole ------------------------------------------------------------------------------------------------------


def encoder_model(
    r: Reader,
    plan: Plan,
    *,
    role: Role,
    hidden: int,
    embedding: TokenEmbedding,
    layers: Iterable[tuple[Layer, int]],
    positions: int | None,
    unused: tuple[UnusedTensor, ...] = (),
    **tables: Any,
) -> Model:
    """A model of one stack; ``positions``: how many tokens its position table has rows for.

    ``tables``: what else the stack holds, a final norm or relative positions.
    """
    r.ignore("tie_word_embeddings")  # bears on a language model's head only, which read it
    distinct, runs = runs_of(layers)
    stack = Stack(
        role=role,
        hidden_size=hidden,
        embedding=embedding,
        layers=distinct,
        runs=runs,
        pooler=Pooler(hidden_size=hidden) if plan.pooler else None,
        **tables,
    )
    return Model(
        name="",
        model_type=r.model_type,
        stacks=(stack,),
        head=plan.head,
        pooled_head=plan.pooled_head,
        unused=(*plan.unused, *unused),
        dtype=dtype_of(r),
        quantization=quantization_of(r),
        max_position_embeddings=positions,
    )
