"""How memory and FLOPs of attention grow with the context: points to be drawn, for ``txcalc attention --plot``."""

from __future__ import annotations

from collections.abc import Sequence

from txcalc.architecture import Model
from txcalc.formulas.attention import product_tape, widest_kind
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.memory import asked_pass
from txcalc.formulas.tape.walk import BACKENDS


def memory_curves(model: Model, contexts: Sequence[int]) -> dict[str, list[int]]:
    """Bytes that one layer's product holds at each context, by backend, and the cache of the whole model."""
    curves: dict[str, list[int]] = {name: [] for name in (*BACKENDS, "KV cache, all layers")}
    for ctx in contexts:
        asked = asked_pass(model, ctx=ctx, batch=1, backend="flash")
        widest = widest_kind(model, asked)
        for name in BACKENDS:
            curves[name].append(product_tape(widest, asked.replace(backend=name), "inference").peak().bytes)
        cache = kv_cache(model, ctx=ctx).find("kv_cache.total_bytes")
        curves["KV cache, all layers"].append(int(cache.value))
    return curves


def flops_curves(model: Model, contexts: Sequence[int]) -> dict[str, list[int]]:
    """FLOPs of a forward pass over each context: scores and values, and every other matrix product."""
    curves: dict[str, list[int]] = {"scores and values": [], "all other matrices": []}
    for ctx in contexts:
        figures = flops(model, seq=ctx).figures()
        products = int(figures["flops.attention"])
        curves["scores and values"].append(products)
        curves["all other matrices"].append(int(figures["flops.matmul"]) - products)
    return curves
