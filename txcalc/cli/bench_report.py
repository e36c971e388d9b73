"""A benchmark's figures as tables, as a tree and as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from txcalc.measure.figures import Figure
from txcalc.report.document import Row, Section
from txcalc.result import Node, total
from txcalc.units import binary_bytes, short_flops

if TYPE_CHECKING:
    from txcalc.reference.device import Device


_ABOVE: Final = 1.2  # of a ceiling: more than weights in a cache and luck explain


def document(figures: list[Figure]) -> dict[str, Any]:
    """Predicted, measured and error by key, and every figure with its runs."""
    return {
        "predicted": {each.key: each.predicted for each in figures if each.predicted is not None},
        "measured": {each.key: each.measured for each in figures if each.measured is not None},
        "error": {each.key: round(each.error, 3) for each in figures if each.error is not None},
        "figures": [each.to_dict() for each in figures],
    }


def tree(figures: list[Figure]) -> Node:
    """Every measured figure; they are views, which add up to nothing."""
    nodes = [
        Node(
            name=f"{each.name} ({each.what})" if each.what else each.name,
            unit=each.unit,
            number=each.predicted if each.measured is None else each.measured,
            aside=True,
            basis="estimated" if each.estimated else "exact",
            reason=each.estimated,
            note=each.note,
            convention=_how(each),
        )
        for each in figures
        if each.measured is not None or each.predicted is not None
    ]
    return total("bench", "", nodes)


def sections(figures: list[Figure]) -> tuple[Section, ...]:
    """What must be equal, what took time, and how fast that is."""
    made = (
        _section("counted", [f for f in figures if f.unit in ("bytes", "FLOPs")], _count_row, _COUNTS),
        _section("timed", [f for f in figures if f.unit == "seconds" and not _untimed(f)], _time_row, _TIMES),
        _section("tokens per second", [f for f in figures if f.unit == "tokens/s"], _rate_row, _RATES),
        _section("share of the ceilings", [f for f in figures if f.unit == "ratio"], _share_row, ("", "of")),
        _section(
            "attention alone",
            [f for f in figures if f.unit == "FLOP/s"],
            _kernel_row,
            ("TFLOP/s", "p10 ms", "p90 ms", ""),
        ),
    )
    untimed = tuple(Row(cells=(_name(f), f.note)) for f in figures if _untimed(f))
    told = Section(columns=("what", "why"), rows=untimed, heading="not measured", facts=True)
    return (*(section for section in made if section is not None), *((told,) if untimed else ()))


def _untimed(figure: Figure) -> bool:
    """A row that says why there is no time."""
    return figure.unit == "seconds" and figure.measured is None and figure.predicted is None


def _how(figure: Figure) -> str:
    if figure.measured is None:
        return "predicted"
    return "extrapolated" if figure.estimated else "measured"


_COUNTS: Final = ("predicted", "measured", "", "difference")
_TIMES: Final = ("predicted ms", "median ms", "p10", "p90", "runs", "error")
_RATES: Final = ("predicted", "measured", "error")


def _section(
    heading: str, figures: Iterable[Figure], row: Callable[[Figure], Row], columns: tuple[str, ...]
) -> Section | None:
    rows = tuple(row(figure) for figure in figures)
    return Section(columns=(heading, *columns), rows=rows) if rows else None


def _name(figure: Figure) -> str:
    return f"{figure.name}, {figure.what}" if figure.what else figure.name


def _count_row(figure: Figure) -> Row:
    predicted = "" if figure.predicted is None else f"{figure.predicted:,.0f}"
    measured = "" if figure.measured is None else f"{figure.measured:,.0f}"
    short = short_flops if figure.unit == "FLOPs" else binary_bytes
    either = figure.predicted if figure.measured is None else figure.measured
    readable = "" if either is None else short(either)
    return Row(cells=(_name(figure), predicted, measured, readable, _difference(figure)), detail=figure.note)


def _difference(figure: Figure) -> str:
    if figure.predicted is None or figure.measured is None:
        return ""
    return "equal" if figure.predicted == figure.measured else f"{figure.predicted - figure.measured:+,.0f}"


def _time_row(figure: Figure) -> Row:
    spread = figure.spread
    low, high, runs = (_ms(spread.p10), _ms(spread.p90), str(spread.runs)) if spread else ("", "", "")
    cells = (
        _name(figure),
        _ms(figure.predicted),
        _ms(figure.measured),
        low,
        high,
        runs + ("!" if figure.noisy else ""),
    )
    return Row(cells=(*cells, _error(figure)), detail=figure.note)


def _rate_row(figure: Figure) -> Row:
    numbers = ("" if each is None else f"{each:,.1f}" for each in (figure.predicted, figure.measured))
    return Row(cells=(_name(figure), *numbers, _error(figure)))


def _kernel_row(figure: Figure) -> Row:
    if figure.measured is None or figure.spread is None:
        return Row(cells=(_name(figure), "", "", "", figure.note))
    times = (_ms(figure.spread.p10), _ms(figure.spread.p90))
    return Row(cells=(_name(figure), f"{figure.measured / 1e12:.3f}", *times, "noisy" if figure.noisy else ""))


def _share_row(figure: Figure) -> Row:
    return Row(cells=(_name(figure), f"{figure.measured:.1%}", figure.note.removeprefix("of ")))


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:,.2f}"


def _error(figure: Figure) -> str:
    return "" if figure.error is None else f"{figure.error:+.1f}%"


# ---- the machine ----------------------------------------------------------------------------------------------------


def machine(device: Device) -> dict[str, Any]:
    """Processor or GPU, threads, load, torch."""
    from txcalc.measure import timing

    facts: dict[str, Any] = {**device.properties(), "cores": timing.cores(), "load": timing.load()}
    return {**facts, "device": timing.processor()} if device.name == "cpu" else facts


def machine_text(machine: dict[str, Any]) -> str:
    """The same in a few words."""
    threads = f"{machine.get('threads', 1)} threads"
    load = "" if machine["load"] is None else f", load {machine['load']:.1f}"
    return f"{machine['device']}, {threads}{load}, torch {machine['torch']}"


def warnings(figures: list[Figure], machine: dict[str, Any], code: int) -> Iterator[str]:
    """What spoils a measurement: an end from outside, noise, others on the machine, a GPU that was slowed."""
    from txcalc.measure import timing

    if code > 128:
        yield f"broken off by a signal ({code - 128}): {len(figures)} figures were measured"
    noisy = [figure for figure in figures if figure.noisy]
    if noisy:
        timed = sum(figure.spread is not None for figure in figures)
        yield f"this machine is too noisy to say: p90 is over 1.5 times p10 in {len(noisy)} of {timed} timings"
    shares = [figure.measured or 0 for figure in figures if figure.unit == "ratio" and "calibrated" in figure.note]
    if max(shares, default=0) > _ABOVE:
        yield f"{max(shares):.0%} of a calibrated ceiling: it was low, others used this machine; run txcalc calibrate"
    if others := timing.crowded(machine["load"], machine["cores"]):
        yield f"{others}; --threads 1 suffers less from it"
    if machine.get("slowed_by"):
        yield f"the GPU was slowed while it was measured, by {', '.join(machine['slowed_by'])}"
    if machine.get("other_processes"):
        yield f"other processes on this GPU: {machine['other_processes']}; memory and times are theirs, too"
    for figure in figures:
        if figure.disagrees:
            yield f"{figure.name} {figure.what}: predicted {figure.predicted:,.0f}, measured {figure.measured:,.0f}"
