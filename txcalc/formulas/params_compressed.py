"""Parameters of DeepSeek-V4's attention."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import CompressedAttention, CompressedIndexer, Compressor
from txcalc.expression import Expression, symbol
from txcalc.formulas.params_parts import linear
from txcalc.result import Node, leaf, total

COMPRESSED: Final = "DeepSeek-V4 report, section 2.3: compressed entries, shared keys and values, grouped outputs"


def compressed_attention_params(a: CompressedAttention) -> Node:
    """Queries, the shared key and value, the output in groups, sinks, and what makes entries."""
    D, N, H = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads), symbol("H", a.head_dim)
    rank, groups, out = symbol("q_lora_rank", a.q_lora_rank), symbol("o_groups", a.o_groups), a.o_lora_rank
    parts = [
        linear("q_a_proj", D, rank, bias=False),
        leaf("q_a_norm", "parameters", 1 * rank),
        linear("q_b_proj", rank, N * H, bias=False),
        linear("kv_proj", D, H, bias=False),
        leaf("kv_norm", "parameters", 1 * H),
        linear("o_a_proj", N * H, symbol("o_lora_rank", out), bias=False),
        linear("o_b_proj", groups * symbol("o_lora_rank", out), D, bias=False),
        leaf("sinks", "parameters", 1 * N),
        _compressor(a.compressor, D, H) if a.compressor else None,
        _indexer(a.compressor.indexer, a.compressor, D, rank) if a.compressor and a.compressor.indexer else None,
    ]
    return total("attention", "parameters", parts, source=COMPRESSED)


def entry_width(c: Compressor, H: Expression) -> Expression:
    """Channels that each token makes for the entries: twice a head's where it adds to two of them."""
    return 2 * H if c.overlapping else 1 * H


def _compressor(c: Compressor, D: Expression, H: Expression) -> Node:
    width = entry_width(c, H)
    parts = [
        linear("kv_proj", D, width, bias=False),
        linear("gate_proj", D, width, bias=False),
        leaf("position_bias", "parameters", symbol("rate", c.rate) * width),
        leaf("kv_norm", "parameters", 1 * H),
    ]
    return total("compressor", "parameters", parts)


def _indexer(i: CompressedIndexer, c: Compressor, D: Expression, rank: Expression) -> Node:
    heads, width = symbol("index_n_heads", i.num_heads), symbol("index_head_dim", i.head_dim)
    parts = [
        _compressor(c, D, width),
        linear("q_proj", rank, heads * width, bias=False),
        linear("head_weights", D, heads, bias=False),
    ]
    return total("indexer", "parameters", parts)
