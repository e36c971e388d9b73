"""Weights from a checkpoint into a model, and back: every tensor accounted for, by name.

A checkpoint is any mapping of names to tensors: a state dict, or a file that is read as it is asked for (``open_``
functions of ``checkpoints``). The names of each model type stand in ``names``, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from txcalc import architecture as arch
from txcalc.errors import RequestError
from txcalc.reference.checkpoints import shape_of
from txcalc.reference.layouts import LAYOUTS
from txcalc.reference.model import Transformer
from txcalc.reference.names import table_of
from txcalc.reference.names.plan import Plan
from txcalc.reference.names.table import Source, Table
from txcalc.reference.parts import parts

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
    plan = _plan(model, architecture, table)
    keys = plan.keys_in(state)
    _refuse(architecture, plan.missing(keys), plan.surplus(state, keys), plan.misshapen(_shapes(state), keys))
    _refuse(architecture, unlike=_unlike(plan, state, keys))
    for ways in plan.groups:
        present = plan.present(ways, keys)
        ours = ways[0].ours
        values = _read(present[0], state, keys) if present else [torch.zeros(plan.parts[name].shape) for name in ours]
        for name, value in zip(ours, values, strict=True):
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
    plan = _plan(model, architecture, table)
    keys = plan.keys_in(state)
    faults = {
        "missing": plan.missing(keys),
        "left over": plan.surplus(state, keys),
        "of the wrong shape": plan.misshapen(_shapes(state), keys),
    }
    buffers = dict(model.named_buffers())
    held = [plan.present(ways, keys) for ways in plan.groups if plan.parts[ways[0].ours[0]].path not in buffers]
    names = [keys[name] for ways in held for name in (ways[0].theirs if ways else ())]
    return Fit({what: found for what, found in faults.items() if found}, sum(prod(shape_of(state, n)) for n in names))


def to_checkpoint(model: Transformer, table: Table | None = None) -> dict[str, Tensor]:
    """The model's tensors under the names and in the layout of its type's checkpoints; tied ones once."""
    plan = _plan(model, model.model, table)
    state = model.state_dict()
    written: dict[str, Tensor] = {}
    for ways in plan.groups:
        first = ways[0]
        ours = [state[plan.parts[name].path] for name in first.ours]
        theirs = LAYOUTS[first.layout].write(ours, first.goal)
        written |= zip(first.theirs, (tensor.contiguous() for tensor in theirs), strict=True)
    return written


def _plan(model: Transformer, architecture: arch.Model, table: Table | None) -> Plan:
    return Plan(parts(model), architecture, table or table_of(architecture))


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: shape_of(state, name) for name in state}


def _unlike(plan: Plan, state: Mapping[str, Tensor], keys: Mapping[str, str]) -> list[str]:
    """Second copies that differ from the first: the config says that they are one tensor."""
    first = {
        name: ways[0] for ways in (plan.present(ways, keys) for ways in plan.groups) if ways for name in ways[0].ours
    }
    second = [((owner,), way) for owner, ways in plan.again for way in plan.present(ways, keys)]
    spelled = [(way.ours, way) for ways in plan.groups for way in plan.present(ways, keys)[1:]]
    return [
        f"{keys[way.theirs[0]]} differs from the tensor that it is tied to"
        for ours, way in [*second, *spelled]
        for name, found in zip(ours, _read(way, state, keys), strict=True)
        if not torch.equal(found, _read(first[name], state, keys)[first[name].ours.index(name)])
    ]


def _read(way: Source, state: Mapping[str, Tensor], keys: Mapping[str, str]) -> list[Tensor]:
    return LAYOUTS[way.layout].read([state[keys[name]] for name in way.theirs], way.goal)


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
