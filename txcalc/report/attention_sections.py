"""The attention tree as tables."""

from __future__ import annotations

from txcalc.report.document import Row, Section
from txcalc.result import Node
from txcalc.units import binary_bytes, short_count, short_flops


def scores_section(tree: Node) -> Section:
    """How many scores: a head, a layer, the model; and what they weigh."""
    scores = tree.find("attention.scores")
    rows = [
        _count("of one head", tree.find("attention.scores_per_head")),
        _count("of one layer", tree.find("attention.scores_per_layer")),
        *(_count(f"{node.name}, all layers", node, depth=1) for node in scores.children if not node.aside),
        _count("of the model", scores, strong=True),
    ]
    rows += [_count("that the masks keep", node) for node in scores.children if node.name == "kept_by_the_masks"]
    rows += [
        Row(cells=(node.name, f"{node.value:,}", binary_bytes(node.value)))
        for node in tree.children
        if node.name.startswith("all scores in")
    ]
    return Section(columns=("scores", "", ""), rows=tuple(rows), detail="formula")


def _count(name: str, node: Node, *, depth: int = 0, strong: bool = False) -> Row:
    cells = (name, f"{node.value:,}", short_count(node.value))
    return Row(cells=cells, depth=depth, strong=strong, detail=node.formula())


def held_section(tree: Node) -> Section:
    """What each backend holds of one layer's product."""
    rows, heading = [], ""
    for node in tree.children:
        backend, colon, what = node.name.partition(": ")
        if not colon:
            continue
        runs = node.note.removeprefix("runs as ").partition(":")[0]
        backend = f"{backend} (runs as {runs})" if runs else backend
        heading = f"product of a layer: {node.convention.partition(', the product')[0].partition(':')[0]}"
        largest = max(node.children, key=lambda child: child.value, default=None)
        detail = f"most of it: {largest.name}, {largest.formula()}" if largest is not None else ""
        what = what.replace(" in one layer", "").replace(" by one layer", "")
        estimated = ", estimated" if node.basis == "estimated" else ""
        cells = (f"{backend}, {what}{estimated}", f"{node.value:,}")
        strong = node.key in ("attention.materialised", "attention.saved_for_backward")
        rows.append(Row(cells=(*cells, binary_bytes(node.value)), strong=strong, detail=detail))
    return Section(columns=(heading, "bytes", ""), rows=tuple(rows), detail="of it")


def crossing_section(tree: Node) -> Section | None:
    """Where attention's FLOPs pass the feed-forward's, and their share now."""
    rows = []
    for node in tree.children:
        if node.name.endswith("_at"):
            rows.append(Row(cells=(node.name.replace("_", " "), f"{node.value:,}"), detail=node.convention))
        if node.key == "attention.flops_share":
            rows.append(Row(cells=("share of a forward pass's FLOPs here", f"{100 * node.value:.1f}%")))
    return Section(columns=("FLOPs of scores and values", "tokens"), rows=tuple(rows)) if rows else None


def costs_section(tree: Node) -> Section:
    """Ways to mix a sequence."""
    table = next(node for node in tree.children if node.name == "ways_to_mix_a_sequence")
    rows = []
    for node in table.children:
        steps, path, state = (f"{child.value:,}" for child in node.children)
        order = node.note.removeprefix("O(").removesuffix(")")
        cells = (f"{_SHORT.get(node.name, node.name)}, {order}", short_flops(node.value), steps, path, state)
        rows.append(Row(cells=cells, detail=node.formula()))
    columns = ("one layer, one sequence", "operations", "steps", "path", "state")
    return Section(columns=columns, rows=tuple(rows), detail="formula")


_SHORT = {"local with global tokens": "local and global"}
