"""The moments of a training step or of a pass, and the highest of them.

Peak memory is a maximum over moments, never a sum: activations pile up until the loss, gradients until the first layer,
and an optimizer's temporaries come when the activations are gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

from txcalc.architecture import Head, Stack, TokenEmbedding
from txcalc.expression import exact, symbol
from txcalc.formulas.tape.core import Peak, Store
from txcalc.formulas.tape.parts import (
    How,
    Part,
    Stream,
    Tail,
    embedding_part,
    embedding_peak,
    head_peak,
    layer_part,
    layer_peak,
    tail_part,
)
from txcalc.formulas.tape.tables import Table, tables
from txcalc.formulas.tape.walk import Pass


class Moment(NamedTuple):
    """What is live at one moment, beside parameters and optimizer states.

    ``peak``: inside the part that runs; ``shared``: what all layers of the pass share. ``waiting``: parts whose
    activations wait for the backward pass, ``kept`` bytes together; ``gradients``: parts whose gradients are there,
    ``there`` bytes. ``casts``: parameters that autocast holds in the narrower dtype until the forward pass ends.
    """

    name: str
    peak: Peak
    shared: tuple[Store, ...] = ()
    waiting: tuple[Part, ...] = ()
    kept: int = 0
    gradients: tuple[Part, ...] = ()
    there: int = 0
    casts: int = 0

    @property
    def live(self) -> int:
        """Bytes inside the part that runs, with what all layers share."""
        return size_of(self.shared) + self.peak.bytes

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.live + self.kept + self.there + self.casts


class Step(NamedTuple):
    """The parts of a training step; ``layers``: the part at every depth."""

    embedding: Part
    layers: tuple[Part, ...]
    tail: Tail
    shared: tuple[Table, ...]  # what the backward pass reads
    passing: tuple[Store, ...]  # what ends with the forward pass
    first_states: tuple[Store, ...]  # the first hidden states, where no layer keeps them but the caller does

    def moments(self) -> list[Moment]:
        """Every moment that may be the highest, in order of time."""
        return [*_forward(self), *_backward(self)]


def training_step(stack: Stack, head: Head, asked: Pass, how: How) -> Step:
    """The parts of a training step of one stack."""
    embedding = embedding_part(_tokens(stack), asked, how, tied=head.tied)
    layers = _layers(stack, embedding.out, asked, how)
    tail = tail_part(stack, head, layers[-1].out if layers else embedding.out, asked, how)
    shared, passing = tables(stack, asked)
    if asked.recompute_scores:  # a product's checkpoint holds on to its mask and bias
        held = tuple(store for store in passing if "of all layers" in store.name)
        shared, passing = _held_too(shared, held), tuple(store for store in passing if store not in held)
    if how.checkpointed:  # a checkpoint holds on to the pass, and so to all that its layers share
        shared, passing = tuple(Table(table.store, 0) for table in _held_too(shared, passing)), ()
    kept = layers and layers[0].keeps_input
    first = () if kept else _first_states(stack, asked, embedding.out.width)
    return Step(embedding, layers, tail, shared, passing, first)


def _held_too(shared: tuple[Table, ...], stores: tuple[Store, ...]) -> tuple[Table, ...]:
    """Tables that the first layer's backward pass ends, beside those that are held anyway."""
    return (*shared, *(Table(store, 0) for store in stores))


def _tokens(stack: Stack) -> TokenEmbedding:
    assert isinstance(stack.embedding, TokenEmbedding)
    return stack.embedding


def _first_states(stack: Stack, asked: Pass, width: int) -> tuple[Store, ...]:
    size = asked.B * asked.T * symbol("D", stack.hidden_size) * width
    return (Store("first hidden states", size),)


def _layers(stack: Stack, stream: Stream, asked: Pass, how: How) -> tuple[Part, ...]:
    """The part at every depth; equal layers are one part, walked once.

    Layers that share their parameters share one gradient: that of the last one stays, the others are added to it.
    """
    known: dict[tuple[int, Stream, bool], Part] = {}
    found: list[Part] = []
    last = {layer.shared: depth for depth, layer in enumerate(stack.sequence()) if layer.shared}
    for depth, index in enumerate(index for index, count in stack.runs for _ in range(count)):
        again = depth < last.get(stack.layers[index].shared, depth)
        key = (index, stream, again)
        if key not in known:
            known[key] = layer_part(stack.layers[index], stream, asked, how._replace(summed=again))
        found.append(known[key])
        stream = known[key].out
    return tuple(found)


def size_of(stores: Iterable[Store]) -> int:
    """Bytes of storages."""
    return sum(store.bytes for store in stores)


def _forward(step: Step) -> list[Moment]:
    """The embedding; each layer with what those before it keep; the logits; the loss."""
    tables_kept = tuple(table.store for table in step.shared)
    shared = (*tables_kept, *step.passing)
    moments = [Moment("the embedding", step.embedding.forward, shared)]
    kept, casts = step.embedding.kept_bytes, step.embedding.until_end
    for depth, part in enumerate(step.layers):
        extra = (*shared, *(step.first_states if depth else ()))
        before = (step.embedding, *step.layers[:depth])
        name = f"the forward pass of layer {depth + 1}"
        moments.append(Moment(name, part.forward, extra, before, kept, casts=casts))
        kept, casts = kept + part.kept_bytes, casts + part.until_end
    everything = (step.embedding, *step.layers)
    return [
        *moments,
        Moment("the logits", step.tail.logits, (*shared, *step.first_states), everything, kept, casts=casts),
        Moment("the loss", step.tail.loss.forward, tables_kept, everything, kept, casts=casts),
    ]


_SEED = Store("gradient of the loss", exact(4))  # held by backward() until it returns


def _backward(step: Step) -> list[Moment]:
    """The loss's backward pass; each layer's, from the last; the embedding's."""
    waiting = list(accumulate((part.kept_bytes for part in step.layers), initial=step.embedding.kept_bytes))
    loss, there = step.tail.loss, step.tail.loss.gradient_bytes
    everything = (*(table.store for table in step.shared), _SEED)
    before = (step.embedding, *step.layers)
    moments = [Moment("the backward pass of the loss", loss.backward, everything, before, waiting[-1])]
    for depth in range(len(step.layers) - 1, -1, -1):
        part = step.layers[depth]
        if not part.out.needs_grad:
            break
        peak, shared = _in_layer(step, depth)
        before, after = (step.embedding, *step.layers[:depth]), (*step.layers[depth + 1 :], loss)
        name = f"the backward pass of layer {depth + 1}"
        moments.append(Moment(name, peak, shared, before, waiting[depth], after, there))
        there += part.gradient_bytes
    return [*moments, _embedding_backward(step)] if step.embedding.out.needs_grad else moments


def _in_layer(step: Step, depth: int) -> tuple[Peak, tuple[Store, ...]]:
    """The peak of a layer's backward pass and what is shared then: tables end where the first layer has read them."""
    part, ends = step.layers[depth], (_LOSS, _SEED)
    during = (*(table.store for table in step.shared if table.first <= depth), *ends)
    after = (*(table.store for table in step.shared if table.first < depth), *ends)
    sizes = (size_of(during) + part.backward.bytes, size_of(after) + part.after_tables.bytes)
    return (part.backward, during) if sizes[0] >= sizes[1] else (part.after_tables, after)


_LOSS = Store("loss", exact(4))


def _embedding_backward(step: Step) -> Moment:
    """A tied head's gradient of the table is inside the embedding's peak, and not counted again."""
    loss = step.tail.loss
    if any("from the head" in store.name for store in step.embedding.backward.stores):
        others = tuple(store for store in loss.gradients if store.name != "gradient of token table")
        loss = loss._replace(gradients=others, gradient_bytes=size_of(others))
    after = (*step.layers, loss)
    there = sum(part.gradient_bytes for part in after)
    name = "the backward pass of the embedding"
    return Moment(name, step.embedding.backward, (_LOSS, _SEED), gradients=after, there=there)


# ---- inference ------------------------------------------------------------------------------------------------------


def pass_moments(stack: Stack, head: Head | None, asked: Pass, *, last: bool, observed: bool = False) -> list[Moment]:
    """Every moment of a pass without a backward that may be the highest; ``last``: logits of the last token alone."""
    return pass_and_logits(stack, head, asked, last=last, observed=observed)[0]


def pass_and_logits(
    stack: Stack, head: Head | None, asked: Pass, *, last: bool, observed: bool = False
) -> tuple[list[Moment], int]:
    """The moments of a pass, and the bytes of its logits."""
    kept, passing = tables(stack, asked)
    shared = [*(table.store for table in kept), *passing]
    first = _first_states(stack, asked, asked.precision.parameter)
    moments = [_inference("the embedding", embedding_peak(_tokens(stack), asked, observed=observed), shared)]
    for index, described in enumerate(stack.layers):
        peak = layer_peak(described, stack.hidden_size, asked, observed=observed)
        name = "a layer" if len(stack.layers) == 1 else f"a layer of kind {index + 1}"
        moments.append(_inference(name, peak, [*shared, *(first if _later(stack, index) else ())]))
    peak, logits = head_peak(stack, head, asked, last=last, observed=observed)
    return [*moments, _inference("the logits" if head else "the final norm", peak, [*shared, *first])], logits


def _later(stack: Stack, index: int) -> bool:
    """Whether that kind of layer runs anywhere but first, where the first hidden states are its own input."""
    return stack.counts()[index] > 1 or stack.runs[0][0] != index


def _inference(name: str, peak: Peak, shared: Iterable[Store]) -> Moment:
    return Moment(name, peak, tuple(shared))
