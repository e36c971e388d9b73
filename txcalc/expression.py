"""Integers that remember the arithmetic they came from.

Formulas are written as plain Python on these, so the formula that a reader is shown is the one that was evaluated:

    >>> D, F = symbol("D", 4096), symbol("F", 14336)
    >>> up = 2 * D * F
    >>> int(up), up.formula(), up.substituted()
    (117440512, '2 * D * F', '2 * 4,096 * 14,336')
"""

from __future__ import annotations

from typing import Final

_PRECEDENCE: Final = {"+": 1, "-": 1, "*": 2, "//": 2, "%": 2}
_ATOM: Final = 9


class Expression(int):
    """An int with its derivation: an operator and its operands, a named symbol, or a bare number."""

    name: str = ""
    made_of: tuple[str, int, int] | None = None  # one attribute, not two: a sweep of what-ifs does little else

    @property
    def operator(self) -> str:
        """``+``, ``min`` ...; nothing for a symbol or a bare number."""
        return self.made_of[0] if self.made_of is not None else ""

    @property
    def operands(self) -> tuple[int, ...]:
        """What the operator was applied to."""
        return self.made_of[1:] if self.made_of is not None else ()

    def __add__(self, other: int) -> Expression:
        return _joined(int.__add__(self, other), "+", self, other)

    def __radd__(self, other: int) -> Expression:
        return _joined(int.__add__(self, other), "+", other, self)

    def __sub__(self, other: int) -> Expression:
        return _joined(int.__sub__(self, other), "-", self, other)

    def __rsub__(self, other: int) -> Expression:
        return _joined(int.__rsub__(self, other), "-", other, self)

    def __mul__(self, other: int) -> Expression:
        return _joined(int.__mul__(self, other), "*", self, other)

    def __rmul__(self, other: int) -> Expression:
        return _joined(int.__mul__(self, other), "*", other, self)

    def __floordiv__(self, other: int) -> Expression:
        return _joined(int.__floordiv__(self, other), "//", self, other)

    def __rfloordiv__(self, other: int) -> Expression:
        return _joined(int.__rfloordiv__(self, other), "//", other, self)

    def __mod__(self, other: int) -> Expression:
        return _joined(int.__mod__(self, other), "%", self, other)

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)

    def formula(self) -> str:
        """The arithmetic in names: ``2 * D * F``."""
        return _render(self, substituted=False)

    def substituted(self) -> str:
        """The arithmetic in values: ``2 * 4,096 * 14,336``."""
        return _render(self, substituted=True)

    def symbols(self) -> dict[str, int]:
        """Every symbol in the arithmetic with its value, in order of appearance."""
        found: dict[str, int] = {}
        _collect(self, found)
        return found


def symbol(name: str, value: int) -> Expression:
    """``value`` under a name of the legend (see ``txcalc.symbols``)."""
    made = Expression(value)
    made.name = name
    return made


def _joined(value: int, operator: str, left: int, right: int) -> Expression:
    made = Expression(value)
    made.made_of = (operator, left, right)
    return made


def minimum(left: int, right: int) -> Expression:
    """The smaller of two, shown as ``min(a, b)``."""
    return _call("min", min(int(left), int(right)), left, right)


def maximum(left: int, right: int) -> Expression:
    """The larger of two, shown as ``max(a, b)``."""
    return _call("max", max(int(left), int(right)), left, right)


def ceil_div(left: int, right: int) -> Expression:
    """Division rounded up, shown as ``ceil(a / b)``."""
    return _call("ceil", -(-int(left) // int(right)), left, right)


def exact(value: int) -> Expression:
    """``value`` as an Expression, whatever int it was."""
    return value if isinstance(value, Expression) else symbol("", value)


def mentions(value: int, name: str) -> bool:
    """Whether a symbol of that name is in the arithmetic."""
    if not isinstance(value, Expression):
        return False
    made_of = value.made_of
    return value.name == name if made_of is None else mentions(made_of[1], name) or mentions(made_of[2], name)


def _call(name: str, value: int, left: int, right: int) -> Expression:
    return _joined(value, name, left, right)


def _render(value: int, *, substituted: bool) -> str:
    return _text(value, substituted)[0]


def _text(value: int, substituted: bool) -> tuple[str, int]:
    """Text of an operand and how tightly it binds."""
    if not isinstance(value, Expression) or not value.operator:
        name = getattr(value, "name", "")
        return (name if name and not substituted else f"{int(value):,}"), _ATOM
    (left, left_binds), (right, right_binds) = (_text(operand, substituted) for operand in value.operands)
    match value.operator:
        case "min" | "max":
            return f"{value.operator}({left}, {right})", _ATOM
        case "ceil":
            right = right if right_binds > _PRECEDENCE["*"] else f"({right})"
            left = left if left_binds >= _PRECEDENCE["*"] else f"({left})"
            return f"ceil({left} / {right})", _ATOM
        case operator:
            binds = _PRECEDENCE[operator]
            left = left if left_binds >= binds else f"({left})"
            needs_more = right_binds < binds or (right_binds == binds and operator in "-//%")
            right = f"({right})" if needs_more or (operator == "*" and _divides(value.operands[1])) else right
            return f"{left} {operator} {right}", binds


def _divides(value: int) -> bool:
    """Whether a division is the first thing in its text that binds as tightly as a product."""
    while isinstance(value, Expression) and value.operator == "*":
        value = value.operands[0]
    return isinstance(value, Expression) and value.operator in {"//", "%"}


def _collect(value: int, found: dict[str, int]) -> None:
    if not isinstance(value, Expression):
        return
    if value.name:
        found[value.name] = int(value)
    for operand in value.operands:
        _collect(operand, found)
