"""One figure, predicted and measured: what was compared, on which link of the chain, and the verdict.

The chain has two links. A config becomes an Architecture (the adapter's work), and an Architecture becomes numbers (the
formulas' work). Each has oracles of its own.
"""

from __future__ import annotations

from typing import Final, Literal

from txcalc.record import Record

Quantity = Literal["params", "kv", "flops", "activations"]
Link = Literal["architecture to formula", "config to architecture"]
Verdict = Literal["passed", "failed", "skipped"]

QUANTITIES: Final[tuple[Quantity, ...]] = ("params", "kv", "flops", "activations")
VERDICTS: Final[tuple[Verdict, ...]] = ("passed", "failed", "skipped")
REFERENCE: Final = "reference model"


class Comparison(Record):
    """``predicted`` by a formula, ``measured`` by an oracle, both None where nothing could be compared.

    ``note``: why a comparison was skipped, or what is behind a difference.
    """

    model: str
    quantity: Quantity
    figure: str
    work: str
    verdict: Verdict
    oracle: str
    link: Link
    predicted: int | None = None
    measured: int | None = None
    note: str = ""

    @property
    def difference(self) -> int | None:
        """Predicted less measured."""
        return None if self.predicted is None or self.measured is None else self.predicted - self.measured

    def sentence(self) -> str:
        """What to tell about it in one line."""
        where = f"{self.figure} ({self.work})" if self.work else self.figure
        if self.predicted is None or self.measured is None:
            return f"{where}: {self.note}"
        signs = f"predicted {self.predicted:,}, measured {self.measured:,}, difference {self.difference:+,}"
        return f"{where}: {signs}; {self.oracle}" + (f"; {self.note}" if self.note else "")


def compared(
    model: str,
    quantity: Quantity,
    figure: str,
    work: str,
    *,
    predicted: int,
    measured: int,
    oracle: str = REFERENCE,
    agrees: bool | None = None,
    note: str = "",
) -> Comparison:
    """A comparison: equal or not, unless ``agrees`` says what else is known."""
    equal = predicted == measured if agrees is None else agrees
    return Comparison(
        model=model,
        quantity=quantity,
        figure=figure,
        work=work,
        verdict="passed" if equal else "failed",
        oracle=oracle,
        link=_link(oracle),
        predicted=predicted,
        measured=measured,
        note=note,
    )


def skipped(model: str, quantity: Quantity, reason: str, *, oracle: str = REFERENCE) -> Comparison:
    """A quantity that could not be compared, and why."""
    return Comparison(
        model=model,
        quantity=quantity,
        figure=quantity,
        work="",
        verdict="skipped",
        oracle=oracle,
        link=_link(oracle),
        note=reason,
    )


def _link(oracle: str) -> Link:
    """The reference model is made of the Architecture; every other oracle of something that knows no Architecture."""
    return "architecture to formula" if oracle == REFERENCE else "config to architecture"
