"""Expressions: the formula that is shown is the one that was evaluated."""

from __future__ import annotations

import operator
import pickle
import re
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from txcalc.expression import Expression, ceil_div, exact, maximum, minimum, symbol

OPERATORS: list[Callable[[int, int], int]] = [operator.add, operator.sub, operator.mul, operator.floordiv]


@st.composite
def expressions(draw: st.DrawFn, depth: int = 4) -> Expression:
    """Random arithmetic on symbols and plain numbers."""
    if depth == 0 or draw(st.booleans()):
        return symbol(draw(st.sampled_from("ABCDEF")), draw(st.integers(1, 50)))
    combine = draw(st.sampled_from([*OPERATORS, minimum, maximum, ceil_div]))
    left = draw(expressions(depth=depth - 1))
    right = draw(expressions(depth=depth - 1) | st.integers(1, 9))
    if combine in (operator.floordiv, ceil_div) and int(right) <= 0:
        right = 1
    return exact(combine(left, right))


@given(expressions())
@settings(max_examples=300, deadline=None)
def test_the_substituted_text_evaluates_to_the_value(expression: Expression) -> None:
    """Python itself is the oracle: brackets, order and operators of the shown text mean what was computed."""
    text = expression.substituted().replace(",", "_").replace("_ ", ", ")
    while "ceil(" in text:
        text = _without_ceil(text)
    assert eval(text) == int(expression)


def test_a_product_that_begins_with_a_division_keeps_its_brackets() -> None:
    """2 * (1 // 2 * 3) is 0; read from the left without brackets it would be 3."""
    a, b, c = symbol("A", 2), symbol("B", 1), symbol("C", 3)
    made = a * (b // a * c)
    assert (made.formula(), int(made)) == ("A * (B // A * C)", 0)
    assert (a * (c * b)).formula() == "A * C * B"


def _without_ceil(text: str) -> str:
    """The innermost-last ``ceil(a / b)`` written with integer division: -(-(a) // (b))."""
    start = text.rindex("ceil(")
    depth, index, slash = 0, start + 4, 0
    while True:
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if text[index] == "/" and depth == 1 and text[index + 1] == " " and text[index - 1] == " ":
            slash = index
        if depth == 0:
            break
        index += 1
    above, below = text[start + 5 : slash], text[slash + 1 : index]
    return f"{text[:start]}(-(-({above}) // ({below}))){text[index + 1 :]}"


@given(expressions())
@settings(max_examples=200, deadline=None)
def test_formula_and_values_have_the_same_form(expression: Expression) -> None:
    """Replacing every name by its value turns the formula into the substituted text (names may repeat with values)."""
    shape = re.compile(r"[A-Z]|\d+(?:,\d{3})*")
    assert shape.sub("#", expression.formula()) == shape.sub("#", expression.substituted())


def test_brackets() -> None:
    a, b, c = symbol("a", 7), symbol("b", 3), symbol("c", 2)
    assert (a * (b + c)).formula() == "a * (b + c)"
    assert (a - (b - c)).formula() == "a - (b - c)"
    assert (a - b - c).formula() == "a - b - c"
    assert (a * (b // c)).formula() == "a * (b // c)"
    assert (a * b // c).formula() == "a * b // c"
    assert (2 * a).substituted() == "2 * 7"


def test_symbols_in_order() -> None:
    assert (symbol("D", 4) * symbol("F", 8) + symbol("D", 4)).symbols() == {"D": 4, "F": 8}


def test_it_is_an_int() -> None:
    value = symbol("D", 4096) * 2
    assert value == 8192
    assert value.__class__ is Expression
    assert pickle.loads(pickle.dumps(value)) == 8192
    assert f"{value:,}" == "8,192"
