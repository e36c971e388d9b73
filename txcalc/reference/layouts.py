"""How one or several tensors of a checkpoint hold one or several of ours, and back.

Each layout is a pair: ``read`` makes ours of theirs, ``write`` theirs of ours. Views where that is possible, so that a
memory-mapped checkpoint stays on disk. ``write`` on tensors of the meta device says which shapes a checkpoint must
have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from txcalc import architecture as arch
from txcalc.reference.names.shapes import Goal

Tensors = Sequence[Tensor]


class Layout(NamedTuple):
    """``read(theirs, goal)`` -> ours; ``write(ours, goal)`` -> theirs."""

    read: Callable[[Tensors, Goal], list[Tensor]]
    write: Callable[[Tensors, Goal], list[Tensor]]


# ---- one behind the other -------------------------------------------------------------------------------------------


def _joined(dim: int) -> Layout:
    """Ours stand one behind the other along ``dim`` of theirs."""

    def read(theirs: Tensors, goal: Goal) -> list[Tensor]:
        sizes = [shape[dim] for shape in goal.shapes]
        return list(theirs[0].split(sizes, dim)) if len(sizes) > 1 else [theirs[0]]

    def write(ours: Tensors, goal: Goal) -> list[Tensor]:
        return [torch.cat(list(ours), dim) if len(ours) > 1 else ours[0]]

    return Layout(read, write)


def _transposed(inner: Layout) -> Layout:
    """Theirs are stored [in, out] (GPT-2's Conv1D); biases are not."""

    def turn(x: Tensor) -> Tensor:
        return x.mT if x.dim() > 1 else x

    return Layout(
        lambda theirs, goal: inner.read([turn(x) for x in theirs], goal),
        lambda ours, goal: [turn(x) for x in inner.write(ours, goal)],
    )


def _stacked() -> Layout:
    """Theirs are slices along the first axis: experts one by one, those of our first tensor, then of the next."""

    def read(theirs: Tensors, goal: Goal) -> list[Tensor]:
        each = len(theirs) // len(goal.shapes)
        return [torch.stack(list(theirs[first : first + each])) for first in range(0, len(theirs), each)]

    return Layout(read, lambda ours, goal: [slice_ for x in ours for slice_ in x.unbind(0)])


def _alternating() -> Layout:
    """Stacked experts [E, in, 2 * out] whose gate and up channels take turns; biases [E, 2 * out] (gpt-oss)."""

    def read(theirs: Tensors, goal: Goal) -> list[Tensor]:
        halves = [theirs[0][..., 0::2], theirs[0][..., 1::2]]
        return [x.mT if x.dim() == 3 else x for x in halves]

    def write(ours: Tensors, goal: Goal) -> list[Tensor]:
        gate, up = (x.mT if x.dim() == 3 else x for x in ours)
        return [torch.stack((gate, up), dim=-1).flatten(-2)]

    return Layout(read, write)


# ---- by heads -------------------------------------------------------------------------------------------------------


def _grouped() -> Layout:
    """Each key head's queries, then its key, then its value: [K, N / K + 2, H, in].

    K = N is GPT-NeoX's and BLOOM's (q, k, v head by head), K = 1 the multi-query models' (all queries, one key, one
    value), anything between Falcon-40B's.
    """

    def read(theirs: Tensors, goal: Goal) -> list[Tensor]:
        a = goal.sublayer
        grouped = theirs[0].unflatten(0, (a.num_key_value_heads, -1, a.head_dim))
        parts = (grouped[:, :-2], grouped[:, -2:-1], grouped[:, -1:])
        return [part.flatten(0, 2) for part in parts]

    def write(ours: Tensors, goal: Goal) -> list[Tensor]:
        a = goal.sublayer
        parts = [x.unflatten(0, (a.num_key_value_heads, -1, a.head_dim)) for x in ours]
        return [torch.cat(parts, dim=1).flatten(0, 2)]

    return Layout(read, write)


def _by_head(heads: Callable[[Any], int]) -> Layout:
    """Every head's share of each of ours, head after head: [heads, shares, in]."""

    def read(theirs: Tensors, goal: Goal) -> list[Tensor]:
        count = heads(goal.sublayer)
        by_head = theirs[0].unflatten(0, (count, -1))
        parts = by_head.split([shape[0] // count for shape in goal.shapes], dim=1)
        return [part.flatten(0, 1) for part in parts]

    def write(ours: Tensors, goal: Goal) -> list[Tensor]:
        count = heads(goal.sublayer)
        return [torch.cat([x.unflatten(0, (count, -1)) for x in ours], dim=1).flatten(0, 1)]

    return Layout(read, write)


def _delta_qkvz() -> Layout:
    """Qwen3-Next's: each key head's query, key, values and gates; ours are q, k and v in rows, and the gate."""
    by_head = _by_head(lambda g: int(g.num_k_heads))

    def apart(g: arch.GatedDeltaNet, goal: Goal) -> Goal:
        keys, values, rest = g.num_k_heads * g.head_k_dim, g.num_v_heads * g.head_v_dim, goal.shapes[0][1:]
        return Goal(((keys, *rest), (keys, *rest), (values, *rest), (values, *rest)), g)

    def read(theirs: Tensors, goal: Goal) -> list[Tensor]:
        q, k, v, z = by_head.read(theirs, apart(goal.sublayer, goal))
        return [torch.cat((q, k, v)), z]

    def write(ours: Tensors, goal: Goal) -> list[Tensor]:
        four = apart(goal.sublayer, goal)
        q, k, v = ours[0].split([shape[0] for shape in four.shapes[:3]])
        return by_head.write((q, k, v, ours[1]), four)

    return Layout(read, write)


def _delta_pieces() -> Layout:
    """Query, key and value projections one by one; ours are their rows in that order."""

    def write(ours: Tensors, goal: Goal) -> list[Tensor]:
        keys = goal.sublayer.num_k_heads * goal.sublayer.head_k_dim
        return list(ours[0].split((keys, keys, ours[0].shape[0] - 2 * keys)))

    return Layout(lambda theirs, goal: [torch.cat(list(theirs))], write)


def _qkv_by_head() -> Layout:
    """Each head's query, key and value, [heads, 3, H, in]; ours are all queries, then all keys, then all values."""

    def turned(x: Tensor, sizes: tuple[int, int]) -> Tensor:
        return x.unflatten(0, (*sizes, -1)).transpose(0, 1).flatten(0, 2)

    return Layout(
        lambda theirs, goal: [turned(theirs[0], (goal.sublayer.num_heads, 3))],
        lambda ours, goal: [turned(ours[0], (3, goal.sublayer.num_heads))],
    )


def _one_axis() -> Layout:
    """Theirs is [1, 1, heads, 1], ours [heads]."""
    return Layout(lambda theirs, goal: [theirs[0].flatten()], lambda ours, goal: [ours[0].view(1, 1, -1, 1)])


def _rotary_pairs(heads: Callable[[Any], int]) -> Layout:
    """Rows of each head by rotary pairs, (0, H/2), (1, H/2 + 1), ..., as GGUF keeps a llama's q and k."""

    def read(theirs: Tensors, goal: Goal) -> list[Tensor]:
        pairs = theirs[0].unflatten(0, (heads(goal.sublayer), -1, 2))
        return [pairs.transpose(1, 2).flatten(0, 2)]

    def write(ours: Tensors, goal: Goal) -> list[Tensor]:
        halves = ours[0].unflatten(0, (heads(goal.sublayer), 2, -1))
        return [halves.transpose(1, 2).flatten(0, 2)]

    return Layout(read, write)


# ---- small things ---------------------------------------------------------------------------------------------------


def _filter() -> Layout:
    """A depthwise convolution's [channels, 1, kernel]; its bias as it is."""

    def squeezed(x: Tensor) -> Tensor:
        return x.squeeze(1) if x.dim() == 3 else x

    return Layout(
        lambda theirs, goal: [squeezed(theirs[0])],
        lambda ours, goal: [ours[0].unsqueeze(1) if ours[0].dim() == 2 else ours[0]],
    )


def _leading() -> Layout:
    """Theirs has one more axis of length 1 before the others."""
    return Layout(lambda theirs, goal: [theirs[0].squeeze(0)], lambda ours, goal: [ours[0].unsqueeze(0)])


def _without() -> Layout:
    """Theirs lacks our first axis, of length 1."""
    return Layout(lambda theirs, goal: [theirs[0].unsqueeze(0)], lambda ours, goal: [ours[0].squeeze(0)])


def _head_rows() -> Layout:
    """Theirs is [heads, channels of a head], ours all channels one behind the other."""

    def write(ours: Tensors, goal: Goal) -> list[Tensor]:
        return [ours[0].unflatten(0, (goal.sublayer.num_heads, -1))]

    return Layout(lambda theirs, goal: [theirs[0].flatten()], write)


def _expert_rows(*, turned: bool) -> Layout:
    """All experts' channels one behind the other, [E * F, D]; ``turned``: ours are [E, D, F] (DBRX)."""

    def read(theirs: Tensors, goal: Goal) -> list[Tensor]:
        stacked = theirs[0].unflatten(0, (goal.shapes[0][0], -1))
        return [stacked.mT if turned else stacked]

    return Layout(read, lambda ours, goal: [(ours[0].mT if turned else ours[0]).flatten(0, 1)])


LAYOUTS: Final = {
    "": _joined(0),
    "conv1d": _transposed(_joined(0)),
    "experts": _joined(1),
    "each": _stacked(),
    "transposed": _transposed(_joined(0)),
    "experts transposed": _transposed(_joined(1)),
    "alternating": _alternating(),
    "grouped": _grouped(),
    "by head": _by_head(lambda a: int(a.num_attention_heads)),
    "in four blocks": _by_head(lambda a: 4),  # CodeGen: a quarter of the heads each
    "by key head": _by_head(lambda g: int(g.num_k_heads)),
    "delta": _delta_qkvz(),
    "delta pieces": _delta_pieces(),
    "qkv by head": _qkv_by_head(),
    "one axis": _one_axis(),
    "rotary q": _rotary_pairs(lambda a: int(a.num_attention_heads)),
    "rotary k": _rotary_pairs(lambda a: int(a.num_key_value_heads)),
    "filter": _filter(),
    "leading axis": _leading(),
    "without axis": _without(),
    "head rows": _head_rows(),
    "expert rows": _expert_rows(turned=False),
    "expert columns": _expert_rows(turned=True),
}
"""Layouts by the name that a table writes after a line; none: ours one behind the other, or one tensor as it is."""
