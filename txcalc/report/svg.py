"""Heat maps as an SVG file of our own: squares on a grid, a panel for each map. Lists in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from typing import Final

from txcalc.report.heatmap import HeatMap, pooled
from txcalc.report.markup import escape

_MOST_CELLS: Final = 128  # a side; longer maps are pooled
_PANEL: Final = 320.0
_GAP: Final = 24.0
_TITLE: Final = 20.0
_MARGIN: Final = 16.0
_LABELLED: Final = 48  # maps of more tokens have no room for their texts
_HUE: Final = "#1f4e9c"


def svg(maps: Sequence[HeatMap], title: str) -> str:
    """One document with every map, in about as many rows as columns."""
    across = ceil(sqrt(len(maps)))
    label = 72.0 if all(len(each.rows) <= _LABELLED for each in maps) else 0.0
    step_x, step_y = _PANEL + label + _GAP, _PANEL + label + _TITLE + _GAP
    width = 2 * _MARGIN + across * step_x
    height = 2 * _MARGIN + _TITLE + ceil(len(maps) / across) * step_y
    body = [
        _panel(each, _MARGIN + (i % across) * step_x, _MARGIN + _TITLE + (i // across) * step_y, label)
        for i, each in enumerate(maps)
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" font-family="monospace" font-size="11">'
    )
    return "\n".join([head, _BACKGROUND, _text(_MARGIN, _MARGIN + 8, title, size=14), *body, "</svg>", ""])


_BACKGROUND: Final = '<rect width="100%" height="100%" fill="white"/>'


def _panel(map_: HeatMap, left: float, top: float, label: float) -> str:
    pool = -(-max(len(map_.rows), len(map_.columns)) // _MOST_CELLS)
    weights = pooled(map_.weights, pool)
    most = max((max(row) for row in weights), default=0.0) or 1.0
    size = _PANEL / max(len(weights), len(weights[0]))
    x, y = left + label, top + _TITLE + label
    parts = [_text(left, top + 12, f"{map_.title} (darkest: {most:.3f})")]
    if label:
        parts += [_text(x - 4, y + (i + 0.5) * size + 4, text, anchor="end") for i, text in enumerate(map_.rows)]
        parts += [_upright(x + (j + 0.5) * size + 4, y - 4, text) for j, text in enumerate(map_.columns)]
    frame = f'width="{len(weights[0]) * size:.2f}" height="{len(weights) * size:.2f}"'
    parts.append(f'<rect x="{x:.2f}" y="{y:.2f}" {frame} fill="none" stroke="#999" stroke-width="0.5"/>')
    parts += [
        f'<rect x="{x + j * size:.2f}" y="{y + i * size:.2f}" width="{size:.2f}" height="{size:.2f}" '
        f'fill="{_HUE}" fill-opacity="{value / most:.3f}"/>'
        for i, row in enumerate(weights)
        for j, value in enumerate(row)
        if value / most >= 0.002
    ]
    return "<g>\n" + "\n".join(parts) + "\n</g>"


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 0) -> str:
    extra = f' font-size="{size}"' if size else ""
    return f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}"{extra}>{_safe(text)}</text>'


def _upright(x: float, y: float, text: str) -> str:
    """Text that reads upwards from (x, y)."""
    return f'<text transform="translate({x:.2f} {y:.2f}) rotate(-90)">{_safe(text)}</text>'


def _safe(text: str) -> str:
    """Text without what XML does not allow, short enough for a label."""
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return escape(shown if len(shown) <= 60 else shown[:59] + "…")
