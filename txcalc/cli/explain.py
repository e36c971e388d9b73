"""Any quantity: what it means, its formula with values, its source and the test that holds it; or the claims table."""

from __future__ import annotations

import argparse
from typing import Final

from txcalc.cli.options import DEFAULT_MODEL, add_output, add_what_if, load_model, model_facts
from txcalc.errors import UsageError
from txcalc.formulas.explaining import evaluated
from txcalc.formulas.registry import QUANTITIES, Quantity, quantity
from txcalc.report import Answer
from txcalc.report.document import Row, Section
from txcalc.report.explain import explain
from txcalc.report.write import text_width
from txcalc.result import Node, total

EXAMPLES: Final = """\
  txcalc explain
  txcalc explain kv_cache.bytes_per_token
  txcalc explain memory.total mistral-7b-v0.1 --explain
  txcalc explain claims
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """QUANTITY, MODEL and the output options."""
    parser.add_argument("quantity", metavar="QUANTITY", nargs="?", help="a figure's name, or claims; none: list them")
    parser.add_argument("model", metavar="MODEL", nargs="?", help=f"to show it on (default: {DEFAULT_MODEL}'s shape)")
    add_what_if(parser)
    add_output(parser)


def run(options: argparse.Namespace) -> Answer:
    """One quantity opened, the list of them, or the claims."""
    if options.quantity is None:
        return _listed()
    if options.quantity == "claims":
        return _claims(options)
    return _one(quantity(options.quantity), options)


def _one(asked: Quantity, options: argparse.Namespace) -> Answer:
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
        sections=(Section(columns=("", ""), rows=rows, facts=True),),
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
    rows = tuple(Row(cells=(each.key, each.unit or "a number"), detail=each.means) for each in QUANTITIES.values())
    return Answer(
        command="explain",
        title=f"{len(QUANTITIES)} quantities",
        model={},
        tree=total("quantities", "", []),
        facts={"quantities": [_plain(each) for each in QUANTITIES.values()]},
        sections=(Section(columns=("quantity", "unit"), rows=rows, detail="means"),),
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
        sections=(Section(columns=("", ""), rows=tuple(rows), facts=True),),
    )
