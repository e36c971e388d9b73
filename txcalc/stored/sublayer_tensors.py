"""The tensors of each kind of sublayer: names as the reference model has them, shapes [out, in]."""

from __future__ import annotations

from collections.abc import Iterator

from txcalc import architecture as arch
from txcalc.errors import RequestError

Shape = tuple[int, ...]
Named = tuple[str, Shape]


def linear(name: str, size_in: int, size_out: int, *, bias: bool) -> Iterator[Named]:
    """A matrix [out, in] and perhaps a bias."""
    yield f"{name}.weight", (size_out, size_in)
    if bias:
        yield f"{name}.bias", (size_out,)


def norm(name: str, made: arch.Norm | None) -> Iterator[Named]:
    """A weight, a bias, both or neither."""
    if made is not None:
        yield from ((f"{name}.{part}", (made.width,)) for part in ("weight", "bias") if getattr(made, part))


def sublayer_tensors(sublayer: arch.Sublayer) -> Iterator[Named]:
    """Every tensor of a sublayer.

    Raises:
        RequestError: a kind whose tensors have no names of their own here.
    """
    match sublayer:
        case arch.SelfAttention():
            return _self_attention(sublayer)
        case arch.CrossAttention():
            return _cross_attention(sublayer)
        case arch.LatentAttention():
            return _latent_attention(sublayer)
        case arch.FeedForward():
            return _feed_forward(sublayer)
        case arch.MixtureOfExperts():
            return _mixture(sublayer)
        case arch.Mamba():
            return _mamba(sublayer)
        case arch.Mamba2():
            return _mamba2(sublayer)
        case arch.GatedDeltaNet():
            return _gated_delta_net(sublayer)
        case arch.LinearAttention():
            return _linear_attention(sublayer)
        case arch.RealGatedRecurrence():
            return _recurrence(sublayer)
        case arch.ShortConvolution(hidden_size=D):
            return _short_convolution(sublayer, D)
        case arch.TokenConvolution(hidden_size=D):
            return _token_convolution(sublayer, D)
        case arch.FourierMixing():
            return iter(())
        case _:
            raise RequestError(f"the tensors of {type(sublayer).__name__} are not listed by name")


# ---- attention ------------------------------------------------------------------------------------------------------


def _self_attention(a: arch.SelfAttention) -> Iterator[Named]:
    D, N, K, H, Hv = a.hidden_size, a.num_attention_heads, a.num_key_value_heads, a.head_dim, a.v_head_dim
    yield from linear("q_proj", D, N * H, bias=a.q_bias)
    if a.kv_source is None:
        yield from linear("k_proj", D, K * H, bias=a.k_bias)
        if not a.k_equals_v:
            yield from linear("v_proj", D, K * Hv, bias=a.v_bias)
    yield from linear("o_proj", N * Hv, D, bias=a.o_bias)
    yield from _head_norm("q_norm", a.qk_norm, N, H)
    yield from _head_norm("k_norm", a.qk_norm if a.kv_source is None else None, K, H)
    if a.sinks:
        yield "sinks_N", (N,)
    if a.gate != "none":
        bias = a.gate == "channel" and (a.q_bias if a.gate_bias is None else a.gate_bias)
        yield from linear("gate_proj", D, N * Hv if a.gate == "channel" else N, bias=bias)
    yield from norm("out_norm", a.out_norm)
    yield from _positions(a)
    if a.differential:
        yield from ((f"difference.lambda_{name}", (H,)) for name in ("q1", "k1", "q2", "k2"))
    if a.global_tokens:
        for name in ("q_proj", "k_proj", "v_proj"):
            yield from linear(f"global_tokens.{name}", D, D, bias=a.global_tokens.bias)
    _refuse(a, "transient_global", "global_stream", "future_streams")


def _refuse(sublayer: arch.Sublayer, *fields: str) -> None:
    for field in fields:
        if getattr(sublayer, field):
            raise RequestError(f"the tensors of {field} are not listed by name")


def _positions(a: arch.SelfAttention) -> Iterator[Named]:
    D = a.hidden_size
    match a.position:
        case arch.RelativeBias(table="layer", num_buckets=buckets):
            yield "relative_bias.table.weight", (buckets, a.num_attention_heads)
        case arch.Disentangled(share_key=False) as d:
            if d.content_to_position:
                yield from linear("content_scores.key_proj", D, D, bias=d.key_bias)
            if d.position_to_content:
                yield from linear("content_scores.query_proj", D, D, bias=True)
        case arch.ProjectedDistances():
            raise RequestError("the tensors of projected distances are not listed by name")
        case arch.RelativeKeys(rows=rows):
            yield "content_scores.table.weight", (2 * rows - 1, a.head_dim)


def _head_norm(name: str, made: arch.QKNorm | None, heads: int, head_dim: int) -> Iterator[Named]:
    if made is None or not made.weight:
        return
    shape = {"head": (head_dim,), "heads": (heads, head_dim), "width": (heads * head_dim,)}[made.scope]
    yield f"{name}.weight", shape
    if made.bias:
        yield f"{name}.bias", shape


def _cross_attention(a: arch.CrossAttention) -> Iterator[Named]:
    N, K = a.num_attention_heads, a.num_key_value_heads
    yield from linear("q_proj", a.hidden_size, N * a.head_dim, bias=a.q_bias)
    yield from linear("k_proj", a.source_size, K * a.head_dim, bias=a.k_bias)
    yield from linear("v_proj", a.source_size, K * a.v_head_dim, bias=a.v_bias)
    yield from linear("o_proj", N * a.v_head_dim, a.hidden_size, bias=a.o_bias)
    yield from _head_norm("q_norm", a.qk_norm, N, a.head_dim)
    yield from _head_norm("k_norm", a.qk_norm, K, a.head_dim)


def _latent_attention(a: arch.LatentAttention) -> Iterator[Named]:
    D, N, R = a.hidden_size, a.num_attention_heads, a.kv_lora_rank
    width = a.qk_nope_head_dim + a.qk_rope_head_dim
    if a.q_lora_rank is None:
        yield from linear("q_proj", D, N * width, bias=False)
    else:
        yield from linear("q_a_proj", D, a.q_lora_rank, bias=a.bias)
        yield "q_a_norm.weight", (a.q_lora_rank,)
        yield from linear("q_b_proj", a.q_lora_rank, N * width, bias=False)
    yield from linear("kv_a_proj", D, R + a.qk_rope_head_dim, bias=a.bias)
    yield "kv_a_norm.weight", (R,)
    yield from linear("kv_b_proj", R, N * (a.qk_nope_head_dim + a.v_head_dim), bias=False)
    yield from linear("o_proj", N * a.v_head_dim, D, bias=a.bias)
    if a.indexer and not a.indexer.shared:
        i = a.indexer
        yield from linear("indexer.q_proj", i.query_size, i.num_heads * i.head_dim, bias=False)
        yield from linear("indexer.k_proj", D, i.head_dim, bias=False)
        yield from ((f"indexer.k_norm.{part}", (i.head_dim,)) for part in ("weight", "bias"))
        yield from linear("indexer.head_weights", D, i.num_heads, bias=False)


# ---- feed-forward ---------------------------------------------------------------------------------------------------


def _feed_forward(f: arch.FeedForward, prefix: str = "") -> Iterator[Named]:
    D, F = f.hidden_size, f.intermediate_size
    if f.gated:
        yield from linear(f"{prefix}gate_proj", D, F, bias=f.up_bias)
    yield from linear(f"{prefix}up_proj", D, F, bias=f.up_bias)
    yield from _slopes(f, prefix)
    yield from norm(f"{prefix}norm", f.norm)
    yield from linear(f"{prefix}down_proj", F, D, bias=f.down_bias)


def _slopes(f: arch.FeedForward, prefix: str) -> Iterator[Named]:
    if f.activation == "xielu":
        yield from ((f"{prefix}xielu.{name}", (1,)) for name in ("alpha_p", "alpha_n"))


def _mixture(m: arch.MixtureOfExperts) -> Iterator[Named]:
    _refuse(m, "latent_size")
    choices = m.num_experts + m.router.zero_experts
    yield "router.weight", (choices, m.hidden_size)
    if m.router.bias:
        yield "router.bias", (choices,)
    if m.router.correction_bias:
        yield "router.correction", (choices,)
    yield from _experts(m.expert, m.num_experts)
    if m.shared_expert:
        yield from _feed_forward(m.shared_expert, "shared_expert.")
    if m.shared_expert_gate:
        yield "shared_expert_gate.weight", (1, m.hidden_size)


def _experts(f: arch.FeedForward, E: int) -> Iterator[Named]:
    D, F = f.hidden_size, f.intermediate_size
    for name in ("gate", "up")[not f.gated :]:
        yield f"experts.{name}_proj", (E, F, D)
        if f.up_bias:
            yield f"experts.{name}_bias", (E, F)
    yield "experts.down_proj", (E, D, F)
    if f.down_bias:
        yield "experts.down_bias", (E, D)
    yield from _slopes(f, "experts.")


# ---- recurrent mixers -----------------------------------------------------------------------------------------------


def _convolution(channels: int, kernel: int, *, bias: bool) -> Iterator[Named]:
    yield "conv.weight", (channels, kernel)
    if bias:
        yield "conv.bias", (channels,)


def _mamba(m: arch.Mamba) -> Iterator[Named]:
    channels, state, rank = m.intermediate_size, m.state_size, m.time_step_rank
    yield from linear("in_proj", m.hidden_size, 2 * channels, bias=m.bias)
    yield from _convolution(channels, m.conv_kernel, bias=m.conv_bias)
    yield from linear("x_proj", channels, rank + 2 * state, bias=False)
    yield from linear("dt_proj", rank, channels, bias=True)
    yield "A_log", (channels, state)
    yield "D_skip", (channels,)
    if m.inner_norms == "weighted":
        yield from ((f"norms.{name}", (width,)) for name, width in (("dt", rank), ("B", state), ("C", state)))
    yield from linear("out_proj", channels, m.hidden_size, bias=m.bias)


def _mamba2(m: arch.Mamba2) -> Iterator[Named]:
    inner = m.num_heads * m.head_dim
    channels = inner + 2 * m.n_groups * m.state_size
    yield from linear("in_proj", m.hidden_size, inner + channels + m.num_heads, bias=m.bias)
    yield from _convolution(channels, m.conv_kernel, bias=m.conv_bias)
    yield from ((name, (m.num_heads,)) for name in ("A_log", "D_skip", "dt_bias"))
    if m.norm:
        yield "norm_weight", (inner,)
    yield from linear("out_proj", inner, m.hidden_size, bias=m.bias if m.out_bias is None else m.out_bias)


def _gated_delta_net(g: arch.GatedDeltaNet) -> Iterator[Named]:
    D, values = g.hidden_size, g.num_v_heads * g.head_v_dim
    channels = 2 * g.num_k_heads * g.head_k_dim + values
    decays = g.num_v_heads if g.decay == "head" else g.num_v_heads * g.head_k_dim
    yield from linear("qkv_proj", D, channels, bias=False)
    yield from _convolution(channels, g.conv_kernel, bias=False)
    yield from linear("beta_proj", D, g.num_v_heads, bias=False)
    yield from _bottleneck("decay_proj", D, None if g.decay == "head" else g.head_v_dim, decays, bias=False)
    yield "A_log", (g.num_v_heads,)
    yield "dt_bias", (decays,)
    yield from _bottleneck("gate_proj", D, g.gate_rank, values, bias=g.gate_bias)
    yield "norm_weight", (g.head_v_dim,)
    yield from linear("o_proj", values, D, bias=False)


def _bottleneck(name: str, size_in: int, rank: int | None, size_out: int, *, bias: bool) -> Iterator[Named]:
    if rank is None:
        yield from linear(name, size_in, size_out, bias=bias)
    else:
        yield from linear(f"{name}.0", size_in, rank, bias=False)
        yield from linear(f"{name}.1", rank, size_out, bias=bias)


def _linear_attention(a: arch.LinearAttention) -> Iterator[Named]:
    inner = a.num_heads * a.head_dim
    yield from linear("qkv_proj", a.hidden_size, 3 * inner, bias=a.bias)
    if a.feature_map == "lightning":
        yield from linear("gate_proj", a.hidden_size, inner, bias=False)
        yield "norm.weight", (inner,)
    yield from linear("o_proj", inner, a.hidden_size, bias=a.bias)
    if a.feature_map == "favor":
        yield "directions_HR", (a.head_dim, a.features)


def _recurrence(g: arch.RealGatedRecurrence) -> Iterator[Named]:
    D, W = g.hidden_size, g.lru_width
    yield from linear("x_proj", D, W, bias=True)
    yield from linear("y_proj", D, W, bias=True)
    yield from _convolution(W, g.conv_kernel, bias=True)
    for gate in ("input_gate", "recurrence_gate"):
        yield f"{gate}.weight", (g.num_heads, W // g.num_heads, W // g.num_heads)
        yield f"{gate}.bias", (W,)
    yield "decay", (W,)
    yield from linear("out_proj", W, D, bias=True)


def _short_convolution(c: arch.ShortConvolution, D: int) -> Iterator[Named]:
    yield from linear("in_proj", D, 3 * D, bias=c.bias)
    yield from _convolution(D, c.conv_kernel, bias=c.bias)
    yield from linear("out_proj", D, D, bias=c.bias)


def _token_convolution(c: arch.TokenConvolution, D: int) -> Iterator[Named]:
    yield "conv.weight", (D, D // c.groups, c.conv_kernel)
    if c.bias:
        yield "conv.bias", (D,)
