"""Hands out a config's fields, checks them, and remembers which were read.

What nobody asked for is what the adapter did not understand: ``unread()`` names it, and the result is then
``estimated``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from txcalc.configs.inert import INERT, OFF
from txcalc.errors import ModelError

MAX_SIZE: Final = 2**40  # no width, vocabulary or length comes near; keeps products printable
MAX_LAYERS: Final = 100_000

_MISSING: Final = object()


class Reader:
    """One level of a config: its fields under the type's own names or the standard spelling.

    ``defaults`` are the type's published values for fields that a config leaves out, ``origin`` says where they were
    read. ``aliases`` maps the standard spelling to the type's own (``num_hidden_layers`` to GPT-2's ``n_layer``).
    ``null`` in a config is a value (None), not a missing field.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        defaults: Mapping[str, Any],
        origin: str,
        aliases: Mapping[str, str] | None = None,
        path: str = "",
    ) -> None:
        self.config = config
        self.defaults = defaults
        self.origin = origin
        self.aliases = aliases or {}
        self._standard = {own: standard for standard, own in self.aliases.items()}
        self.path = path
        self.model_type = str(config.get("model_type", ""))
        self.rounds_heads = False  # the type's head_dim is hidden_size // heads even where that does not divide
        self.reasons: list[str] = []
        self.notes: list[str] = []
        self._read: set[str] = {"model_type"}
        self._assumed: dict[str, Any] = {}
        self._nested: list[Reader] = []

    # ---- fields -------------------------------------------------------------------------------------------------

    def raw(self, name: str) -> Any:
        """The value as it stands in the config, else the type's default.

        Raises:
            ModelError: missing, and the type has no default; or given twice with two values.
        """
        own, other = self._spellings(name)
        self._read.add(own)
        value = self.config.get(own, _MISSING)
        if own == other and value is not _MISSING:
            return value
        self._read.add(other)
        standard = self.config.get(other, _MISSING)
        if value is _MISSING or (value is None and standard is not _MISSING):
            value = standard
        elif own != other and standard is not _MISSING and standard != value:
            what = f"{other} is {shown(standard)} and {own} is {shown(value)}: two names of one field"
            raise ModelError(self.path + what, "remove one")
        if value is not _MISSING:
            return value
        default = self.defaults.get(own, self.defaults.get(name, _MISSING))
        if default is _MISSING:
            raise self.error(name, "is missing and this type has no default for it", f"add {name} to the config")
        self._assumed[own if own in self.defaults else name] = default
        return default

    def has(self, name: str) -> bool:
        """Whether the config itself (not the defaults) holds the field, null included."""
        own, other = self._spellings(name)
        return own in self.config or other in self.config

    def _spellings(self, name: str) -> tuple[str, str]:
        """(the type's own name, the standard one) of a field, whichever was given; twice the same where it has one."""
        if not self.aliases:
            return name, name
        own = self.aliases.get(name, name)
        return own, self._standard.get(own, own) if own == name else name

    def integer(self, name: str, *, minimum: int = 1, maximum: int = MAX_SIZE) -> int:
        """A whole number within bounds."""
        return self._int(name, self.raw(name), minimum, maximum)

    def whole(self, name: str, value: Any, *, maximum: int) -> int:
        """A whole number from 0 that was found elsewhere, ``name`` being its field."""
        return self._int(name, value, 0, maximum)

    def optional_integer(self, name: str, *, minimum: int = 1) -> int | None:
        """A whole number, or None for null."""
        value = self.raw(name)
        return None if value is None else self._int(name, value, minimum, MAX_SIZE)

    def layers(self, name: str = "num_hidden_layers") -> int:
        """A number of layers."""
        return self.integer(name, maximum=MAX_LAYERS)

    def flag(self, name: str) -> bool:
        """true or false."""
        value = self.raw(name)
        if not isinstance(value, bool):
            raise self.error(name, f"is {shown(value)}; expected true or false")
        return value

    def number(self, name: str) -> float:
        """A finite number."""
        return self._float(name, self.raw(name))

    def optional_number(self, name: str) -> float | None:
        """A finite number, or None for null."""
        value = self.raw(name)
        return None if value is None else self._float(name, value)

    def text(self, name: str) -> str:
        """A string."""
        value = self.raw(name)
        if not isinstance(value, str):
            raise self.error(name, f"is {shown(value)}; expected a string")
        return value

    def optional_text(self, name: str) -> str | None:
        """A string, or None for null."""
        return None if self.raw(name) is None else self.text(name)

    def integers(self, name: str, *, length: int | None = None, minimum: int = 0) -> list[int]:
        """A list of whole numbers; null is the empty list."""
        return [self._int(name, item, minimum, MAX_SIZE) for item in self._list(name, length)]

    def numbers(self, name: str, *, length: int | None = None) -> list[float]:
        """A list of finite numbers, null among them being 0."""
        return [0.0 if item is None else self._float(name, item) for item in self._list(name, length)]

    def texts(self, name: str, *, length: int | None = None) -> list[str]:
        """A list of strings; null is the empty list."""
        items = self._list(name, length)
        for item in items:
            if not isinstance(item, str):
                raise self.error(name, f"holds {shown(item)}; expected strings")
        return items

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """A string out of a fixed set."""
        value = self.text(name)
        if value not in choices:
            raise self.error(name, f"is {value!r}; known values: {', '.join(choices)}")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A nested object; null and missing are the empty one."""
        value = self.raw(name) if self.has(name) or name in self.defaults else None
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.error(name, f"is {shown(value)}; expected an object")
        return value

    def nested(self, name: str, *, defaults: Mapping[str, Any], aliases: Mapping[str, str] | None = None) -> Reader:
        """A reader for a nested config such as ``text_config``; its unread keys count with ours."""
        inner = Reader(
            self.mapping(name), defaults=defaults, origin=self.origin, aliases=aliases, path=f"{self.path}{name}."
        )
        self._nested.append(inner)
        return inner

    def ignore(self, *names: str) -> None:
        """Fields that this type carries and that do not bear on any figure."""
        self._read.update(names)

    def unused(self, name: str, *harmless: Any) -> None:
        """A key that configs of this type carry and transformers does not read: fine if ``harmless``, else a reason.

        ``harmless`` are the values that say what is built anyway.
        """
        self._read.add(name)
        value = self.config.get(name, harmless[0])
        if value not in harmless:
            self.reasons.append(f"{self.path}{name} = {shown(value)}: transformers reads no such key in this type")

    # ---- what was not understood --------------------------------------------------------------------------------

    def unread(self) -> list[str]:
        """Keys that nobody read and that are not known to be without bearing, nested ones with their path."""
        own = [self.path + key for key in self.config if key not in self._read and not self._inert(key)]
        return own + [key for inner in self._nested for key in inner.unread()]

    def _inert(self, key: str) -> bool:
        return key in INERT or (key in OFF and self.config[key] is OFF[key])

    def known(self) -> set[str]:
        """Every key that the config holds or that this type may carry, nested ones with their path."""
        own = {self.path + key for key in (*self.config, *self.defaults, *self.aliases, *self._read)}
        return own.union(*(inner.known() for inner in self._nested))

    def all_reasons(self) -> list[str]:
        """Why the result is an estimate: what adapters said, and every unread key."""
        nested = [reason for inner in self._nested for reason in inner.reasons]
        unread = [f"{key} = {shown(self._lookup(key))}: not a field that txcalc knows" for key in self.unread()]
        return [*self.reasons, *nested, *unread]

    def all_notes(self) -> list[str]:
        """Remarks of the adapters that leave the figures exact."""
        return [*self.notes, *(note for inner in self._nested for note in inner.all_notes())]

    def assumed(self) -> list[tuple[str, str, str]]:
        """Fields taken from the type's defaults: (key, value, origin)."""
        own = [(self.path + key, shown(value), self.origin) for key, value in self._assumed.items()]
        return own + [entry for inner in self._nested for entry in inner.assumed()]

    def error(self, name: str, what: str, hint: str = "") -> ModelError:
        """The error for a field, with its full path."""
        own = self.aliases.get(name, name)
        return ModelError(f"{self.path}{own if own in self.config else name} {what}", hint)

    def _lookup(self, path: str) -> Any:
        value: Any = self.config
        for key in path.removeprefix(self.path).split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def _list(self, name: str, length: int | None) -> list[Any]:
        value = self.raw(name)
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            raise self.error(name, f"is {shown(value)}; expected a list")
        if length is not None and len(value) != length:
            raise self.error(
                name, f"has {len(value)} entries for {length} layers", f"give {length} entries, or drop it"
            )
        return list(value)

    def _int(self, name: str, value: Any, minimum: int, maximum: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(name, f"is {shown(value)}; expected a whole number")
        if not minimum <= value <= maximum:
            raise self.error(name, f"is {shown(value)}; expected {minimum:,} to {maximum:,}")
        return value

    def _float(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(name, f"is {shown(value)}; expected a number")
        if value != value or abs(value) > 1e300:
            raise self.error(name, f"is {value!r}; expected a finite number")
        return float(value)


def shown(value: Any) -> str:
    """A value for an error message, kept short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**30 else f"a number of about {len(hex(value)) * 1.204:.0f} digits"
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def unreachable(value: NoReturn) -> NoReturn:
    """Marks a ``match`` as complete: the type checker proves that nothing gets here."""
    raise AssertionError(f"unhandled kind: {value!r}")
