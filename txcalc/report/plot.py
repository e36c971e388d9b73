"""Curves against the context, on two logarithmic axes: as lines of text, or as an SVG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2
from typing import Final

from txcalc.record import Record
from txcalc.report.markup import escape

_MARKS: Final = "*+ox#@"
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi")
_DECIMAL: Final = ("", "k", "M", "G", "T", "P", "E")
_COLOURS: Final = ("#1f4e9c", "#b3541e", "#2c7a4b", "#7b3f98", "#8a1f3d", "#555555")


class Plot(Record):
    """Curves by name over the same abscissae; ``label`` writes a value of the ordinate."""

    title: str
    x: tuple[int, ...]
    curves: Mapping[str, Sequence[int]]
    unit: str


def draw(plot: Plot, *, width: int, height: int = 16) -> list[str]:
    """Lines of text: marks on a grid, the ordinate to the left, the abscissa below, a legend."""
    label = 12
    across = max(width - label - 2, 16)
    grid = [[" "] * across for _ in range(height)]
    low, high = _range(plot)
    for mark, values in zip(_MARKS, plot.curves.values(), strict=False):
        for column in range(across):
            value = _between(plot.x, values, column / (across - 1))
            row = round((log2(max(value, 1)) - low) / (high - low) * (height - 1))
            grid[height - 1 - row][column] = mark
    lines = [plot.title]
    for index, cells in enumerate(grid):
        power = high - (high - low) * index / (height - 1)
        shown = _short(2**power, plot.unit) if index % 3 == 0 or index == height - 1 else ""
        lines.append(f"{shown:>{label - 1}} |{''.join(cells)}".rstrip())
    lines.append(" " * label + "+" + "-" * across)
    lines.append(" " * (label + 1) + _abscissa(plot.x, across))
    lines += [f"{'':{label}} {mark} {name}" for mark, name in zip(_MARKS, plot.curves, strict=False)]
    return lines


def _range(plot: Plot) -> tuple[float, float]:
    values = [max(value, 1) for curve in plot.curves.values() for value in curve]
    low, high = log2(min(values)), log2(max(values))
    return (low, high) if high > low else (low - 1, high + 1)


def _between(x: Sequence[int], values: Sequence[int], share: float) -> float:
    """The curve at a share of the way along a logarithmic axis, straight between its points."""
    place = share * (len(x) - 1)
    first = min(int(place), len(x) - 2) if len(x) > 1 else 0
    left, right = (log2(max(values[min(first + i, len(x) - 1)], 1)) for i in range(2))
    return float(2 ** (left + (right - left) * (place - first)))


def _abscissa(x: Sequence[int], across: int) -> str:
    """Contexts under their columns: the first and the last, and of the others as many as have room."""
    line = [" "] * across
    marks = [(round(i / max(len(x) - 1, 1) * (across - 1)), f"{each:,}") for i, each in enumerate(x)]
    free, end = 0, across - len(marks[-1][1])
    for column, text in marks[:-1]:
        if column >= free and column + len(text) + 2 <= end:
            line[column : column + len(text)] = text
            free = column + len(text) + 2
    line[max(end, 0) :] = marks[-1][1]
    return "".join(line).rstrip()


def _short(value: float, unit: str) -> str:
    step, names = (
        (1024, ("", "Ki", "Mi", "Gi", "Ti", "Pi")) if unit == "B" else (1000, ("", "k", "M", "G", "T", "P", "E"))
    )
    index = 0
    while value >= step and index < len(names) - 1:
        value, index = value / step, index + 1
    return f"{value:.3g} {names[index]}{unit}"


def svg(plot: Plot, *, width: int = 720, height: int = 440) -> str:
    """The same as one SVG document."""
    left, top, right, bottom = 84, 40, 20, 90
    low, high = _range(plot)
    inner = (width - left - right, height - top - bottom)

    def place(index: int, value: float) -> str:
        across = left + inner[0] * index / max(len(plot.x) - 1, 1)
        down = top + inner[1] * (1 - (log2(max(value, 1)) - low) / (high - low))
        return f"{across:.1f},{down:.1f}"

    body = [f'<text x="{left}" y="22" font-size="15">{escape(plot.title)}</text>']
    for index, x in enumerate(plot.x):
        at = left + inner[0] * index / max(len(plot.x) - 1, 1)
        body.append(f'<text x="{at:.1f}" y="{top + inner[1] + 18}" text-anchor="middle">{x:,}</text>')
    for step in range(6):
        down = top + inner[1] * step / 5
        text = _short(2 ** (high - (high - low) * step / 5), plot.unit)
        body.append(f'<line x1="{left}" x2="{left + inner[0]}" y1="{down:.1f}" y2="{down:.1f}" stroke="#ddd"/>')
        body.append(f'<text x="{left - 8}" y="{down + 4:.1f}" text-anchor="end">{text}</text>')
    for index, (name, values) in enumerate(plot.curves.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        points = " ".join(place(i, value) for i, value in enumerate(values))
        body.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>')
        body.append(f'<text x="{left + index * 165}" y="{height - 24}" fill="{colour}">{escape(name)}</text>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>", ""])
