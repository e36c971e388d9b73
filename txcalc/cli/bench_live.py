"""A benchmark while it runs: a table on a terminal's stderr that grows by a line as each figure is measured.

It is drawn between two figures, never while something is timed, and is gone when the answer is printed.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from txcalc.units import binary_bytes, short_flops

if TYPE_CHECKING:
    from txcalc.measure.figures import Figure

_SHOWN: Final = 12  # lines, the last ones


class Live:
    """The last figures on a screen; ``add`` draws it anew."""

    def __init__(self, screen: Any) -> None:
        self.screen, self.last, self.count = screen, deque["Figure"](maxlen=_SHOWN), 0

    def add(self, figure: Figure) -> None:
        """One more was measured."""
        self.last.append(figure)
        self.count += 1
        self.screen.update(self.table(), refresh=True)

    def table(self) -> Any:
        """Name, prediction, measurement and what lies between them."""
        from rich.table import Table

        table = Table(
            "measured so far", "predicted", "measured", "difference", box=None, caption=f"{self.count} figures"
        )
        for column in table.columns[1:]:
            column.justify = "right"
        for figure in self.last:
            table.add_row(*cells(figure))
        return table


def cells(figure: Figure) -> tuple[str, str, str, str]:
    """One line of the table; plain text, whatever brackets a note may hold."""
    name = f"{figure.name}, {figure.what}" if figure.what else figure.name
    if figure.measured is None and figure.predicted is None:
        return name, "", figure.note.replace("[", "("), ""
    difference = "" if figure.error is None else "equal" if figure.error == 0 else f"{figure.error:+.1f}%"
    return name, _short(figure, figure.predicted), _short(figure, figure.measured), difference


def _short(figure: Figure, value: float | None) -> str:
    if value is None:
        return ""
    match figure.unit:
        case "bytes":
            return binary_bytes(int(value))
        case "FLOPs":
            return short_flops(int(value))
        case "seconds":
            return f"{value * 1e3:,.2f} ms"
        case "ratio":
            return f"{value:.1%}"
        case _:
            return f"{value:,.1f} {figure.unit}"


@contextmanager
def live() -> Iterator[Live | None]:
    """A table on stderr, where that is a terminal that can draw one; None where not."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.console import Console
    from rich.live import Live as Screen

    with Screen(console=Console(stderr=True), auto_refresh=False, transient=True) as screen:
        yield Live(screen)
