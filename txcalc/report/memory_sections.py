"""The memory trees as tables: inference, training."""

from __future__ import annotations

from txcalc.report.document import Row, Section
from txcalc.result import Node
from txcalc.units import binary_bytes


def inference_section(tree: Node) -> Section:
    """Weights, cache, activations, and the sums with and without allowances."""
    whole = tree.find("memory.total")
    rows = [_row("weights", whole.find("memory.weights"))]
    rows += [_row(child.name, child, depth=1) for child in _components(whole.find("memory.weights"))]
    rows += [_row(node.name.replace("_", " "), node) for node in whole.children if _beside_weights(node)]
    activations = whole.find("memory.activations")
    estimated = activations.basis == "estimated"
    name = (
        "activations, estimated" if estimated else f"activations, {activations.note.removeprefix('at their highest ')}"
    )
    rows.append(_row(name, activations))
    rows += [_row(child.name, child, depth=1) for child in _largest(activations)]
    rows.append(_row("total without activations" if estimated else "total", whole, strong=True))
    return Section(columns=("memory", "bytes", ""), rows=(*rows, *_estimates(tree)), detail="formula")


def _beside_weights(node: Node) -> bool:
    return node.key not in ("memory.weights", "memory.activations")


def _components(weights: Node) -> list[Node]:
    """Input tables, layers and the rest, of the first stack opened."""
    parts: list[Node] = []
    for child in weights.children:
        parts += child.children if child.name in ("decoder", "encoder") and len(weights.children) < 3 else [child]
    return [part for part in parts if part.value]


def _largest(node: Node, most: int = 6) -> list[Node]:
    rows = sorted((child for child in node.children if not child.aside), key=lambda child: -child.value)
    return rows[:most]


def _estimates(tree: Node) -> list[Row]:
    rows = []
    for node in tree.children:
        if node.key == "memory.logits":
            rows.append(_row("logits, at their moment", node))
        if node.key == "memory.activations_per_token":
            rows.append(_row("activations per batched token", node))
        if node.name == "largest matrix, unpacked":
            rows.append(_row(f"{node.name} (not in the sum)", node))
    extra = tree.find("memory.allowances")
    rows += [_row(f"{child.name} (seen)", child, depth=1) for child in extra.children]
    rows.append(_row("with allowances, estimated", tree.find("memory.with_allowances")))
    return rows


def _row(name: str, node: Node, *, depth: int = 0, strong: bool = False) -> Row:
    cells = (name, f"{node.value:,}", binary_bytes(node.value))
    return Row(cells=cells, depth=depth, strong=strong, detail=node.formula() if node.expression is not None else "")


def training_section(tree: Node) -> Section:
    """The peak, opened; then the sums that do not depend on the moment."""
    peak = tree.find("memory.total")
    rows = []
    for child in peak.children:
        if child.value:
            rows.append(_row(child.name, child))
            rows += [_row(each.name, each, depth=1) for each in _largest(child)] if _is_moment(child) else []
    rows.append(_row("peak" + (", estimated" if peak.basis == "estimated" else ""), peak, strong=True))
    return Section(columns=(peak.note, "bytes", ""), rows=tuple(rows), detail="formula")


def _is_moment(node: Node) -> bool:
    """What is live inside the part that runs."""
    return node.name.startswith("the ") and bool(node.children)


def states_section(tree: Node) -> Section:
    """Parameters, gradients, optimizer, and what is saved for the backward pass."""
    rows = []
    for key, name in _STATES.items():
        node = next((child for child in tree.children if child.key == key), None)
        if node is not None:
            rows.append(_row(name, node))
            parts = [child for child in node.children if child.value and not child.aside]
            rows += [_row(child.name, child, depth=1) for child in parts] if len(parts) > 1 else []
    rows += [_row(f"activations {node.name}", node) for node in tree.children if node.name.startswith("by ")]
    return Section(columns=("of it, whenever", "bytes", ""), rows=tuple(rows), detail="formula")


_STATES = {
    "memory.parameters": "parameters",
    "memory.gradients": "gradients, all of them",
    "memory.optimizer": "optimizer",
    "memory.activations": "saved for the backward pass, at the loss",
}


def moments_section(tree: Node) -> Section:
    """Every moment that might have been the peak."""
    rows = [
        _row(node.name.removeprefix("at "), node, strong=node.value == tree.find("memory.total").value)
        for node in tree.children
        if node.name.startswith("at ")
    ]
    return Section(columns=("moments", "bytes", ""), rows=(*rows, *_estimates(tree)))


def adapters_section(tree: Node) -> Section:
    """What is trained, and what a token costs."""
    trained, flops = tree.find("lora.trainable"), tree.find("lora.flops_per_token")
    rows = [Row(cells=(child.name, f"{child.value:,}"), depth=1, detail=child.formula()) for child in trained.children]
    rows.insert(0, Row(cells=("trainable parameters", f"{trained.value:,}"), strong=True))
    rows.append(Row(cells=("FLOPs a token, matrices", f"{flops.value:,}"), detail=flops.convention))
    rows += [Row(cells=(child.name, f"{child.value:,}"), depth=1, detail=child.formula()) for child in flops.children]
    return Section(columns=("adapters", ""), rows=tuple(rows), detail="formula")


def fit_section(needed: int, budget: int) -> Section:
    """Whether it fits."""
    left = budget - needed
    rows = (
        Row(cells=("needed", f"{needed:,}", binary_bytes(needed))),
        Row(cells=("there is", f"{budget:,}", binary_bytes(budget))),
        Row(cells=("left" if left >= 0 else "missing", f"{abs(left):,}", binary_bytes(abs(left))), strong=True),
    )
    return Section(columns=("fits" if left >= 0 else "does not fit", "bytes", ""), rows=rows)
