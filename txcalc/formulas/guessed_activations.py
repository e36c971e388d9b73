"""A rough size of a layer's activations where it has no walk: what its matrices put out, all of it at once."""

from __future__ import annotations

from collections.abc import Iterator

from txcalc.architecture import Layer, MixtureOfExperts
from txcalc.formulas.params_experts import expert_params
from txcalc.formulas.params_sublayers import sublayer_params
from txcalc.formulas.weights import matrix_of
from txcalc.result import Node


def widest_outputs(layer: Layer) -> int:
    """Channels that the matrices of a layer's widest sublayer put out for one token."""
    return max((sum(_outputs(sublayer_params(each), each)) for each in layer.sublayers()), default=0)


def _outputs(node: Node, sublayer: object) -> Iterator[int]:
    for child in node.children:
        if child.name == "experts" and isinstance(sublayer, MixtureOfExperts):
            yield sublayer.num_experts_per_tok * sum(_outputs(expert_params(sublayer), None))
            continue
        matrix = matrix_of(child)
        if matrix is not None:
            yield int(matrix.size_out)
        yield from _outputs(child, sublayer)
