"""Matmul FLOPs of narrow encoders: block-diagonal matrices, convolutions beside attention, layers with a bottleneck."""

from __future__ import annotations

from txcalc.architecture import Bottleneck, Landmarks, SelfAttention
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


# ---- attention that is approximated ---------------------------------------------------------------------------------

_ROUNDS = 6  # of the inverse, four products each


def landmark_flops(marks: Landmarks, work: Work, N: Expression, H: Expression, Hv: Expression) -> list[Node]:
    """Queries against landmarks, landmarks against keys and each other, the inverse, and back (Xiong et al. 2021)."""
    m, each = symbol("num_landmarks", marks.count), 2 * work.B * N
    scores = [
        leaf("queries_to_landmarks", "FLOPs", each * work.T * m * H),
        leaf("landmarks_to_landmarks", "FLOPs", each * m * m * H),
        leaf("landmarks_to_keys", "FLOPs", each * m * work.S * H),
        leaf("inverse", "FLOPs", symbol("products", 4 * _ROUNDS) * each * m * m * m),
        leaf("inverse_to_queries", "FLOPs", each * work.T * m * m),
    ]
    values = [
        leaf("values_to_landmarks", "FLOPs", each * m * work.S * Hv),
        leaf("landmarks_to_outputs", "FLOPs", each * work.T * m * Hv),
    ]
    return [total("scores", "FLOPs", scores), total("values", "FLOPs", values)]


def value_conv_flops(a: SelfAttention, work: Work, inner: Expression) -> Node | None:
    """A filter a head, over the tokens of each of its channels."""
    if a.value_conv is None:
        return None
    return leaf("value_conv", "FLOPs", 2 * work.rows * inner * symbol("kernel", a.value_conv))


def approximated(a: SelfAttention, work: Work) -> str:
    """Why the products are not known to the unit; empty where they are."""
    if a.landmarks is not None and int(work.T) != a.landmarks.length:
        return f"landmarks are means of segments of a sequence of {a.landmarks.length} tokens, and of no other length"
    if a.weighting in ("hashes", "resolutions"):
        return "the whole square, as the exact attention that is approximated would take"
    if work.mask != "exact" and _runs_in_blocks(a, work):
        return "the whole square; published code runs padded blocks of tokens and their neighbours"
    return ""


def _runs_in_blocks(a: SelfAttention, work: Work) -> bool:
    """BigBird's short sequences are no more than the blocks that each of its tokens would see, and run in full."""
    if a.sparse_blocks is None:
        return a.in_blocks
    seen = 5 + 2 * a.sparse_blocks.num_random_blocks
    return int(work.T) > seen * a.sparse_blocks.block_size
