"""A team's limits on its models, in a file: each line a figure, where it is taken, and how large it may be.

    limits:                                       # of every model that is checked
    - params <= 8.1B
    - kv_cache.bytes_per_token <= 128KiB
    models:                                       # of one model: a card's name, or a path beside this file
      llama3-8b:
      - kv_cache at 32k batch 4 <= 16GiB

Formulas answer alone: no torch is needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from txcalc import units
from txcalc.architecture import Model
from txcalc.cards.files import EXPECTED, NOT_THERE, read_mapping
from txcalc.configs.reader import shown
from txcalc.errors import ModelError, UsageError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.memory import memory
from txcalc.formulas.params import params
from txcalc.measure.comparing import Verdict
from txcalc.record import Record
from txcalc.result import Node, Unit

_KEYS: Final = ("limits", "models")
_FILE: Final = "a file of limits is YAML or JSON, such as {limits: [params <= 8.1B]}"
_FORM: Final = "write it as params <= 8.1B, or kv_cache at 32k batch 4 <= 16GiB"
_LINE: Final = re.compile(
    r"(?P<figure>[A-Za-z_.]+)(?:\s+at\s+(?P<length>\S+))?(?:\s+batch\s+(?P<batch>\S+))?"
    r"\s*(?P<operator><=|>=|==|<|>)\s*(?P<value>\S.*)"
)
_HOLDS: Final[Mapping[str, Callable[[int | float, int], bool]]] = {
    "<=": lambda value, limit: value <= limit,
    ">=": lambda value, limit: value >= limit,
    "==": lambda value, limit: value == limit,
    "<": lambda value, limit: value < limit,
    ">": lambda value, limit: value > limit,
}
_SHORT: Final = {
    "params": "params.total",
    "kv_cache": "kv_cache.total_bytes",
    "memory": "memory.total",
    "flops": "flops.matmul",
}
_LENGTHS: Final = {"params": False, "kv_cache": True, "memory": True, "flops": True}
_ANY_LENGTH: Final = ("kv_cache.bytes_per_token", "kv_cache.state_bytes")
_DEFAULT_LENGTH: Final = 1  # of figures that no length changes


class Limit(Record):
    """One line of the file: ``figure`` at ``length`` tokens and ``batch`` sequences, held against ``value``."""

    text: str
    figure: str
    length: int | None
    batch: int
    operator: str
    value: str


class Held(Record):
    """A limit and a model: its figure in ``unit``, the limit in the same, and whether it is kept."""

    model: str
    limit: Limit
    unit: Unit
    value: int | float
    bound: int
    verdict: Verdict

    def sentence(self) -> str:
        """What to tell about it in one line."""
        over = self.value - self.bound
        return f"{self.limit.text}: it is {self.value:,}, the limit {self.bound:,} {self.unit}, {over:+,}"


class Limits(Record):
    """A file of limits: of every model, and of single ones in the file's order."""

    path: str
    every: tuple[Limit, ...]
    models: Mapping[str, tuple[Limit, ...]]


# ---- the file -------------------------------------------------------------------------------------------------------


def read_limits(path: str) -> Limits:
    """The limits that a YAML or JSON file holds.

    Raises:
        ModelError: the file cannot be read, or a key or a line of it.
    """
    try:
        data = read_mapping(path)
    except ModelError as error:  # what a config should be is of no help here
        raise ModelError(error.message, _FILE if error.hint in (EXPECTED, NOT_THERE) else error.hint) from None
    for key in data:
        if key not in _KEYS:
            near = get_close_matches(key[:60], _KEYS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(_KEYS)}"
            raise ModelError(f"{path}: {key[:60]} is not a key of a file of limits", hint)
    models = data.get("models", {})
    if not isinstance(models, dict):
        raise ModelError(f"{path}: models is {shown(models)}; expected an object", "models: {llama3-8b: [...]}")
    limits = Limits(
        path=path,
        every=_lines(data.get("limits", []), f"{path}: limits"),
        models={name: _lines(lines, f"{path}: models.{name}") for name, lines in models.items()},
    )
    if not limits.every and not any(limits.models.values()):
        raise ModelError(f"{path} holds no limit", _FORM)
    return limits


def _lines(lines: Any, where: str) -> tuple[Limit, ...]:
    if not isinstance(lines, list):
        raise ModelError(f"{where} is {shown(lines)}; expected a list of lines", _FORM)
    return tuple(_limit(line, f"{where}[{index}]") for index, line in enumerate(lines))


def _limit(line: Any, where: str) -> Limit:
    found = _LINE.fullmatch(line.strip()) if isinstance(line, str) else None
    if found is None:
        raise ModelError(f"{where} is {shown(line)}; expected a figure and a limit", _FORM)
    group = found["figure"].split(".")[0]
    if group not in _SHORT:
        near = get_close_matches(group, _SHORT, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else f"figures of {', '.join(_SHORT)} can be limited"
        raise ModelError(f"{where}: {found['figure'][:60]} is not a figure of a model", hint)
    figure = _SHORT.get(found["figure"], found["figure"])
    try:
        length = units.length(found["length"]) if found["length"] else None
        batch = units.positive(found["batch"]) if found["batch"] else 1
    except UsageError as error:
        raise ModelError(f"{where}: {error.message}", error.hint) from None
    return Limit(
        text=" ".join(line.split()),
        figure=figure,
        length=_checked_length(figure, length, found["batch"], where),
        batch=batch,
        operator=found["operator"],
        value=found["value"].strip(),
    )


def _checked_length(figure: str, length: int | None, batch: str | None, where: str) -> int | None:
    """Refuse a figure without the length that it depends on, and a length where it depends on none."""
    group = figure.split(".")[0]
    if not _LENGTHS[group] and (length is not None or batch):
        raise ModelError(f"{where}: {figure} depends on no length and no batch", f"write it as {group} <= 8.1B")
    if _LENGTHS[group] and length is None and figure not in _ANY_LENGTH:
        raise ModelError(f"{where}: {figure} depends on the length", f"write it as {figure} at 32k <= ...")
    return length


# ---- holding a model against them -----------------------------------------------------------------------------------


def hold(model: Model, limits: tuple[Limit, ...], path: str) -> list[Held]:
    """Each limit held against the model's own figure.

    Raises:
        ModelError: a figure that is not one, or a value of another unit.
        RequestError: a figure that this model has not, at a length or a batch that it cannot have.
    """
    return [_held(model, limit, path) for limit in limits]


def _held(model: Model, limit: Limit, path: str) -> Held:
    tree = _tree(model, limit)
    node = next((node for _, node in tree.walk() if node.key == limit.figure), None)
    if node is None:
        known = [key for key in tree.figures() if key.startswith(limit.figure.split(".")[0])]
        near = get_close_matches(limit.figure, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise ModelError(f"{path}: {limit.figure[:60]} is not a figure of {model.name}", hint)
    bound = _bound(limit, node, path)
    kept = _HOLDS[limit.operator](node.value, bound)
    return Held(
        model=model.name,
        limit=limit,
        unit=node.unit,
        value=node.value,
        bound=bound,
        verdict="passed" if kept else "failed",
    )


def _tree(model: Model, limit: Limit) -> Node:
    length = limit.length or _DEFAULT_LENGTH
    match limit.figure.split(".")[0]:
        case "params":
            return params(model)
        case "kv_cache":
            return kv_cache(model, ctx=length, batch=limit.batch)
        case "memory":
            return memory(model, ctx=length, batch=limit.batch)
        case _:
            return flops(model, seq=length, batch=limit.batch)


def _bound(limit: Limit, node: Node, path: str) -> int:
    """The limit's value in the unit of the figure."""
    try:
        if node.unit == "bytes":
            return units.memory(limit.value)
        return units.count(limit.value, f"a number of {node.unit}")
    except UsageError as error:
        raise ModelError(f"{path}: {limit.text}: {error.message}", error.hint) from None


def named_in(limits: Limits) -> list[str]:
    """The models that the file names, as ``find_model`` takes them: a path is one from the file's directory."""
    return [_beside(name, limits.path) for name in limits.models]


def of_model(limits: Limits, name: str) -> tuple[Limit, ...]:
    """Every limit of a model by the name that it was asked for."""
    own = [lines for key, lines in limits.models.items() if name in (key, _beside(key, limits.path))]
    return (*limits.every, *(limit for lines in own for limit in lines))


def _beside(name: str, path: str) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(path), name)) if name.startswith(".") else name
