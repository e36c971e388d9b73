"""Learn what this machine does in a second: rates for the predictions of bench, and the ceilings of plain products."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from txcalc.cli.options import add_output
from txcalc.cli.torch_extra import DTYPES, add_threads, require_torch
from txcalc.report import Answer, Row
from txcalc.report.document import Section
from txcalc.result import Node, total

if TYPE_CHECKING:
    from txcalc.measure.predictor import Calibration

EXAMPLES: Final = """\
  txcalc calibrate
  txcalc calibrate --dtype fp32 --threads 1
  txcalc calibrate --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """In what dtype and with how many threads."""
    parser.add_argument("--dtype", choices=DTYPES, help="default: bf16 where the processor multiplies it, else fp32")
    add_threads(parser)
    add_output(parser)


def run(options: argparse.Namespace) -> Answer:
    """Measure, fit, keep, and say what was found."""
    require_torch("calibrate")
    import torch

    from txcalc.measure import calibrate, kept, timing
    from txcalc.measure.plan import default_dtype
    from txcalc.reference.device import device_named

    if options.threads:
        torch.set_num_threads(options.threads)
    with kept.alone():
        crowded = timing.crowded(timing.load(), timing.cores())
        found = calibrate.calibrated(device_named("cpu"), options.dtype or default_dtype())
        where = calibrate.keep(found)
    return _told(found, where, crowded)


def _told(found: Calibration, where: str, crowded: str) -> Answer:
    notes = [f"{crowded}; calibrate again when they are gone"] if crowded else []
    kept_note = f"kept in {where}" if where else "not kept: the user's cache directory cannot be written"
    return Answer(
        command="calibrate",
        title=f"{found.key} | {found.seconds:.1f} s",
        model={},
        tree=_tree(found),
        sections=(_ceilings(found), *(_phase(found, phase) for phase in ("prefill", "decode")), _errors(found)),
        facts={"calibration": found.to_dict(), "kept": where},
        notes=(*notes, kept_note, "a rate of 0 means that this term added nothing that the others did not explain"),
    )


def _tree(found: Calibration) -> Node:
    nodes = [
        Node(name=f"{phase} {name}", unit="seconds", number=value, aside=True, convention=meaning)
        for phase in ("prefill", "decode")
        for name, meaning, value in _terms(found, phase)
    ]
    return total("calibration", "", nodes)


def _terms(found: Calibration, phase: str) -> list[tuple[str, str, float]]:
    from txcalc.measure.predictor import TERMS

    return [
        (name, text, value) for (name, text), value in zip(TERMS[phase].items(), getattr(found, phase), strict=True)
    ]


def _ceilings(found: Calibration) -> Section:
    rows = tuple(Row(cells=(name, _rate(value, name))) for name, value in found.ceilings.items())
    return Section(columns=("ceiling", "fastest"), rows=rows)


def _rate(value: float, name: str) -> str:
    return f"{value / 1e9:,.1f} {'GFLOP/s' if 'FLOP' in name else 'GB/s'}"


def _phase(found: Calibration, phase: str) -> Section:
    rows = tuple(Row(cells=(text, f"{value:.3g}", _inverse(name, value))) for name, text, value in _terms(found, phase))
    return Section(columns=(f"a {phase} is the sum of", "coefficient", "that is"), rows=rows)


def _inverse(name: str, value: float) -> str:
    if not value:
        return "nothing"
    if name == "layers":
        return f"{value * 1e6:,.0f} us"
    return f"{1e-9 / value:,.1f} {'GFLOP/s' if name in ('linear', 'attention') else 'GB/s'}"


def _errors(found: Calibration) -> Section:
    rows = [Row(cells=(phase, *_summary(errors))) for phase, errors in found.errors.items()]
    return Section(columns=("error for a probe left out of the fit", "mean", "worst"), rows=tuple(rows))


def _summary(errors: tuple[float, ...] | list[Any]) -> tuple[str, str]:
    sizes = [abs(each) for each in errors]
    return (f"{sum(sizes) / len(sizes):.1%}", f"{max(sizes):.1%}") if sizes else ("", "")
