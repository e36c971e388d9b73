"""What a command has to say: a title, rows for reading, the tree behind them, and the remarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from txcalc.record import Record
from txcalc.result import Basis, Node


class Row(Record):
    """One line of a table: cells in the order of the columns; ``depth`` indents the first, ``strong`` marks totals.

    ``detail`` is a last cell that is shown where the terminal has room for it.
    """

    cells: tuple[str, ...]
    detail: str = ""
    depth: int = 0
    strong: bool = False


class Section(Record):
    """Rows under a heading, with their columns; the first column is text, the others are numbers.

    ``facts``: rows are a name and a text of any length, which is wrapped.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    heading: str = ""
    detail: str = ""
    facts: bool = False


class Answer(Record):
    """Everything that one command answers.

    ``figures`` stand at the top level of the JSON beside ``result``; ``facts`` are small values (model, integers used)
    that stand there under their own names. ``drawing``: lines of a picture, below the tables. ``reasons``: why every
    number is an estimate; ``in_part``: why some headline figure is, whose node in the tree says so itself. ``listing``:
    header and lines of the CSV where the answer is a list and no tree.
    """

    command: str
    title: str
    model: dict[str, Any]
    tree: Node
    sections: tuple[Section, ...]
    facts: Mapping[str, Any] = {}
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    in_part: tuple[str, ...] = ()
    drawing: tuple[str, ...] = ()
    listing: tuple[tuple[str, ...], ...] = ()
    exit_code: int = 0

    @property
    def basis(self) -> Basis:
        """Of the headline figures."""
        return "estimated" if self.reasons or self.in_part else "exact"

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        plain: dict[str, Any] = {"schema": f"txcalc.{self.command}/1", "model": self.model}
        plain |= {"basis": self.basis, "reasons": [*self.reasons, *self.in_part]}
        plain |= {"warnings": list(self.warnings), "notes": list(self.notes)}
        plain |= self.facts
        for key, value in self.tree.figures().items():
            _place(plain, key.split("."), value)
        plain["result"] = self.judged().to_dict()
        return plain

    def judged(self) -> Node:
        """The tree; every node an estimate where the model was not understood in full."""
        return self.tree.estimated(self.reasons)


def _place(plain: dict[str, Any], path: list[str], value: object) -> None:
    for part in path[:-1]:
        plain = plain.setdefault(part, {})
    plain[path[-1]] = value
