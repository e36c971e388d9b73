"""What a checkpoint holds as a result tree, and as plain data: by component, by type, and how it follows from a config.

Source: the headers of the files themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

from txcalc.result import Node, leaf, total
from txcalc.stored.comparing import MISSING, SHAPES_DIFFER, Accounting, Difference

SOURCE: Final = "the headers of the files: types, shapes and places of tensors"
TOLD: Final = "quantization_config, and the layout of its method's exporter; no file was read"
_SHOWN: Final = 3
_LISTED: Final = 1000  # names of one difference in JSON


def stored_nodes(accounting: Accounting, source: str = SOURCE) -> list[Node]:
    """``params.stored``, ``params.stored_bytes``, and the way from ``params.total`` to the former."""
    held = accounting.checkpoint.tensors
    elements = [
        leaf(component, "elements", sum(held[name].numel for name in names), note=f"{len(names):,} tensors")
        for component, names in accounting.components.items()
    ]
    nodes = [
        total("stored", "elements", elements, key="params.stored", aside=True, source=source, convention=_CONVENTION),
        total("stored_bytes", "bytes", _by_type(accounting), key="params.stored_bytes", aside=True, source=source),
    ]
    if accounting.total is not None and accounting.differences:
        nodes.append(_accounted(accounting.total, accounting.differences))
    return nodes


_CONVENTION: Final = "elements as the file counts them: containers of packed weights, scales, buffers and copies too"


def _by_type(accounting: Accounting) -> list[Node]:
    held = accounting.checkpoint.tensors
    nodes = []
    for component, names in accounting.components.items():
        sums: dict[str, int] = {}
        for name in names:
            sums[held[name].dtype] = sums.get(held[name].dtype, 0) + held[name].nbytes
        nodes.append(total(component, "bytes", [leaf(dtype, "bytes", size) for dtype, size in sums.items()]))
    return nodes


def _accounted(size: int, differences: Iterable[Difference]) -> Node:
    rows = [leaf(each.what, "elements", each.elements, note=some(each)) for each in differences]
    return total("from_parameters", "elements", [leaf("params.total", "elements", size), *rows], aside=True)


def some(difference: Difference) -> str:
    """How many tensors, and the first of them."""
    names = difference.names
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def facts(accounting: Accounting, *, tensors: bool = False) -> dict[str, Any]:
    """The JSON document's ``checkpoint``."""
    checkpoint = accounting.checkpoint
    plain: dict[str, Any] = {
        "file": os.path.basename(os.path.abspath(checkpoint.where)),
        "format": checkpoint.kind,
        "files": checkpoint.files,
        "num_tensors": len(checkpoint.tensors),
        "dtypes": types(accounting),
        "agrees": accounting.agrees if accounting.total is not None else None,
        "differences": [_plain(each) for each in accounting.differences],
    }
    if accounting.uncompared:
        plain["not_compared"] = accounting.uncompared
    if tensors:
        plain["tensors"] = [
            {"name": name, "component": component, "dtype": held.dtype, "shape": list(held.shape), "bytes": held.nbytes}
            for component, name, held in rows(accounting)
        ]
    return plain


def _plain(each: Difference) -> dict[str, Any]:
    return {
        "what": each.what,
        "elements": each.elements,
        "bytes": each.nbytes,
        "expected": each.expected,
        "num_tensors": len(each.names),
        "tensors": list(each.names[:_LISTED]),
    }


def rows(accounting: Accounting) -> Iterable[tuple[str, str, Any]]:
    """(component, name, tensor) of every tensor, in the order of the files."""
    component = {name: each for each, names in accounting.components.items() for name in names}
    for name, held in accounting.checkpoint.tensors.items():
        yield component[name], name, held


def types(accounting: Accounting) -> dict[str, dict[str, int]]:
    """Tensors, elements and bytes by type."""
    found: dict[str, dict[str, int]] = {}
    for held in accounting.checkpoint.tensors.values():
        sums = found.setdefault(held.dtype, {"tensors": 0, "elements": 0, "bytes": 0})
        sums["tensors"] += 1
        sums["elements"] += held.numel
        sums["bytes"] += held.nbytes
    return found


def remarks(accounting: Accounting) -> tuple[list[str], list[str]]:
    """(notes, warnings) about how file and config go together."""
    where = os.path.basename(os.path.abspath(accounting.checkpoint.where))
    if accounting.total is None:
        return [f"{where}: no config beside it; components are told by the tensors' names"], []
    if accounting.uncompared:
        return [f"{where} was not compared tensor by tensor: {accounting.uncompared}"], []
    if accounting.agrees:
        return [f"{where}: every tensor is one that the config has a place for, name by name and shape by shape"], []
    wrong = [each for each in accounting.differences if not each.expected]
    return [], [f"{where} is not what the config says: {each.what}: {_counted(each)}" for each in wrong]


def _counted(each: Difference) -> str:
    if each.what in (MISSING, SHAPES_DIFFER) or not each.nbytes:
        return some(each) or f"{each.elements:,} elements"
    return f"{some(each)} ({each.elements:,} elements)"
