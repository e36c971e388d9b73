"""Where cards are kept: ``model_cards/*.yaml`` in a checkout, one ready-made JSON file in a wheel.

Reading YAML costs more than the rest of a command, so a wheel carries all cards as JSON with the index of their names.
A checkout always reads its YAML files: there is no JSON that could be out of date.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, Protocol

from txcalc.cards.card import Card, card_from, plain
from txcalc.cards.files import read_mapping
from txcalc.cards.names import index_of, key_of
from txcalc.errors import ModelError

_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKED_NAME: Final = "model_cards.json"
_AGAIN: Final = "install it again: pip install --force-reinstall txcalc"


class Store(Protocol):
    """Cards by any of their names."""

    def get(self, name: str) -> Card | None:
        """The card of that name or alias, however it is written."""

    def names(self) -> list[str]:
        """The name of every card, sorted."""

    def card(self, name: str) -> Card:
        """The card of exactly that name."""

    def index(self) -> dict[str, str]:
        """From comparable names to card names."""


class YamlStore:
    """A directory of YAML files, each read when it is asked for: a card's file has the card's name."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._cards: dict[str, Card] = {}
        self._stems = {key_of(name): name for name in self.names()}
        self._index: dict[str, str] | None = None

    def names(self) -> list[str]:
        """The file names without their ending, sorted."""
        return sorted(entry[:-5] for entry in os.listdir(self.directory) if entry.endswith(".yaml"))

    def path(self, name: str) -> str:
        """Where the card of that exact name is."""
        return os.path.join(self.directory, f"{name}.yaml")

    def get(self, name: str) -> Card | None:
        """The card of that name or alias: by its file's name first, so that one file is read, not all."""
        key = key_of(name)
        stem = self._stems.get(key) or self.index().get(key)
        return self.card(stem) if stem else None

    def index(self) -> dict[str, str]:
        """From comparable names to card names; reads every file, once."""
        if self._index is None:
            self._index = index_of({card.name: card.aliases for card in map(self.card, self.names())})
        return self._index

    def card(self, name: str) -> Card:
        """The card of that file.

        Raises:
            ModelError: what is wrong with it, with file and key.
        """
        if name not in self._cards:
            where = f"model_cards/{name}.yaml"
            card = card_from(read_mapping(self.path(name)), where, complete=True)
            if card.name != name:
                raise ModelError(f"{where}: name is {card.name!r}; expected {name!r}, the file's name")
            self._cards[name] = card
        return self._cards[name]


class PackedStore:
    """The JSON file that a wheel carries."""

    def __init__(self, path: str) -> None:
        try:
            with open(path, encoding="utf-8") as file:
                packed = json.load(file)
            self._cards: dict[str, dict[str, Any]] = packed["cards"]
            self._index: dict[str, str] = packed["index"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ModelError("the model cards of this installation of txcalc cannot be read", _AGAIN) from None

    def get(self, name: str) -> Card | None:
        """The card of that name or alias."""
        found = self._index.get(key_of(name))
        return self.card(found) if found else None

    def names(self) -> list[str]:
        """The name of every card, sorted."""
        return list(self._cards)

    def card(self, name: str) -> Card:
        """The card of exactly that name."""
        return card_from(self._cards[name], name)

    def index(self) -> dict[str, str]:
        """From comparable names to card names."""
        return self._index


def pack(cards: Iterable[Card]) -> str:
    """The text of a wheel's JSON file, the same for the same cards."""
    listed = sorted(cards, key=lambda card: card.name)
    index = index_of({card.name: card.aliases for card in listed})
    packed = {"cards": {card.name: plain(card) for card in listed}, "index": dict(sorted(index.items()))}
    return json.dumps(packed, separators=(",", ":"), ensure_ascii=True)


def checkout_directory() -> str | None:
    """``model_cards/`` beside the package where it runs from a checkout, else None."""
    root = os.path.dirname(_PACKAGE)
    directory = os.path.join(root, "model_cards")
    return directory if os.path.isdir(directory) and os.path.isfile(os.path.join(root, "pyproject.toml")) else None


@lru_cache(maxsize=1)
def shipped() -> Store:
    """The cards that come with txcalc.

    Raises:
        ModelError: an installation without them.
    """
    directory = checkout_directory()
    if directory:
        return YamlStore(directory)
    path = os.path.join(_PACKAGE, PACKED_NAME)
    if not os.path.isfile(path):
        raise ModelError("this installation of txcalc has no model cards", _AGAIN)
    return PackedStore(path)
