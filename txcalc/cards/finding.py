"""From what a user typed to a card, or to a config read from a path."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from txcalc.cards.card import Card, card_from
from txcalc.cards.closed import refuse_closed
from txcalc.cards.files import STANDARD_INPUT, named, read_mapping, read_standard_input, unreadable
from txcalc.cards.names import nearest
from txcalc.cards.store import shipped
from txcalc.configs.reader import shown
from txcalc.errors import ModelError

_FILES: Final = (".json", ".yaml", ".yml")
_LATER: Final = {".gguf": "GGUF files", ".safetensors": "safetensors files"}
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_LIST: Final = "txcalc cards lists all models known by name"


def find(name: str) -> Card:
    """The card that comes with txcalc under that name or alias: case, dots, dashes and slashes are forgiven.

    Raises:
        ModelError: there is none; the hint has the nearest names.
    """
    card = shipped().get(name)
    if card is None:
        refuse_closed(name)
        close = nearest(name, shipped().index())
        hint = f"did you mean {' or '.join(close)}?" if close else _LIST
        raise ModelError(f"no model is known as {shown(name)}", hint)
    return card


def known_names() -> list[str]:
    """The name of every card that comes with txcalc, sorted."""
    return shipped().names()


def all_cards() -> list[Card]:
    """Every card that comes with txcalc, by name."""
    return [shipped().card(name) for name in shipped().names()]


def find_model(name: str) -> Card:
    """The card of a name, or one made of a path: a config.json, its directory, a card of one's own.

    ``-`` is standard input, which holds either. A bare name is a card before it is a file; ``./name`` is always a file.

    Raises:
        ModelError: neither, or a file that cannot be read as either.
    """
    text = name.strip()
    if not text:
        raise ModelError("the model's name is empty", _LIST)
    if text == "-":
        return card_of(read_standard_input(), STANDARD_INPUT, name="config")
    if _is_path(text):
        return read_card(os.path.expanduser(text))
    card = shipped().get(text)
    if card is not None:
        return card
    if _exists(text):
        return read_card(text)
    refuse_closed(text)
    if _HUB_ID.fullmatch(text):
        raise ModelError(
            f"{text} is not a model known by name, and reading from the hub is not yet supported",
            "download its config.json and name that file",
        )
    if os.sep in text:
        raise ModelError(f"{named(text)} does not exist", "check the path, or name a model; " + _LIST)
    return find(text)


def read_card(path: str) -> Card:
    """A card of one's own, or a bare config.json as a card without published figures.

    Raises:
        ModelError: the path cannot be read, or holds neither.
    """
    _refuse_weights(path)
    if os.path.isdir(path):
        path = _config_in(path)
    return card_of(read_mapping(path), path, name=_stem(path))


def card_of(data: Mapping[str, Any], path: str, *, name: str) -> Card:
    """A card, or a bare config as one; ``path`` says where it was read.

    Raises:
        ModelError: neither.
    """
    if "config" in data and "model_type" not in data:
        return card_from(data, path, name=name)
    _require_config(data, path)
    return Card(name=name, config=data, read_from=path)


def _is_path(text: str) -> bool:
    """Whether ``text`` can only be a path, or is one with a separator that exists."""
    return (
        text.startswith((".", "~", os.sep))
        or text.endswith(os.sep)
        or text.lower().endswith((*_FILES, *_LATER, *_PICKLES))
        or (os.sep in text and _exists(text))
    )


def _exists(text: str) -> bool:
    try:
        return os.path.exists(text)
    except ValueError:  # a null byte
        return False


def _refuse_weights(path: str) -> None:
    ending = os.path.splitext(path)[1].lower()
    if ending in _LATER:
        raise ModelError(f"{path}: reading {_LATER[ending]} is not yet supported", "name the model's config.json")
    if ending in _PICKLES:
        raise ModelError(f"{path} is a pickle, which can run code and is never read", "name the model's config.json")


def _config_in(directory: str) -> str:
    path = os.path.join(directory, "config.json")
    if os.path.lexists(path):
        return path
    try:
        files = sorted(os.listdir(directory))
    except OSError as error:
        raise unreadable(directory, error) from None
    others = [file for file in files if file.lower().endswith(_FILES)]
    hint = f"name one of its files: {', '.join(others[:3])}" if others else "name a directory that holds one"
    raise ModelError(f"{directory} has no config.json", hint)


def _stem(path: str) -> str:
    """A name for a config: its file's, or its directory's where the file is plain config.json."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return os.path.basename(os.path.dirname(os.path.abspath(path))) or stem if stem == "config" else stem


def _require_config(data: Mapping[str, Any], path: str) -> None:
    """A file with neither a model_type nor a config is more often a card with a slip than a config."""
    if "model_type" in data:
        return
    near = get_close_matches("model_type", [key for key in data if len(key) < 60], n=1, cutoff=0.7)
    if near:
        raise ModelError(f"{path}: {near[0]} is not a field of a config", "did you mean model_type?")
    near = get_close_matches("config", [key for key in data if len(key) < 60], n=1, cutoff=0.7)
    if near:
        raise ModelError(f"{path}: {near[0]} is not a key of a card", "did you mean config?")
    raise ModelError(f"{path} has no model_type", "expected a config.json, or a model card with a config")
