"""The FLOPs trees as tables."""

from __future__ import annotations

from collections.abc import Iterator

from txcalc.report.document import Row, Section
from txcalc.result import Node
from txcalc.units import short_count, short_flops

_OUTSIDE = frozenset({"head", "pooled_head", "connector"})
_GROUPS = frozenset({"experts", "state_products", "position_scores", "indexer", "indexer_scores", "shared_expert"})


def flops_section(tree: Node) -> Section:
    """Rows by stack and component, the total, and the other views."""
    matmul = tree.find("flops.matmul")
    size = int(matmul.value)
    training = any(node.key == "flops.forward" for node in matmul.children)
    forward = matmul.find("flops.forward") if training else matmul
    rows = list(_forward_rows(forward, size))
    if training:
        rows.append(_row("forward", int(forward.value), size, 0))
        rows.append(_row("backward", int(matmul.find("flops.backward").value), size, 0))
    rows.append(_row("matmul, all of it", size, size, 0, strong=True))
    views = [
        _row("attention scores and values", int(tree.find("flops.attention").value), size, 0),
        _row("elementwise, estimated", int(tree.find("flops.elementwise").value), size, 0),
    ]
    each = tree.find("flops.per_token").value
    views.append(Row(cells=("matmul per token", _number(each), short_flops(each), "")))
    return Section(columns=("component", "FLOPs", "", "share"), rows=(*rows, *views), detail="formula")


def _forward_rows(forward: Node, size: int) -> Iterator[Row]:
    stacks = [child for child in forward.children if child.name not in _OUTSIDE]
    for node in forward.children:
        if node not in stacks:
            yield _row(node.name, int(node.value), size, 0, _detail(node))
            continue
        nested = len(stacks) > 1
        if nested:
            yield _row(node.name, int(node.value), size, 0)
        yield from _stack_rows(node, size, int(nested))


def _stack_rows(stack: Node, size: int, depth: int) -> Iterator[Row]:
    layers = [child for child in stack.children if child.count is not None]
    for child in stack.children:
        if child.count is None and child.value:
            yield _row(child.name, int(child.value), size, depth, _detail(child))
        elif layers and child is layers[0]:
            yield from _layer_rows(layers, size, depth)


def _layer_rows(layers: list[Node], size: int, depth: int) -> Iterator[Row]:
    """Every kind of layer summed by component, and each component by its products."""
    count = sum(int(layer.count) for layer in layers if layer.count is not None)
    yield _row(f"layers ({count})", sum(int(layer.value) for layer in layers), size, depth)
    sums: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for layer in layers:
        for component in layer.children:
            for part, value, detail in _parts(component):
                found = sums.setdefault((component.name, part), [])
                found.append((value * int(layer.count or 1), detail))
    for name in dict.fromkeys(component for component, _ in sums):
        parts = {part: found for (component, part), found in sums.items() if component == name}
        whole = sum(value for found in parts.values() for value, _ in found)
        if whole:
            yield _row(name, whole, size, depth + 1)
            for part, found in parts.items():
                yield _row(part, sum(value for value, _ in found), size, depth + 2, found[0][1])


def _parts(component: Node) -> Iterator[tuple[str, int, str]]:
    """(product, FLOPs, formula) of one component; grouped products stand as one."""
    for part in component.children:
        if part.children and part.name not in _GROUPS:
            yield from _parts(part)
        else:
            yield part.name, int(part.value), _detail(part)


def _detail(node: Node) -> str:
    only = node
    while len(only.children) == 1 and only.count is None:
        only = only.children[0]
    return only.formula()


def _row(name: str, value: int, size: int, depth: int, detail: str = "", *, strong: bool = False) -> Row:
    share = f"{100 * value / size:.1f}%" if size else ""
    return Row(cells=(name, f"{value:,}", short_flops(value), share), depth=depth, detail=detail, strong=strong)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


# ---- conventions ----------------------------------------------------------------------------------------------------


def conventions_section(nodes: list[Node], *, batch: int, tokens: int) -> Section:
    """A row a convention: FLOPs a token and a sequence, and how far it is from matmul-full."""
    rows = []
    for node in nodes:
        value = int(node.value)
        per_token = (value + batch * tokens // 2) // (batch * tokens)
        cells = (node.name, f"{per_token:,}", f"{value // batch:,}", _difference(node))
        rows.append(Row(cells=cells, detail=node.convention, strong=node.name == "matmul-full"))
    columns = ("training FLOPs", "per token", "per sequence", "difference")
    return Section(columns=columns, rows=tuple(rows), detail="what it counts")


def terms_section(nodes: list[Node]) -> Section:
    """The differences by term, as shares of matmul-full."""
    rows = []
    for node in nodes:
        reference = _reference(node)
        terms = [
            f"{term.name.replace('_', ' ')} {_share(int(term.value), reference)}" for term in node.children[-1].children
        ]
        if terms:
            rows.append(Row(cells=(node.name, ", ".join(terms))))
    return Section(columns=("convention", "terms"), rows=tuple(rows), heading="difference by term", facts=True)


def term_notes(nodes: list[Node]) -> list[str]:
    """What each term is that some convention differs by."""
    means = {term.name: term.note for node in nodes for term in node.children[-1].children}
    return [f"{name.replace('_', ' ')}: {what}" for name, what in means.items()]


def parts_section(node: Node) -> Section:
    """One convention opened: its parts, then its differences."""
    size = int(node.value)
    counted = [part for part in node.children if not part.aside]
    rows = [_row(part.name, int(part.value), size, 0, part.formula()) for part in counted]
    rows.append(_row(node.name, size, size, 0, strong=True))
    difference = node.children[-1]
    rows.append(_row("difference to matmul-full", int(difference.value), _reference(node), 0))
    rows += [
        _row(term.name, int(term.value), _reference(node), 1, term.note or term.formula())
        for term in difference.children
    ]
    return Section(columns=(f"convention {node.name}", "FLOPs", "", "share"), rows=tuple(rows), detail="formula")


def _reference(node: Node) -> int:
    """matmul-full: the convention less its difference."""
    return int(node.value) - int(node.children[-1].value)


def _difference(node: Node) -> str:
    return _share(int(node.children[-1].value), _reference(node)) or "0"


def _share(value: int, size: int) -> str:
    if not value:
        return ""
    share = 100 * value / size
    return f"{share:+.3f}%" if abs(share) < 10 else f"{share:+.1f}%"


# ---- a training run -------------------------------------------------------------------------------------------------


def run_section(run: Node, *, tokens: int) -> Section:
    """What a whole run takes, 6ND beside it."""
    rows = [_run_row(node) for node in run.children]
    return Section(columns=(f"a run of {short_count(tokens)} tokens", "", ""), rows=tuple(rows), detail="formula")


_RUN_NAMES = {
    "six_nd": "6ND",
    "run_over_six_nd": "run / 6ND",
    "chinchilla_tokens": "Chinchilla: 20 a parameter",
    "mfu": "MFU",
    "hfu": "HFU",
    "gpu_hours": "GPU-hours",
}


def _run_row(node: Node) -> Row:
    name = _RUN_NAMES.get(node.name, node.name.replace("_", " "))
    return Row(cells=(name, _text(node), _short(node)), detail=node.note or node.formula())


def _text(node: Node) -> str:
    if isinstance(node.value, int):
        return f"{node.value:,}"
    if node.name in {"mfu", "hfu"}:
        return f"{100 * node.value:.2f}%"
    return f"{node.value:,.4f}" if node.value < 10 else f"{node.value:,.1f}"


def _short(node: Node) -> str:
    if node.unit == "FLOPs":
        return short_flops(node.value)
    return short_count(node.value) if node.value >= 10**6 else ""
