"""The same model with few layers, every kind of layer kept: what proves each kind and what stands around them.

Two depths prove more than one: what a layer costs and what does not depend on their number cannot hide in each other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final

from txcalc.architecture import Branch, Layer, Model, Residual, SelfAttention, Stack, Sublayer
from txcalc.record import Record


def at_depth(model: Model, times: int) -> Model:
    """``model`` with the first kind of layer ``times`` times, the second once more than that, the third as the first.

    Only at one time each are all as often: a count that is given to the wrong kind must show.
    """
    return _with_counts(model, lambda place, _: times + place % 2 if times > 1 else 1)


def in_turns(model: Model, turn: int) -> Model:
    """``model`` with one layer of a kind and two of the next, in turns; ``turn`` says which begins.

    A kind alone has two layers, or three: the first layer of all makes what the others find.
    """
    if len({index for index, count in model.main.runs if count}) == 1:
        return at_depth(model, 2 + (turn + 1) % 2)
    return _with_counts(model, lambda place, _: 1 + (place + turn) % 2)


def at_most(model: Model, most: int) -> Model:
    """``model`` with each kind of layer as often as it is there, and no more than ``most`` times."""
    return _with_counts(model, lambda _, have: min(have, most))


def _with_counts(model: Model, count: Callable[[int, int], int]) -> Model:
    return model.replace(stacks=tuple(_shrunk(stack, count) for stack in model.stacks))


def layers_of(model: Model) -> int:
    """How many layers run, all stacks together."""
    return sum(stack.num_hidden_layers for stack in model.stacks)


def _shrunk(stack: Stack, count_of: Callable[[int, int], int]) -> Stack:
    """Kinds keep the order in which they first run; ``count_of``: a kind's place in it, and how many there are."""
    have = stack.counts()
    order = list(dict.fromkeys(index for index, count in stack.runs if count))
    runs = tuple((kind, count_of(place, have[kind])) for place, kind in enumerate(order))
    firsts = {kind: sum(count for _, count in runs[:place]) for place, kind in enumerate(order)}
    moved = _new_depths(stack, firsts)
    return stack.with_layers(tuple(_with_sources(layer, moved) for layer in stack.layers), runs)


def _new_depths(stack: Stack, firsts: dict[int, int]) -> dict[int, int]:
    """Depth of a layer in the whole stack -> where its kind first runs in the small one."""
    kinds = [index for index, count in stack.runs for _ in range(count)]
    return {depth: firsts[kind] for depth, kind in enumerate(kinds)}


# ---- models that are made alike -------------------------------------------------------------------------------------

_SIZELESS: Final = ("name", "model_type", "max_position_embeddings", "dtype", "reasons", "assumed", "notes")


def outline(value: Any) -> Hashable:
    """What a model is made of, whatever its sizes: two with the same outline run the same operators, layer for layer.

    Of a number only remains whether it is 0, 1 or more; of a stack's runs the order of its kinds.
    """
    match value:
        case Stack():
            kinds = tuple(dict.fromkeys(index for index, count in value.runs if count))
            return ("Stack", kinds, *_fields(value, (*_SIZELESS, "runs")))
        case Record():
            return (type(value).__name__, *_fields(value, _SIZELESS))
        case tuple() | list():
            return tuple(outline(each) for each in value)
        case dict():
            return tuple((key, outline(each)) for key, each in value.items())
        case bool() | str() | None:
            return value
        case int():
            return min(value, 2)
        case _:
            return (value == 0, value == 1)


def _fields(record: Record, without: tuple[str, ...]) -> Iterator[Hashable]:
    return (outline(each) for name, each in vars(record).items() if name not in without)


# ---- layers that read the keys of another, named by its depth -------------------------------------------------------


def _with_sources(layer: Layer, moved: dict[int, int]) -> Layer:
    if not any(isinstance(each, SelfAttention) and each.kv_source is not None for each in layer.sublayers()):
        return layer
    return layer.replace(steps=tuple(_step(step, moved) for step in layer.steps))


def _step(step: Residual, moved: dict[int, int]) -> Residual:
    return step.replace(branches=tuple(_branch(branch, moved) for branch in step.branches))


def _branch(branch: Branch, moved: dict[int, int]) -> Branch:
    return branch.replace(sublayer=_sublayer(branch.sublayer, moved))


def _sublayer(sublayer: Sublayer, moved: dict[int, int]) -> Sublayer:
    if isinstance(sublayer, SelfAttention) and sublayer.kv_source is not None:
        return sublayer.replace(kv_source=moved[sublayer.kv_source])
    return sublayer
