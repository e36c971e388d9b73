"""Parameters of what every sublayer is made of: matrices and norms."""

from __future__ import annotations

from txcalc.architecture import Norm
from txcalc.expression import symbol
from txcalc.result import Node, leaf, total


def linear(name: str, size_in: int, size_out: int, *, bias: bool) -> Node:
    """A matrix [size_in, size_out] and perhaps a bias [size_out]."""
    return leaf(name, "parameters", size_in * size_out + size_out if bias else size_in * size_out)


def norm_params(name: str, norm: Norm | None) -> Node | None:
    """A norm's weight and bias; None where it has neither."""
    if norm is None or not (norm.weight or norm.bias):
        return None
    D = symbol("D", norm.width)
    weights = leaf(name, "parameters", 2 * D if norm.weight and norm.bias else 1 * D)
    if norm.gate_rank is None:
        return weights
    rank = symbol("gate_rank", norm.gate_rank)
    gate = leaf("gate", "parameters", 2 * D * rank)
    return total(name, "parameters", [weights.replace(name="weight"), gate])
