"""One answer in each format. Colours are used on a terminal only; a pipe gets plain text without escape codes."""

from __future__ import annotations

import json
import os
import sys
from typing import Final, TextIO

from txcalc.report.document import Answer, Row, Section
from txcalc.report.explain import INDENT, explain

FORMATS: Final = ("table", "json", "md", "csv")


def render(answer: Answer, *, style: str, explained: bool, out: TextIO) -> None:
    """Write ``answer`` to ``out``."""
    match style:
        case "json":
            json.dump(answer.to_dict(), out, indent=2)
            out.write("\n")
        case "csv":
            _csv(answer, out)
        case "md":
            _markdown(answer, explained, out)
        case _:
            _table(answer, explained, out)


def one_line(text: str, most: int = 400) -> str:
    """Text that cannot move the cursor, break the line or fill the screen, whatever a file held."""
    flat = " ".join(text.split())
    short = flat if len(flat) <= most else flat[: most - 3] + "..."
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in short)


def remark(label: str, text: str, stream: TextIO) -> None:
    """``label: text`` on a line of its own; on a terminal wrapped to it, elsewhere one line for one remark."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    shown = f"{label}: {one_line(text)}".encode(encoding, "backslashreplace").decode(encoding)
    if stream.isatty():
        from textwrap import wrap

        width = columns(stream.fileno())
        shown = "\n".join(wrap(shown, max(width, 20), subsequent_indent="  ", break_on_hyphens=False))
    print(shown, file=stream)


def terminal(stream: TextIO) -> bool:
    """Whether to use colour and a wide layout there."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def text_width() -> int:
    """Columns to fill: the terminal's, else 80."""
    if not sys.stdout.isatty():
        return 80
    return columns(sys.stdout.fileno())


def columns(terminal_number: int) -> int:
    """How wide that terminal is; COLUMNS goes before what it says itself."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(terminal_number).columns or 80
    except OSError:
        return 80


# ---- tables ---------------------------------------------------------------------------------------------------------


def _table(answer: Answer, explained: bool, out: TextIO) -> None:
    if explained:
        print(f"{answer.title}\n", file=out)
        print("\n".join(explain(answer.judged(), width=text_width())), file=out)
    elif terminal(out):
        _coloured(answer, out)
    else:
        print("\n\n".join([answer.title, *(_plain(section) for section in answer.sections)]), file=out)
    if answer.drawing:
        print("", *answer.drawing, sep="\n", file=out)
    if answer.notes:
        print(file=out)
        for note in answer.notes:
            remark("note", note, out)


def _coloured(answer: Answer, out: TextIO) -> None:
    from txcalc.report.coloured import coloured

    drawn = coloured(answer, text_width(), out)
    if drawn is not None:
        out.write(drawn)
        return
    from txcalc.report.rich_table import print_rich

    print_rich(answer, out)


def facts(section: Section, width: int) -> str:
    """Names on the left, texts wrapped beside them."""
    from textwrap import wrap

    margin = min(34, max((len(row.cells[0]) for row in section.rows), default=0)) + 2
    lines = [section.heading] if section.heading else []
    for row in section.rows:
        name, text = row.cells
        parts = wrap(text, max(width - margin, 20)) or [""]
        lines.append(f"{name:<{margin - 1}} {parts[0]}".rstrip())
        lines += [" " * margin + part for part in parts[1:]]
    return "\n".join(lines)


def _plain(section: Section) -> str:
    if section.facts:
        return facts(section, text_width())
    texts = [section.columns, *(cells_of(row) for row in section.rows)]
    widths = [max(len(line[column]) for line in texts) for column in range(len(section.columns))]
    lines = [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in texts
    ]
    rule = "-" * len(lines[0])
    return "\n".join(
        line.rstrip() for line in [*([section.heading] if section.heading else []), lines[0], rule, *lines[1:]]
    )


def cells_of(row: Row) -> tuple[str, ...]:
    """A row's cells with the first one indented."""
    return (INDENT * row.depth + row.cells[0], *row.cells[1:])


# ---- markdown and csv -----------------------------------------------------------------------------------------------


def _markdown(answer: Answer, explained: bool, out: TextIO) -> None:
    print(f"**{answer.title}**", file=out)
    for section in answer.sections:
        print(f"\n{section.heading}" if section.heading else "", file=out)
        print("| " + " | ".join(_escaped(name) for name in section.columns) + " |", file=out)
        print("|" + "---|" + ("---|" if section.facts else "---:|") * (len(section.columns) - 1), file=out)
        for row in section.rows:
            cells = [_escaped(cell) for cell in row.cells]
            first = "&nbsp;" * 4 * row.depth + (f"**{cells[0]}**" if row.strong else cells[0])
            print("| " + " | ".join([first, *cells[1:]]) + " |", file=out)
    if explained:
        print("\n```\n" + "\n".join(explain(answer.judged())) + "\n```", file=out)
    if answer.drawing:
        print("\n```\n" + "\n".join(answer.drawing) + "\n```", file=out)
    for note in answer.notes:
        print(f"\n{note}", file=out)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _csv(answer: Answer, out: TextIO) -> None:
    """One line a node: path, key, value, unit, basis, formula, values; or the lines of a list."""
    import csv

    writer = csv.writer(out, lineterminator="\n")
    if answer.listing:
        writer.writerows(answer.listing)
        return
    writer.writerow(["path", "key", "value", "unit", "basis", "formula", "substituted"])
    path: list[str] = []
    seen: dict[str, int] = {}
    for depth, node in answer.judged().walk():
        path[depth:] = [node.name]
        where = "/".join(path)
        seen[where] = seen.get(where, 0) + 1
        if seen[where] > 1:  # siblings of one name: the second is name[2], and all below it
            path[depth] = f"{node.name}[{seen[where]}]"
            where = "/".join(path)
        writer.writerow([where, node.key, node.value, node.unit, node.basis, node.formula(), node.substituted()])
