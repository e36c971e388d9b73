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
    """Kinds keep the order in which they first run; ``count_of``: a kind's place in it, and how many there are.

    Layers that differ by a constant alone are one kind: Lightning attention's decays, another in every layer.
    """
    have, kinds = stack.counts(), _kinds(stack)
    order = list(dict.fromkeys(kinds[index] for index, count in stack.runs if count))
    number = {kind: sum(have[each] for each, same in kinds.items() if same == kind) for kind in order}
    runs = tuple((kind, count_of(place, number[kind])) for place, kind in enumerate(order))
    firsts = {kind: sum(count for _, count in runs[:place]) for place, kind in enumerate(order)}
    moved = dict(enumerate(firsts[kinds[index]] for index, count in stack.runs for _ in range(count)))
    return stack.with_layers(tuple(_with_sources(layer, moved) for layer in stack.layers), runs)


def _kinds(stack: Stack) -> dict[int, int]:
    """Index of a layer -> of the first that differs from it by a constant at most."""
    firsts: dict[Hashable, int] = {}
    return {index: firsts.setdefault(_outline(layer, sizes=True), index) for index, layer in enumerate(stack.layers)}


# ---- models that are made alike -------------------------------------------------------------------------------------

_SIZELESS: Final = ("name", "model_type", "max_position_embeddings", "dtype", "reasons", "assumed", "notes")


def outline(model: Model) -> Hashable:
    """What a model is made of, whatever its sizes: two with the same outline have the same parts, kind for kind.

    Of a number only remains whether it is 0, 1 or more; of a stack's runs the order of its kinds; of heads whether
    queries share keys.
    """
    return _outline(model, sizes=False)


def _outline(value: Any, *, sizes: bool) -> Hashable:
    """``sizes``: integers as they are, and constants as ever."""
    match value:
        case Stack():
            kinds = tuple(dict.fromkeys(index for index, count in value.runs if count))
            return ("Stack", kinds, *_fields(value, (*_SIZELESS, "runs"), sizes=sizes))
        case Record():
            grouped = getattr(value, "num_key_value_heads", 0) < getattr(value, "num_attention_heads", 0)
            return (type(value).__name__, grouped, *_fields(value, _SIZELESS, sizes=sizes))
        case tuple() | list():
            return tuple(_outline(each, sizes=sizes) for each in value)
        case dict():
            return tuple((key, _outline(each, sizes=sizes)) for key, each in value.items())
        case bool() | str() | None:
            return value
        case int():
            return value if sizes else min(value, 2)
        case _:
            return (value == 0, value == 1)


def _fields(record: Record, without: tuple[str, ...], *, sizes: bool) -> Iterator[Hashable]:
    names = (name for name in record.__fields__ if name not in without)  # all: an instance holds what it was given
    return (_outline(getattr(record, name), sizes=sizes) for name in names)


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
