"""``--explain``: every row opened to its formula, its values, its convention and its source."""

from __future__ import annotations

from collections.abc import Iterator

from txcalc.result import Node
from txcalc.symbols import LEGEND

INDENT = "  "


def explain(tree: Node, *, width: int = 100) -> list[str]:
    """The tree as indented text: a line for the number, then ``= formula``, ``= values``, and remarks."""
    lines = [line for depth, node in tree.walk() for line in _node(node, depth, width, tree.reason)]
    if tree.reason:
        lines[1:1] = wrap(f"estimated: {tree.reason}", INDENT, width)
    return [*lines, "", *_legend(tree)]


def _node(node: Node, depth: int, width: int, whole: str) -> Iterator[str]:
    pad = INDENT * depth
    unit = f" {node.unit}" if node.unit else ""
    reason = f": {node.reason}" if node.reason and node.reason != whole else ""
    estimated = f"  [estimated{reason}]" if node.basis == "estimated" else ""
    key = f"  ({node.key})" if node.key else ""
    yield f"{pad}{node.name}: {_number(node.value)}{unit}{key}{estimated}"
    for text in _arithmetic(node):
        yield from wrap(f"= {text}", pad + INDENT, width)
    for label, text in (("convention", node.convention), ("source", node.source), ("note", node.note)):
        if text:
            yield from wrap(f"{label}: {text}", pad + INDENT, width)


def _arithmetic(node: Node) -> list[str]:
    formula, values = node.formula(), node.substituted()
    trivial = not formula or (values == formula and node.expression is not None)
    parts = [child for child in node.children if not child.aside]
    if trivial or (node.count is None and len(parts) == 1):
        return []
    return [formula] if formula == values else [formula, values]


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def wrap(text: str, pad: str, width: int) -> Iterator[str]:
    """Lines of at most ``width`` characters, the later ones indented a little more."""
    import textwrap

    yield from textwrap.wrap(
        text, width=max(width, 40), initial_indent=pad, subsequent_indent=pad + INDENT, break_long_words=False
    )


def _legend(tree: Node) -> list[str]:
    used = {name for _, node in tree.walk() for name in node.symbols()}
    return [f"{letter} = {meaning}" for letter, meaning in LEGEND.items() if letter in used]
