"""The walk of the attention product: what eager, math and flash really materialise.

``eager`` is Vaswani et al. 2017, equation 1, one operation after the other; ``math`` is torch's own fallback, which
computes in fp32; ``flash`` is the fused kernel (Dao et al. 2022, arXiv 2205.14135), which never holds a score matrix.
"""

from __future__ import annotations

from typing import NamedTuple

from txcalc.expression import Expression
from txcalc.formulas.tape import operators as ops
from txcalc.formulas.tape.core import Value
from txcalc.formulas.tape.walk import Backend, Pass, Walk


class Product(NamedTuple):
    """One attention product: q [B, T, N, H], k [B, S, K, H], v [B, S, K, Hv] as they lie in memory.

    ``dense``: the mask is a table of booleans [T, S], not just the lower triangle or nothing. ``bias``: bytes an
    element of a table [N, T, S] that is added to the scores. ``turned``: q and k come from a concatenation, which takes
    its gradient in any order of axes.
    """

    q: Value
    k: Value
    v: Value
    N: Expression
    K: Expression
    H: Expression
    Hv: Expression
    T: Expression
    S: Expression
    causal: bool
    dense: bool = False
    bias: int = 0
    softcap: bool = False
    sinks: bool = False
    turned: bool = False
    keys_by_head: bool = False  # k lies as [B, N, S, H]
    values_by_head: bool = False

    @property
    def grouped(self) -> bool:
        """Whether several query heads share a key head."""
        return int(self.N) != int(self.K)

    @property
    def triangular(self) -> bool:
        """Whether a lower triangle masks the scores."""
        return self.causal and int(self.T) > 1 and not self.dense


def attend(w: Walk, p: Product) -> tuple[Value, bool]:
    """(the attention output, whether it lies by token); eager where only eager can (softcap, sinks).

    One query token under grouped heads: the query heads of a group become rows over their one key head.
    """
    if p.grouped and int(p.T) == 1 and not p.bias:
        p = p._replace(N=p.K, T=p.N // p.K, causal=False)
    by_token = _backend(w, p) == "flash"
    if not w.asked.recompute_scores or w.tape.mode == "inference":
        return _product(w, p), by_token
    states = w.generator_states()
    out = w.tape.recompute((p.q, p.k, p.v), lambda: _product(w, p), states)
    for state in states:
        w.tape.release(state)
    return out, by_token


def runs_as(asked: Pass, *, softcap: bool, sinks: bool, same_width: bool) -> tuple[Backend, str]:
    """(the backend that really runs, why it is not the one asked for)."""
    if asked.backend != "eager" and (softcap or sinks):
        return "eager", f"torch's fused product has no {'caps on' if softcap else 'sinks beside'} the scores"
    if asked.backend == "flash" and not same_width:
        return "math", "torch's flash kernel takes keys and values of one width"
    if asked.backend == "flash" and asked.dropout and not asked.cuda:
        return "math", "torch's flash kernel on the CPU has no dropout"
    return asked.backend, ""


def _backend(w: Walk, p: Product) -> Backend:
    return runs_as(w.asked, softcap=p.softcap, sinks=p.sinks, same_width=int(p.H) == int(p.Hv))[0]


def _product(w: Walk, p: Product) -> Value:
    match _backend(w, p):
        case "eager":
            return eager(w, p)
        case "math":
            return math(w, p)
        case "flash":
            return flash(w, p)


def flattened(w: Walk, out: Value, heads: Expression, by_token: bool) -> Value:
    """[B, N, T, H] by token, [B, T, N * H]: a copy, unless the output lies by token already."""
    if by_token or merges(w.asked.T, heads):
        return w.tape.again(out)
    return ops.copy(w.tape, out, "attention output, by token")


def merges(length: Expression, heads: Expression) -> bool:
    """Whether [heads, length] and [length, heads] are the same order."""
    return int(length) == 1 or int(heads) == 1


def folds(w: Walk, length: Expression, heads: Expression) -> bool:
    """Whether [B, heads, length, H] that lies as [B, length, heads, H] folds into one batch axis without a copy."""
    return int(w.asked.B) == 1 or merges(length, heads)


# ---- flash ----------------------------------------------------------------------------------------------------------


def flash(w: Walk, p: Product) -> Value:
    """Keeps q, k, v, the output and a number a row; a dense mask or a bias becomes a tensor of the compute dtype."""
    t, B = w.tape, w.asked.B
    inputs = [w.narrowed(x) for x in (p.q, p.k, p.v)]
    bias = _bias(w, p, inputs[0].width)
    out = ops.flash(t, inputs, bias, B * p.T * p.N * p.Hv, B * p.T * p.N)
    t.drop(*inputs, *_there(bias))
    return out


def _bias(w: Walk, p: Product, width: int) -> Value | None:
    """Mask and bias as one tensor of ``width`` bytes that is added to the scores."""
    t, pairs = w.tape, p.T * p.S
    if not p.bias:
        return t.new("mask of the scores", pairs, width) if p.dense else None
    plain = ops.cast(t, t.given("bias", p.N * pairs, p.bias), width, "bias of the scores, cast")
    if not (p.dense or p.triangular):
        return plain
    triangle = None if p.dense else _triangle(w, p)  # a local of the function, so that it stays until the end of it
    unseen = t.new("masked pairs", pairs, 1)
    out = ops.scaled(t, plain, "mask and bias of the scores")
    t.drop(unseen, plain, *_there(triangle))
    return out


def _there(value: Value | None) -> list[Value]:
    return [] if value is None else [value]


def _triangle(w: Walk, p: Product) -> Value:
    """The lower triangle, a byte a pair."""
    ones = w.tape.new("ones", p.T * p.S, 1)
    triangle = w.tape.new("triangle", p.T * p.S, 1)
    w.tape.drop(ones)
    return triangle


def _unseen(w: Walk, p: Product) -> Value:
    """The pairs that are masked, a byte each: the complement of a table, or of a triangle that is made here."""
    triangle = None if p.dense else _triangle(w, p)
    unseen = w.tape.new("masked pairs", p.T * p.S, 1)
    w.tape.drop(*_there(triangle))
    return unseen


# ---- eager ----------------------------------------------------------------------------------------------------------


def eager(w: Walk, p: Product) -> Value:
    """softmax(q k^T scale) v, the softmax in fp32: [B, N, T, Hv]."""
    t = w.tape
    k = _by_query_head(w, p, p.k, p.H, "keys, repeated", copied=not p.turned)
    v = _by_query_head(w, p, p.v, p.Hv, "values, repeated", copied=True)
    q = ops.transposed(t, p.q, copied=not p.turned and not merges(p.T, p.N))
    scores = _scores(w, p, q, k)
    weights = _softmaxed(w, p, scores)
    dropped = ops.dropout(t, weights, fused=w.asked.cuda) if w.asked.dropout else t.again(weights)
    inner = w.narrowed(dropped)
    out = _over_values(w, p, inner, v, "attention output")
    t.drop(inner, dropped, weights, scores, k, v, q)
    return out


def _by_query_head(w: Walk, p: Product, x: Value, width: Expression, name: str, *, copied: bool) -> Value:
    """Keys or values as [B, N, S, width]: repeated where several query heads share one."""
    t = w.tape
    seen = ops.transposed(t, x, copied=copied and not merges(p.S, p.K))
    if not p.grouped:
        return seen
    out = ops.repeated(t, seen, w.asked.B * p.S * p.N * width, name)
    t.drop(seen)
    return out


def _scores(w: Walk, p: Product, q: Value, k: Value) -> Value:
    """Scaled, capped, biased and masked: [B, N, T, S]."""
    t = w.tape
    narrow = [w.narrowed(x) for x in (q, k)]
    queries = _laid_out(w, narrow[0], folds(w, p.T, p.N), "queries, contiguous")
    keys = _laid_out(w, narrow[1], p.keys_by_head or p.grouped or folds(w, p.S, p.N), "keys, contiguous")
    scores = ops.matmul(t, queries, keys, w.asked.B * p.N * p.T * p.S, "scores")
    t.drop(queries, keys, *narrow)
    scores = _then(w, scores, ops.scaled(t, scores, "scores, scaled"))
    if p.softcap:
        scores = _capped(w, scores)
    if p.bias:
        table = t.given("bias", p.N * p.T * p.S, p.bias)
        scores = _then(w, scores, ops.add(t, scores, table, "scores and bias"))
    if p.dense or p.triangular:
        unseen = _unseen(w, p)
        scores = _then(w, scores, ops.function(t, scores, "scores, masked", keep=unseen))
        t.drop(unseen)
    return scores


def _laid_out(w: Walk, x: Value, folded: bool, name: str) -> Value:
    return w.tape.again(x) if folded else ops.copy(w.tape, x, name)


def _then(w: Walk, before: Value, after: Value) -> Value:
    w.tape.drop(before)
    return after


def _capped(w: Walk, scores: Value) -> Value:
    """cap * tanh(scores / cap)."""
    t = w.tape
    small = ops.scaled(t, scores, "scores over the cap")
    bent = _then(w, small, ops.function(t, small, "tanh of the scores"))
    capped = _then(w, bent, ops.scaled(t, bent, "scores, capped"))
    return _then(w, scores, capped)


def _softmaxed(w: Walk, p: Product, scores: Value) -> Value:
    """Softmax in fp32, back in the dtype of the queries."""
    t = w.tape
    whole = _with_sinks(w, p, scores) if p.sinks else t.again(scores)
    wide = ops.cast(t, whole, 4, "scores in fp32")
    softmax = ops.function(t, wide, "softmax in fp32")
    t.drop(wide, whole)
    kept = ops.sliced(t, softmax, scores.elements) if p.sinks else t.again(softmax)
    weights = ops.cast(t, kept, p.q.width, "attention weights")
    t.drop(kept, softmax)
    return weights


def _with_sinks(w: Walk, p: Product, scores: Value) -> Value:
    """One more column: a learned logit for each head."""
    t, rows = w.tape, w.asked.B * p.T * p.N
    sinks = ops.cast(t, w.parameter("sinks", p.N), scores.width, "sinks, cast")
    column = ops.expanded(t, sinks, rows)
    whole = ops.joined(t, (scores, column), scores.elements + rows, "scores and sinks")
    t.drop(column, sinks)
    return whole


def _over_values(w: Walk, p: Product, weights: Value, v: Value, name: str) -> Value:
    """weights @ values: [B, N, T, Hv]."""
    t = w.tape
    values = _laid_out(w, v, p.values_by_head or p.grouped or folds(w, p.S, p.N), "values, contiguous")
    out = ops.matmul(t, weights, values, w.asked.B * p.T * p.N * p.Hv, name)
    t.drop(values)
    return out


# ---- math -----------------------------------------------------------------------------------------------------------


def math(w: Walk, p: Product) -> Value:
    """torch's ``_scaled_dot_product_attention_math``: q and k each scaled by the root, all of it in fp32."""
    t = w.tape
    inputs = [w.narrowed(x) for x in (p.q, p.k, p.v)]
    compute = inputs[0].width
    bias = _bias(w, p, compute)
    wide = [ops.cast(t, x, 4, f"{x.store.name} in fp32") for x in _seen(w, p, inputs)]
    q = ops.scaled(t, wide[0], "queries, scaled")
    if p.triangular and not p.bias:
        triangle = _triangle(w, p)
        bias = t.new("mask of the scores", p.T * p.S, 4)
        t.drop(triangle)
    k, v = (_repeated(w, p, x, width) for x, width in ((wide[1], p.H), (wide[2], p.Hv)))
    weights = _math_softmax(w, p, q, k)
    if w.asked.dropout:
        weights = _then(w, weights, ops.dropout(t, weights, fused=w.asked.cuda))
    returned = ops.cast(t, weights, compute, "attention weights that nobody asked for")
    out = _over_values(w, p, weights, v, "attention output in fp32")
    narrow = ops.cast(t, out, compute, "attention output")
    t.drop(out, weights, q, k, v, *wide, returned, *_there(bias), *inputs)
    return narrow


def _seen(w: Walk, p: Product, inputs: list[Value]) -> list[Value]:
    """q, k, v by head; what they are views of lives on with the caller."""
    t = w.tape
    lies = ((not p.turned, p.T, p.N), (not p.turned, p.S, p.K), (True, p.S, p.K))
    views = [
        ops.transposed(t, x, copied=copied and not merges(length, heads))
        for x, (copied, length, heads) in zip(inputs, lies, strict=True)
    ]
    t.drop(*views)
    return views


def _repeated(w: Walk, p: Product, x: Value, width: Expression) -> Value:
    if not p.grouped:
        return w.tape.again(x)
    return ops.repeated(w.tape, x, w.asked.B * p.S * p.N * width, f"{x.store.name}, repeated")


def _math_softmax(w: Walk, p: Product, q: Value, k: Value) -> Value:
    t = w.tape
    scaled = ops.scaled(t, k, "keys, scaled")
    queries = _laid_out(w, q, folds(w, p.T, p.N), "queries, contiguous")
    keys = _laid_out(w, scaled, p.keys_by_head or p.grouped or folds(w, p.S, p.N), "keys, contiguous")
    scores = ops.matmul(t, queries, keys, w.asked.B * p.N * p.T * p.S, "scores in fp32")
    t.drop(queries, keys, scaled)
    softmax = ops.safe_softmax(t, scores, w.asked.B * p.T * p.N)
    t.drop(scores)
    return softmax
