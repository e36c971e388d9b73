"""Matmul FLOPs of recurrent mixers, with the algorithm that is counted.

``chunked``: a whole sequence as published implementations run it on matrix units, in chunks, padded to whole ones where
they pad; a depthwise convolution runs at T + kernel - 1 positions, because it is padded on both sides and cut.
``recurrent``: step by step, as one token is decoded; each step multiplies and sums the state with vectors elementwise,
so that only projections and the convolution, at T positions, are matrix products. What is no product is in the
elementwise estimate.
"""

from __future__ import annotations

from typing import Final

from txcalc.architecture import (
    GatedDeltaNet,
    LinearAttention,
    Mamba,
    Mamba2,
    RealGatedRecurrence,
    ShortConvolution,
    TokenConvolution,
)
from txcalc.expression import Expression, ceil_div, symbol
from txcalc.formulas.flops_work import Work, linear_flops
from txcalc.formulas.params_sublayers import CONVOLUTION, DELTA, GRIFFIN, LFM2, LINEAR_ATTENTION, MAMBA, MAMBA2
from txcalc.result import Node, leaf, total

DELTA_CHUNK: Final = 64  # of flash-linear-attention and transformers; no config holds it

_STEPS: Final = "recurrent form: step by step, the state multiplied and summed elementwise"
_CHUNKED: Final = "chunked form: products within chunks, and a state between them"
_READ_OUT: Final = "an elementwise scan, and a product that reads its states"


def _convolution(work: Work, channels: int, kernel: int) -> Node:
    """Depthwise: one filter of ``kernel`` taps a channel."""
    taps = symbol("conv_kernel", kernel)
    positions = work.T if work.scan == "recurrent" else work.T + (taps - 1)
    return leaf("conv", "FLOPs", 2 * work.B * positions * channels * taps)


def _algorithm(work: Work, chunked: str = _CHUNKED) -> str:
    return _STEPS if work.scan == "recurrent" else chunked


def mamba_flops(m: Mamba, work: Work) -> Node:
    """Selective scan: the state is updated elementwise and read out by C, [F, state] x [state]."""
    D, F = symbol("D", m.hidden_size), symbol("F", m.intermediate_size)
    state, rank = symbol("state_size", m.state_size), symbol("time_step_rank", m.time_step_rank)
    parts = [
        linear_flops("in_proj", work.rows, D, 2 * F),
        _convolution(work, F, m.conv_kernel),
        linear_flops("x_proj", work.rows, F, rank + 2 * state),
        linear_flops("dt_proj", work.rows, rank, F),
        leaf("state_readout", "FLOPs", 2 * work.rows * F * state) if work.scan == "chunked" else None,
        linear_flops("out_proj", work.rows, F, D),
    ]
    return total("mamba", "FLOPs", parts, source=MAMBA, convention=_algorithm(work, _READ_OUT))


def mamba2_flops(m: Mamba2, work: Work) -> Node:
    """State-space duality, section 6 of its paper: products within chunks, and one state for each chunk."""
    D, heads = symbol("D", m.hidden_size), symbol("num_heads", m.num_heads)
    H, state = symbol("head_dim", m.head_dim), symbol("state_size", m.state_size)
    inner, grouped = heads * H, symbol("n_groups", m.n_groups) * state
    parts = [
        linear_flops("in_proj", work.rows, D, 2 * inner + 2 * grouped + heads),
        _convolution(work, inner + 2 * grouped, m.conv_kernel),
        _mamba2_chunks(m, work, heads, H, state) if work.scan == "chunked" else None,
        linear_flops("out_proj", work.rows, inner, D),
    ]
    return total("mamba2", "FLOPs", parts, source=MAMBA2, convention=_algorithm(work))


def _mamba2_chunks(m: Mamba2, work: Work, heads: Expression, H: Expression, state: Expression) -> Node:
    chunk = symbol("chunk_size", m.chunk_size)
    chunks = ceil_div(work.T, chunk)
    each = work.B * chunks * heads
    parts = [
        leaf("scores_in_chunk", "FLOPs", 2 * each * chunk * chunk * state),
        leaf("values_in_chunk", "FLOPs", 2 * each * chunk * chunk * H),
        leaf("chunk_states", "FLOPs", 2 * each * chunk * H * state),
        leaf("states_between_chunks", "FLOPs", 2 * work.B * heads * (chunks + 1) * (chunks + 1) * H * state),
        leaf("state_readout", "FLOPs", 2 * each * chunk * H * state),
    ]
    return total("state_products", "FLOPs", parts)


def gated_delta_net_flops(g: GatedDeltaNet, work: Work) -> Node:
    """The delta rule in chunks of 64 by its UT transform (Yang et al. 2024, arXiv 2406.06484, section 3)."""
    D, heads = symbol("D", g.hidden_size), symbol("num_v_heads", g.num_v_heads)
    key, value = symbol("head_k_dim", g.head_k_dim), symbol("head_v_dim", g.head_v_dim)
    keys, values = symbol("num_k_heads", g.num_k_heads) * key, heads * value
    parts = [
        linear_flops("qkv_proj", work.rows, D, 2 * keys + values),
        _convolution(work, 2 * keys + values, g.conv_kernel),
        linear_flops("beta_proj", work.rows, D, heads),
        *_decay(g, work, D, heads, key),
        *_output_gate(g, work, D, values),
        _delta_chunks(g, work, heads, key, value) if work.scan == "chunked" else None,
        linear_flops("o_proj", work.rows, values, D),
    ]
    return total("gated_delta_net", "FLOPs", parts, source=DELTA, convention=_algorithm(work))


def _decay(g: GatedDeltaNet, work: Work, D: Expression, heads: Expression, key: Expression) -> list[Node]:
    if g.decay == "head":
        return [linear_flops("decay_proj", work.rows, D, heads)]
    if not g.decay_bottleneck:
        return [linear_flops("decay_proj", work.rows, D, heads * key)]
    rank = symbol("head_v_dim", g.head_v_dim)
    return [
        linear_flops("decay_a_proj", work.rows, D, rank),
        linear_flops("decay_b_proj", work.rows, rank, heads * key),
    ]


def _output_gate(g: GatedDeltaNet, work: Work, D: Expression, values: Expression) -> list[Node]:
    if g.gate_rank is None:
        return [linear_flops("gate_proj", work.rows, D, values)]
    rank = symbol("gate_rank", g.gate_rank)
    return [linear_flops("gate_a_proj", work.rows, D, rank), linear_flops("gate_b_proj", work.rows, rank, values)]


def _delta_chunks(g: GatedDeltaNet, work: Work, heads: Expression, key: Expression, value: Expression) -> Node:
    """Per-channel decay makes the scores within a chunk elementwise and applies the inverse by two products; with one
    decay a head the scores are two products, and the triangular system is solved, which is no product."""
    chunk = symbol("chunk_size", DELTA_CHUNK)
    each = work.B * ceil_div(work.T, chunk) * heads
    square = each * chunk * chunk
    if g.decay == "head":
        within = [leaf("scores_in_chunk", "FLOPs", 4 * square * key)]
    else:
        within = [leaf("inverse_in_chunk", "FLOPs", 2 * square * (key + value))]
    parts = [
        *within,
        leaf("values_in_chunk", "FLOPs", 2 * square * value),
        leaf("state_in_chunk", "FLOPs", 6 * each * chunk * key * value),
    ]
    return total("state_products", "FLOPs", parts)


def linear_attention_flops(a: LinearAttention, work: Work) -> Node:
    """``lightning``: products within blocks, and a state between them. Kernel feature maps: each key and value enters
    the state once, each query reads it once; random features are one more projection of queries and keys."""
    D, N, H = symbol("D", a.hidden_size), symbol("N", a.num_heads), symbol("H", a.head_dim)
    lightning = a.feature_map == "lightning"
    features = symbol("features", a.features) if a.features else H
    by_products = work.scan == "chunked" or not a.causal
    state = leaf("state_products", "FLOPs", 4 * work.rows * N * features * (H + 1))
    products = _lightning_blocks(a, work, N, H) if lightning else state
    parts = [
        linear_flops("qkv_proj", work.rows, D, 3 * (N * H)),
        linear_flops("gate_proj", work.rows, D, N * H) if lightning else None,
        linear_flops("feature_map", 2 * work.rows * N, H, features) if a.features else None,
        products if by_products else None,
        linear_flops("o_proj", work.rows, N * H, D),
    ]
    convention = _CHUNKED if by_products else _STEPS
    return total("linear_attention", "FLOPs", parts, source=LINEAR_ATTENTION, convention=convention)


def _lightning_blocks(a: LinearAttention, work: Work, N: Expression, H: Expression) -> Node:
    """The last block is as long as what is left."""
    block = symbol("block_size", a.block_size)
    rest = work.T % block
    squares = work.T // block * (block * block) + rest * rest
    parts = [
        leaf("products_in_block", "FLOPs", 4 * work.B * N * squares * H),
        leaf("state_of_block", "FLOPs", 4 * work.rows * N * H * H),
    ]
    return total("state_products", "FLOPs", parts)


def real_gated_recurrence_flops(g: RealGatedRecurrence, work: Work) -> Node:
    """Two block-diagonal gates, one block a head; the recurrence itself is elementwise."""
    D, W = symbol("D", g.hidden_size), symbol("lru_width", g.lru_width)
    parts = [
        linear_flops("x_proj", work.rows, D, W),
        linear_flops("y_proj", work.rows, D, W),
        _convolution(work, W, g.conv_kernel),
        leaf("gates", "FLOPs", 4 * work.rows * (W * W // symbol("N", g.num_heads))),
        linear_flops("out_proj", work.rows, W, D),
    ]
    return total("recurrence", "FLOPs", parts, source=GRIFFIN, convention="the recurrence is elementwise")


def short_convolution_flops(c: ShortConvolution, work: Work) -> Node:
    """Two projections around a depthwise convolution."""
    D = symbol("D", c.hidden_size)
    parts = [
        linear_flops("in_proj", work.rows, D, 3 * D),
        _convolution(work, D, c.conv_kernel),
        linear_flops("out_proj", work.rows, D, D),
    ]
    return total("short_convolution", "FLOPs", parts, source=LFM2)


def token_convolution_flops(c: TokenConvolution, work: Work) -> Node:
    """Every output channel from the channels of its group, at as many positions as there are tokens."""
    D = symbol("D", c.hidden_size)
    each = D * (D // symbol("groups", c.groups)) * symbol("conv_kernel", c.conv_kernel)
    return leaf("token_convolution", "FLOPs", 2 * work.rows * each, source=CONVOLUTION)
