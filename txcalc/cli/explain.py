"""Any quantity: what it means, its formula with values, its source and the test that holds it; or the claims table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from txcalc.cli.options import DEFAULT_MODEL, add_output, add_what_if, load_model, model_facts
from txcalc.errors import UsageError
from txcalc.formulas.explaining import evaluated
from txcalc.formulas.registry import QUANTITIES, Quantity, quantity
from txcalc.report import Answer
from txcalc.report.document import Row, Section
from txcalc.report.explain import explain
from txcalc.report.write import text_width
from txcalc.result import Node, total
from txcalc.symbols import LEGEND

if TYPE_CHECKING:
    from txcalc.formulas.claims import Claim

EXAMPLES: Final = """\
  txcalc explain
  txcalc explain kv_cache.bytes_per_token
  txcalc explain memory.total mistral-7b-v0.1 --explain
  txcalc explain N
  txcalc explain claims
  txcalc explain devices
"""

_SHEET: Final = {"id": "--gpu", "name": "device", "memory_GB": "GB", "bf16_TFLOPS": "bf16 TFLOP/s"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """QUANTITY, MODEL and the output options."""
    parser.add_argument(
        "quantity",
        metavar="QUANTITY",
        nargs="?",
        help="a figure, a letter, letters, claims, or devices; none: list all figures",
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help=f"to show it on (default: {DEFAULT_MODEL}'s shape)")
    add_what_if(parser)
    add_output(parser)


def run(options: argparse.Namespace) -> Answer:
    """One quantity opened, the list of them, the claims, or the devices."""
    asked = options.quantity
    if asked is None:
        return _listed()
    if asked == "claims":
        return _claims(options)
    if asked == "devices":
        return _devices(options)
    if asked == "letters" or asked in LEGEND:
        return _letters(options)
    return _one(quantity(asked), options)


def _measured(asked: Quantity) -> Answer:
    """What has a value only where a model was run."""
    command = f"txcalc {asked.key.partition('.')[0]} MODEL gives its value"
    facts = (("means", asked.means), ("unit", asked.unit or "a number"), ("source", command), ("held by", asked.oracle))
    return Answer(
        command="explain",
        title=f"{asked.key} | measured, not computed",
        model={},
        tree=total(asked.key, asked.unit, []),
        facts={"quantity": _plain(asked)},
        sections=(Section(columns=("quantity", asked.key), rows=tuple(Row(cells=fact) for fact in facts), facts=True),),
        listing=(tuple(_plain(asked)), tuple(_plain(asked).values())),
    )


def _one(asked: Quantity, options: argparse.Namespace) -> Answer:
    if not asked.tree:
        return _measured(asked)
    model = load_model(options)
    node, settings = evaluated(asked, model)
    facts = (
        ("means", asked.means),
        ("unit", asked.unit or "a number"),
        ("value", f"{node.value:,}" if isinstance(node.value, int) else f"{node.value:.6g}"),
        ("symbols", ", ".join(f"{name} = {value:,}" for name, value in _symbols(node).items())),
        ("convention", node.convention),
        ("basis", f"{node.basis}{': ' if node.reason else ''}{node.reason}"),
        ("source", node.source or asked.source),
        ("held by", asked.oracle),
    )
    rows = tuple(Row(cells=(name, text)) for name, text in facts if text)
    shown = node if node.source else node.replace(source=asked.source)
    return Answer(
        command="explain",
        title=" | ".join(part for part in (asked.key, model.name, settings) if part),
        model=model_facts(model),
        tree=shown.replace(aside=False),
        facts={"quantity": _plain(asked), "inputs": {"settings": settings}},
        sections=(Section(columns=("quantity", asked.key), rows=rows, facts=True),),
        reasons=model.reasons,
        drawing=() if options.explain else tuple(explain(shown, width=text_width())),
    )


def _symbols(node: Node) -> dict[str, int]:
    found: dict[str, int] = {}
    for _, each in node.walk():
        found |= each.symbols()
    return found


def _plain(asked: Quantity) -> dict[str, str]:
    return {name: str(getattr(asked, name)) for name in ("key", "unit", "means", "source", "oracle")}


def _listed() -> Answer:
    """Every quantity and every letter."""
    plain = [_plain(each) for each in QUANTITIES.values()]
    rows = tuple(Row(cells=(each["key"], f"{each['means']} ({each['unit'] or 'a number'})")) for each in plain)
    return Answer(
        command="explain",
        title=f"{len(plain)} quantities",
        model={},
        tree=total("quantities", "", []),
        facts={"quantities": plain, "letters": LEGEND},
        sections=(
            Section(columns=("quantity", "means"), rows=rows, facts=True),
            Section(columns=("letter", "means"), rows=_legend(LEGEND), facts=True, heading="letters in formulas"),
        ),
        listing=(tuple(plain[0]), *(tuple(each.values()) for each in plain)),
    )


def _legend(letters: Mapping[str, str]) -> tuple[Row, ...]:
    return tuple(Row(cells=(letter, means)) for letter, means in letters.items())


def _letters(options: argparse.Namespace) -> Answer:
    """What letters stand for in formulas: one of them, or all."""
    if options.model is not None or options.set or options.gqa:
        raise UsageError("a letter means the same for every model", f"txcalc explain {options.quantity}")
    letters = LEGEND if options.quantity == "letters" else {options.quantity: LEGEND[options.quantity]}
    return Answer(
        command="explain",
        title="letters in formulas; all other names are fields of the config, or said beside the formula",
        model={},
        tree=total("letters", "", []),
        facts={"letters": letters},
        sections=(Section(columns=("letter", "means"), rows=_legend(letters), facts=True),),
        listing=(("letter", "means"), *letters.items()),
    )


def _devices(options: argparse.Namespace) -> Answer:
    """Every device that --gpu takes, with what its sheet says."""
    from txcalc.hardware import devices

    if options.model is not None or options.set or options.gqa:
        raise UsageError("a device is the same for every model", "txcalc explain devices")
    plain = [{name: each.figures.get(name) for name in _SHEET} for each in devices().values()]
    rows = [Row(cells=tuple("not read" if cell is None else str(cell) for cell in each.values())) for each in plain]
    return Answer(
        command="explain",
        title=f"{len(plain)} devices; rates are dense, and what no source gives is not guessed",
        model={},
        tree=total("devices", "", []),
        facts={"devices": [each.figures for each in devices().values()]},
        sections=(Section(columns=tuple(_SHEET.values()), rows=tuple(rows)),),
        listing=(tuple(_SHEET), *(row.cells for row in rows)),
    )


def _claims(options: argparse.Namespace) -> Answer:
    from txcalc.formulas.claims import claims

    if options.model is not None or options.set or options.gqa:
        raise UsageError("the claims are about models of their own", "txcalc explain claims")
    found = claims()
    rows = []
    for each in found:
        condition = f" ({each.condition})" if each.condition else ""
        rows.append(Row(cells=(each.verdict, f"{each.says}.{condition} Ours: {each.shown()}.")))
    return Answer(
        command="explain",
        title=f"{len(found)} claims of introductions to transformers, checked",
        model={},
        tree=total("claims", "", [each.node() for each in found]),
        facts={"claims": [each.plain() for each in found]},
        sections=(Section(columns=("verdict", "claim"), rows=tuple(rows), facts=True),),
        listing=(("verdict", "claim", "condition", "ours"), *(_line(each) for each in found)),
    )


def _line(each: Claim) -> tuple[str, ...]:
    return (each.verdict, each.says, each.condition, each.shown())
