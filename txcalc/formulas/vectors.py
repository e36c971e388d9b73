"""Parameters that no token is multiplied by as a matrix: norms, biases, scales. 6 N counts them all the same."""

from __future__ import annotations

from collections.abc import Iterator

from txcalc.architecture import Layer, MixtureOfExperts, Model
from txcalc.formulas.flops_question import TOWERS
from txcalc.formulas.params import params
from txcalc.formulas.weights import matrix_of
from txcalc.result import Node


def vector_params(model: Model) -> tuple[int, int]:
    """(of the text stacks, of the heads), as far as one token uses them; input tables are neither."""
    everything = params(model).find("params.total")
    inside = sum(_of_stack(model, node) for node in everything.children if _text(node))
    return inside, sum(_vectors(node) for node in everything.children if node.key == "params.head")


def _text(node: Node) -> bool:
    return node.key != "params.head" and node.name not in (*TOWERS, "connector")


def _of_stack(model: Model, node: Node) -> int:
    stack = next((each for each in model.stacks if each.role == node.name), None)
    layers = iter(stack.layers if stack is not None else ())
    size = 0
    for child in node.children:
        if child.count is not None and child.name.startswith("layers"):
            size += int(child.count) * _of_layer(next(layers), child)
        else:
            size += _vectors(child)
    return size


def _of_layer(layer: Layer, node: Node) -> int:
    """Of one layer: vectors of the experts that a token visits, and of everything else."""
    mixtures = (each for each in layer.sublayers() if isinstance(each, MixtureOfExperts))
    size = 0
    for child in node.children:
        if child.name != "mixture_of_experts":
            size += _vectors(child)
            continue
        chosen = next(mixtures).num_experts_per_tok
        for part in child.children:
            size += chosen * sum(map(_vectors, part.children)) if part.name == "experts" else _vectors(part)
    return size


def _vectors(node: Node) -> int:
    """Elements below a node that stand in no matrix; of a matrix with a bias, the bias."""
    return sum(int(size) * times for size, times in _leaves(node, 1))


def _leaves(node: Node, times: int) -> Iterator[tuple[int, int]]:
    if node.aside or node.name == "embedding":
        return
    if node.expression is None:
        for child in node.children:
            yield from _leaves(child, times * (int(node.count) if node.count is not None else 1))
        return
    matrix = matrix_of(node)
    if matrix is None:
        yield int(node.value), times
    elif matrix.biased:
        yield int(matrix.size_out), times
