"""The walk of a mixture of experts: a router, and the rows of all experts together.

Which expert a token passes depends on the data, how many rows there are in all does not: n tokens pass
``num_experts_per_tok`` experts each. What is kept for the backward pass is therefore exact; how much one expert holds
at a time is not, and is taken for tokens that spread evenly.
"""

from __future__ import annotations

from txcalc.architecture import MixtureOfExperts, Router
from txcalc.expression import Expression, ceil_div, exact, symbol
from txcalc.formulas.tape import operators as ops
from txcalc.formulas.tape.core import Value
from txcalc.formulas.tape.feed_forward import feed_forward
from txcalc.formulas.tape.walk import Walk


def mixture(w: Walk, m: MixtureOfExperts, x: Value) -> Value:
    """[B, T, D] -> [B, T, D]."""
    t, n = w.tape, w.n
    D, E, C = (
        symbol("D", m.hidden_size),
        symbol("E", m.num_experts),
        symbol("num_experts_per_tok", m.num_experts_per_tok),
    )
    weights, chosen = _routed(w, m.router, x, (D, E + m.router.zero_experts, C))
    rows = n * C if t.mode == "training" else ceil_div(n * C, E)
    out = _experts(w, m, x, weights, (D, rows))
    if m.shared_expert is not None:
        shared = _shared(w, m, x, D)
        routed, out = out, ops.add(t, out, shared, "experts, with the shared one")
        t.drop(routed, shared)
    t.drop(weights, chosen)
    return out


def _routed(w: Walk, r: Router, x: Value, dims: tuple[Expression, Expression, Expression]) -> tuple[Value, Value]:
    """(weights [n, C] in fp32, choices [n, C])."""
    t, n, (D, E, C) = w.tape, w.n, dims
    wide = ops.cast(t, x, 4, "router input in fp32")
    matrix = ops.cast(t, w.parameter("router weight", E * D), 4, "router weight in fp32")
    bias = ops.cast(t, w.parameter("router bias", E), 4, "router bias in fp32") if r.bias else None
    logits = w.linear(wide, matrix, bias, n * E, "router logits", folded=False)
    t.drop(wide, matrix, *([bias] if bias is not None else []))
    scores = _scores(w, r, logits)
    t.drop(logits)
    chosen = t.new("chosen experts", n * C, 8)
    weights = ops.gathered(t, scores, chosen, n * C, "weights of the chosen", keep=scores)
    t.drop(scores)
    if r.scoring == "softmax_after_topk":
        weights = _next(w, weights, ops.function(t, weights, "weights of the chosen, softmax"))
    if r.norm_topk_prob:
        weights = _normalised(w, weights, n)
    return _next(w, weights, ops.scaled(t, weights, "routing weights")), chosen


def _next(w: Walk, before: Value, after: Value) -> Value:
    w.tape.drop(before)
    return after


def _scores(w: Walk, r: Router, logits: Value) -> Value:
    t = w.tape
    match r.scoring:
        case "softmax" | "sigmoid":
            return ops.function(t, logits, "router scores")
        case "softmax_after_topk" | "sparsemixer":
            return t.again(logits)
        case "sqrt_softplus":
            soft = ops.function(t, logits, "softplus", keep=logits)
            return _next(w, soft, ops.function(t, soft, "router scores"))


def _normalised(w: Walk, weights: Value, n: Expression) -> Value:
    """weights / (their sum + a small number)."""
    t = w.tape
    sums = ops.row_norm(t, weights, n, "sums of weights")
    sums = _next(w, sums, ops.copy(t, sums, "sums of weights + eps"))
    out = ops.product(t, weights, sums, "weights of the chosen, normalised")
    t.drop(sums, weights)
    return out


def _experts(w: Walk, m: MixtureOfExperts, x: Value, weights: Value, dims: tuple[Expression, Expression]) -> Value:
    """Every expert's rows, through it, times their weights, added into [n, D]."""
    t, (D, rows) = w.tape, dims
    out = t.new("zeros", w.n * D, x.width)
    where = t.new("rows and slots of an expert", 2 * rows, 8)
    chosen = ops.gathered(t, weights, where, rows, "weights of an expert's rows")
    factor = ops.cast(t, chosen, x.width, "weights of an expert's rows, cast")
    t.drop(chosen)
    taken = ops.gathered(t, x, where, rows * D, "an expert's rows")
    if m.weight_input:
        taken = _next(w, taken, ops.product(t, taken, factor, "an expert's rows, weighted"))
    inner = feed_forward(w, m.expert, taken, rows, folded=False, copies=symbol("E", m.num_experts))
    t.drop(taken)
    weighted = t.again(inner) if m.weight_input else ops.product(t, inner, factor, "an expert's output, weighted")
    t.drop(inner)
    total = ops.indexed_add(t, out, weighted, where, "experts together")
    t.drop(out, weighted, factor, where)
    return total


def _shared(w: Walk, m: MixtureOfExperts, x: Value, D: Expression) -> Value:
    """The expert that every token passes, perhaps behind a gate."""
    t = w.tape
    assert m.shared_expert is not None
    out = feed_forward(w, m.shared_expert, x, w.n, folded=False)
    if not m.shared_expert_gate:
        return out
    logits = w.project(x, "shared_expert_gate", D, exact(1), folded=False)
    gate = ops.function(t, logits, "gate of the shared expert")
    t.drop(logits)
    gated = ops.product(t, out, gate, "shared expert, gated")
    t.drop(out, gate)
    return gated
