"""Reads JSON and YAML that somebody else wrote: bounded in size and depth, never executed, one clear error.

YAML is read as the subset that JSON has: no anchors, aliases or tags, strings such as ``no`` stay strings, and
``1e-5`` is a number.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from txcalc.configs.reader import shown
from txcalc.errors import ModelError

MAX_BYTES: Final = {False: 8 * 10**6, True: 10**6}  # of JSON, of YAML: a second or two to read at worst
STANDARD_INPUT: Final = "standard input"
MAX_DEPTH: Final = 32
MAX_INTEGER: Final = 10**100
_ENDLESS: Final = re.compile(r"(?<![0-9])[0-9]{4000}")  # int() of many digits takes forever, or is refused by Python
_YAML: Final = (".yaml", ".yml")
_INFINITE_ALLOWED: Final = ("time_step_limit",)  # Mamba-2 configs are published with [0.0, Infinity]
EXPECTED: Final = "expected a Hugging Face config.json, or a model card with a config"
NOT_THERE: Final = "check the path; txcalc cards lists models known by name"


def read_mapping(path: str, *, limit: int | None = None) -> dict[str, Any]:
    """The object that a .json, .yaml or .yml file holds; ``limit``: bytes, where it may be larger than a config.

    Raises:
        ModelError: no such file, no ordinary file, too large, not text, not JSON or YAML, or not an object.
    """
    return mapping_of(read_text(path, limit=limit), path, yaml=_is_yaml(path))


def read_standard_input() -> dict[str, Any]:
    """The object that standard input holds: JSON, or YAML where it does not begin with a brace.

    Raises:
        ModelError: as ``read_mapping``.
    """
    limit = MAX_BYTES[False]
    content = sys.stdin.buffer.read(limit + 1) if sys.stdin is not None else b""
    text = _decoded(content, limit, STANDARD_INPUT)
    return mapping_of(text, STANDARD_INPUT, yaml=not text.lstrip().startswith(("{", "[")))


def mapping_of(text: str, path: str, *, yaml: bool) -> dict[str, Any]:
    """The object that a text holds; ``path`` names it in errors.

    Raises:
        ModelError: as ``read_mapping``.
    """
    if not text.strip():
        raise ModelError(f"{path} is empty", EXPECTED)
    if _ENDLESS.search(text):
        raise _too_large(path)
    if yaml and len(text) > MAX_BYTES[True]:
        raise ModelError(f"{path} is larger than {MAX_BYTES[True] // 10**6} MB", "a config.json is a few kilobytes")
    data = _from_yaml(text, path) if yaml else _from_json(text, path)
    if not isinstance(data, dict):
        raise ModelError(f"{path} holds {_kind(data)}, not an object", EXPECTED)
    _require_sane(data, path)
    return data


def read_text(path: str, *, limit: int | None = None) -> str:
    """The text of an ordinary file in UTF-8 that is no larger than any config, or than ``limit``.

    Raises:
        ModelError: as ``read_mapping``.
    """
    limit = limit or MAX_BYTES[_is_yaml(path)]
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path} is {_file_kind(status.st_mode)}, not an ordinary file", "name a file")
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    return _decoded(content, limit, path)


def _decoded(content: bytes, limit: int, path: str) -> str:
    if len(content) > limit:
        raise ModelError(f"{path} is larger than {limit // 10**6} MB", "a config.json is a few kilobytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not UTF-8 text (byte {error.start:,})", EXPECTED) from None


def unreadable(path: str, error: OSError | ValueError) -> ModelError:
    """What to tell about a path that the system would not open."""
    if isinstance(error, FileNotFoundError):
        return ModelError(f"{named(path)} does not exist", NOT_THERE)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ModelError(f"{named(path)} cannot be read: {reason}", "check the path and its permissions")


def named(path: str) -> str:
    """A path for an error message: in full unless it is absurd."""
    text = path if path.isprintable() else repr(path)
    return text if len(text) <= 250 else f"{text[:100]}...{text[-100:]}"


def _is_yaml(path: str) -> bool:
    return path.lower().endswith(_YAML)


def _file_kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else shown(value)


# ---- JSON -----------------------------------------------------------------------------------------------------------


def _from_json(text: str, path: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            names = [name for name, _ in pairs]
            _refuse_twice(next(name for name in names if names.count(name) > 1), path)
        return made

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ModelError(f"{path} is not JSON: {_where(text, error)}", EXPECTED) from None
    except RecursionError:
        raise _too_deep(path) from None


def _where(text: str, error: json.JSONDecodeError) -> str:
    if error.pos >= len(text.rstrip()):
        return f"it ends too early, in line {error.lineno}"
    what = error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
    return f"{what} at line {error.lineno}, column {error.colno}"


def _too_large(path: str) -> ModelError:
    return ModelError(f"{path} holds a whole number of more than 100 digits", "no field of a model is so large")


def _refuse_twice(name: str, path: str) -> NoReturn:
    raise ModelError(f"{path} gives {shown(name)} twice", "remove one")


def _too_deep(path: str) -> ModelError:
    return ModelError(f"{path} is nested more than {MAX_DEPTH} levels deep", EXPECTED)


# ---- YAML -----------------------------------------------------------------------------------------------------------


def _from_yaml(text: str, path: str) -> Any:
    from txcalc.cards import yaml_subset  # here: PyYAML alone costs more than everything else a command does

    try:
        return yaml_subset.load(text, max_depth=MAX_DEPTH)
    except yaml_subset.SubsetError as error:
        raise ModelError(f"{path} {error.what}", error.hint) from None


# ---- what was read --------------------------------------------------------------------------------------------------


def _require_sane(data: Mapping[str, Any], path: str) -> None:
    """Refuses numbers that no model has, by key, and nesting that later code could not walk."""
    waiting: list[tuple[str, Any, int]] = [("", data, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _too_deep(path)
        pairs = value.items() if isinstance(value, dict) else ((None, item) for item in value)
        for key, inner in pairs:
            where = name if key is None else f"{name}.{key}" if name else key
            if isinstance(inner, dict | list):
                waiting.append((where, inner, depth + 1))
            elif isinstance(inner, float):
                _require_finite(inner, where, path)
            elif isinstance(inner, int) and abs(inner) > MAX_INTEGER:
                raise _too_large(path)


def _require_finite(value: float, name: str, path: str) -> None:
    if value - value != 0 and name.rpartition(".")[2] not in _INFINITE_ALLOWED:
        raise ModelError(f"{path}: {name} is {value}; expected a finite number", "correct the file")
