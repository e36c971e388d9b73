"""MHA, GQA and MQA side by side: the same model with other numbers of KV heads."""

from __future__ import annotations

from typing import Any

from txcalc.architecture import CrossAttention, Model, SelfAttention
from txcalc.architecture.variants import with_kv_heads
from txcalc.errors import RequestError
from txcalc.expression import symbol
from txcalc.formulas.cache_shapes import cache_rows
from txcalc.formulas.kv_cache import kv_cache
from txcalc.result import Node, leaf


def grouping(model: Model) -> tuple[int, int] | None:
    """(query heads, KV heads) where every caching layer is softmax attention with the same heads; else None."""
    caching = [
        sublayer
        for stack in model.stacks
        for layer in stack.layers
        for sublayer in layer.sublayers()
        if cache_rows(sublayer, 1)
    ]
    kinds = {
        (each.num_attention_heads, each.num_key_value_heads)
        for each in caching
        if isinstance(each, SelfAttention | CrossAttention)
    }
    uniform = len(kinds) == 1 and all(isinstance(each, SelfAttention | CrossAttention) for each in caching)
    return kinds.pop() if uniform else None


def attention_variants(model: Model, *, ctx: int, **question: Any) -> list[Node]:
    """Cache of the model as MHA, as it is, and as MQA; empty where the number of KV heads has no such meaning."""
    groups = grouping(model)
    if groups is None:
        return []
    heads, own = groups
    rows = []
    for kv_heads in sorted({heads, own, 1}, reverse=True):
        try:
            variant = with_kv_heads(model, kv_heads)
            tree = kv_cache(variant, ctx=ctx, **question)
        except RequestError:  # a block format that one KV head does not fill; or layers of unlike widths
            continue
        rows.append(_variant(kv_heads, heads, tree))
    return rows


def _variant(kv_heads: int, heads: int, tree: Node) -> Node:
    kind = "mha" if kv_heads == heads else "mqa" if kv_heads == 1 else "gqa"
    name = f"{kind}, {kv_heads} KV head{'s' if kv_heads > 1 else ''}"
    total = tree.find("kv_cache.total_bytes").replace(name="total", key="", convention="")
    per_token = tree.find("kv_cache.bytes_per_token").replace(key="")
    ratio = leaf("times_smaller_than_mha", "ratio", symbol("N", heads) // symbol("K", kv_heads), aside=True)
    return Node(name=name, unit="bytes", children=(total, per_token, ratio), aside=True)
