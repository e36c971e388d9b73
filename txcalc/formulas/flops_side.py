"""Matmul FLOPs of what runs beside the residual stream (see ``architecture.side_streams``)."""

from __future__ import annotations

from txcalc.architecture import AltUp, LowRankResidual, PerLayerInput, PerLayerTable
from txcalc.expression import symbol
from txcalc.formulas.flops_work import Work, linear_flops
from txcalc.formulas.params_side import ALTUP, LAUREL, PER_LAYER
from txcalc.result import Node, leaf, times, total


def per_layer_input_flops(p: PerLayerInput, work: Work) -> Node:
    """Into the width of the layer's vector, and back."""
    D, width = symbol("D", p.hidden_size), symbol("hidden_size_per_layer_input", p.width)
    parts = [linear_flops("gate_proj", work.rows, D, width), linear_flops("up_proj", work.rows, width, D)]
    return total("per_layer_input", "FLOPs", parts, source=PER_LAYER)


def per_layer_projection_flops(p: PerLayerTable, hidden_size: int, work: Work) -> Node:
    """From the embedded token to its vectors for all layers at once; looking up the table is no product."""
    wide = symbol("L", p.layers) * symbol("hidden_size_per_layer_input", p.width)
    return linear_flops("per_layer_projection", work.rows, symbol("D", hidden_size), wide)


def low_rank_flops(r: LowRankResidual, work: Work) -> Node:
    """Two matrices."""
    D, rank = symbol("D", r.hidden_size), symbol("laurel_rank", r.rank)
    parts = [linear_flops("down_proj", work.rows, D, rank), linear_flops("up_proj", work.rows, rank, D)]
    return total("low_rank_residual", "FLOPs", parts, source=LAUREL)


def altup_flops(a: AltUp, work: Work) -> Node:
    """Routed before and after the layer; the prediction is a product [D, streams] x [streams, streams] a token."""
    D, n = symbol("D", a.hidden_size), symbol("altup_num_inputs", a.streams)
    parts = [
        times("routers", "FLOPs", symbol("before_and_after", 2), [linear_flops("router", work.rows, D, n)]),
        linear_flops("prediction", work.rows, n, n * n),
        leaf("mixing", "FLOPs", 2 * work.rows * D * n * n),
        linear_flops("correction", work.rows, n, n),
    ]
    return total("altup", "FLOPs", parts, source=ALTUP)


def streams_flops(name: str, hidden_size: int, streams: int, work: Work) -> Node | None:
    """A matrix for each stream but the first."""
    if streams == 1:
        return None
    D = symbol("D", hidden_size)
    return times(
        name, "FLOPs", symbol("altup_num_inputs", streams) - 1, [linear_flops("proj", work.rows, D, D)], source=ALTUP
    )
