"""Parameters and matmul FLOPs of Inkling's attention, and of its reading from earlier depths."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import DepthAttention, RelativeAttention
from txcalc.expression import symbol
from txcalc.formulas.flops_work import Work, linear_flops
from txcalc.formulas.params_parts import linear
from txcalc.formulas.score_pairs import halved, score_pairs
from txcalc.result import Node, leaf, total

SOURCE: Final = "Inkling (Thinking Machines): the shapes of its published implementation"


def relative_attention_params(a: RelativeAttention) -> Node:
    """Projections, profiles of distances, convolutions, norms or scales, and the second Inkling's gates."""
    D, N, K = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads), symbol("K", a.num_key_value_heads)
    H, rel, taps = symbol("H", a.head_dim), symbol("rel_dim", a.rel_dim), symbol("conv_kernel", a.conv_kernel)
    parts = [
        linear("q_proj", D, N * H, bias=False),
        linear("k_proj", D, K * H, bias=False),
        linear("v_proj", D, K * H, bias=False),
        linear("relative_proj", D, N * rel, bias=False),
        linear("o_proj", N * H, D, bias=False),
        leaf("profiles", "parameters", rel * symbol("rel_extent", a.rel_extent)),
        leaf("convolutions", "parameters", 2 * taps * K * H),
        linear("taps_proj", D, 2 * K * taps, bias=False) if a.dynamic else None,
        leaf("scales", "parameters", N * H + N * rel) if a.clipped else leaf("qk_norm", "parameters", 2 * H),
        linear("gate_proj", D, N * H, bias=False) if a.gated else None,
        linear("sink_proj", D, N, bias=False) if a.gated else None,
        leaf("input_norms", "parameters", 3 * D) if a.own_norms else None,
    ]
    return total("attention", "parameters", parts, source=SOURCE)


def relative_attention_flops(a: RelativeAttention, work: Work) -> Node:
    """The biases by distance are a product too, of every query with all profiles."""
    D, N, K = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads), symbol("K", a.num_key_value_heads)
    H, rel, taps = symbol("H", a.head_dim), symbol("rel_dim", a.rel_dim), symbol("conv_kernel", a.conv_kernel)
    pairs, half = score_pairs(work, causal=a.causal, window=a.window), halved(work, causal=a.causal)
    product = 2 * work.B * N * pairs * H
    parts = [
        linear_flops("q_proj", work.rows, D, N * H),
        linear_flops("k_proj", work.rows, D, K * H),
        linear_flops("v_proj", work.rows, D, K * H),
        linear_flops("relative_proj", work.rows, D, N * rel),
        linear_flops("profiles", work.rows * N, rel, symbol("rel_extent", a.rel_extent)),
        linear_flops("taps_proj", work.rows, D, 2 * K * taps) if a.dynamic else convolution(work, 2 * K * H, taps),
        linear_flops("gate_proj", work.rows, D, N * H) if a.gated else None,
        linear_flops("sink_proj", work.rows, D, N) if a.gated else None,
        leaf("scores", "FLOPs", product // 2 if half else product),
        leaf("values", "FLOPs", product // 2 if half else product),
        linear_flops("o_proj", work.rows, N * H, D),
    ]
    return total("attention", "FLOPs", parts, source=SOURCE)


def convolution(work: Work, channels: int, taps: int) -> Node:
    """Depthwise over time; a whole sequence is padded on both sides, and a decode step makes one position."""
    positions = work.T if work.scan == "recurrent" else work.T + (taps - 1)
    return leaf("conv", "FLOPs", 2 * work.B * positions * channels * taps)


def depth_flops(d: DepthAttention, work: Work) -> Node:
    """Scores of the learned queries with every source, and the sum."""
    pairs = symbol("queries", d.queries) * symbol("sources", d.sources)
    return leaf("depth_attention", "FLOPs", 2 * (2 * work.rows * pairs * symbol("D", d.hidden_size)))
