"""A checkpoint's tensors as tables: by component, by type, and the way from parameters to stored elements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from txcalc.report.document import Row, Section
from txcalc.result import Node
from txcalc.units import binary_bytes


def stored_sections(tree: Node, types: Mapping[str, Mapping[str, int]], heading: str) -> tuple[Section, ...]:
    """What a file holds; ``types``: tensors, elements and bytes by type."""
    sections = [_components(tree, heading), _types(types)]
    accounted = next((node for node in tree.children if node.name == "from_parameters"), None)
    return (*sections, _accounted(accounted)) if accounted else tuple(sections)


def _components(tree: Node, heading: str) -> Section:
    stored, sizes = tree.find("params.stored"), tree.find("params.stored_bytes")
    rows = [
        Row(
            cells=(part.name, part.note.split()[0], f"{part.value:,}", f"{size.value:,}", binary_bytes(int(size.value)))
        )
        for part, size in zip(stored.children, sizes.children, strict=True)
    ]
    count = sum(int(part.note.split()[0].replace(",", "")) for part in stored.children)
    whole = (f"{count:,}", f"{stored.value:,}", f"{sizes.value:,}", binary_bytes(int(sizes.value)))
    rows.append(Row(cells=("stored", *whole), strong=True))
    return Section(columns=("component", "tensors", "elements", "bytes", ""), rows=tuple(rows), heading=heading)


def _types(types: Mapping[str, Mapping[str, int]]) -> Section:
    rows = [
        Row(cells=(name, f"{each['tensors']:,}", f"{each['elements']:,}", f"{each['bytes']:,}"))
        for name, each in sorted(types.items(), key=lambda item: -item[1]["bytes"])
    ]
    return Section(columns=("type", "tensors", "elements", "bytes"), rows=tuple(rows))


def _accounted(node: Node) -> Section:
    rows = [
        Row(cells=(part.name, f"{part.value:+,}" if i else f"{part.value:,}")) for i, part in enumerate(node.children)
    ]
    rows.append(Row(cells=("stored", f"{node.value:,}"), strong=True))
    return Section(columns=("from parameters to the file", "elements"), rows=tuple(rows))


def tensors_section(rows: Iterable[tuple[str, str, str, str, int]]) -> Section:
    """Every tensor: name, component, type, shape, bytes."""
    made = [Row(cells=(name, component, dtype, shape, f"{size:,}")) for name, component, dtype, shape, size in rows]
    return Section(columns=("tensor", "component", "type", "shape", "bytes"), rows=tuple(made))
