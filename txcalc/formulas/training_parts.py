"""A training step's moments as rows: which layers keep what, whose gradients are there, what is live inside."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from txcalc.architecture import Stack
from txcalc.expression import Expression, exact, symbol
from txcalc.formulas.memory import store_rows
from txcalc.formulas.tape.moments import Moment, Step
from txcalc.formulas.tape.parts import Part
from txcalc.result import Node, leaf, times, total


class Group(NamedTuple):
    """Equal parts of a step: their common name, by depth where they are layers."""

    name: str
    part: Part
    times: int


def grouped(step: Step, parts: Sequence[Part]) -> list[Group]:
    """Equal parts together; ``parts`` are those of a moment, in the order of the step."""
    here = {id(part) for part in parts}
    groups = [Group("embedding", step.embedding, 1)] if id(step.embedding) in here else []
    layers = [part for part in parts if part not in (step.embedding, step.tail.loss) and part.name != "head and loss"]
    first = 0 if groups else len(step.layers) - len(layers)
    depths: dict[int, list[int]] = {}
    for depth, part in enumerate(layers, first):
        depths.setdefault(id(part), []).append(depth)
    groups += [Group(depths_text(found), step.layers[found[0]], len(found)) for found in depths.values()]
    return groups + [Group("head and loss", part, 1) for part in parts if part.name == "head and loss"]


def stored_depths(stack: Stack) -> list[int]:
    """The depths whose layers have parameters of their own; of layers that share theirs, the last."""
    last = {layer.shared: depth for depth, layer in enumerate(stack.sequence()) if layer.shared}
    return [depth for depth, layer in enumerate(stack.sequence()) if last.get(layer.shared, depth) == depth]


def depths_text(depths: Sequence[int]) -> str:
    """Depths, counted from 1: ``layer 1``, ``layers 2 to 32``, ``52 layers: 1 to 5, 7 to 11 ... 61 to 62``."""
    runs = []
    for _, run in groupby(enumerate(depths), key=lambda pair: pair[1] - pair[0]):
        found = [depth for _, depth in run]
        runs.append(f"{found[0] + 1}" if len(found) == 1 else f"{found[0] + 1} to {found[-1] + 1}")
    if len(runs) == 1:
        return f"layer{'s' if len(depths) > 1 else ''} {runs[0]}"
    shown = ", ".join(runs) if len(runs) < 4 else f"{runs[0]}, {runs[1]} ... {runs[-1]}"
    return f"{len(depths)} layers: {shown}"


def kept_node(group: Group, name: str = "") -> Node:
    """What equal parts keep for the backward pass."""
    return _node(name or group.name, group, kept=True)


def _node(name: str, group: Group, *, kept: bool) -> Node:
    """So many times the storages of one part."""
    rows = store_rows(group.part.kept if kept else group.part.gradients)
    note = group.part.what
    if group.times == 1:
        return total(name, "bytes", rows, note=note)
    return times(name, "bytes", symbol("layers", group.times), rows, note=note)


def opened(step: Step, moment: Moment) -> list[Node]:
    """A moment in full: what waits, whose gradients are there, and every storage of the part that runs."""
    waiting = [kept_node(group, f"kept by {group.name}") for group in grouped(step, moment.waiting)]
    there = [
        _node(f"gradients of {group.name}", group, kept=False)
        for group in grouped(step, moment.gradients)
        if group.part.gradients
    ]
    casts = [leaf("parameters cast by autocast", "bytes", exact(moment.casts))] if moment.casts else []
    inside = total(moment.name, "bytes", store_rows((*moment.shared, *moment.peak.stores)))
    return [*waiting, *there, *casts, inside]


def moment_row(moment: Moment, always: int) -> Node:
    """A moment in one line, its terms by name: parameters and states, what waits, gradients, what is live inside."""
    size: Expression = symbol("states", always)
    for name, part in (
        ("kept", moment.kept),
        ("gradients", moment.there),
        ("casts", moment.casts),
        ("live", moment.live),
    ):
        size = size + symbol(name, part) if part else size
    return leaf(f"at {moment.name}", "bytes", size)


def notable(moments: list[Moment]) -> list[Moment]:
    """The first and the last layer of each pass, and everything that is no layer."""
    forward = [each for each in moments if "forward pass" in each.name]
    backward = [each for each in moments if "backward pass of layer" in each.name]
    dull = {each.name for each in (*forward[1:-1], *backward[1:-1])}
    return [each for each in moments if each.name not in dull]
