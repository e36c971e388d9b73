"""Stored tensors as weights: a plain tensor is one, and the tensors of a packed matrix are one together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from txcalc.cards.checkpoint import Held
from txcalc.stored.scheme import MAIN, Scheme

Shape = tuple[int, ...]


class Unit(NamedTuple):
    """One weight of a file: the names of its tensors by ending, where it is packed; one tensor where it is plain."""

    names: Mapping[str, str]
    packed: bool


def units_of(held: Mapping[str, Held], scheme: Scheme | None) -> dict[str, Unit]:
    """Weights by the names that they would have if nothing were packed, in the order of the file."""
    if scheme is None:
        return {name: Unit({"": name}, False) for name in held}
    endings = scheme.endings()
    found: dict[str, dict[str, str]] = {}
    for name in held:
        ending = next((each for each in endings if name.endswith(each)), None)
        if ending in (None, ".bias"):
            found.setdefault(name, {})[""] = name
        else:
            found.setdefault(name.removesuffix(ending) + scheme.main, {})[ending] = name
    return {name: Unit(names, bool(set(names) - {"", MAIN})) for name, names in found.items()}


def packing_faults(unit: Unit, key: str, shape: Shape, held: Mapping[str, Held], scheme: Scheme) -> list[str]:
    """What is not as the method packs a weight of ``shape``: tensors that are missing, or of another shape or type."""
    if len(shape) != 3 if scheme.stacked else len(shape) != 2:
        return [f"{key}: a weight of {list(shape)} cannot be packed"]
    faults = []
    expected = scheme.pack(shape)
    for ending, (dtype, form) in expected.items():
        if ending not in unit.names:
            faults.append(f"{key.removesuffix(scheme.main)}{ending} is missing")
            continue
        tensor = held[unit.names[ending]]
        if not _alike(tensor.shape, form):
            faults.append(f"{tensor.name} is {list(tensor.shape)}, expected {list(form)}")
        elif dtype and tensor.dtype != dtype and not {tensor.dtype, dtype} <= _HALVES:
            faults.append(f"{tensor.name} is {tensor.dtype}, expected {dtype}")
    return faults


_HALVES = {"F16", "BF16", "F32", "F8_E8M0", "U8"}  # scales and exponents: exporters choose one of these


def _alike(found: Shape, expected: Shape) -> bool:
    """Equal; or both of one number, which is written with an axis or without."""
    return found == expected or (found in ((), (1,)) and expected in ((), (1,)))
