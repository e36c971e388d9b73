"""A model card: one model's own config, where it was read, and what was published about its size."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from txcalc.configs.reader import shown
from txcalc.errors import ModelError
from txcalc.record import Record


class Published(Record):
    """A figure that somebody published, and how it relates to the exact one.

    ``relation`` is ``exact``; or ``rounded``, and then ``rounded_to`` is the unit it was rounded to; or a sentence that
    explains ``difference``, published less computed.
    """

    figure: str
    value: int
    source: str
    relation: str
    difference: int = 0
    rounded_to: int = 0

    def agrees(self, computed: int) -> bool:
        """Whether the computed figure is the published one, allowing for what ``relation`` says."""
        distance = self.value - computed
        return 2 * abs(distance) <= self.rounded_to if self.relation == "rounded" else distance == self.difference


class Card(Record):
    """One model. ``config`` is in the spelling of its own config.json, only fields that bear on the model."""

    name: str
    config: Mapping[str, Any]
    title: str = ""
    family: str = ""
    publisher: str = ""
    released: str = ""
    licence: str = ""
    aliases: tuple[str, ...] = ()
    context_length: int | None = None
    read_from: str = ""
    published: tuple[Published, ...] = ()
    notes: str = ""


_TEXTS: Final = ("name", "title", "family", "publisher", "released", "licence", "read_from", "notes")
_OPTIONAL: Final = ("notes", "aliases", "published", "context_length")  # even on a card that is shipped
_PUBLISHED_REQUIRED: Final = ["figure", "value", "source", "relation"]


def card_from(data: Mapping[str, Any], where: str, *, name: str = "", complete: bool = False) -> Card:
    """The card that a file holds. ``name`` stands in for one that is missing; ``complete`` asks for every field.

    Raises:
        ModelError: an unknown, missing or ill-typed key; names ``where`` and the key.
    """
    _require_known(data, Card.__fields__, where, "")
    given = {"name": name, **data} if name else dict(data)
    required = [key for key in Card.__fields__ if key not in _OPTIONAL] if complete else ["name", "config"]
    _require_present(given, required, where, "")
    fields = {key: _text(given, key, where, "") for key in _TEXTS if key in given}
    config = given["config"]
    if not isinstance(config, Mapping):
        raise _wrong(where, "config", config, "an object: the model's config.json")
    entries = enumerate(_list(given, "published", where))
    return Card(
        **fields,
        config=config,
        aliases=tuple(_strings(given, "aliases", where)),
        context_length=_context_length(given, where),
        published=tuple(_published(entry, where, f"published[{index}].") for index, entry in entries),
    )


def plain(card: Card) -> dict[str, Any]:
    """The card as its file would hold it; ``card_from`` turns it back."""
    fields = {key: value for key, value in card.all_fields().items() if value not in ("", (), None)}
    fields["config"] = dict(card.config)
    fields["aliases"] = list(card.aliases)
    fields["published"] = [
        {key: value for key, value in entry.all_fields().items() if value not in ("", 0)} for entry in card.published
    ]
    return fields


def _published(entry: Any, where: str, path: str) -> Published:
    if not isinstance(entry, Mapping):
        raise _wrong(where, path.rstrip("."), entry, "an object with figure, value, source and relation")
    _require_known(entry, Published.__fields__, where, path)
    _require_present(entry, _PUBLISHED_REQUIRED, where, path)
    relation = _text(entry, "relation", where, path)
    _require_explained(entry, relation, where, path)
    return Published(
        figure=_text(entry, "figure", where, path),
        value=_integer(entry, "value", where, path),
        source=_text(entry, "source", where, path),
        relation=relation,
        difference=_integer({"difference": 0, **entry}, "difference", where, path),
        rounded_to=_integer({"rounded_to": 0, **entry}, "rounded_to", where, path),
    )


def _require_explained(entry: Mapping[str, Any], relation: str, where: str, path: str) -> None:
    needed = {"exact": "", "rounded": "rounded_to"}.get(relation, "difference")
    for key in ("difference", "rounded_to"):
        if (key in entry) != (key == needed):
            what = "is missing" if key == needed else "does not go"
            raise ModelError(f"{where}: {path}{key} {what} with relation {shown(relation)}", _RELATIONS)


_RELATIONS: Final = "relation is exact; rounded, with rounded_to; or a sentence, with the difference that it explains"


# ---- fields ---------------------------------------------------------------------------------------------------------


def _require_known(data: Mapping[str, Any], known: tuple[str, ...], where: str, path: str) -> None:
    for key in data:
        if key not in known:
            near = get_close_matches(key[:60], known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
            raise ModelError(f"{where}: {path}{key[:60]} is not a key of a card", hint)


def _require_present(data: Mapping[str, Any], required: list[str], where: str, path: str) -> None:
    for key in required:
        if key not in data:
            raise ModelError(f"{where}: {path}{key} is missing", "txcalc cards show llama3-8b shows a complete card")


def _text(data: Mapping[str, Any], key: str, where: str, path: str) -> str:
    value = data[key]
    if not isinstance(value, str) or not value.strip():
        raise _wrong(where, path + key, value, "a text")
    return value.strip()


def _integer(data: Mapping[str, Any], key: str, where: str, path: str) -> int:
    value = data[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(where, path + key, value, "a whole number")
    return value


def _context_length(data: Mapping[str, Any], where: str) -> int | None:
    if data.get("context_length") is None:
        return None
    value = _integer(data, "context_length", where, "")
    if value < 1:
        raise _wrong(where, "context_length", value, "a positive number of tokens")
    return value


def _list(data: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = data.get(key, [])
    if not isinstance(value, list):
        raise _wrong(where, key, value, "a list")
    return value


def _strings(data: Mapping[str, Any], key: str, where: str) -> list[str]:
    values = _list(data, key, where)
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise _wrong(where, key, value, "a list of names")
    return values


def _wrong(where: str, key: str, value: Any, expected: str) -> ModelError:
    return ModelError(f"{where}: {key} is {shown(value)}; expected {expected}")
