"""The models that txcalc knows by name: list them, show one, or check all of them against what was published."""

from __future__ import annotations

import argparse
from typing import Any, Final

from txcalc.cards.card import Published, plain
from txcalc.cli.options import add_output
from txcalc.errors import RequestError, UsageError
from txcalc.report import Answer, Row
from txcalc.report.document import Section
from txcalc.result import leaf, total

EXAMPLES: Final = """\
  txcalc cards --family qwen
  txcalc cards show llama3-8b
  txcalc cards check
  txcalc cards check ./my-card.yaml
"""

_ACTIONS: Final = ("list", "show", "check")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which card."""
    parser.add_argument("action", nargs="?", choices=_ACTIONS, default="list", help="default: list")
    parser.add_argument("card", nargs="*", metavar="CARD", help="a card's name or file (show: one; check: default all)")
    parser.add_argument("--family", metavar="NAME", help="list only families and models whose name holds this")
    add_output(parser)


def run(options: argparse.Namespace) -> Answer:
    """List, show or check."""
    if options.action == "list" and options.card:
        raise UsageError(f"list takes no card: {options.card[0]!r}", f"txcalc cards show {options.card[0]}")
    if options.family and options.action != "list":
        raise UsageError(f"--family goes with list, not {options.action}", "txcalc cards --family qwen")
    if options.action == "show" and len(options.card) != 1:
        raise UsageError("show takes one card", "txcalc cards show llama3-8b")
    return {"list": _list, "show": _show, "check": _check}[options.action](options)


def _list(options: argparse.Namespace) -> Answer:
    from txcalc.cards import all_cards

    wanted = (options.family or "").lower()
    cards = [card for card in all_cards() if wanted in f"{card.family} {card.name}".lower()]
    if not cards:
        families = sorted({card.family for card in all_cards()})
        raise RequestError(f"no family holds {options.family!r}", f"families: {', '.join(families)}")
    rows = [Row(cells=(card.name, card.family, _context(card.context_length)), detail=card.title) for card in cards]
    listed = [
        {"name": card.name, "family": card.family, "title": card.title, "aliases": card.aliases} for card in cards
    ]
    return Answer(
        command="cards",
        title=f"{len(cards)} models",
        model={},
        tree=leaf("cards", "", len(cards)),
        facts={"cards": listed},
        sections=(Section(columns=("name", "family", "context"), rows=tuple(rows), detail="title"),),
        listing=(
            ("name", "family", "context_length", "title", "aliases"),
            *((c.name, c.family, str(c.context_length or ""), c.title, " ".join(c.aliases)) for c in cards),
        ),
    )


def _context(length: int | None) -> str:
    return f"{length:,}" if length else ""


def _show(options: argparse.Namespace) -> Answer:
    from txcalc.cards.finding import find_model
    from txcalc.configs import architecture_of
    from txcalc.formulas.params import params

    card = find_model(options.card[0])
    model = architecture_of(card.config, name=card.name)
    figures = params(model).figures()
    rows = [Row(cells=(key, text)) for key, text in _facts(plain(card))]
    config = [Row(cells=(key, _json(value))) for key, value in card.config.items()]
    published = [Row(cells=(each.figure, _relation(each, int(figures[each.figure])))) for each in card.published]
    sections = [
        Section(columns=(), rows=tuple(rows), facts=True),
        Section(columns=(), rows=tuple(config), facts=True, heading="config"),
        Section(columns=(), rows=tuple(published), facts=True, heading="published"),
    ]
    return Answer(
        command="cards",
        title=card.title or card.name,
        model={"name": card.name, "model_type": model.model_type},
        tree=params(model),
        facts={"card": plain(card)},
        sections=tuple(section for section in sections if section.rows),
        reasons=model.reasons,
    )


def _relation(entry: Published, computed: int) -> str:
    """One published figure beside the computed one."""
    beside = f"{entry.value:,}" if entry.relation == "exact" else f"{entry.value:,}, computed {computed:,}"
    return f"{beside}: {entry.relation}. Source: {entry.source}"


def _facts(fields: dict[str, Any]) -> list[tuple[str, str]]:
    """The card's plain fields, lists joined."""
    shown = {key: value for key, value in fields.items() if key not in ("config", "published", "title")}
    return [
        (key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)) for key, value in shown.items()
    ]


def _json(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)


def _check(options: argparse.Namespace) -> Answer:
    from txcalc.cards import check, known_names
    from txcalc.cards.finding import find_model

    named = [find_model(name) for name in options.card] or None
    findings = check(named)
    rows = [Row(cells=(f"{each.card} {each.key}".strip(), each.problem), detail=each.hint) for each in findings]
    count = len(named) if named is not None else len(known_names())
    return Answer(
        command="cards",
        title=f"{count} card{'s' * (count != 1)} checked, {len(findings)} finding{'s' * (len(findings) != 1)}",
        model={},
        tree=total("check", "", [leaf("cards", "", count, aside=True), leaf("findings", "", len(findings))]),
        facts={"findings": [each.all_fields() for each in findings]},
        sections=(Section(columns=("where", "what"), rows=tuple(rows), detail="hint"),) if rows else (),
        exit_code=3 if findings else 0,
    )
