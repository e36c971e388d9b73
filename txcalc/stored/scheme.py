"""What a quantisation method is: its settings as a config has them, and how it packs a matrix."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from txcalc.configs.reader import shown
from txcalc.errors import ModelError
from txcalc.record import Record

Shape = tuple[int, ...]
Entries = dict[str, tuple[str, Shape]]  # ending of a name -> (type, shape)

MAIN: Final = ".weight"


class Scheme(Record):
    """One method with its settings.

    ``pack``: a matrix [out, in] -> what is stored for it, by the ending that takes the place of ``.weight``;
    ``optional``: endings that files may have too. ``fills``: of what the last two axes must be multiples.
    ``excludes``: whether a module is left as it is. ``open``: what the config alone does not settle, so that stored
    bytes told from it are an estimate.
    """

    method: str
    pack: Callable[[Shape], Entries]
    optional: tuple[str, ...] = ()
    fills: tuple[int, int] = (1, 1)
    excludes: Callable[[str], bool] = lambda name: False
    open: tuple[str, ...] = ()
    stacked: bool = False  # whole stacks of experts are packed, and nothing else (mxfp4)
    head: bool = False  # the output matrix is packed too

    def endings(self) -> tuple[str, ...]:
        """Every ending that a packed weight's tensors may have, the longest first."""
        probe: Shape = (1, 1024, 1024) if self.stacked else (1024, 1024)
        return tuple(sorted({*self.pack(probe), *self.optional}, key=len, reverse=True))

    def fits(self, shape: Shape) -> bool:
        """Whether a matrix fills the containers and groups that it is packed in."""
        return all(size % each == 0 for size, each in zip(shape[-2:], self.fills, strict=True))

    @property
    def main(self) -> str:
        """What a plain weight's name ends in."""
        return "" if self.stacked else MAIN


class Settings:
    """The fields of a quantization_config, checked."""

    def __init__(self, found: Mapping[str, Any], path: str = "quantization_config") -> None:
        self.found, self.path = found, path

    def whole(self, key: str, default: int | None = None, *, among: Iterable[int] | None = None) -> int:
        """A whole number, or its default."""
        value = self.found.get(key, default)
        value = default if value is None else value
        if type(value) is not int or not -1 <= value <= 2**20 or (among and value not in among):
            raise ModelError(f"{self.path}: {key} is {shown(value)}; expected a whole number")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """true or false."""
        value = self.found.get(key, default)
        if value is not None and not isinstance(value, bool):
            raise ModelError(f"{self.path}: {key} is {shown(value)}; expected true or false")
        return bool(value)

    def text(self, key: str, default: str = "") -> str:
        """A word; its default where there is none."""
        value = self.found.get(key, default)
        return value if isinstance(value, str) else default

    def texts(self, key: str) -> list[str]:
        """A list of names; empty where there is none."""
        value = self.found.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ModelError(f"{self.path}: {key} is {shown(value)}; expected a list of names")
        return value

    def inner(self, key: str) -> Settings | None:
        """A nested object, None where there is none."""
        value = self.found.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise ModelError(f"{self.path}: {key} is {shown(value)}; expected an object")
        return Settings(value, f"{self.path}.{key}")


# ---- which modules are left as they are -----------------------------------------------------------------------------

_LONGEST: Final = 300
_PLAIN: Final = re.compile(r"[\w.-]+")
_COSTLY: Final = re.compile(r"\)[+*{]|(?:[+*{].*){3}")  # repeated groups and many repetitions may take for ever


def _compiled(pattern: str, ending: str = "") -> re.Pattern[str]:
    """A pattern of a config, which somebody else wrote.

    Raises:
        ModelError: none, or one that could run for ever.
    """
    if len(pattern) <= _LONGEST and not _COSTLY.search(pattern):
        try:
            return re.compile(f"(?:{pattern}){ending}")
        except re.error:
            pass
    raise ModelError(f"quantization_config: pattern {shown(pattern)} is not read", "write it simpler")


def not_converted(patterns: list[str]) -> Callable[[str], bool]:
    """As transformers compares: a module or what is above it, a regex that ends with a part, or any ending."""
    plain = {each for each in patterns if _PLAIN.fullmatch(each)}
    endings = tuple(patterns)
    matchers = [_compiled(each, r"(?:(?<=\.)|(?=\.|$))") for each in patterns if each not in plain]

    def excludes(name: str) -> bool:
        if name.endswith(endings):
            return True
        parts = name.split(".")
        above = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
        return any(each in plain for each in above) or any(matcher.match(name) for matcher in matchers)

    return excludes


def ignored(patterns: list[str]) -> Callable[[str], bool]:
    """As compressed-tensors compares: the whole name, or a regex after ``re:``."""
    exact = {each for each in patterns if not each.startswith("re:")}
    matchers = [_compiled(each[3:]) for each in patterns if each.startswith("re:")]
    return lambda name: name in exact or any(matcher.match(name) for matcher in matchers)


def two_sizes(value: object) -> tuple[int, int]:
    """The two sizes of a block."""
    if isinstance(value, list) and len(value) == 2 and all(type(each) is int and each > 0 for each in value):
        return value[0], value[1]
    raise ModelError(f"quantization_config: a block of {shown(value)}; expected two whole numbers")
