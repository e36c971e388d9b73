"""From what a user typed to a card, or to a config read from a path."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from txcalc.cards.card import Card, card_from
from txcalc.cards.closed import refuse_closed
from txcalc.cards.files import STANDARD_INPUT, named, read_mapping, read_standard_input, unreadable
from txcalc.cards.names import nearest
from txcalc.cards.store import shipped
from txcalc.configs.reader import shown
from txcalc.errors import ModelError
from txcalc.record import Record

if TYPE_CHECKING:  # a card's name needs neither a parser of files nor the hub
    from txcalc.cards.checkpoint import Checkpoint
    from txcalc.cards.hub import Repository

_FILES: Final = (".json", ".yaml", ".yml")
_TENSORS: Final = (".safetensors", ".safetensors.index.json")
CONFIG: Final = "config.json"
WEIGHTS: Final = ("model.safetensors.index.json", "model.safetensors")  # the index first
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


class Source(Record):
    """What a name stands for: a card, weights beside it, or both.

    ``card`` is None where there are weights and nothing says which model they are. ``weights`` is the path of the
    file that lists them, or of a directory that holds it; ``hub`` the model whose weights are on the hub.
    """

    card: Card | None
    weights: str = ""
    opened: Checkpoint | None = None
    hub: Repository | None = None
    notes: tuple[str, ...] = ()

    def checkpoint(self) -> Checkpoint | None:
        """What the headers of the weights say; None where there are no weights.

        Raises:
            ModelError: a file that does not hold what it says; the hub's cannot be read.
        """
        if self.hub is not None:
            from txcalc.cards.hub import checkpoint_of_hub

            return checkpoint_of_hub(self.hub)
        if self.opened or not self.weights:
            return self.opened
        from txcalc.cards.checkpoint import open_checkpoint

        return open_checkpoint(self.weights)


def find_model(name: str) -> Card:
    """The card of a name, or one made of a path or hub id: a config.json, its directory, a card of one's own, GGUF.

    ``-`` is standard input, which holds either. A bare name is a card before it is a file; ``./name`` is always a file.

    Raises:
        ModelError: neither, or a file that cannot be read as either.
    """
    return require_card(find_source(name), name)


def require_card(source: Source, name: str) -> Card:
    """The card of a source.

    Raises:
        ModelError: there are only weights.
    """
    if source.card is None:
        what = "holds tensors, and nothing says of which model: there is no config.json beside it"
        raise ModelError(f"{named(name.strip())} {what}", f"txcalc params {named(name.strip())} tells what it holds")
    return source.card


def find_source(name: str) -> Source:
    """As ``find_model``, with the weights that lie beside a config, if any.

    Raises:
        ModelError: no such name or path, or a file that cannot be read.
    """
    if not isinstance(name, str):
        what = f"a model's name is {shown(name)[:60]}; expected a string"
        raise ModelError(what, "txcalc.architecture_of(config) reads a config that is at hand")
    text = name.strip()
    if not text:
        raise ModelError("the model's name is empty", _LIST)
    if text == "-":
        return Source(card=card_of(read_standard_input(), STANDARD_INPUT, name="config"))
    if _is_path(text):
        return read_source(os.path.expanduser(text))
    card = shipped().get(text)
    if card is not None:
        return Source(card=card)
    if _exists(text):
        return read_source(text)
    refuse_closed(text)
    if _HUB_ID.fullmatch(text) and not os.path.islink(text):
        return _on_hub(text)
    if os.sep in text or os.path.islink(text):
        raise ModelError(f"{named(text)} does not exist", "check the path, or name a model; " + _LIST)
    return Source(card=find(text))


def _on_hub(text: str) -> Source:
    """A model by its hub id."""
    from txcalc.cards.hub import config_of_hub, repository

    asked = repository(text)
    config, repo = config_of_hub(asked)
    _require_config(config, f"{text}: {CONFIG}")
    notes = (f"{asked.name} is {repo.name} on the hub now",) if repo.renamed else ()
    return Source(card=Card(name=repo.name, config=config, read_from=f"hub: {text}"), hub=repo, notes=notes)


def read_source(path: str) -> Source:
    """A card of one's own, a bare config.json as a card without published figures, or weights.

    Raises:
        ModelError: the path cannot be read, or holds none of them.
    """
    _refuse_pickles(path)
    lower = path.lower()
    if lower.endswith(".gguf"):
        return _gguf(path)
    if lower.endswith(_TENSORS):
        return _beside(path)
    if os.path.isdir(path):
        weights = path if any(os.path.exists(os.path.join(path, name)) for name in WEIGHTS) else ""
        if weights and not os.path.lexists(os.path.join(path, CONFIG)):
            return Source(card=None, weights=weights)
        return Source(card=read_card(_config_in(path)), weights=weights)
    return Source(card=read_card(path))


def read_card(path: str) -> Card:
    """The card that a file holds: one of one's own, or a bare config.json.

    Raises:
        ModelError: it is neither.
    """
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


def _beside(path: str) -> Source:
    """A file of tensors, and the config.json in its directory if there is one."""
    if not _exists(path):
        raise ModelError(f"{named(path)} does not exist", "check the path; " + _LIST)
    config = os.path.join(os.path.dirname(path), CONFIG)
    return Source(card=read_card(config) if os.path.lexists(config) else None, weights=path)


def _gguf(path: str) -> Source:
    """A GGUF file says itself which model it is."""
    from txcalc.cards.checkpoint import open_checkpoint

    return gguf_source(open_checkpoint(path))


def gguf_source(opened: Checkpoint) -> Source:
    """The model of a GGUF file that was opened.

    Raises:
        ModelError: an architecture that is not read.
    """
    from txcalc.configs.gguf import config_of

    try:
        config = config_of(opened.metadata, opened.tensors, factors=opened.factors)
    except ModelError as error:
        raise ModelError(f"{named(opened.where)}: {error.message}", error.hint) from None
    name = os.path.splitext(os.path.basename(opened.where))[0]
    return Source(card=Card(name=name, config=config, read_from=opened.where), weights=opened.where, opened=opened)


def _is_path(text: str) -> bool:
    """Whether ``text`` can only be a path, or is one with a separator that exists."""
    return (
        text.startswith((".", "~", os.sep))
        or text.endswith(os.sep)
        or text.lower().endswith((*_FILES, *_TENSORS, ".gguf", *_PICKLES))
        or (os.sep in text and _exists(text))
    )


def _exists(text: str) -> bool:
    try:
        return os.path.exists(text)
    except ValueError:  # a null byte
        return False


def _refuse_pickles(path: str) -> None:
    if os.path.splitext(path)[1].lower() in _PICKLES:
        raise ModelError(f"{path} is a pickle, which can run code and is never read", "name the model's config.json")


def _config_in(directory: str) -> str:
    path = os.path.join(directory, CONFIG)
    if os.path.lexists(path):
        return path
    try:
        files = sorted(os.listdir(directory))
    except OSError as error:
        raise unreadable(directory, error) from None
    others = [file for file in files if file.lower().endswith((*_FILES, ".gguf", ".safetensors"))]
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
    expected = "expected a config.json, or a model card with a config"
    hint = 'add "model_type": it says which architecture the fields are of' if "architectures" in data else expected
    raise ModelError(f"{path} has no model_type", hint)
