"""The counts that somebody published for a card, beside ours: each equal, or off by what the card explains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from txcalc.architecture import Model
from txcalc.cards import Published
from txcalc.formulas.params import params
from txcalc.measure.comparing import Comparison, compared

PUBLISHED: Final = "published figure"
ROUNDED: Final = "published, rounded"  # agrees with it, and proves little


def against_published(model: Model, published: Iterable[Published]) -> Iterator[Comparison]:
    """One comparison for each published figure that txcalc computes."""
    figures = params(model).figures()
    for entry in published:
        if entry.figure not in figures:
            continue
        computed = int(figures[entry.figure])
        yield compared(
            model.name,
            "params",
            entry.figure,
            _relation(entry),
            predicted=computed,
            measured=entry.value,
            oracle=ROUNDED if entry.relation == "rounded" else PUBLISHED,
            agrees=entry.agrees(computed),
            note=entry.source if entry.relation in ("exact", "rounded") else f"{entry.relation}; {entry.source}",
        )


def _relation(entry: Published) -> str:
    return {"exact": "", "rounded": f"to {entry.rounded_to:,}"}.get(entry.relation, "difference explained")
