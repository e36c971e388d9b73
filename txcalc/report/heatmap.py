"""A matrix of weights as shades in a terminal: queries downwards, keys across. Lists in, lines out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from txcalc.record import Record

Matrix = Sequence[Sequence[float]]

BLOCKS: Final = " ░▒▓█"
PLAIN: Final = " .:*#"
_GREYS: Final = (232, 255)  # of the 256 colours of a terminal, dark to light
_RESET: Final = "\x1b[0m"
_LABEL: Final = 12


class HeatMap(Record):
    """One map: a title, weights from 0 upwards, and the texts of its rows and columns."""

    title: str
    weights: Matrix
    rows: tuple[str, ...]
    columns: tuple[str, ...]


def draw(map_: HeatMap, *, width: int, colour: bool, shades: str = BLOCKS) -> list[str]:
    """The lines of a map that fits into ``width`` columns; what is too long for it is drawn several to a cell.

    The largest weight has the strongest shade; it stands in the last line.
    """
    room = max(width - _LABEL - 6, 8)
    pool = -(-len(map_.columns) // room)
    weights = pooled(map_.weights, pool)
    cell = 2 if 2 * len(weights[0]) <= room else 1
    top = max((max(row) for row in weights), default=0.0)
    lines = [map_.title, " " * (_LABEL + 6) + _numbers(len(weights[0]), cell, pool)]
    for i, row in enumerate(weights):
        label = f"{_shown(map_.rows[i * pool]):>{_LABEL}} {i * pool:>4} "
        lines.append(label + _cells(row, top, cell, colour, shades))
    several = f"; each cell the largest of {pool} x {pool}" if pool > 1 else ""
    lines.append(f"{'':>{_LABEL}} strongest shade: {top:.3f}{several}")
    return lines


def pooled(weights: Matrix, pool: int) -> list[list[float]]:
    """The largest of every ``pool`` x ``pool`` square."""
    if pool == 1:
        return [list(row) for row in weights]
    height, width = len(weights), len(weights[0])
    return [
        [max(max(row[j : j + pool]) for row in weights[i : i + pool]) for j in range(0, width, pool)]
        for i in range(0, height, pool)
    ]


def _cells(row: Sequence[float], top: float, cell: int, colour: bool, shades: str) -> str:
    shares = [value / top if top else 0.0 for value in row]
    if not colour:
        return "".join(shades[_step(share, len(shades))] * cell for share in shares).rstrip()
    first, last = _GREYS
    painted = (f"\x1b[48;5;{first + _step(share, last - first + 1)}m{' ' * cell}" for share in shares)
    return "".join(painted) + _RESET


def _step(share: float, steps: int) -> int:
    """0 for nothing, the last step for all, and at least 1 for what is more than a twentieth."""
    return min(int(share * (steps - 1) + 0.5) or int(share > 0.05), steps - 1)


def _numbers(columns: int, cell: int, pool: int) -> str:
    """The number of every fifth key above its column."""
    line = ""
    for column in range(0, columns, 5):
        line = line.ljust(column * cell) + str(column * pool)
    return line


def _shown(text: str) -> str:
    """A token's text in one line of at most ``_LABEL`` columns."""
    plain = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    plain = plain.replace(" ", "·")
    return plain if len(plain) <= _LABEL else plain[: _LABEL - 1] + "…"
