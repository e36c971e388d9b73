"""The parts of a pass, each walked once: embedding, every kind of layer, and what follows the last layer.

A part is walked by itself, from its input to its output and back; a model's moments are sums over parts (``moments``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from txcalc.architecture import (
    Head,
    LatentAttention,
    Layer,
    MixtureOfExperts,
    SelfAttention,
    Stack,
    Sublayer,
    TokenEmbedding,
)
from txcalc.expression import symbol
from txcalc.formulas.tape import ends
from txcalc.formulas.tape.blocks import layer as walk_layer
from txcalc.formulas.tape.core import Grad, Peak, Store, Tape, Value
from txcalc.formulas.tape.feed_forward import activation
from txcalc.formulas.tape.walk import Pass, Walk


class How(NamedTuple):
    """How a step runs: ``checkpointed`` layers keep their input alone; the others are the tape's (see ``Tape``)."""

    checkpointed: bool = False
    accumulate: bool = False
    observed: bool = False
    summed: bool = False


class Stream(NamedTuple):
    """Hidden states between parts: how wide, of how many bytes, and whether they need a gradient."""

    channels: int
    width: int
    needs_grad: bool = True

    def value(self, w: Walk, name: str) -> Value:
        """The tensor on a tape."""
        return w.tape.new(name, w.n * symbol("D", self.channels), self.width, needs_grad=self.needs_grad)


class Part(NamedTuple):
    """What one part does to memory, its input included.

    ``kept``: storages that wait for the backward pass; ``until_end``: bytes that the forward pass holds beside them;
    ``forward`` and ``backward``: the peaks; ``after_tables``: of the backward pass when tables that all layers share
    have been read for the last time. ``gradients``: of its parameters, those that stay; ``trained``: of all of them.
    ``what``: the kinds of its sublayers.
    """

    name: str
    kept: tuple[Store, ...]
    kept_bytes: int
    until_end: int
    forward: Peak
    backward: Peak
    after_tables: Peak
    gradients: tuple[Store, ...]
    gradient_bytes: int
    trained: tuple[Store, ...]
    keeps_input: bool
    out: Stream
    what: str = ""


_NOTHING = Peak(0, ())


def layer_part(described: Layer, stream: Stream, asked: Pass, how: How) -> Part:
    """One layer, from its input to its output and back."""
    tape = Tape(accumulate=how.accumulate, observed=how.observed, summed=how.summed)
    w = Walk(tape, asked)
    x = stream.value(w, "layer input")
    y = _checkpointed(w, described, x) if how.checkpointed else walk_layer(w, described, x)
    forward = tape.peak()
    tape.drop(x)
    return _and_back(w, "layer", x, y, forward, stream.channels)._replace(what=_kinds(described))


def _checkpointed(w: Walk, described: Layer, x: Value) -> Value:
    states = w.generator_states()
    y = w.tape.recompute((x,), lambda: walk_layer(w, described, x), states, holds_tables=True)
    for state in states:
        w.tape.release(state)
    return y


def _kinds(described: Layer) -> str:
    """Its sublayers in words."""
    return ", ".join(dict.fromkeys(_words(sublayer) for sublayer in described.sublayers()))


def _words(sublayer: Sublayer) -> str:
    match sublayer:
        case SelfAttention():
            reach = sublayer.window or sublayer.chunk
            return f"self-attention over {reach:,} tokens" if reach else "self-attention"
        case LatentAttention():
            return "latent attention"
        case MixtureOfExperts():
            return "mixture of experts"
        case _:
            return "feed-forward"


def _and_back(
    w: Walk, name: str, x: Value | None, y: Value, forward: Peak, channels: int, also: Callable[[], object] = int
) -> Part:
    """The part whose forward pass has run: what it keeps, and its backward pass from a gradient of y.

    ``channels``: the width of y; ``also`` is done between the two.
    """
    tape = w.tape
    before = tape.live
    tape.drop(*w.casts)
    until_end = before - tape.live
    w.casts.clear()
    kept = tuple(store for store in tape.held if store is not y.store)
    also()
    during, after = _back(tape, y) if y.needs_grad else (_NOTHING, _NOTHING)
    gradients = tuple(tape.parameter_gradients)
    return Part(
        name=name,
        kept=kept,
        kept_bytes=sum(store.bytes for store in kept),
        until_end=until_end,
        forward=forward,
        backward=during,
        after_tables=after,
        gradients=gradients,
        gradient_bytes=sum(store.bytes for store in gradients),
        trained=tuple(tape.trained),
        keeps_input=x is not None and x.store in kept,
        out=Stream(channels, y.width, y.needs_grad),
    )


def _back(tape: Tape, y: Value) -> tuple[Peak, Peak]:
    grad = tape.new_grad(y)
    tape.drop(y)
    tape.peak()
    tape.backward(y, grad)
    return tape.with_tables, tape.peak()


def embedding_part(e: TokenEmbedding, asked: Pass, how: How, *, tied: bool) -> Part:
    """Tokens to first hidden states and back. ``tied``: the head's gradient of the table is there already."""
    tape = Tape(accumulate=how.accumulate, observed=how.observed)
    w = Walk(tape, asked)
    table = ends.token_table(w, e)
    x = ends.embedding(w, e, table)
    forward = tape.peak()

    def tied_gradient() -> None:
        if tied and table.needs_grad:
            store = tape.store("gradient of token table, from the head", table.store.size)
            tape.already(table, Grad(store, view=True))

    channels = e.embedding_size if e.projection is None else e.projection.out_size
    return _and_back(w, "embedding", None, x, forward, channels, tied_gradient)


class Tail(NamedTuple):
    """What follows the last layer: the peak up to the logits, then loss and backward as a part."""

    logits: Peak
    loss: Part


def tail_part(stack: Stack, head: Head, stream: Stream, asked: Pass, how: How) -> Tail:
    """Final norm, head and loss over every position, and back to the last hidden states."""
    tape = Tape(accumulate=how.accumulate, observed=how.observed)
    w = Walk(tape, asked)
    x = stream.value(w, "last hidden states")
    hidden = ends.after_layers(w, stack, x)
    table = ends.token_table(w, _token_embedding(stack)) if head.tied else None
    if table is not None:
        table.tied = True
    logits = ends.head(w, head, hidden, w.n, table)
    to_logits = tape.peak()
    tape.drop(hidden)
    value = ends.loss(w, logits)
    forward = tape.peak()
    tape.again(value)  # the caller holds the loss, and backward() the gradient that it starts from
    return Tail(to_logits, _and_back(w, "head and loss", x, value, forward, 1))


def _token_embedding(stack: Stack) -> TokenEmbedding:
    assert isinstance(stack.embedding, TokenEmbedding)
    return stack.embedding


# ---- inference ------------------------------------------------------------------------------------------------------


def layer_peak(described: Layer, channels: int, asked: Pass, *, observed: bool = False) -> Peak:
    """The most that is live in one layer without a backward pass, its input included."""
    tape = Tape("inference", observed=observed)
    w = Walk(tape, asked)
    walk_layer(w, described, Stream(channels, asked.precision.parameter, False).value(w, "layer input"))
    return tape.peak()


def embedding_peak(e: TokenEmbedding, asked: Pass, *, observed: bool = False) -> Peak:
    """The most that is live in the embedding."""
    tape = Tape("inference", observed=observed)
    w = Walk(tape, asked)
    ends.embedding(w, e, ends.token_table(w, e))
    return tape.peak()


def head_peak(stack: Stack, head: Head | None, asked: Pass, *, last: bool, observed: bool = False) -> tuple[Peak, int]:
    """(the most that is live after the last layer, bytes of the logits); ``last``: of the last token alone."""
    tape = Tape("inference", observed=observed)
    w = Walk(tape, asked)
    x = Stream(stack.hidden_size, asked.precision.parameter, False).value(w, "last hidden states")
    hidden = ends.after_layers(w, stack, x)
    pooled = _pooled(w, stack, hidden)
    if head is None:
        return tape.peak(), 0
    rows = asked.B if last or head.pooled else w.n
    table = ends.token_table(w, _token_embedding(stack)) if head.tied else None
    apart = last and not head.pooled and int(asked.B) > 1 and int(asked.T) > 1  # one token of each row
    logits = ends.head(w, head, hidden if pooled is None or not head.pooled else pooled, rows, table, apart=apart)
    return tape.peak(), logits.store.bytes


def _pooled(w: Walk, stack: Stack, hidden: Value) -> Value | None:
    """BERT's: the first token of each sequence through a matrix and tanh."""
    if stack.pooler is None:
        return None
    D = symbol("D", stack.hidden_size)
    width = D if stack.pooler.out_size is None else symbol("pooler_output_size", stack.pooler.out_size)
    first = w.tape.again(hidden)
    dense = w.project(first, "pooler", D, width, bias=stack.pooler.bias, rows=w.asked.B)
    out = activation(w, stack.pooler.activation, dense)
    w.tape.drop(dense, first)
    return out
