"""A result is a tree: every number with its formula, values, unit, convention and source.

A leaf holds an evaluated ``Expression``; a sum holds children and no number of its own: its value is computed from
them, times ``count`` where equal parts are stored once. An estimated row never enters an exact total.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal

from txcalc.expression import Expression, symbol
from txcalc.record import Record, made

if TYPE_CHECKING:
    from typing_extensions import TypedDict, Unpack

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
        if self.expression is not None:
            return int(self.expression)
        if self.number is not None:
            return self.number
        parts = 0
        for child in self.children:
            if not child.aside:
                parts += int(child.value)
        return parts * int(self.count) if self.count is not None else parts

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
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if node.key == key:
                return node
            if not isinstance(node, Deferred):
                waiting += node.children[::-1]
        raise KeyError(key)

    def estimated(self, reasons: tuple[str, ...]) -> Node:
        """This tree as an estimate where there are ``reasons``, every node of it; itself where there are none."""
        if not reasons:
            return self
        children = tuple([child.estimated(reasons) for child in self.children])
        return self.replace(basis="estimated", reason=self.reason or "; ".join(reasons), children=children)

    def figures(self) -> dict[str, int | float]:
        """Every headline figure in the tree, by key."""
        found: dict[str, int | float] = {}
        self._figures(found)
        return found

    def _figures(self, found: dict[str, int | float]) -> int | float:
        """Its value where it counts; every node is asked once, whichever sums it is in."""
        key, parts, is_sum = self.key, 0, self.expression is None and self.number is None
        if key:
            found[key] = 0  # stands before those below it
        if isinstance(self, Deferred):
            is_sum = False
        else:
            for child in self.children:
                part = child._figures(found)
                if is_sum and not child.aside:
                    parts += int(part)
        if is_sum:
            value: int | float = parts * int(self.count) if self.count is not None else parts
        else:
            value = self.value if key or not self.aside else 0
        if key:
            found[key] = value
        return value

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


class Deferred(Node):
    """A node whose children are made when somebody looks at them; no headline figure is among them."""

    if not TYPE_CHECKING:

        @property
        def children(self) -> tuple[Node, ...]:
            """The parts, made once."""
            held = vars(self)
            if "children" not in held:
                held["children"] = held.pop("make")()
            return held["children"]

    def all_fields(self) -> dict[str, Any]:
        """Every field with its value."""
        return {name: getattr(self, name) for name in self.__fields__}

    def __reduce__(self) -> tuple[Callable[..., Node], tuple[type[Node], dict[str, Any]]]:
        return made, (Node, self.all_fields())

    def estimated(self, reasons: tuple[str, ...]) -> Node:
        """As of any node."""
        if not reasons:
            return self
        fields: dict[str, Any] = {name: value for name, value in vars(self).items() if name != "children"}
        fields |= {"basis": "estimated", "reason": self.reason or "; ".join(reasons)}
        fields["make"] = lambda: tuple(child.estimated(reasons) for child in self.children)
        return made(Deferred, fields)


if TYPE_CHECKING:

    class _Fields(TypedDict, total=False):
        """What a node may be given beside its name, unit and number."""

        key: str
        source: str
        convention: str
        basis: Basis
        reason: str
        note: str
        aside: bool

    class _LeafFields(_Fields, total=False):
        children: tuple[Node, ...]

    class _SumFields(_Fields, total=False):
        count: Expression


# These three are half of the work of a sweep of what-ifs; the type checker has seen that their fields are a node's.


def leaf(name: str, unit: Unit, value: int, **fields: Unpack[_LeafFields]) -> Node:
    """A number with its arithmetic."""
    expression = value if isinstance(value, Expression) else symbol("", value)
    return made(Node, {"name": name, "unit": unit, "expression": expression, **fields})


def total(name: str, unit: Unit, children: Iterable[Node | None], **fields: Unpack[_SumFields]) -> Node:
    """A sum of parts, an estimate where one of them is; parts that are None are left out."""
    parts = tuple([child for child in children if child is not None])
    for part in parts:
        if part.basis == "estimated" and not part.aside:
            fields = {"basis": "estimated", "reason": part.reason, **fields}
            break
    return made(Node, {"name": name, "unit": unit, "children": parts, **fields})


def times(name: str, unit: Unit, count: int, children: Iterable[Node | None], **fields: Unpack[_Fields]) -> Node:
    """Equal parts stored once: ``count`` times the sum of ``children``; zero times where there is none of them."""
    multiplier = count if isinstance(count, Expression) else symbol("", count)
    return total(name, unit, children, count=multiplier, **fields)


def deferred(name: str, unit: Unit, make: Callable[[], Iterable[Node | None]], **fields: Unpack[_SumFields]) -> Node:
    """A sum of parts that are made when they are looked at, for what most questions never open.

    No headline figure may be among them; whether they are an estimate is said here.
    """

    def parts() -> tuple[Node, ...]:
        return tuple([child for child in make() if child is not None])

    return made(Deferred, {"name": name, "unit": unit, "make": parts, **fields})
