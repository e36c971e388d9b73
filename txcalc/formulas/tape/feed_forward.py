"""The walk of a feed-forward: two or three matrices around a nonlinearity."""

from __future__ import annotations

from typing import Any

from txcalc.architecture import FeedForward
from txcalc.expression import Expression, symbol
from txcalc.formulas.tape import operators as ops
from txcalc.formulas.tape.core import Value
from txcalc.formulas.tape.walk import Walk


def feed_forward(
    w: Walk, f: FeedForward, x: Value, rows: Expression, *, folded: bool = True, copies: Expression | None = None
) -> Value:
    """[rows, D] -> [rows, D]; ``copies``: how many of them share the rows (experts)."""
    t = w.tape
    D, F = symbol("D", f.hidden_size), symbol("F", f.intermediate_size)
    how: dict[str, Any] = {"rows": rows, "folded": folded, "copies": copies}
    gate = w.project(x, "gate_proj", D, F, bias=f.up_bias, **how) if f.gated else None
    up = w.project(x, "up_proj", D, F, bias=f.up_bias, **how)
    inner = activated(w, f, gate, up)
    t.drop(up)
    normed = w.norm(inner, f.norm, rows)
    t.drop(inner)
    y = w.project(normed, "down_proj", F, D, bias=f.down_bias, **how)
    t.drop(normed, *([gate] if gate is not None else []))
    return y


def activated(w: Walk, f: FeedForward, gate: Value | None, up: Value) -> Value:
    """act(up), or act(gate) * up."""
    if gate is None:
        return activation(w, f.activation, up)
    if f.activation == "swiglu_oai":
        return _clamped(w, f, gate, up)
    active = activation(w, f.activation, gate)
    out = ops.product(w.tape, active, up, "activation times up")
    w.tape.drop(active)
    return out


def activation(w: Walk, name: str, x: Value) -> Value:
    """A nonlinearity: silu and gelu keep their input, relu, tanh and sigmoid their output."""
    t = w.tape
    match name:
        case "relu" | "tanh" | "sigmoid":
            return ops.function(t, x, "activation")
        case "relu2":
            positive = ops.function(t, x, "relu")
            out = ops.square(t, positive, "activation")
            t.drop(positive)
            return out
        case "quick_gelu":
            return _gated_by_itself(w, x)
        case _:
            return ops.function(t, x, "activation", keep=x)


def _gated_by_itself(w: Walk, x: Value) -> Value:
    """x sigmoid(c x)."""
    t = w.tape
    steep = ops.scaled(t, x, "a multiple of the input")
    gate = ops.function(t, steep, "sigmoid")
    t.drop(steep)
    out = ops.product(t, x, gate, "activation")
    t.drop(gate)
    return out


def _clamped(w: Walk, f: FeedForward, gate: Value, up: Value) -> Value:
    """gpt-oss: clamp both, gate * sigmoid(alpha gate) * (up + 1)."""
    t = w.tape
    both = (gate, up)
    if f.limit is not None:
        both = (ops.function(t, gate, "gate, clamped", keep=gate), ops.function(t, up, "up, clamped", keep=up))
    else:
        both = (t.again(gate), t.again(up))
    active = _gated_by_itself(w, both[0])
    more = ops.copy(t, both[1], "up + 1")
    out = ops.product(t, active, more, "activation times up")
    t.drop(active, more, *both)
    return out
