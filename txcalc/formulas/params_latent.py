"""Parameters of latent attention, and of what chooses the keys that a query looks at."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import Indexer, LatentAttention, SelfAttention
from txcalc.expression import Expression, symbol
from txcalc.formulas.params_parts import linear
from txcalc.result import Node, leaf, total

LATENT: Final = "DeepSeek-V2 (arXiv 2405.04434), section 2.1.2, equations 9 to 19"
INDEXER: Final = "DeepSeek-V3.2 report, section 2.1"
BLOCK_INDEXER: Final = "MiniMax M3: a key of its own for each token, scored by a few heads"
DYNAMIC_MASK: Final = "Doge (arXiv 2412.11834), section 2.2"


def latent_attention_params(a: LatentAttention) -> Node:
    """Both latents' matrices and norms, what expands them, the output, and what stands beside."""
    D, N = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads)
    nope, rope = symbol("qk_nope_head_dim", a.qk_nope_head_dim), symbol("qk_rope_head_dim", a.qk_rope_head_dim)
    latent, v = symbol("kv_lora_rank", a.kv_lora_rank), symbol("v_head_dim", a.v_head_dim)
    parts = [
        *_latent_queries(a, D, N, nope + rope),
        linear("kv_a_proj", D, latent + rope, bias=a.bias),
        leaf("kv_a_norm", "parameters", 1 * latent),
        leaf("key_norm", "parameters", 1 * rope) if a.key_norm else None,
        linear("kv_b_proj", latent, N * (nope + v), bias=False),
        linear("o_proj", N * v, D, bias=a.bias),
        _latent_gate(a, D, N, v),
        leaf("sinks", "parameters", 1 * N) if a.sinks else None,
        _indexer(a.indexer, D) if a.indexer and not a.indexer.shared else None,
    ]
    return total("attention", "parameters", parts, source=LATENT)


def _latent_queries(a: LatentAttention, D: int, N: int, width: int) -> list[Node]:
    if a.q_lora_rank is None:
        return [linear("q_proj", D, N * width, bias=False)]
    rank = symbol("q_lora_rank", a.q_lora_rank)
    return [
        linear("q_a_proj", D, rank, bias=a.bias),
        leaf("q_a_norm", "parameters", 1 * rank),
        linear("q_b_proj", 2 * rank if a.gate == "latent" else rank, N * width, bias=False),
    ]


def _latent_gate(a: LatentAttention, D: int, N: int, v: int) -> Node | None:
    match a.gate:
        case "none":
            return None
        case "channel":
            return linear("gate_proj", D, N * v, bias=False)
        case "head":
            return linear("gate_proj", D, N, bias=False)
        case "latent":
            return linear("gate_proj", 2 * symbol("q_lora_rank", a.q_lora_rank or 0), N * v, bias=False)


def _indexer(i: Indexer, D: int) -> Node:
    heads, width = symbol("index_n_heads", i.num_heads), symbol("index_head_dim", i.head_dim)
    parts = [
        linear("q_proj", symbol("q_lora_rank", i.query_size), heads * width, bias=False),
        linear("k_proj", D, width, bias=False),
        leaf("k_norm", "parameters", 2 * width),
        linear("head_weights", D, heads, bias=False),
    ]
    return total("indexer", "parameters", parts, source=INDEXER)


def chooser_params(a: SelfAttention, D: Expression, K: Expression, Hv: Expression) -> list[Node]:
    """What says which keys a query looks at: MiniMax M3's indexer, Doge's mask."""
    parts = []
    if a.block_indexer is not None:
        heads, width = (
            symbol("index_n_heads", a.block_indexer.num_heads),
            symbol("index_head_dim", a.block_indexer.head_dim),
        )
        scorer = [
            linear("q_proj", D, heads * width, bias=False),
            linear("k_proj", D, width, bias=False),
            leaf("norms", "parameters", 2 * width),
        ]
        parts.append(total("indexer", "parameters", scorer, source=BLOCK_INDEXER))
    if a.dynamic_mask is not None:
        mask = [leaf("A", "parameters", 1 * K), linear("dt_proj", K * Hv, K, bias=a.dynamic_mask.bias)]
        parts.append(total("dynamic_mask", "parameters", mask, source=DYNAMIC_MASK))
    return parts
