"""Where cards are kept: ``model_cards/*.yaml`` in a checkout, one ready-made JSON file in a wheel.

Reading YAML costs more than the rest of a command, so a wheel carries all cards as JSON with the index of their names.
Each entry is one line of that file, so that finding one card parses two lines, however many cards there are.
A checkout always reads its YAML files: there is no JSON that could be out of date.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, Protocol

from txcalc.cards.card import Card, card_from, plain
from txcalc.cards.files import read_mapping
from txcalc.cards.names import index_of, key_of
from txcalc.errors import ModelError

_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKED_NAME: Final = "model_cards.json"
_OPENING: Final = b'{"index":{\n'
_BETWEEN: Final = '\n},"cards":{\n'
_CLOSING: Final = b"\n}}\n"
_FILE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")
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
        self._stems: dict[str, str] | None = None
        self._index: dict[str, str] | None = None

    def names(self) -> list[str]:
        """The file names without their ending, sorted."""
        return sorted(entry[:-5] for entry in os.listdir(self.directory) if entry.endswith(".yaml"))

    def path(self, name: str) -> str:
        """Where the card of that exact name is."""
        return os.path.join(self.directory, f"{name}.yaml")

    def get(self, name: str) -> Card | None:
        """The card of that name or alias: by its file's name first, so that one file is read, not all."""
        if _FILE_NAME.fullmatch(name) and os.path.isfile(self.path(name)):
            return self.card(name)
        if self._stems is None:
            self._stems = {key_of(stem): stem for stem in self.names()}
        key = key_of(name)
        found = self._stems.get(key) or self.index().get(key)
        return self.card(found) if found else None

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
    """The JSON file that a wheel carries, as ``pack`` writes it: only the lines that are asked for are parsed."""

    def __init__(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                self._packed = file.read()
        except OSError:
            raise _unreadable() from None
        if not (self._packed.startswith(_OPENING) and self._packed.endswith(_CLOSING)):
            raise _unreadable()
        self._whole: dict[str, dict[str, Any]] | None = None

    def get(self, name: str) -> Card | None:
        """The card of that name or alias."""
        found = self._entry(key_of(name), '"')
        return self.card(found) if found else None

    def names(self) -> list[str]:
        """The name of every card, sorted."""
        return list(self._all()["cards"])

    def card(self, name: str) -> Card:
        """The card of exactly that name."""
        return card_from(self._entry(name, "{"), name)

    def index(self) -> dict[str, str]:
        """From comparable names to card names."""
        return self._all()["index"]

    def _entry(self, key: str, begins: str) -> Any:
        """The value of ``key`` whose text begins so: a name of the index with a quote, a card with a brace."""
        start = f"\n{json.dumps(key)}:"
        at = self._packed.find(f"{start}{begins}".encode())
        if at < 0:
            return None
        line = self._packed[at + len(start) : self._packed.index(b"\n", at + 1)]
        try:
            return json.loads(line.rstrip(b","))
        except ValueError:
            raise _unreadable() from None

    def _all(self) -> dict[str, dict[str, Any]]:
        if self._whole is None:
            try:
                self._whole = json.loads(self._packed)
            except ValueError:
                raise _unreadable() from None
        return self._whole


def _unreadable() -> ModelError:
    return ModelError("the model cards of this installation of txcalc cannot be read", _AGAIN)


def pack(cards: Iterable[Card]) -> str:
    """The text of a wheel's JSON file, the same for the same cards: an entry of the index, and a card, is one line."""
    listed = sorted(cards, key=lambda card: card.name)
    index = index_of({card.name: card.aliases for card in listed})
    by_name = {card.name: plain(card) for card in listed}
    return f"{_OPENING.decode()}{_lines(dict(sorted(index.items())))}{_BETWEEN}{_lines(by_name)}{_CLOSING.decode()}"


def _lines(entries: dict[str, Any]) -> str:
    return ",\n".join(f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in entries.items())


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
