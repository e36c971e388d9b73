"""The table on a terminal that is too narrow for it, or in other alphabets."""

from __future__ import annotations

from typing import Final, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from txcalc.report.coloured import needed
from txcalc.report.document import Answer, Section
from txcalc.report.write import cells_of, facts


def print_rich(answer: Answer, out: TextIO) -> None:
    """Title and sections with colour, as wide as the terminal allows."""
    console = Console(file=out, highlight=False)
    console.print(Text(answer.title, style="bold"))
    for section in answer.sections:
        console.print()
        if section.facts:
            console.print(Text(facts(section, console.width)))
            continue
        if section.heading:
            console.print(Text(section.heading, style="bold"))
        table, width = _table(section, console.width), console.width
        console.width = max(_least(section), width)
        console.print(table)
        console.width = width


def _table(section: Section, width: int) -> Table:
    detailed = bool(section.detail) and needed(section) <= width
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    table.add_column(section.columns[0], overflow="fold")
    for name in section.columns[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    if detailed:
        table.add_column(section.detail, overflow="fold")
    for row in section.rows:
        cells = [*cells_of(row), row.detail] if detailed else cells_of(row)
        table.add_row(*(Text(cell) for cell in cells), style="bold" if row.strong else "")
    return table


_FIRST: Final = 16  # columns that the first column's texts may be folded to


def _least(section: Section) -> int:
    """Columns below which numbers would be cut: then lines are longer than the terminal, and it wraps them."""
    lines = [section.columns, *(cells_of(row) for row in section.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(section.columns))]
    return sum(width + 3 for width in widths[1:]) + min(widths[0], _FIRST)
