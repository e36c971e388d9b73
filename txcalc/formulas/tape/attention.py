"""The walk of the attention sublayers: projections, and what is done to queries, keys and values before the product."""

from __future__ import annotations

from txcalc.architecture import (
    Alibi,
    CrossAttention,
    LatentAttention,
    Norm,
    QKNorm,
    RelativeBias,
    Rotary,
    SelfAttention,
)
from txcalc.expression import Expression, minimum, symbol
from txcalc.formulas.letters import head_widths
from txcalc.formulas.tape import operators as ops
from txcalc.formulas.tape.core import Value
from txcalc.formulas.tape.products import Product, attend, flattened, runs_as
from txcalc.formulas.tape.walk import Pass, Walk


def self_attention(w: Walk, a: SelfAttention, x: Value) -> Value:
    """[B, T, D] -> [B, T, D]."""
    t = w.tape
    D, N, K = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads), symbol("K", a.num_key_value_heads)
    H, Hv = head_widths(a.head_dim, a.v_head_dim)
    projected = _clipped(w, a, w.project(x, "q_proj", D, N * H, bias=a.q_bias))
    q = _placed(w, a, projected, N, H)
    t.drop(projected)
    if a.temperature is not None:
        factors = t.new("temperatures", 1 * w.asked.T, q.width)
        plain, q = q, ops.product(t, q, factors, "queries, by temperature")
        t.drop(plain, factors)
    k, v = _keys(w, a, x, D, K, H, Hv)
    S = _seen(w.asked, a)
    if w.asked.cached:
        t.drop(k, v)
        k, v = (t.given("cached", w.asked.B * S * K * width, k.width) for width in (H, Hv))
    asked = Product(q, k, v, N, K, H, Hv, w.asked.T, S, causal=a.causal)
    out, by_token = attend(
        w,
        asked._replace(
            dense=is_dense(w.asked, a),
            bias=bias_width(a),
            softcap=a.softcap is not None,
            sinks=a.sinks,
            turned=isinstance(a.position, Rotary),
            keys_by_head=w.asked.cached,
            values_by_head=w.asked.cached,
        ),
    )
    gated = _gated(w, a, x, out, D, N, Hv)
    flat = flattened(w, gated, N, by_token)
    normed = w.norm(flat, a.out_norm, w.n)
    t.drop(flat)
    y = w.project(normed, "o_proj", N * Hv, D, bias=a.o_bias)
    t.drop(normed, gated, out, q, k, v)
    return y


def _keys(
    w: Walk, a: SelfAttention, x: Value, D: Expression, K: Expression, H: Expression, Hv: Expression
) -> tuple[Value, Value]:
    t = w.tape
    projected = _clipped(w, a, w.project(x, "k_proj", D, K * H, bias=a.k_bias))
    v = t.again(projected) if a.k_equals_v else _clipped(w, a, w.project(x, "v_proj", D, K * Hv, bias=a.v_bias))
    if a.qk_norm is not None and a.qk_norm.v_norm:
        normal = w.normalised(v, "rmsnorm", w.n * K)
        plain, v = v, ops.cast(t, normal, v.width, "values, normalised")
        t.drop(normal, plain)
    if a.value_scale != 1.0:
        plain, v = v, ops.scaled(t, v, "values, scaled")
        t.drop(plain)
    k = _placed(w, a, projected, K, H)
    t.drop(projected)
    return k, v


def _clipped(w: Walk, a: SelfAttention, x: Value) -> Value:
    if a.clip_qkv is None:
        return x
    out = ops.function(w.tape, x, f"{x.store.name}, clamped", keep=x)
    w.tape.drop(x)
    return out


def _placed(w: Walk, a: SelfAttention, x: Value, heads: Expression, H: Expression) -> Value:
    """Normalised and turned, in the order that the architecture says."""
    t, norm = w.tape, a.qk_norm
    before, after = (norm, None) if norm is not None and not norm.after_rotary else (None, norm)
    normed = _head_normed(w, x, before, heads, H)
    turned = w.turned(normed, a.position, w.n * heads, int(H)) if isinstance(a.position, Rotary) else t.again(normed)
    t.drop(normed)
    out = _head_normed(w, turned, after, heads, H)
    t.drop(turned)
    return out


def _head_normed(w: Walk, x: Value, norm: QKNorm | None, heads: Expression, H: Expression) -> Value:
    return w.tape.again(x) if norm is None else w.head_norm(x, norm, heads, H)


def _gated(w: Walk, a: SelfAttention, x: Value, out: Value, D: Expression, N: Expression, Hv: Expression) -> Value:
    t = w.tape
    if a.gate == "none":
        return t.again(out)
    channel = a.gate == "channel"
    logits = w.project(x, "gate_proj", D, N * Hv if channel else N, bias=a.q_bias and channel)
    gate = ops.function(t, logits, "gate")
    t.drop(logits)
    gated = ops.product(t, out, gate, "attention output, gated")
    t.drop(gate)
    return gated


def _seen(asked: Pass, a: SelfAttention) -> Expression:
    """Tokens that the keys are of: a cache keeps no more than the window or chunk."""
    limits = [limit for limit in (a.window, a.chunk) if limit is not None]
    return minimum(asked.S, symbol("window", min(limits))) if asked.cached and limits else asked.S


def is_dense(asked: Pass, a: SelfAttention) -> bool:
    """Whether a window or chunk takes away pairs that the plain causal or bidirectional mask would keep."""
    reach = None if a.window is None else a.window if a.causal else a.window // 2 + 1
    T = int(asked.T)
    return (reach is not None and reach < T) or (a.chunk is not None and a.chunk < T) or int(asked.S) != T > 1


def fallback(asked: Pass, a: SelfAttention | LatentAttention | CrossAttention) -> str:
    """``math: why`` where another backend runs than the one that is asked for, else nothing."""
    if isinstance(a, LatentAttention):
        softcap, sinks, same = False, False, a.qk_nope_head_dim + a.qk_rope_head_dim == a.v_head_dim
    elif isinstance(a, CrossAttention):
        softcap, sinks, same = False, False, a.head_dim == a.v_head_dim
    else:
        softcap, sinks, same = a.softcap is not None, a.sinks, a.head_dim == a.v_head_dim
    backend, why = runs_as(asked, softcap=softcap, sinks=sinks, same_width=same)
    return f"{backend}: {why}" if why else ""


def bias_width(a: SelfAttention) -> int:
    """Bytes an element of a table that is added to the scores; 0 without one."""
    return 4 if isinstance(a.position, Alibi | RelativeBias) else 0


def latent_attention(w: Walk, a: LatentAttention, x: Value) -> Value:
    """[B, T, D] -> [B, T, D], with keys and values expanded from the latents (DeepSeek-V2, equations 9 to 19)."""
    t = w.tape
    D, N = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads)
    nope, rope = symbol("qk_nope_head_dim", a.qk_nope_head_dim), symbol("qk_rope_head_dim", a.qk_rope_head_dim)
    latent, Hv = symbol("kv_lora_rank", a.kv_lora_rank), symbol("v_head_dim", a.v_head_dim)
    compressed = _compressed(w, a, x, D)
    q = _latent_queries(w, a, compressed, (D, N, nope, rope))
    latents = _latents(w, a, x, (D, latent, rope))
    k, v, pieces = _expanded(w, latents, (N, nope, rope, latent, Hv))
    asked = Product(q, k, v, N, N, nope + rope, Hv, w.asked.T, w.asked.S, causal=a.causal, turned=True)
    out, by_token = attend(w, asked._replace(keys_by_head=True))
    t.drop(k, v, *pieces)
    flat = flattened(w, out, N, by_token)
    y = w.project(flat, "o_proj", N * Hv, D, bias=a.bias)
    t.drop(flat, out, latents, q, compressed)
    return y


def _compressed(w: Walk, a: LatentAttention, x: Value, D: Expression) -> Value:
    """The queries' own latent, or the input where there is none."""
    if a.q_lora_rank is None:
        return w.tape.again(x)
    small = w.project(x, "q_a_proj", D, symbol("q_lora_rank", a.q_lora_rank), bias=a.bias)
    normed = w.norm(small, Norm(kind="rmsnorm", width=a.q_lora_rank), w.n)
    w.tape.drop(small)
    return normed


def _latent_queries(w: Walk, a: LatentAttention, compressed: Value, dims: tuple[Expression, ...]) -> Value:
    t, (D, N, nope, rope) = w.tape, dims
    if a.q_lora_rank is None:
        heads = w.project(compressed, "q_proj", D, N * (nope + rope))
    else:
        scaled = ops.scaled(t, compressed, "query latent, scaled")
        heads = w.project(scaled, "q_b_proj", symbol("q_lora_rank", a.q_lora_rank), N * (nope + rope))
        t.drop(scaled)
    first, second = ops.split(t, heads, (w.n * N * nope, w.n * N * rope))
    turned = _latent_turned(w, a, second, w.n * N)
    out = ops.joined(t, (first, turned), heads.elements, "queries")
    t.drop(turned, first, second, heads)
    return out


def _latents(w: Walk, a: LatentAttention, x: Value, dims: tuple[Expression, ...]) -> Value:
    t, (D, latent, rope) = w.tape, dims
    both = w.project(x, "kv_a_proj", D, latent + rope, bias=a.bias)
    small, key = ops.split(t, both, (w.n * latent, w.n * rope))
    normed = w.norm(small, Norm(kind="rmsnorm", width=a.kv_lora_rank), w.n)
    scaled = ops.scaled(t, normed, "latent of keys and values")
    t.drop(normed, small)
    turned = _latent_turned(w, a, key, w.n)
    out = ops.joined(t, (scaled, turned), w.n * (latent + rope), "latents")
    t.drop(turned, scaled, key, both)
    return out


def _latent_turned(w: Walk, a: LatentAttention, x: Value, rows: Expression) -> Value:
    return w.tape.again(x) if a.position is None else w.turned(x, a.position, rows, a.qk_rope_head_dim)


def _expanded(w: Walk, latents: Value, dims: tuple[Expression, ...]) -> tuple[Value, Value, tuple[Value, ...]]:
    """(keys, values, what lives as long as they do)."""
    t, (N, nope, rope, latent, Hv) = w.tape, dims
    small, key = ops.split(t, latents, (w.n * latent, w.n * rope))
    whole = w.project(small, "kv_b_proj", latent, N * (nope + Hv))
    k_nope, v = ops.split(t, whole, (w.n * N * nope, w.n * N * Hv))
    keys = ops.expanded(t, key, w.n * N * rope)
    k = ops.joined(t, (k_nope, keys), w.n * N * (nope + rope), "keys")
    return k, v, (small, key, keys, whole, k_nope)
