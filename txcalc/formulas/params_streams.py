"""Parameters of several residual streams, and of reading from earlier depths."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import DepthAttention, HyperConnection, StreamHead
from txcalc.expression import exact, symbol
from txcalc.result import Node, leaf, total

STREAMS: Final = "Zhu et al. 2025 (arXiv 2409.19606); mixed by doubly stochastic matrices: DeepSeek-V4, section 2.2"


def hyper_params(hyper: HyperConnection | StreamHead | None) -> Node | None:
    """The weights of streams: a matrix over all of them, a bias and a scale for each kind of weight."""
    if hyper is None:
        return None
    n, D = symbol("streams", hyper.streams), symbol("D", hyper.hidden_size)
    if isinstance(hyper, StreamHead):
        outputs, kinds = 1 * n, 1
    else:
        outputs, kinds = (2 * n + n * n, 3) if hyper.mixing else (2 * n, 2)
    parts = [
        leaf("matrix", "parameters", n * D * outputs),
        leaf("biases", "parameters", outputs),
        leaf("scales", "parameters", exact(kinds)),
    ]
    return total("streams", "parameters", parts, source=STREAMS)


def depth_params(depth: DepthAttention | None) -> Node | None:
    """Learned queries over sums of earlier layers."""
    if depth is None:
        return None
    return leaf("depth_queries", "parameters", symbol("queries", depth.queries) * symbol("D", depth.hidden_size))
