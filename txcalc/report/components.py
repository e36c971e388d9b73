"""The parameter tree summed by component: what a reader wants to see first."""

from __future__ import annotations

from txcalc.report.document import Row, Section
from txcalc.result import Node
from txcalc.units import short_count

_VIEWS = {
    "params.non_embedding": "without embedding and head",
    "params.active": "active per token",
    "params.active_without_embedding": "active, without embedding",
}
_EXTRA = "params.extra"


def params_section(tree: Node) -> Section:
    """Rows by stack and component, the total, and the other views."""
    whole = tree.find("params.total")
    size = int(whole.value)
    rows: list[Row] = []
    stacks = [child for child in whole.children if child.key != "params.head" and child.name != "connector"]
    for node in whole.children:
        if node in stacks:
            rows += _stack_rows(node, size, nested=len(stacks) > 1)
        elif node.value:
            rows.append(_row(node.name, int(node.value), size, 0, flat(node)))
    rows.append(_row("total", size, size, 0, short_count(size), strong=True))
    views = [_row(_VIEWS[node.key], int(node.value), size, 0) for node in tree.children if node.key in _VIEWS]
    views += [
        Row(cells=("multi-token prediction, apart", f"{node.value:,}", ""), detail=flat(node))
        for node in tree.children
        if node.key == _EXTRA
    ]
    return Section(columns=("component", "parameters", "share"), rows=(*rows, *views), detail="formula")


def extra_section(tree: Node) -> Section | None:
    """The blocks beside the model by component, and the sum of both; None where there are none."""
    extra = next((node for node in tree.children if node.key == _EXTRA), None)
    if extra is None:
        return None
    sums: dict[str, int] = {}
    for part in extra.children:
        for node in part.children:
            for name, value, _ in _parts(node):
                sums[name] = sums.get(name, 0) + value * int(part.count or 1)
    size = int(extra.value)
    rows = [_row(name, value, size, 0) for name, value in sums.items() if value]
    rows.append(_row("multi-token prediction", size, size, 0, strong=True))
    both = size + int(tree.find("params.total").value)
    rows.append(Row(cells=("with params.total", f"{both:,}", "")))
    return Section(columns=("beside the model", "parameters", "share"), rows=tuple(rows))


def _stack_rows(stack: Node, size: int, *, nested: bool) -> list[Row]:
    depth = int(nested)
    rows = [_row(stack.name, int(stack.value), size, 0)] if nested else []
    layers = [child for child in stack.children if child.count is not None]
    for child in stack.children:
        if child.name == "input":
            rows += [_input_row(part, size, depth) for part in child.children if part.value]
            rows += _layer_rows(layers, size, depth)
        elif child.count is None and child.value:
            rows.append(_row(child.name, int(child.value), size, depth, flat(child)))
    return rows


def _input_row(part: Node, size: int, depth: int) -> Row:
    name = part.name if part.name == "embedding" else f"embedding {part.name}"
    return _row(name, int(part.value), size, depth, flat(part))


def _layer_rows(layers: list[Node], size: int, depth: int) -> list[Row]:
    if not layers:
        return []
    count = sum(int(layer.count) for layer in layers if layer.count is not None)
    rows = [_row(f"layers ({count})", sum(int(layer.value) for layer in layers), size, depth)]
    sums: dict[str, int] = {}
    details: dict[str, str] = {}
    for layer in layers:
        for part in layer.children:
            for name, value, detail in _parts(part):
                sums[name] = sums.get(name, 0) + value * int(layer.count or 1)
                details.setdefault(name, detail)
    return rows + [_row(name, value, size, depth + 1, details[name]) for name, value in sums.items() if value]


def _parts(node: Node) -> list[tuple[str, int, str]]:
    """(component, parameters in one layer, formula); a mixture shows its router and experts apart."""
    if node.name == "mixture_of_experts":
        return [(part.name, int(part.value), flat(part)) for part in node.children]
    name = "norms" if node.name.endswith("norm") else node.name
    return [(name, int(node.value), flat(node))]


def flat(node: Node) -> str:
    """The arithmetic of a node and of all below it in one line."""
    if node.expression is not None:
        return node.formula()
    texts = [flat(child) for child in node.children if not child.aside and child.value]
    inside = " + ".join(texts)
    if node.count is None:
        return inside
    return f"{node.count.formula()} * ({inside})" if "+" in inside else f"{node.count.formula()} * {inside}"


def _row(name: str, value: int, size: int, depth: int, detail: str = "", *, strong: bool = False) -> Row:
    share = f"{100 * value / size:.1f}%" if size else ""
    return Row(cells=(name, f"{value:,}", share), depth=depth, detail=detail, strong=strong)
