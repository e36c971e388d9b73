"""A result is a tree: every number with its formula, values, unit, convention and source.

A leaf holds an evaluated ``Expression``; a sum holds children and no number of its own: its value is computed from
them, times ``count`` where equal parts are stored once. An estimated row never enters an exact total.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

from txcalc.expression import Expression, exact, symbol
from txcalc.record import Record

Basis = Literal["exact", "estimated"]
Unit = Literal[
    "parameters",
    "bytes",
    "FLOPs",
    "tokens",
    "tokens/s",
    "FLOP/s",
    "sequences",
    "elements",
    "scores",
    "ratio",
    "seconds",
    "GPU-hours",
    "days",
    "",
]


_ALWAYS: Final = frozenset({"name", "value", "unit", "basis", "formula", "substituted", "symbols"})


class Node(Record):
    """One number and everything that stands behind it.

    ``expression`` is set on a leaf, ``children`` on a sum; ``count`` multiplies a sum; ``key`` names a headline figure
    (``params.total``); ``aside`` keeps a node out of its parent's sum: another view of the same parts, or an estimate.
    """

    name: str
    unit: Unit
    expression: Expression | None = None
    number: float | None = None  # times and ratios only
    children: tuple[Node, ...] = ()
    count: Expression | None = None
    key: str = ""
    source: str = ""
    convention: str = ""
    basis: Basis = "exact"
    reason: str = ""
    note: str = ""
    aside: bool = False

    @property
    def value(self) -> int | float:
        """The number: the expression's, or the children's sum times count."""
        if self.number is not None:
            return self.number
        if self.expression is not None:
            return int(self.expression)
        total = sum(int(child.value) for child in self.children if not child.aside)
        return total * int(self.count) if self.count is not None else total

    def formula(self) -> str:
        """What was evaluated, in names."""
        if self.expression is not None:
            return self.expression.formula()
        names = " + ".join(child.name for child in self.children if not child.aside)
        if self.count is None or not names:
            return names
        several = len([child for child in self.children if not child.aside]) > 1
        return f"{self.count.formula()} * ({names})" if several else f"{self.count.formula()} * {names}"

    def substituted(self) -> str:
        """What was evaluated, in values."""
        if self.expression is not None:
            return self.expression.substituted()
        values = " + ".join(f"{child.value:,}" for child in self.children if not child.aside)
        if self.count is None or not values:
            return values
        several = len([child for child in self.children if not child.aside]) > 1
        return f"{int(self.count):,} * ({values})" if several else f"{int(self.count):,} * {values}"

    def symbols(self) -> dict[str, int]:
        """Symbols of this node's own arithmetic, with their values."""
        if self.expression is not None:
            return self.expression.symbols()
        return self.count.symbols() if self.count is not None else {}

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Node]]:
        """This node and all below it, with their depth."""
        waiting = [(depth, self)]
        while waiting:  # a stack, not recursion: each level of generators would pass every node on again
            level, node = waiting.pop()
            yield level, node
            waiting += [(level + 1, child) for child in reversed(node.children)]

    def find(self, key: str) -> Node:
        """The node below (or at) this one with that ``key``.

        Raises:
            KeyError: there is none.
        """
        for _, node in self.walk():
            if node.key == key:
                return node
        raise KeyError(key)

    def estimated(self: Node, reasons: tuple[str, ...]) -> Node:
        """This tree as an estimate where there are ``reasons``, every node of it; itself where there are none."""
        if not reasons:
            return self
        children = tuple(child.estimated(reasons) for child in self.children)
        return self.replace(basis="estimated", reason=self.reason or "; ".join(reasons), children=children)

    def figures(self) -> dict[str, int | float]:
        """Every headline figure in the tree, by key."""
        return {node.key: node.value for _, node in self.walk() if node.key}

    def to_dict(self, source: str = "") -> dict[str, Any]:
        """The tree as plain data, for JSON; optional fields are left out where they are empty.

        A part has its whole's source, or its own.
        """
        source = self.source or source
        plain: dict[str, Any] = {"name": self.name, "value": self.value, "unit": self.unit, "basis": self.basis}
        plain |= {"formula": self.formula(), "substituted": self.substituted(), "symbols": self.symbols()}
        plain |= {"key": self.key, "source": source, "convention": self.convention}
        plain |= {"reason": self.reason, "note": self.note}
        plain["count"] = int(self.count) if self.count is not None else ""
        plain["aside"] = self.aside or ""
        plain["children"] = [child.to_dict(source) for child in self.children]
        return {key: value for key, value in plain.items() if key in _ALWAYS or value not in ("", [], {})}


def leaf(name: str, unit: Unit, value: int, **fields: Any) -> Node:
    """A number with its arithmetic."""
    return Node(name=name, unit=unit, expression=exact(value), **fields)


def total(name: str, unit: Unit, children: Iterable[Node | None], **fields: Any) -> Node:
    """A sum of parts, an estimate where one of them is; parts that are None are left out."""
    parts = tuple(child for child in children if child is not None)
    guessed = next((part for part in parts if part.basis == "estimated" and not part.aside), None)
    if guessed is not None:
        fields = {"basis": "estimated", "reason": guessed.reason, **fields}
    return Node(name=name, unit=unit, children=parts, **fields)


def times(name: str, unit: Unit, count: int, children: Iterable[Node | None], **fields: Any) -> Node:
    """Equal parts stored once: ``count`` times the sum of ``children``; zero times where there is none of them."""
    multiplier = count if isinstance(count, Expression) else symbol("", count)
    return total(name, unit, children, count=multiplier, **fields)
