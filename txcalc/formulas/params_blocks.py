"""Parameters of narrow encoders: block-diagonal matrices, convolutions beside attention, layers with a bottleneck."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import Bottleneck, GroupedProjections, SelfAttention
from txcalc.expression import Expression, symbol
from txcalc.formulas.params_parts import linear, norm_params
from txcalc.result import Node, leaf, total

CONVBERT: Final = "Jiang et al. 2020 (arXiv 2008.02496), section 3.3"
MOBILEBERT: Final = "Sun et al. 2020 (arXiv 2004.02984), section 3.1"
_WHOLE: Final = GroupedProjections(q=1, k=1, v=1, o=1)


def blocks(name: str, size_in: Expression, size_out: Expression, groups: int, *, bias: bool) -> Node:
    """A matrix of ``groups`` blocks on the diagonal, [size_in / groups, size_out / groups] each, and perhaps a bias."""
    if groups == 1:
        return linear(name, size_in, size_out, bias=bias)
    inside = size_in // symbol("groups", groups) * size_out
    return leaf(name, "parameters", inside + size_out if bias else inside)


def groups_of(a: SelfAttention) -> GroupedProjections:
    """The blocks of its projections; one each where nothing else is said."""
    return a.groups or _WHOLE


def value_width(a: SelfAttention, D: Expression) -> Expression:
    """What values are made of."""
    return D if a.value_size is None else symbol("value_size", a.value_size)


def heads_out(a: SelfAttention, inner: Expression) -> Expression:
    """What the output projection reads."""
    return 2 * inner if a.span_convolution else inner


def span_convolution_params(a: SelfAttention, D: Expression, inner: Expression) -> Node | None:
    """A separable convolution with a bias, the map to the filters, and that to the values."""
    if a.span_convolution is None:
        return None
    N, taps = symbol("N", a.num_attention_heads), symbol("kernel", a.span_convolution.kernel)
    parts = [
        leaf("depthwise", "parameters", D * taps),
        linear("pointwise_proj", D, inner, bias=True),
        linear("filters_proj", inner, N * taps, bias=True),
        linear("span_values_proj", D, inner, bias=True),
    ]
    return total("span_convolution", "parameters", parts, source=CONVBERT)


def bottleneck_params(b: Bottleneck | None) -> Node | None:
    """Into the narrow width, once or twice, and back."""
    if b is None:
        return None
    D, width = symbol("D", b.hidden_size), symbol("width", b.width)
    queries = [linear("queries_in_proj", D, width, bias=True), norm_params("queries_norm", b.norm_in)]
    parts = [
        linear("in_proj", D, width, bias=True),
        norm_params("norm_in", b.norm_in),
        *(queries if b.queries else []),
        linear("out_proj", width, D, bias=True),
        norm_params("norm_out", b.norm_out),
    ]
    return total("bottleneck", "parameters", parts, source=MOBILEBERT)
