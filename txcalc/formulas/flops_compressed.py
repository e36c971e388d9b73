"""Matmul FLOPs of DeepSeek-V4's attention."""

from __future__ import annotations

from txcalc.architecture import CompressedAttention, CompressedIndexer, Compressor
from txcalc.expression import Expression, minimum, symbol
from txcalc.formulas.flops_work import Work, linear_flops
from txcalc.formulas.params_compressed import COMPRESSED, entry_width
from txcalc.formulas.score_pairs import halved, score_pairs
from txcalc.result import Node, leaf, total


def compressed_attention_flops(a: CompressedAttention, work: Work) -> Node:
    """Every query meets the tokens of the window and the entries made so far; an indexer's choice saves nothing of the
    whole square."""
    D, N, H = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads), symbol("H", a.head_dim)
    rank, out = symbol("q_lora_rank", a.q_lora_rank), symbol("o_lora_rank", a.o_lora_rank)
    pairs = score_pairs(work, causal=a.causal, window=a.window)
    half = halved(work, causal=a.causal)
    parts = [
        linear_flops("q_a_proj", work.rows, D, rank),
        linear_flops("q_b_proj", work.rows, rank, N * H),
        linear_flops("kv_proj", work.rows, D, H),
        *_compressor(a.compressor, work, D, H),
        _indexer(a.compressor.indexer, a.compressor, work, D, rank) if a.compressor and a.compressor.indexer else None,
        *_products("scores", "values", work, N * H, pairs, half=half),
        *(_entries(a.compressor, work, N * H, half=half) if a.compressor else ()),
        linear_flops("o_a_proj", work.rows, N * H, out),
        linear_flops("o_b_proj", work.rows, symbol("o_groups", a.o_groups) * out, D),
    ]
    return total("attention", "FLOPs", parts, source=COMPRESSED)


def _products(scores: str, values: str, work: Work, width: Expression, pairs: Expression, *, half: bool) -> list[Node]:
    whole = 2 * work.B * pairs * width
    return [leaf(name, "FLOPs", whole // 2 if half else whole) for name in (scores, values)]


def _entries(c: Compressor, work: Work, width: Expression, *, half: bool) -> list[Node]:
    return _products("summary_scores", "summary_values", work, width, _entry_pairs(c, work), half=half)


def _entry_pairs(c: Compressor, work: Work) -> Expression:
    """Pairs of queries and entries: with ``exact`` only those of whole blocks of tokens up to the query's own.

    derived: query t meets floor(t / rate) entries, at most top_k: rate of each count below the last n, then n each.
    """
    rate = symbol("rate", c.rate)
    entries = work.S // rate
    if work.decoding or work.mask != "exact":
        return work.T * entries
    n = minimum(entries, symbol("index_topk", c.indexer.top_k)) if c.indexer else entries
    if not int(n):
        return work.T * n
    return rate * (n * (n - 1) // 2) + n * (work.T - n * rate + 1)


def _compressor(c: Compressor | None, work: Work, D: Expression, H: Expression) -> list[Node]:
    if c is None:
        return []
    width = entry_width(c, H)
    return [
        linear_flops("entry_values", work.rows, D, width),
        linear_flops("entry_weights", work.rows, D, width),
    ]


def _indexer(i: CompressedIndexer, c: Compressor, work: Work, D: Expression, rank: Expression) -> Node:
    """Scores of every head with the entries of its own; its choice has no gradient."""
    heads, width = symbol("index_n_heads", i.num_heads), symbol("index_head_dim", i.head_dim)
    entries = work.S // symbol("rate", c.rate)
    parts = [
        *_compressor(c, work, D, width),
        linear_flops("q_proj", work.rows, rank, heads * width),
        linear_flops("head_weights", work.rows, D, heads),
        leaf("indexer_scores", "FLOPs", 2 * work.B * heads * (work.T * entries) * width),
    ]
    return total("indexer", "FLOPs", parts)
