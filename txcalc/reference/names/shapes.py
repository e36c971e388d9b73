"""The shapes that a layout gives a checkpoint's tensors, from the shapes of ours: what ``layouts`` does, without torch.

A test holds the two together: each rule against its layout's ``write`` on the meta device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

Shape = tuple[int, ...]


class Goal(NamedTuple):
    """What a layout knows besides the tensors: the shapes of ours, and the sublayer that they belong to."""

    shapes: tuple[Shape, ...]
    sublayer: Any


Rule = Callable[[Goal], list[Shape]]


def _joined(goal: Goal, dim: int = 0) -> Shape:
    first = goal.shapes[0]
    return (*first[:dim], sum(shape[dim] for shape in goal.shapes), *first[dim + 1 :])


def _turned(shape: Shape) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if len(shape) > 1 else shape


def _each(goal: Goal) -> list[Shape]:
    return [shape[1:] for shape in goal.shapes for _ in range(shape[0])]


def _alternating(goal: Goal) -> list[Shape]:
    shape = goal.shapes[0]
    return [(shape[0], shape[2], 2 * shape[1]) if len(shape) == 3 else (shape[0], 2 * shape[1])]


def _filter(goal: Goal) -> list[Shape]:
    shape = goal.shapes[0]
    return [(shape[0], 1, *shape[1:]) if len(shape) == 2 else shape]


def _head_rows(goal: Goal) -> list[Shape]:
    heads = goal.sublayer.num_heads
    return [(heads, goal.shapes[0][0] // heads, *goal.shapes[0][1:])]


def _expert_rows(goal: Goal, *, turned: bool) -> list[Shape]:
    experts, rows, columns = _turned(goal.shapes[0]) if turned else goal.shapes[0]
    return [(experts * rows, columns)]


def _delta_pieces(goal: Goal) -> list[Shape]:
    (rows, *rest), keys = goal.shapes[0], goal.sublayer.num_k_heads * goal.sublayer.head_k_dim
    return [(keys, *rest), (keys, *rest), (rows - 2 * keys, *rest)]


def _one_behind_the_other(goal: Goal) -> list[Shape]:
    return [_joined(goal)]


SHAPES: Final[dict[str, Rule]] = {
    **dict.fromkeys(
        ("", "grouped", "by head", "in four blocks", "by key head", "delta", "qkv by head", "rotary q", "rotary k"),
        _one_behind_the_other,
    ),
    **dict.fromkeys(("conv1d", "transposed"), lambda goal: [_turned(_joined(goal))]),
    "experts": lambda goal: [_joined(goal, 1)],
    "experts transposed": lambda goal: [_turned(_joined(goal, 1))],
    "each": _each,
    "alternating": _alternating,
    "delta pieces": _delta_pieces,
    "one axis": lambda goal: [(1, 1, goal.shapes[0][0], 1)],
    "filter": _filter,
    "leading axis": lambda goal: [(1, *goal.shapes[0])],
    "without axis": lambda goal: [goal.shapes[0][1:]],
    "head rows": _head_rows,
    "expert rows": lambda goal: _expert_rows(goal, turned=False),
    "expert columns": lambda goal: _expert_rows(goal, turned=True),
}
"""By the name of the layout; a layout without a rule here is not known to tables."""
