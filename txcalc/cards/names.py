"""What people type for a model's name, made comparable.

``Llama_3.1-8B``, ``llama3.1:8b`` and ``llama-3-1-8b`` are one name. Between two digits a separator matters, whichever
it is: ``opt-1.3b`` is not ``opt-13b``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

_BETWEEN_DIGITS: Final = re.compile(r"(?<=[0-9])[^a-z0-9]+(?=[0-9])")
_DASH_BETWEEN_DIGITS: Final = re.compile(r"(?<=[0-9])[^a-z0-9.]+(?=[0-9])")
_REST: Final = re.compile(r"[^a-z0-9.]|(?<![0-9])\.|\.(?![0-9])")
_LONGEST: Final = 120


def key_of(name: str) -> str:
    """Lower case; a separator stays, as a dot, between digits only: ``llama3.1.8b``."""
    return _REST.sub("", _BETWEEN_DIGITS.sub(".", name[:_LONGEST].lower()))


def dense_key_of(name: str) -> str:
    """The same with dashes dropped everywhere and dots kept between digits: ``llama3.18b`` and ``llama38b``."""
    return _REST.sub("", _DASH_BETWEEN_DIGITS.sub("", name[:_LONGEST].lower()))


def index_of(names: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """From every key that finds a card to the card's name.

    ``names`` maps a card's name to its aliases. A hub id can be given without its organisation. What could mean two
    cards finds neither, save that a card's own name or alias comes before what is derived from it.
    """
    index: dict[str, str] = {}
    for derive in (_own, _tails, _dense):
        found: dict[str, set[str]] = {}
        for card, aliases in names.items():
            for key in derive([card, *aliases]):
                found.setdefault(key, set()).add(card)
        fresh = {key: cards.pop() for key, cards in found.items() if len(cards) == 1 and key not in index}
        index.update(fresh)
    return index


def _own(names: list[str]) -> set[str]:
    return {key_of(name) for name in names}


def _tails(names: list[str]) -> set[str]:
    return {key_of(name.rpartition("/")[2]) for name in names}


def _dense(names: list[str]) -> set[str]:
    return {dense_key_of(name.rpartition("/")[2]) for name in names}


def nearest(name: str, index: Mapping[str, str]) -> list[str]:
    """Up to three cards whose names look most like ``name``."""
    key = key_of(name.rpartition("/")[2])
    close = get_close_matches(key, index, n=12, cutoff=0.6)
    begins = [each for each in index if key and each.startswith(key)]
    begins.sort(key=lambda each: (index[each].startswith(f"{name.lower()}."), len(each)))  # qwen3.5 is no qwen3
    return list(dict.fromkeys(index[each] for each in [*begins[:3], *close]))[:3]
