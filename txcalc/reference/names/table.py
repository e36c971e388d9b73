"""A family's table: our names on the left, a checkpoint's on the right, how the one holds the other behind them.

    layers.{i}.attn             model.layers.{i}.self_attn
    layers.{i}.attn.o_proj      model.layers.{i}.self_attn.dense
    layers.{i}.attn.q_proj+k_proj+v_proj    model.layers.{i}.attn.qkv    grouped
    layers.{i}.moe.experts.up_proj+down_proj    experts.{e}.up.weight + experts.{e}.down.weight    each

Columns are two spaces apart or more. ``i`` is the layer, ``e`` runs over the experts. A name stands for itself and
everything below it; of several lines that fit, the longest left side counts. Where that stands twice, the lines are two
spellings of the same: both are read, the first is written. A line for which a model has no tensors means nothing to it,
so that a family of many shapes has one table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from txcalc.errors import RequestError
from txcalc.reference.names.shapes import SHAPES, Goal
from txcalc.reference.parts import Part


class Line(NamedTuple):
    """One line: ``ours`` are several where a checkpoint holds them as one, ``theirs`` where it holds them in pieces.

    ``layout`` is a name of ``layouts`` and of ``shapes``.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    layout: str

    @classmethod
    def of(cls, text: str) -> Line:
        """A line from its text."""
        left, right, *layout = re.split(r"  +", text.strip())
        first, *others = left.split("+")
        return cls((first, *(_beside(first, other) for other in others)), tuple(right.split(" + ")), _layout(layout))


def _beside(first: str, other: str) -> str:
    """``a.b.q_proj`` and ``k_proj`` -> ``a.b.k_proj``."""
    stem = first.split(".")[: -1 - other.count(".")]
    return ".".join([*stem, other])


def _layout(column: list[str]) -> str:
    name = column[0] if column else ""
    assert name in SHAPES, f"a table names layout {name!r}, which has no rule in names/shapes.py"
    return name


class Table(NamedTuple):
    """The names of one family's checkpoints.

    ``base``: the prefix that checkpoints of the bare model leave out. ``older``: (spelling in older files, spelling
    here) of parts of names. ``not_weights``: patterns of tensors that older files hold and that are no weights, but
    follow from the config: masks, rotary tables, position numbers. ``optional``: our names of what a file may leave
    out, and that is 0 then.
    """

    lines: tuple[Line, ...]
    base: str = ""
    older: tuple[tuple[str, str], ...] = ()
    not_weights: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, text: str, *, base: str = "", older: tuple[tuple[str, str], ...] = (), not_weights: tuple[str, ...] = ()
    ) -> Table:
        """A table from its lines."""
        lines = (Line.of(line) for line in text.splitlines() if line.strip())
        return cls(tuple(lines), base, older, not_weights)

    def with_lines(self, text: str) -> Table:
        """The same with other lines for those names that ``text`` has lines for."""
        new = Table.of(text).lines
        names = {name for line in new for name in line.ours}
        return self._replace(lines=(*(line for line in self.lines if not names.intersection(line.ours)), *new))


class Source(NamedTuple):
    """One way in which a checkpoint may hold some tensors of ours."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    layout: str
    goal: Goal


def sources(table: Table, parts: Mapping[str, Part], main: str, model_type: str) -> list[list[Source]]:
    """For every group of our tensors the ways in which a checkpoint may hold it, the written one first.

    ``main``: the role of the stack whose names a table writes without it.

    Raises:
        RequestError: the table has no line for a tensor of this model.
    """
    groups, covered = [], set[str]()
    for name, part in parts.items():
        if name not in covered:
            groups.append(_ways(table, parts, name, part, main))
            covered.update(*(source.ours for source in groups[-1]))
    unknown = [name for name in parts if name not in covered]
    if unknown:
        raise RequestError(f"how {model_type} checkpoints name {unknown[0]} is not known, and {len(unknown) - 1} more")
    return groups


def _ways(table: Table, parts: Mapping[str, Part], name: str, part: Part, main: str) -> list[Source]:
    found: list[tuple[int, Source]] = []
    for prefix in ("", f"{main}."):
        short = name.removeprefix(prefix)
        if not name.startswith(prefix):
            continue
        for line in table.lines:
            left = line.ours[0].format(**part.numbers) if _counts(line.ours[0], part) else ""
            if left and (short == left or short.startswith(f"{left}.")):
                source = _source(line, parts, prefix, short.removeprefix(left), part)
                found += [(len(left), source)] if source else []
    longest = max((length for length, _ in found), default=0)
    return [source for length, source in found if length == longest]


def _counts(pattern: str, part: Part) -> bool:
    """Whether the part has every number that the pattern counts by."""
    return all(letter in part.numbers for letter in re.findall(r"\{(\w)\}", pattern))


def _source(line: Line, parts: Mapping[str, Part], prefix: str, rest: str, part: Part) -> Source | None:
    """The line for one tensor and those beside it; None where the model does not have them all."""
    ours = tuple(f"{prefix}{name.format(**part.numbers)}{rest}" for name in line.ours)
    if any(name not in parts for name in ours):
        return None
    shapes = tuple(parts[name].shape for name in ours)
    theirs = tuple(
        pattern.format(**part.numbers, e=e) + rest
        for pattern in line.theirs
        for e in (range(shapes[0][0]) if "{e}" in pattern else (0,))
    )
    return Source(theirs, ours, line.layout, Goal(shapes, part.sublayer))
