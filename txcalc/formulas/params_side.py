"""Parameters of what runs beside the residual stream (see ``architecture.side_streams``), or is known by its shape."""

from __future__ import annotations

from functools import reduce
from operator import mul
from typing import Final

from txcalc.architecture import AltUp, CountedPart, LowRankResidual, PerLayerInput, PerLayerTable, UnusedTensor
from txcalc.expression import symbol
from txcalc.result import Node, leaf, times, total

PER_LAYER: Final = "Gemma 3n, model card: per-layer embeddings"
LAUREL: Final = "LAuReL (Menghani et al. 2024, arXiv 2411.07501), section 2"
ALTUP: Final = "AltUp (Baykal et al. 2023, arXiv 2301.13310), section 3"


def side_params(sublayer: PerLayerInput | LowRankResidual) -> Node:
    """Of the two sublayers that hold two narrow matrices."""
    return _per_layer_input(sublayer) if isinstance(sublayer, PerLayerInput) else _low_rank(sublayer)


def _per_layer_input(p: PerLayerInput) -> Node:
    """Into the width of the layer's vector, and back."""
    D, width = symbol("D", p.hidden_size), symbol("hidden_size_per_layer_input", p.width)
    parts = [leaf("gate_proj", "parameters", D * width), leaf("up_proj", "parameters", width * D)]
    return total("per_layer_input", "parameters", parts, source=PER_LAYER)


def per_layer_table_params(p: PerLayerTable) -> Node:
    """The table that tokens are looked up in."""
    rows = (
        symbol("vocab_size_per_layer_input", p.vocab_size)
        * symbol("L", p.layers)
        * symbol("hidden_size_per_layer_input", p.width)
    )
    return leaf("per_layer_tokens", "parameters", rows, source=PER_LAYER)


def per_layer_projection_params(p: PerLayerTable, hidden_size: int) -> Node:
    """What the embedded token adds to the table's rows, and its norm."""
    width = symbol("hidden_size_per_layer_input", p.width)
    matrix = leaf("matrix", "parameters", symbol("D", hidden_size) * symbol("L", p.layers) * width)
    return total("per_layer_projection", "parameters", [matrix, leaf("norm", "parameters", 1 * width)])


def _low_rank(r: LowRankResidual) -> Node:
    """Two matrices and a norm."""
    D, rank = symbol("D", r.hidden_size), symbol("laurel_rank", r.rank)
    parts = [
        leaf("down_proj", "parameters", D * rank),
        leaf("up_proj", "parameters", rank * D),
        leaf("norm", "parameters", 1 * D),
    ]
    return total("low_rank_residual", "parameters", parts, source=LAUREL)


def altup_params(a: AltUp) -> Node:
    """A layer's router, its norm, the two maps of coefficients and the scale, which is stored where it is not used."""
    D, n = symbol("D", a.hidden_size), symbol("altup_num_inputs", a.streams)
    parts = [
        leaf("router", "parameters", D * n),
        leaf("router_norm", "parameters", 1 * D),
        leaf("prediction", "parameters", n * n * n),
        leaf("correction", "parameters", n * n),
        leaf("scale", "parameters", 1 * D),
    ]
    return total("altup", "parameters", parts, source=ALTUP)


def streams_params(hidden_size: int, streams: int) -> Node | None:
    """The matrices that make all streams but the first, and those that they are added up through."""
    if streams == 1:
        return None
    D = symbol("D", hidden_size)
    both = [leaf(name, "parameters", D * D) for name in ("in_proj", "out_proj")]
    return times("streams", "parameters", symbol("altup_num_inputs", streams) - 1, both, source=ALTUP)


def counted_params(part: CountedPart) -> Node:
    """A part that is known by its tensors."""
    rows = [leaf(name, "parameters", reduce(mul, shape, symbol("count", count))) for name, shape, count in part.tensors]
    return total(part.name, "parameters", rows)


def unused_params(tensors: tuple[UnusedTensor, ...]) -> Node | None:
    """Parameters that are held and never read; they are trainable tensors of the model all the same."""
    parts = []
    for tensor in tensors:
        elements = reduce(mul, tensor.shape, symbol("count", tensor.count))
        parts.append(leaf(tensor.name, "parameters", elements))
    return total("unused", "parameters", parts) if parts else None
