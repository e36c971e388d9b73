"""The walk of what stands before the first and after the last layer: embedding, final norm, head, loss."""

from __future__ import annotations

from txcalc.architecture import Head, LearnedPositions, Projection, Sinusoidal, Stack, TokenEmbedding
from txcalc.expression import Expression, exact, symbol
from txcalc.formulas.tape import operators as ops
from txcalc.formulas.tape.core import Value
from txcalc.formulas.tape.feed_forward import activation
from txcalc.formulas.tape.walk import Walk

INDEX = 8  # bytes of a token's or a position's number


def token_table(w: Walk, e: TokenEmbedding) -> Value:
    """The table [V, D] that tokens are looked up in, and that a tied head multiplies by."""
    V, D = symbol("V", e.vocab_size), symbol("D" if e.projection is None else "embedding_size", e.embedding_size)
    return w.parameter("token table", V * D)


def embedding(w: Walk, e: TokenEmbedding, table: Value) -> Value:
    """Tokens [B, T] -> first hidden states [B, T, D]."""
    t, rows = w.tape, w.n
    D = symbol("D" if e.projection is None else "embedding_size", e.embedding_size)
    tokens = t.given("tokens", rows, INDEX)
    x = ops.lookup(t, table, tokens, rows * D, "token vectors")
    if e.scale != 1.0:
        scale = t.new("scale of the token vectors", exact(1), x.width)
        x = _next(w, x, ops.product(t, x, scale, "token vectors, scaled"))
        t.drop(scale)
    if e.token_types:
        x = _with_types(w, e, x, D)
    before, after = _order(e)
    for what in before:
        x = _applied(w, e, x, what)
    if e.projection is not None:
        x = _next(w, x, project(w, x, e.projection, "embedding projection"))
    for what in after:
        x = _applied(w, e, x, what)
    if w.asked.dropout:
        x = _next(w, x, ops.dropout(t, x, fused=w.asked.cuda))
    return x


def _next(w: Walk, before: Value, after: Value) -> Value:
    w.tape.drop(before)
    return after


def _order(e: TokenEmbedding) -> tuple[list[str], list[str]]:
    """What comes before the projection and what after it: positions, then the norm, each by its width."""
    last = {
        "positions": e.positions is not None and e.positions.width != e.embedding_size,
        "norm": e.norm is not None and e.norm.width != e.embedding_size,
    }
    return [name for name, late in last.items() if not late], [name for name, late in last.items() if late]


def _applied(w: Walk, e: TokenEmbedding, x: Value, what: str) -> Value:
    if what == "norm":
        return _next(w, x, w.norm(x, e.norm, w.n))
    return x if e.positions is None else _placed(w, e.positions, x)


def _with_types(w: Walk, e: TokenEmbedding, x: Value, D: Expression) -> Value:
    t = w.tape
    zeros = t.new("token types", w.n, INDEX)
    table = w.parameter("type table", symbol("type_vocab_size", e.token_types) * D)
    vectors = ops.lookup(t, table, zeros, x.elements, "type vectors")
    t.drop(zeros)
    both = ops.add(t, x, vectors, "token and type vectors")
    t.drop(vectors, x)
    return both


def _placed(w: Walk, positions: LearnedPositions | Sinusoidal, x: Value) -> Value:
    """Plus the vectors of T positions, the same for every sequence."""
    t, T, D = w.tape, w.asked.T, symbol("D", positions.width)
    rows = t.new("position numbers", T, INDEX)
    if isinstance(positions, LearnedPositions) or positions.stored:
        table = w.parameter("position table", symbol("rows", positions.rows) * D)
        vectors = ops.lookup(t, table, rows, T * D, "position vectors")
    else:
        vectors = t.new("sines and cosines", T * D, 4)
    narrow = ops.cast(t, vectors, x.width, "position vectors, cast")
    out = ops.add(t, x, narrow, "token and position vectors")
    t.drop(rows, narrow, vectors, x)
    return out


def project(w: Walk, x: Value, p: Projection, name: str) -> Value:
    """A linear map, then an activation where one is named."""
    size_in, size_out = symbol("in", p.in_size), symbol("out", p.out_size)
    rows = x.elements // size_in
    out = w.project(x, name, size_in, size_out, bias=p.bias, rows=rows)
    return out if p.activation is None else _next(w, out, activation(w, p.activation, out))


def head(w: Walk, h: Head, x: Value, rows: Expression, table: Value | None, *, apart: bool = False) -> Value:
    """[rows, D] -> logits [rows, V]; ``table``: the token table of a tied head.

    ``apart``: the rows do not lie side by side in memory, and a bias is added after the product.
    """
    t = w.tape
    D = symbol("D", h.input_size)
    V = symbol("V" if h.kind != "classifier" else "num_labels", h.output_size)
    inner = t.again(x)
    if h.transform is not None:
        for each in filter(None, (h.transform.dense, h.transform.second)):
            inner = _next(w, inner, project(w, inner, each, "head transform"))
        inner = _next(w, inner, w.norm(inner, h.transform.norm, rows))
        D = symbol("embedding_size", (h.transform.second or h.transform.dense).out_size)
    matrix = table if table is not None else w.parameter("head matrix", V * D)
    bias = w.parameter("head bias", 1 * V) if h.bias else None
    if bias is not None and apart and h.transform is None:
        bare = w.linear(inner, matrix, None, rows * V, "logits without bias")
        logits = _next(w, bare, ops.add(t, bare, bias, "logits"))
    else:
        logits = w.linear(inner, matrix, bias, rows * V, "logits")
    t.drop(inner)
    if h.scale != 1.0:
        logits = _next(w, logits, ops.scaled(t, logits, "logits, scaled"))
    if h.softcap is not None:
        small = ops.scaled(t, logits, "logits over the cap")
        bent = _next(w, small, ops.function(t, small, "tanh of the logits"))
        logits = _next(w, logits, _next(w, bent, ops.scaled(t, bent, "logits, capped")))
    return logits


def loss(w: Walk, logits: Value) -> Value:
    """Mean cross-entropy over every position, in fp32; takes the logits over."""
    t = w.tape
    wide = ops.cast(t, logits, 4, "logits in fp32")
    t.drop(logits)
    chances = ops.function(t, wide, "log probabilities")
    targets = t.given("targets", w.n, INDEX)
    value = ops.log_likelihood(t, chances, targets, exact(1))
    t.drop(chances, wide)
    return value


def after_layers(w: Walk, stack: Stack, x: Value) -> Value:
    """The final norm, and the way back to the embedding's width; takes x over."""
    hidden = w.norm(x, stack.final_norm, w.n)
    w.tape.drop(x)
    if stack.out_projection is None:
        return hidden
    return _next(w, hidden, project(w, hidden, stack.out_projection, "output projection"))
