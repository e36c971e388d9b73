"""Holds every card against its own schema, its architecture, and what was published about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

from txcalc.cards.card import Card, Published
from txcalc.cards.names import key_of
from txcalc.cards.store import Store, shipped
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.record import Record

_NATIVE: Final = "transformer"  # txcalc's own vocabulary says which head it has in a field


class Finding(Record):
    """One thing that is wrong with a card: the card, the key, and what."""

    card: str
    key: str
    problem: str
    hint: str = ""


def check(cards: Iterable[Card] | None = None) -> list[Finding]:
    """What is wrong with ``cards``, or with all that come with txcalc: empty if nothing is.

    A card fails if a key is unknown or missing, if its config is not understood in full, if a published figure and the
    computed one disagree without an explanation, or if one of its names is another card's.
    """
    findings: list[Finding] = []
    listed = list(cards) if cards is not None else _readable(shipped(), findings)
    findings += _name_clashes(listed)
    for card in listed:
        findings += check_card(card)
    return findings


def check_card(card: Card) -> list[Finding]:
    """What is wrong with one card's config and published figures."""
    try:
        model = architecture_of(card.config, name=card.name)
    except ModelError as error:
        return [Finding(card=card.name, key="config", problem=error.message, hint=error.hint)]
    findings = [Finding(card=card.name, key="config", problem=reason) for reason in model.reasons]
    if "architectures" not in card.config and model.model_type != _NATIVE:
        findings.append(Finding(card=card.name, key="config.architectures", problem="is missing: it decides the head"))
    if card.published:
        from txcalc.formulas.params import params  # here: finding a card needs no formulas

        figures = params(model).figures()
        findings += [found for entry in card.published for found in _disagreements(card, entry, figures)]
    return findings


def _disagreements(card: Card, entry: Published, figures: Mapping[str, int | float]) -> list[Finding]:
    key = f"published.{entry.figure}"
    if entry.figure not in figures:
        near = get_close_matches(entry.figure, figures, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(figures)}"
        return [Finding(card=card.name, key=key, problem="is not a figure that txcalc computes", hint=hint)]
    computed = int(figures[entry.figure])
    if entry.agrees(computed):
        return []
    explained = f"; explained are {entry.difference:+,}" if entry.difference else ""
    problem = f"published {entry.value:,}, computed {computed:,}: they differ by {entry.value - computed:+,}{explained}"
    return [Finding(card=card.name, key=key, problem=problem, hint=f"source: {entry.source}")]


def _readable(store: Store, findings: list[Finding]) -> list[Card]:
    """Every card that can be read; what is wrong with the others goes to ``findings``."""
    cards = []
    for name in store.names():
        try:
            cards.append(store.card(name))
        except ModelError as error:
            findings.append(Finding(card=name, key="", problem=error.message, hint=error.hint))
    return cards


def _name_clashes(cards: list[Card]) -> list[Finding]:
    owner: dict[str, str] = {}
    findings = []
    for card in cards:
        for name in (card.name, *card.aliases):
            first = owner.setdefault(key_of(name), card.name)
            if first != card.name:
                findings.append(Finding(card=card.name, key="aliases", problem=f"{name} is a name of {first} too"))
    return findings
