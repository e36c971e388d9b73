"""One line of a benchmark: what was predicted, what was measured, and how far the two are apart."""

from __future__ import annotations

from typing import Any

from txcalc.measure.timing import Spread
from txcalc.record import Record
from txcalc.result import Unit


class Figure(Record):
    """``predicted`` and ``measured`` in ``unit``, None where there is none; seconds carry their ``spread``.

    ``exact``: the two must be equal to the byte or FLOP. ``note``: what to know, or why nothing was measured.
    """

    name: str
    unit: Unit
    what: str = ""  # batch, context, backend
    predicted: float | None = None
    measured: float | None = None
    spread: Spread | None = None
    exact: bool = False
    estimated: str = ""
    note: str = ""

    @property
    def key(self) -> str:
        """One word that names it in a document: ``prefill_seconds.batch_4.ctx_512.flash``."""
        parts = [self.name, *(part.strip() for part in self.what.split(",") if part)]
        return ".".join(part.replace(" ", "_").replace(".", "_") for part in parts)

    @property
    def error(self) -> float | None:
        """Predicted less measured, over measured, in percent."""
        if self.predicted is None or not self.measured:
            return None
        return 100 * (self.predicted - self.measured) / self.measured

    @property
    def disagrees(self) -> bool:
        """Whether two numbers that must be equal are not."""
        return self.exact and None not in (self.predicted, self.measured) and self.predicted != self.measured

    @property
    def noisy(self) -> bool:
        """Whether the machine was too busy for this one."""
        return self.spread is not None and self.spread.noisy

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a document; empty fields are left out."""
        plain: dict[str, Any] = {"key": self.key, "name": self.name, "what": self.what, "unit": self.unit}
        plain |= {"predicted": self.predicted, "measured": self.measured, "error_percent": self.error}
        if self.spread is not None:
            plain |= self.spread.all_fields() | {"noisy": self.noisy}
        plain |= {"exact": self.exact or None, "estimated": self.estimated or None, "note": self.note or None}
        return {key: value for key, value in plain.items() if value is not None}


def where(*, batch: int = 0, ctx: int = 0, backend: str = "") -> str:
    """Batch, context and backend as one text."""
    parts = (f"batch {batch}" if batch else "", f"ctx {ctx:,}".replace(",", "") if ctx else "", backend)
    return ", ".join(part for part in parts if part)


def timed_figure(name: str, what: str, spread: Spread, predicted: float | None, **fields: Any) -> Figure:
    """Seconds of one run."""
    return Figure(
        name=name, unit="seconds", what=what, predicted=predicted, measured=spread.median, spread=spread, **fields
    )


def rate_figure(name: str, what: str, tokens: int, seconds: Figure) -> Figure:
    """Tokens a second, of a figure of seconds."""
    return Figure(
        name=name,
        unit="tokens/s",
        what=what,
        predicted=None if not seconds.predicted else tokens / seconds.predicted,
        measured=None if not seconds.measured else tokens / seconds.measured,
        estimated=seconds.estimated,
    )
