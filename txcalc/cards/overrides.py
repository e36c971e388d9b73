"""``--set KEY=VALUE``: what-ifs on a config before it is read.

A key is the config's own or the standard spelling; dots reach into nested objects, and a bare standard key of a model
with a ``text_config`` reaches that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from txcalc.configs.reader import shown
from txcalc.configs.registry import MODULE_OF, ModelType, type_of
from txcalc.errors import ModelError, UsageError
from txcalc.units import length

_TEXT: Final = "text_config"
_LONGEST_KEY: Final = 120
_SIZE: Final = re.compile(r"[0-9]{1,12}[kKmM]")
_FORMS: Final = "a value is a number, 32k, true, false, null, a word, or JSON such as [1, 2]"


def with_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A config with fields changed, and the keys that were set, with their path.

    Texts are read as ``parse_value`` does. The given config is left as it is.

    Raises:
        ModelError: a path into something that is not an object.
        UsageError: a value that cannot be read.
    """
    changed, paths = dict(config), []
    for key, value in overrides.items():
        if len(key) > _LONGEST_KEY:
            raise UsageError(f"--set {key[:40]}...: no field has a name of {len(key):,} characters", _FORMS)
        parsed = parse_value(key, value) if isinstance(value, str) else value
        path = _locate(changed, key)
        _put(changed, path, parsed)
        paths.append(".".join(path))
    return changed, paths


def parse_value(key: str, text: str) -> Any:
    """``16``, ``1e-5``, ``true``, ``null``, ``"gelu"`` or ``gelu``, ``[1, 2]``, ``{"a": 1}``; ``32k`` is 32,768.

    Raises:
        UsageError: JSON that is broken, or a number that is not finite.
    """
    if _SIZE.fullmatch(text):
        return length(text)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if text[:1] in ('"', "[", "{") or not text.strip():
            raise UsageError(f"--set {key}: {shown(text)} is not a value: {error.msg}", _FORMS) from None
        return text
    except (ValueError, RecursionError):  # thousands of digits, thousands of brackets
        raise UsageError(f"--set {key}: a value of {len(text):,} characters is not one of a config", _FORMS) from None
    if isinstance(value, float) and value - value != 0:
        raise UsageError(f"--set {key}: {shown(text)} is not a finite number", _FORMS)
    return value


# ---- where a key stands ---------------------------------------------------------------------------------------------


def _locate(config: Mapping[str, Any], key: str) -> list[str]:
    """The path of a key: as it is spelt in this config."""
    head, dot, rest = key.partition(".")
    if dot and key not in config:
        inner = _inner(config, head, key)
        if rest not in inner and not head.endswith("_config"):
            near = get_close_matches(rest, inner, n=3, cutoff=0.5)
            hint = f"it holds {', '.join(near or inner)}" if inner else f"set {head} as a whole, as JSON"
            raise ModelError(f"{head} has no {rest}", hint)
        return [head, *_locate(inner, rest)]
    spelt = _spelling(config, key)
    if spelt is None and isinstance(config.get(_TEXT), Mapping):
        return [_TEXT, *_locate(config[_TEXT], key)]
    return [spelt or key]


def _inner(config: Mapping[str, Any], head: str, key: str) -> Mapping[str, Any]:
    inner = config.get(head)
    if inner is None and head.endswith("_config"):
        return {}
    if not isinstance(inner, Mapping):
        what = f"is {shown(inner)}, not an object" if head in config else "is not in the config"
        near = get_close_matches(head, [name for name in config if isinstance(config[name], Mapping)], n=3, cutoff=0.5)
        raise ModelError(f"--set {key}: {head} {what}", f"did you mean {', '.join(near)}?" if near else "")
    return inner


def _spelling(config: Mapping[str, Any], key: str) -> str | None:
    """The key as this level of the config spells it, or None where it knows no such key."""
    kind = _kind(config)
    own = kind.aliases.get(key, key) if kind else key
    if own in config or key in config:
        return own if own in config else key
    return own if kind and (key in kind.aliases or own in kind.defaults or key in kind.defaults) else None


def _kind(config: Mapping[str, Any]) -> ModelType | None:
    model_type = config.get("model_type")
    return type_of(model_type) if isinstance(model_type, str) and model_type in MODULE_OF else None


def _put(config: dict[str, Any], path: list[str], value: Any) -> None:
    """Sets a value; objects on the way are copied, for they belong to the card."""
    for name in path[:-1]:
        config[name] = dict(config.get(name) or {})
        config = config[name]
    config[path[-1]] = value
