"""The walk of sublayers, residual steps and layers (see ``architecture.blocks`` for how they make a layer)."""

from __future__ import annotations

from txcalc.architecture import (
    Branch,
    FeedForward,
    LatentAttention,
    Layer,
    MixtureOfExperts,
    Residual,
    SelfAttention,
    Sublayer,
)
from txcalc.errors import RequestError
from txcalc.expression import symbol
from txcalc.formulas.tape import operators as ops
from txcalc.formulas.tape.attention import latent_attention, self_attention
from txcalc.formulas.tape.core import Value
from txcalc.formulas.tape.experts import mixture
from txcalc.formulas.tape.feed_forward import feed_forward
from txcalc.formulas.tape.walk import Walk


def layer(w: Walk, described: Layer, x: Value) -> Value:
    """[B, T, D] -> [B, T, D]; x stays with the caller."""
    stream = w.tape.again(x)
    for each in described.steps:
        before, stream = stream, step(w, each, stream)
        w.tape.drop(before)
    return stream


def step(w: Walk, s: Residual, x: Value) -> Value:
    """norm_after(x + norm_out(sum of branches)), the branches all reading norm_in(x)."""
    t = w.tape
    stream = _added(w, s, x)
    if s.residual:
        skipped = t.again(x) if s.skip_scale == 1.0 else ops.scaled(t, x, "stream, scaled")
        added, stream = stream, ops.add(t, skipped, stream, "stream")
        t.drop(added, skipped)
    out = w.norm(stream, s.norm_after, w.n)
    t.drop(stream)
    return out


def _added(w: Walk, s: Residual, x: Value) -> Value:
    """What the branches add to the stream."""
    h = w.norm(x, s.norm_in, w.n)
    outputs = [branch(w, each, h) for each in s.branches]
    total = _summed(w, s, x, outputs)
    w.tape.drop(h, *outputs)
    return total


def _summed(w: Walk, s: Residual, x: Value, outputs: list[Value]) -> Value:
    total = w.tape.again(outputs[0]) if outputs else w.tape.new("zeros", x.elements, x.width)
    for each in outputs[1:]:
        before, total = total, ops.add(w.tape, total, each, "sum of branches")
        w.tape.drop(before)
    normed = w.norm(total, s.norm_out, w.n)
    w.tape.drop(total)
    return normed


def branch(w: Walk, b: Branch, x: Value) -> Value:
    """norm_out(sublayer(norm_in(x))), scaled, with dropout."""
    t = w.tape
    h = w.norm(x, b.norm_in, w.n)
    inner = sublayer(w, b.sublayer, h)
    t.drop(h)
    out = w.norm(inner, b.norm_out, w.n)
    t.drop(inner)
    if b.layer_scale:
        scale = w.parameter("layer scale", symbol("D", b.sublayer.hidden_size))
        plain, out = out, ops.product(t, out, scale, "scaled by channel")
        t.drop(plain)
    if b.scale != 1.0:
        plain, out = out, ops.scaled(t, out, "scaled")
        t.drop(plain)
    if w.asked.dropout:
        plain, out = out, ops.dropout(t, out, fused=w.asked.cuda)
        t.drop(plain)
    return out


def sublayer(w: Walk, s: Sublayer, x: Value) -> Value:
    """[B, T, D] -> [B, T, D].

    Raises:
        RequestError: a kind that has no walk.
    """
    match s:
        case SelfAttention():
            return self_attention(w, s, x)
        case LatentAttention():
            return latent_attention(w, s, x)
        case FeedForward():
            return feed_forward(w, s, x, w.n)
        case MixtureOfExperts():
            return mixture(w, s, x)
        case _:
            raise RequestError(f"no walk for {type(s).__name__}")
