"""Tables on a terminal that is wide enough for them: as rich draws them, without loading it.

Importing rich takes longer than all else that a calculator does. It folds cells and measures wide characters, so that
a narrow terminal and texts in other alphabets are left to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, TextIO

from txcalc.report.document import Answer, Section
from txcalc.report.write import cells_of, facts

_BOLD: Final = "\x1b[1m{}\x1b[0m"
_DIM: Final = "\x1b[2m{}\x1b[0m"
GAP: Final = 3  # columns between two cells


def coloured(answer: Answer, width: int, out: TextIO) -> str | None:
    """Title and sections; None where only rich can draw them on that terminal."""
    if os.name == "nt" or not (out.encoding or "").lower().startswith("utf"):
        return None
    lines = [(line, _BOLD) for line in _folded(answer.title, width)]
    for section in answer.sections:
        lines.append(("", "{}"))
        if section.facts:
            lines += [(line, "{}") for line in facts(section, width).split("\n")]
        else:
            lines += _table(section, width)
    fits = all(
        len(text) <= width and (text.isascii() or set(text) == {"─"}) and text.isprintable() for text, _ in lines
    )
    return "".join(f"{style.format(text) if text else ''}\n" for text, style in lines) if fits else None


def _folded(text: str, width: int) -> list[str]:
    """Words of a title on as many lines as they need."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _table(section: Section, width: int) -> Iterator[tuple[str, str]]:
    """Each line with its style: numbers to the right, the detail where there is room for it."""
    detailed = bool(section.detail) and needed(section) <= width
    texts = [section.columns, *(cells_of(row) for row in section.rows)]
    details = [section.detail, *(row.detail for row in section.rows)] if detailed else [""] * len(texts)
    widths = [max(len(text[column]) for text in texts) for column in range(len(section.columns))]
    beside = max(map(len, details))
    lines = []
    for text, detail in zip(texts, details, strict=True):
        cells = [text[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(text[1:], widths[1:], strict=True))]
        lines.append((" " * GAP).join([*cells, detail.ljust(beside)] if detailed else cells))
    if section.heading:
        yield from ((line, _BOLD) for line in _folded(section.heading, width))
    yield lines[0], _DIM
    yield "─" * len(lines[0]), "{}"
    for line, row in zip(lines[1:], section.rows, strict=True):
        yield line, _BOLD if row.strong else "{}"


def needed(section: Section) -> int:
    """Columns that the table takes with its detail."""
    lines = [(*section.columns, section.detail), *((*cells_of(row), row.detail) for row in section.rows)]
    return sum(max(len(line[column]) for line in lines) + GAP for column in range(len(lines[0])))
