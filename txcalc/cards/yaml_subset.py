"""YAML as JSON's data model, built from PyYAML's events: no tags, no anchors, no aliases, no duplicate keys.

PyYAML's own constructors follow YAML 1.1 (``no`` is false, ``1e-5`` is a string, ``010`` is eight) and expand aliases,
which lets a few lines stand for gigabytes. Reading events needs neither.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

_PARSER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_NUMBER: Final = re.compile(
    r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9]+(?:[eE][-+]?[0-9]+)?"
)
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: Final = {"": None, "~": None, "null": None, "true": True, "false": False}


class SubsetError(Exception):
    """Text that is not YAML, or YAML beyond the subset: ``what`` follows the file's name."""

    def __init__(self, what: str, hint: str = "write it as plain YAML or JSON") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class _Open:
    """A mapping or list that is being filled."""

    def __init__(self, *, is_mapping: bool) -> None:
        self.value: Any = {} if is_mapping else []
        self.is_mapping = is_mapping
        self.key: str | None = None

    def add(self, value: Any, event: Any) -> None:
        if not self.is_mapping:
            self.value.append(value)
        elif self.key is None:
            self.key = _key(value, event)
            if self.key in self.value:
                raise SubsetError(f'gives "{self.key}" twice, in {_line(event)}', "remove one")
        else:
            self.value[self.key] = value
            self.key = None


def load(text: str, *, max_depth: int) -> Any:
    """The one document in ``text``.

    Raises:
        SubsetError: not YAML, or beyond the subset.
    """
    try:
        return _build(text, max_depth)
    except yaml.MarkedYAMLError as error:
        where = f" at {_line(error)}" if error.problem_mark else ""
        if "nesting" in str(error.problem):  # newer libyaml counts too, and looks ahead of the events
            raise SubsetError(f"is nested more than {max_depth} levels deep{where}") from None
        raise SubsetError(f"is not YAML: {error.problem}{where}") from None
    except yaml.YAMLError as error:
        raise SubsetError(f"is not YAML: {str(error).splitlines()[0]}") from None


def _build(text: str, max_depth: int) -> Any:
    root = _Open(is_mapping=False)
    stack = [root]
    for event in yaml.parse(text, Loader=_PARSER):
        _refuse_indirection(event)
        if isinstance(event, yaml.ScalarEvent):
            open_now = stack[-1]
            awaits_key = open_now.is_mapping and open_now.key is None
            open_now.add(event.value if awaits_key else _scalar(event), event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            inner = _Open(is_mapping=isinstance(event, yaml.MappingStartEvent))
            stack[-1].add(inner.value, event)
            stack.append(inner)
            if len(stack) > max_depth:
                raise SubsetError(f"is nested more than {max_depth} levels deep, in {_line(event)}")
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            stack.pop()
    if len(root.value) > 1:
        raise SubsetError("holds several documents", "keep one")
    return root.value[0] if root.value else None


def _refuse_indirection(event: Any) -> None:
    """Aliases can recurse and multiply; tags can name code. A description of a model needs neither."""
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise SubsetError(f"uses a YAML anchor or alias, in {_line(event)}", "write the value out in both places")
    if getattr(event, "tag", None):
        raise SubsetError(f"uses the YAML tag {event.tag[:60]}, in {_line(event)}")


def _key(value: Any, event: Any) -> str:
    if not isinstance(value, str):
        raise SubsetError(f"has a key that is not a string, in {_line(event)}")
    return value


def _scalar(event: Any) -> Any:
    text: str = event.value
    if not event.implicit[0]:  # quoted, or a block of text
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else text


def _line(event: Any) -> str:
    mark = getattr(event, "start_mark", None) or event.problem_mark
    return f"line {mark.line + 1}"
