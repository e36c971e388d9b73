"""Weights from a checkpoint into a model, and back: every tensor accounted for, by name.

A checkpoint is any mapping of names to tensors: a state dict, or a file that is read as it is asked for (``open_``
functions of ``checkpoints``). The names of each model type stand in ``names``, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from math import prod
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from txcalc import architecture as arch
from txcalc.errors import RequestError
from txcalc.reference.checkpoints import shape_of
from txcalc.reference.model import Transformer
from txcalc.reference.names import table_of
from txcalc.reference.names.table import Source, Table, sources
from txcalc.reference.parts import Part, parts, shared

# Rates and biases that are used in fp32 whatever the model's dtype: a checkpoint's own dtype is kept.
_KEPT: Final = ("A_log", "D_skip", "dt_bias", "correction")
_SHOWN: Final = 4


def load_state_dict_from(
    model: Transformer, architecture: arch.Model, state: Mapping[str, Tensor], table: Table | None = None
) -> Transformer:
    """Fill ``model`` from a checkpoint in the spelling of its type, and return it.

    Parameters on the meta device become the checkpoint's own tensors, memory-mapped ones included, in the dtype of the
    model; others are written in place. ``table``: the names, where they are not those of the type (GGUF).

    Raises:
        RequestError: tensors that are missing, left over, of the wrong shape, or unlike where they must be equal; all
            are named, and nothing was changed.
    """
    plan = _Plan(model, architecture, table or table_of(architecture))
    keys = plan.keys_in(state)
    _refuse(architecture, plan.missing(keys), plan.surplus(state, keys), plan.misshapen(state, keys))
    _refuse(architecture, unlike=plan.unlike(state, keys))
    for ways in plan.groups:
        way = plan.present(ways, keys)[0]
        for name, value in zip(way.ours, _read(way, state, keys), strict=True):
            _put(model, plan.parts[name].path, value)
    return model


class Fit(NamedTuple):
    """How a checkpoint fits a model, told by names and shapes alone.

    ``faults``: tensors that are missing, left over or of the wrong shape, by that word. ``num_params``: the elements of
    the model's parameters as the checkpoint holds them, each once, buffers and second copies apart.
    """

    faults: dict[str, list[str]]
    num_params: int


def fit_of(
    model: Transformer, architecture: arch.Model, state: Mapping[str, Tensor], table: Table | None = None
) -> Fit:
    """Hold a checkpoint's tensors against a model without reading or changing one."""
    plan = _Plan(model, architecture, table or table_of(architecture))
    keys = plan.keys_in(state)
    faults = {
        "missing": plan.missing(keys),
        "left over": plan.surplus(state, keys),
        "of the wrong shape": plan.misshapen(state, keys),
    }
    buffers = dict(model.named_buffers())
    held = [plan.present(ways, keys) for ways in plan.groups if plan.parts[ways[0].ours[0]].path not in buffers]
    names = [keys[name] for ways in held for name in (ways[0].theirs if ways else ())]
    return Fit({what: found for what, found in faults.items() if found}, sum(prod(shape_of(state, n)) for n in names))


def to_checkpoint(model: Transformer, table: Table | None = None) -> dict[str, Tensor]:
    """The model's tensors under the names and in the layout of its type's checkpoints; tied ones once."""
    plan = _Plan(model, model.model, table or table_of(model.model))
    state = model.state_dict()
    written: dict[str, Tensor] = {}
    for ways in plan.groups:
        first = ways[0]
        ours = [state[plan.parts[name].path] for name in first.ours]
        theirs = first.layout.write(ours, first.goal)
        written |= zip(first.theirs, (tensor.contiguous() for tensor in theirs), strict=True)
    return written


class _Plan:
    """Which of a checkpoint's tensors make which of ours."""

    def __init__(self, model: Transformer, architecture: arch.Model, table: Table) -> None:
        self.table = table
        self.parts = parts(model)
        role, kind = architecture.main.role, architecture.model_type
        self.groups = sources(table, self.parts, role, kind)
        self.again = self._again(architecture, role, kind)

    def _again(self, architecture: arch.Model, role: str, kind: str) -> list[tuple[str, list[Source]]]:
        """(name of ours, how a checkpoint may hold it a second time) for tensors that are shared."""
        second = {name: Part("", self.parts[owner].shape, None, {}) for name, owner in shared(architecture).items()}
        owners = shared(architecture)
        return [(owners[name], sources(self.table, {name: part}, role, kind)[0]) for name, part in second.items()]

    def ways(self) -> Iterator[Source]:
        """Every way in which a checkpoint may hold anything."""
        for ways in self.groups:
            yield from ways
        for _, ways in self.again:
            yield from ways

    def keys_in(self, state: Mapping[str, Tensor]) -> dict[str, str]:
        """Name in the table -> key in this checkpoint, which may leave out the base's prefix or use older spellings."""
        wanted = {name for way in self.ways() for name in way.theirs}
        keys: dict[str, str] = {}
        for key in state:
            for name in self._spellings(key):
                if name in wanted and name not in keys:
                    keys[name] = key
                    break
        return keys

    def _spellings(self, key: str) -> Iterator[str]:
        yield key
        yield self.table.base + key
        newer = key
        for old, new in self.table.older:
            newer = newer.replace(old, new)
        yield newer
        yield self.table.base + newer

    def present(self, ways: list[Source], keys: Mapping[str, str]) -> list[Source]:
        """Those ways that this checkpoint has all tensors of."""
        return [way for way in ways if all(name in keys for name in way.theirs)]

    def missing(self, keys: Mapping[str, str]) -> list[str]:
        """Tensors that nothing in the checkpoint makes, in its spelling."""
        lacking = [ways for ways in self.groups if not self.present(ways, keys)]
        nearest = [max(ways, key=lambda way: sum(name in keys for name in way.theirs)) for ways in lacking]
        return [name for way in nearest for name in way.theirs if name not in keys]

    def surplus(self, state: Mapping[str, Tensor], keys: Mapping[str, str]) -> list[str]:
        """Tensors that the model has no place for, less those that are known to be no weights."""
        every = [*self.groups, *(ways for _, ways in self.again)]
        used = {keys[name] for ways in every for way in self.present(ways, keys) for name in way.theirs}
        return [
            key
            for key in state
            if key not in used and not any(fnmatchcase(key, pattern) for pattern in self.table.not_weights)
        ]

    def misshapen(self, state: Mapping[str, Tensor], keys: Mapping[str, str]) -> list[str]:
        """Tensors of another shape than the model's."""
        wrong = []
        for way in self.ways():
            if all(name in keys for name in way.theirs):
                ours = [torch.empty(shape, device="meta") for shape in way.goal.shapes]
                for name, expected in zip(way.theirs, way.layout.write(ours, way.goal), strict=True):
                    found = shape_of(state, keys[name])
                    if found != tuple(expected.shape):
                        wrong.append(f"{keys[name]} is {list(found)}, expected {list(expected.shape)}")
        return list(dict.fromkeys(wrong))

    def unlike(self, state: Mapping[str, Tensor], keys: Mapping[str, str]) -> list[str]:
        """Second copies that differ from the first: the config says that they are one tensor."""
        first = {name: ways[0] for ways in (self.present(ways, keys) for ways in self.groups) for name in ways[0].ours}
        second = [((owner,), way) for owner, ways in self.again for way in self.present(ways, keys)]
        spelled = [(way.ours, way) for ways in self.groups for way in self.present(ways, keys)[1:]]
        return [
            f"{keys[way.theirs[0]]} differs from the tensor that it is tied to"
            for ours, way in [*second, *spelled]
            for name, found in zip(ours, _read(way, state, keys), strict=True)
            if not torch.equal(found, _read(first[name], state, keys)[first[name].ours.index(name)])
        ]


def _read(way: Source, state: Mapping[str, Tensor], keys: Mapping[str, str]) -> list[Tensor]:
    return way.layout.read([state[keys[name]] for name in way.theirs], way.goal)


def _put(model: Transformer, path: str, value: Tensor) -> None:
    """Write a tensor where it belongs; one on the meta device is replaced by it."""
    module_path, _, name = path.rpartition(".")
    module = model.get_submodule(module_path)
    old: Tensor = getattr(module, name)
    if not old.is_meta:
        with torch.no_grad():
            old.copy_(value)
        return
    dtype = value.dtype if name in _KEPT and value.is_floating_point() else old.dtype
    value = value.to(dtype).contiguous()
    if isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(value))
    else:
        module.register_buffer(name, value)


def _refuse(
    architecture: arch.Model,
    missing: list[str] | None = None,
    surplus: list[str] | None = None,
    misshapen: list[str] | None = None,
    unlike: list[str] | None = None,
) -> None:
    found = {"missing": missing, "left over": surplus, "of the wrong shape": misshapen, "unlike": unlike}
    faults = [f"{what}: {_some(names)}" for what, names in found.items() if names]
    if faults:
        raise RequestError(
            f"the tensors are not those of {architecture.name} ({architecture.model_type}); {'; '.join(faults)}",
            "check that config and weights belong together",
        )


def _some(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
