"""Matmul FLOPs of narrow encoders: block-diagonal matrices, convolutions beside attention, layers with a bottleneck."""

from __future__ import annotations

from txcalc.architecture import Bottleneck, SelfAttention
from txcalc.expression import Expression, symbol
from txcalc.formulas.flops_work import Work, linear_flops
from txcalc.formulas.params_blocks import CONVBERT, MOBILEBERT
from txcalc.result import Node, leaf, times, total


def blocks_flops(name: str, rows: Expression, size_in: Expression, size_out: Expression, groups: int) -> Node:
    """A matrix of ``groups`` blocks on the diagonal, applied to ``rows`` vectors."""
    if groups == 1:
        return linear_flops(name, rows, size_in, size_out)
    return leaf(name, "FLOPs", 2 * rows * (size_in // symbol("groups", groups)) * size_out)


def span_convolution_flops(a: SelfAttention, work: Work, D: Expression, inner: Expression) -> Node | None:
    """A separable convolution, every token's filters, and their product with the values of its neighbours."""
    if a.span_convolution is None:
        return None
    N, taps = symbol("N", a.num_attention_heads), symbol("kernel", a.span_convolution.kernel)
    parts = [
        leaf("depthwise", "FLOPs", 2 * work.rows * D * taps),
        linear_flops("pointwise_proj", work.rows, D, inner),
        linear_flops("filters_proj", work.rows, inner, N * taps),
        linear_flops("span_values_proj", work.rows, D, inner),
        leaf("filtered", "FLOPs", 2 * work.rows * inner * taps),
    ]
    return total("span_convolution", "FLOPs", parts, source=CONVBERT)


def bottleneck_flops(b: Bottleneck, work: Work) -> Node:
    """Into the narrow width, once or twice, and back."""
    D, width = symbol("D", b.hidden_size), symbol("width", b.width)
    parts = [
        times("in_proj", "FLOPs", symbol("maps", 1 + b.queries), [linear_flops("in_proj", work.rows, D, width)]),
        linear_flops("out_proj", work.rows, width, D),
    ]
    return total("bottleneck", "FLOPs", parts, source=MOBILEBERT)
