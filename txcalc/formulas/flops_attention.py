"""Matmul FLOPs of attention: projections, and the score and value products.

Grouped key/value heads save projections and cache, not products: each query head multiplies with its group's keys.
"""

from __future__ import annotations

from typing import Final

from txcalc.architecture import (
    CrossAttention,
    Disentangled,
    Indexer,
    LatentAttention,
    ProjectedDistances,
    RelativeKeys,
    SelfAttention,
)
from txcalc.expression import Expression, minimum, symbol
from txcalc.formulas.flops_blocks import (
    approximated,
    blocks_flops,
    landmark_flops,
    span_convolution_flops,
    value_conv_flops,
)
from txcalc.formulas.flops_work import Work, linear_flops
from txcalc.formulas.letters import head_widths
from txcalc.formulas.params_blocks import groups_of, heads_out, value_width
from txcalc.formulas.params_latent import BLOCK_INDEXER, INDEXER, LATENT
from txcalc.formulas.params_sublayers import ATTENTION, CONVOLVED, CROSS
from txcalc.formulas.score_pairs import halved, score_pairs
from txcalc.result import Node, leaf, times, total

# The nodes that make up ``flops.attention``: products over pairs of tokens, no projections.
PRODUCTS: Final = frozenset(
    {
        "scores",
        "values",
        "position_scores",
        "indexer_scores",
        "summary_scores",
        "summary_values",
        "source_scores",
        "source_values",
    }
)


def product_flops(name: str, work: Work, heads: int, pairs: Expression, width: int, *, half: bool = False) -> Node:
    """One product over pairs of tokens, [T, width] x [width, S] or [T, S] x [S, width], in each head."""
    whole = 2 * work.B * heads * pairs * width
    return leaf(name, "FLOPs", whole // 2 if half else whole)


# ---- self and cross attention ---------------------------------------------------------------------------------------


def self_attention_flops(a: SelfAttention, work: Work) -> Node:
    """Projections of the new tokens, their scores against every key, and the weighted sum of values."""
    D, N = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads)
    K = symbol("K", a.num_key_value_heads)
    H, Hv = head_widths(a.head_dim, a.v_head_dim)
    own_kv, groups = a.kv_source is None, groups_of(a)
    pairs = score_pairs(work, causal=a.causal, window=a.window, chunk=a.chunk)
    half = halved(work, causal=a.causal)
    parts = [
        linear_flops("router", work.rows, D, symbol("E", a.expert_heads.num_experts)) if a.expert_heads else None,
        blocks_flops("q_proj", work.rows, D, N * H, groups.q),
        blocks_flops("k_proj", work.rows, D, K * H, groups.k) if own_kv else None,
        blocks_flops("v_proj", work.rows, value_width(a, D), K * Hv, groups.v) if own_kv and not a.k_equals_v else None,
        span_convolution_flops(a, work, D, N * H),
        _convolved(a, work, N, K, H),
        _gate(a, work, D, N, Hv),
        _block_indexer(a, work, D, pairs, half=half),
        _dynamic_mask(a, work, Hv),
        *_position_projections(a, work),
        *_products(a, work, pairs, half=half),
        value_conv_flops(a, work, N * Hv),
        *_summaries(a, work, D),
        *_joined_source(a, work, D),
        blocks_flops("o_proj", work.rows, heads_out(a, N * Hv), _output(a, D), groups.o),
        _adapters(a, work, D),
    ]
    beside = _beside(a) or approximated(a, work)
    return total(
        "attention",
        "FLOPs",
        parts,
        source=ATTENTION,
        note=_global_note(a),
        basis="estimated" if beside else "exact",
        reason=beside,
    )


def _output(a: SelfAttention, D: Expression) -> Expression:
    return D if a.out_size is None else symbol("out_size", a.out_size)


def _convolved(a: SelfAttention, work: Work, N: Expression, K: Expression, H: Expression) -> Node | None:
    """Filters over the last tokens, padded at the front: the first gives the second what it needs of earlier ones."""
    if a.convolved is None:
        return None
    first, second = symbol("depthwise_taps", a.convolved.depthwise), symbol("grouped_taps", a.convolved.grouped)
    channels = (N + K) * H
    parts = [
        leaf("conv", "FLOPs", 2 * work.B * (work.T + (second - 1)) * channels * first),
        leaf("grouped_conv", "FLOPs", 2 * work.rows * channels * H * second),
    ]
    return total("convolved_heads", "FLOPs", parts, source=CONVOLVED)


def _products(a: SelfAttention, work: Work, pairs: Expression, *, half: bool) -> list[Node | None]:
    """Scores, and values weighted by them: of every pair, or by way of landmarks."""
    N = symbol("N", a.num_attention_heads)
    H, Hv = head_widths(a.head_dim, a.v_head_dim)
    if a.landmarks is not None:
        return [*landmark_flops(a.landmarks, work, N, H, Hv)]
    return [
        product_flops("scores", work, 2 * N if a.differential else N, pairs, H, half=half),  # for either half of values
        _position_scores(a, work, pairs, half),
        product_flops("values", work, N, pairs, 2 * Hv if a.differential else Hv, half=half),
    ]


def _adapters(a: SelfAttention, work: Work, D: Expression) -> Node | None:
    """Beside queries, keys and values."""
    if a.adapter_rank is None:
        return None
    rank = symbol("adapter_rank", a.adapter_rank)
    pair = [linear_flops("adapter_in", work.rows, D, rank), linear_flops("adapter_out", work.rows, rank, D)]
    return times("adapters", "FLOPs", symbol("projections", 3), pair)


def _beside(a: SelfAttention) -> str:
    """What runs beside the sequence and is not counted."""
    if a.global_stream is not None:
        return "the learned tokens beside the sequence pass every layer too; they are not counted"
    if a.future_streams is not None:
        return "the streams that predict further ahead pass every layer too; they are not counted"
    return ""


def _joined_source(a: SelfAttention, work: Work, D: Expression) -> list[Node | None]:
    """An encoder's output through the same matrices; while decoding its keys and values are cached."""
    if not a.joins_source or work.source is None:
        return []
    N, K = symbol("N", a.num_attention_heads), symbol("K", a.num_key_value_heads)
    H, Hv = head_widths(a.head_dim, a.v_head_dim)
    rows, pairs = work.B * work.source, work.T * work.source
    return [
        None if work.decoding else linear_flops("source_keys", rows, D, K * H),
        None if work.decoding else linear_flops("source_values_proj", rows, D, K * Hv),
        product_flops("source_scores", work, N, pairs, H),
        product_flops("source_values", work, N, pairs, Hv),
    ]


def _summaries(a: SelfAttention, work: Work, D: Expression) -> list[Node]:
    """LongT5: the mean of every whole block of tokens is one more key and value (Guo et al. 2022, section 3.1.2)."""
    if a.transient_global is None:
        return []
    N, K = symbol("N", a.num_attention_heads), symbol("K", a.num_key_value_heads)
    H, Hv = head_widths(a.head_dim, a.v_head_dim)
    blocks = work.S // symbol("block_size", a.transient_global.block_size)
    return [
        linear_flops("summary_keys", work.B * blocks, D, K * H),
        linear_flops("summary_values_proj", work.B * blocks, D, K * Hv),
        product_flops("summary_scores", work, N, work.T * blocks, H),
        product_flops("summary_values", work, N, work.T * blocks, Hv),
    ]


def _gate(a: SelfAttention, work: Work, D: Expression, N: Expression, Hv: Expression) -> Node | None:
    match a.gate:
        case "none":
            return None
        case "channel":
            return linear_flops("gate_proj", work.rows, D, N * Hv)
        case "head":
            return linear_flops("gate_proj", work.rows, D, N)


def _block_indexer(a: SelfAttention, work: Work, D: Expression, pairs: Expression, *, half: bool) -> Node | None:
    """Each of its heads scores every key; what is chosen saves nothing of the whole square."""
    if a.block_indexer is None:
        return None
    heads, width = (
        symbol("index_n_heads", a.block_indexer.num_heads),
        symbol("index_head_dim", a.block_indexer.head_dim),
    )
    parts = [
        linear_flops("q_proj", work.rows, D, heads * width),
        linear_flops("k_proj", work.rows, D, width),
        product_flops("indexer_scores", work, heads, pairs, width, half=half),
    ]
    return total("indexer", "FLOPs", parts, source=BLOCK_INDEXER)


def _dynamic_mask(a: SelfAttention, work: Work, Hv: Expression) -> Node | None:
    """How much each key counts is made of its value; in a decode step again of all that are cached."""
    if a.dynamic_mask is None:
        return None
    K = symbol("K", a.num_key_value_heads)
    rows = work.B * _cached(work, a.window) if work.decoding else work.rows
    return linear_flops("dynamic_mask", rows, K * Hv, K)


def _cached(work: Work, window: int | None) -> Expression:
    """Keys that a decode step finds, its own among them: a windowed layer keeps no more than its window."""
    return work.S if window is None else minimum(work.S, symbol("window", window))


def _global_note(a: SelfAttention) -> str:
    if a.sparse_blocks is not None:
        return "the whole square, as for a short sequence; in a long one blocks see their neighbours and a few others"
    if a.global_tokens is None:
        return ""
    return "no token is counted as global: the projections for global tokens are not run"


def _position_projections(a: SelfAttention, work: Work) -> list[Node]:
    """DeBERTa's relative vectors, 2 * span of them, through the query and key projections or ones of their own."""
    D, inner = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads) * symbol("H", a.head_dim)
    if isinstance(a.position, ProjectedDistances):
        return [linear_flops("distances", work.B * _distances(a, work), D, inner)]
    if not isinstance(a.position, Disentangled):
        return []
    vectors = _relative_vectors(a.position, work)
    both = a.position.share_key
    keys, queries = a.position.content_to_position or both, a.position.position_to_content or both
    return [
        *([linear_flops("position_keys", vectors, D, inner)] if keys else []),
        *([linear_flops("position_queries", vectors, D, inner)] if queries else []),
    ]


def _distances(a: SelfAttention, work: Work) -> Expression:
    """How many distances a pass has vectors for: back to the first key, and ahead too where tokens look ahead."""
    return work.S + 1 if a.causal else work.S + work.T


def _relative_vectors(position: Disentangled, work: Work) -> Expression:
    span = symbol("span", position.span)
    return 2 * (minimum(span, work.S) if position.within_length else span)


def _position_scores(a: SelfAttention, work: Work, pairs: Expression, half: bool) -> Node | None:
    """Scores that depend on the distance and are matrix products; a bias that is looked up costs no product.

    Shaw et al. 2018 (arXiv 1803.02155), equation 5; He et al. 2021 (arXiv 2006.03654), section 3.1: every query meets
    the 2 * span relative keys (content to position), every key the relative queries (position to content).
    """
    N, H = symbol("N", a.num_attention_heads), symbol("H", a.head_dim)
    match a.position:
        case RelativeKeys():
            return product_flops("position_scores", work, 2 * N if a.position.queries else N, pairs, H, half=half)
        case Disentangled():
            vectors = _relative_vectors(a.position, work)
            to_position, to_content = a.position.content_to_position, a.position.position_to_content
            parts = [
                product_flops("content_to_position", work, N, work.T * vectors, H) if to_position else None,
                product_flops("position_to_content", work, N, work.S * vectors, H) if to_content else None,
            ]
            return total("position_scores", "FLOPs", parts)
        case ProjectedDistances():
            return product_flops("position_scores", work, N, work.T * _distances(a, work), H)
        case _:
            return None


def cross_attention_flops(a: CrossAttention, work: Work) -> Node:
    """Queries of the decoder against the encoder's output; while decoding its keys and values are cached."""
    D, N = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads)
    source_size = D if a.source_size == a.hidden_size else symbol("source_size", a.source_size)
    K = symbol("K", a.num_key_value_heads)
    H, Hv = head_widths(a.head_dim, a.v_head_dim)
    S = work.source if work.source is not None else work.S
    rows = work.B * S
    parts = [
        linear_flops("q_proj", work.rows, D, N * H),
        None if work.decoding else linear_flops("k_proj", rows, source_size, K * H),
        None if work.decoding else linear_flops("v_proj", rows, source_size, K * Hv),
        product_flops("scores", work, N, work.T * S, H),
        product_flops("values", work, N, work.T * S, Hv),
        linear_flops("o_proj", work.rows, N * Hv, D),
    ]
    note = "keys and values of the source are cached" if work.decoding else ""
    return total("cross_attention", "FLOPs", parts, source=CROSS, note=note)


# ---- latent attention -----------------------------------------------------------------------------------------------


def latent_attention_flops(a: LatentAttention, work: Work) -> Node:
    """DeepSeek-V2, section 2.1: ``expanded`` makes each head's keys and values of the latents, in a decode step of all
    that are cached; ``absorbed`` moves those matrices to the queries and outputs, so that heads attend over latents."""
    D, N = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads)
    latent, v = symbol("kv_lora_rank", a.kv_lora_rank), symbol("v_head_dim", a.v_head_dim)
    rope = symbol("qk_rope_head_dim", a.qk_rope_head_dim)
    absorbed = work.mla == "absorbed"
    parts = [
        *_latent_queries(a, work, D, N),
        linear_flops("kv_a_proj", work.rows, D, latent + rope),
        _indexer(a.indexer, work, D, causal=a.causal) if a.indexer and not a.indexer.shared else None,
        *(_absorbed(a, work, N, latent, v) if absorbed else _expanded(a, work, N, latent, v)),
        _latent_gate(a, work, D, N, v),
        linear_flops("o_proj", work.rows, N * v, D),
    ]
    return total("attention", "FLOPs", parts, source=LATENT, convention=f"latent attention {work.mla}")


def _latent_queries(a: LatentAttention, work: Work, D: Expression, N: Expression) -> list[Node]:
    width = symbol("qk_nope_head_dim", a.qk_nope_head_dim) + symbol("qk_rope_head_dim", a.qk_rope_head_dim)
    if a.q_lora_rank is None:
        return [linear_flops("q_proj", work.rows, D, N * width)]
    rank = symbol("q_lora_rank", a.q_lora_rank)
    read = 2 * rank if a.gate == "latent" else rank
    return [linear_flops("q_a_proj", work.rows, D, rank), linear_flops("q_b_proj", work.rows, read, N * width)]


def _latent_gate(a: LatentAttention, work: Work, D: Expression, N: Expression, v: Expression) -> Node | None:
    match a.gate:
        case "none":
            return None
        case "channel":
            return linear_flops("gate_proj", work.rows, D, N * v)
        case "head":
            return linear_flops("gate_proj", work.rows, D, N)
        case "latent":
            return linear_flops("gate_proj", work.rows, 2 * symbol("q_lora_rank", a.q_lora_rank or 0), N * v)


def _expanded(a: LatentAttention, work: Work, N: Expression, latent: Expression, v: Expression) -> list[Node]:
    nope, rope = symbol("qk_nope_head_dim", a.qk_nope_head_dim), symbol("qk_rope_head_dim", a.qk_rope_head_dim)
    pairs, half = _latent_pairs(a, work), halved(work, causal=a.causal)
    rows = (
        work.B * _cached(work, a.window) if work.decoding else work.rows
    )  # what is cached is the latent of every token
    return [
        linear_flops("kv_b_proj", rows, latent, N * (nope + v)),
        product_flops("scores", work, N, pairs, nope + rope, half=half),
        product_flops("values", work, N, pairs, v, half=half),
    ]


def _absorbed(a: LatentAttention, work: Work, N: Expression, latent: Expression, v: Expression) -> list[Node]:
    nope, rope = symbol("qk_nope_head_dim", a.qk_nope_head_dim), symbol("qk_rope_head_dim", a.qk_rope_head_dim)
    pairs, half = _latent_pairs(a, work), halved(work, causal=a.causal)
    return [
        linear_flops("queries_to_latent", work.rows, N * nope, latent),
        product_flops("scores", work, N, pairs, latent + rope, half=half),
        product_flops("values", work, N, pairs, latent, half=half),
        linear_flops("latent_to_values", work.rows, N * latent, v),
    ]


def _latent_pairs(a: LatentAttention, work: Work) -> Expression:
    """A sparse layer keeps ``top_k`` keys a query: that saves products where masked pairs are left out."""
    if a.indexer is None or work.mask != "exact":
        return score_pairs(work, causal=a.causal, window=a.window)
    return score_pairs(work, causal=a.causal, window=a.indexer.top_k)


def _indexer(i: Indexer, work: Work, D: Expression, *, causal: bool) -> Node:
    """Scores of every head with one shared key, then their weighted sum over the heads."""
    heads, width = symbol("index_n_heads", i.num_heads), symbol("index_head_dim", i.head_dim)
    pairs, half = score_pairs(work, causal=causal), halved(work, causal=causal)
    scores = [
        product_flops("scores_by_head", work, heads, pairs, width, half=half),
        product_flops("weighted_sum", work, heads, pairs, 1, half=half),
    ]
    parts = [
        linear_flops("q_proj", work.rows, symbol("q_lora_rank", i.query_size), heads * width),
        linear_flops("k_proj", work.rows, D, width),
        linear_flops("head_weights", work.rows, D, heads),
        total("indexer_scores", "FLOPs", scores),
    ]
    return total("indexer", "FLOPs", parts, source=INDEXER)
