"""The legend's letters, filled in from an architecture (see ``txcalc.symbols``)."""

from __future__ import annotations

from txcalc.expression import Expression, symbol


def letter(name: str, value: int) -> Expression:
    """A letter of the legend, or a config field by its own name, with its value."""
    return symbol(name, value)


def head_widths(head_dim: int, v_head_dim: int) -> tuple[Expression, Expression]:
    """(H, width of a value head): one letter where keys and values are equally wide."""
    keys = symbol("H", head_dim)
    return keys, keys if v_head_dim == head_dim else symbol("v_head_dim", v_head_dim)
