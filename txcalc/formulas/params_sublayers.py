"""Parameters of each kind of sublayer: one function a kind, chosen by a match that mypy proves complete."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import (
    CompressedAttention,
    CrossAttention,
    Disentangled,
    FeedForward,
    FourierMixing,
    GatedDeltaNet,
    LatentAttention,
    LinearAttention,
    LinearMap,
    LowRankResidual,
    Mamba,
    Mamba2,
    MixtureOfExperts,
    PerLayerInput,
    ProjectedDistances,
    QKNorm,
    RealGatedRecurrence,
    RelativeAttention,
    RelativeBias,
    RelativeKeys,
    SelfAttention,
    ShortConvolution,
    Sublayer,
    TokenConvolution,
)
from txcalc.expression import Expression, symbol
from txcalc.formulas.letters import head_widths
from txcalc.formulas.params_blocks import (
    blocks,
    groups_of,
    heads_out,
    span_convolution_params,
    value_width,
)
from txcalc.formulas.params_compressed import compressed_attention_params
from txcalc.formulas.params_experts import expert_heads_params, feed_forward_params, mixture_params
from txcalc.formulas.params_latent import chooser_params, latent_attention_params
from txcalc.formulas.params_parts import linear, norm_params
from txcalc.formulas.params_side import side_params
from txcalc.formulas.relative_attention import relative_attention_params
from txcalc.result import Node, leaf, total

# Where each part is defined; the counts are derived from the shapes of its matrices.
ATTENTION: Final = (
    "Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.2; grouped heads: Ainslie et al. 2023 (arXiv 2305.13245)"
)
CROSS: Final = "Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.3: keys and values from the encoder"
MAMBA: Final = "Gu and Dao 2023 (arXiv 2312.00752), section 3"
MAMBA2: Final = "Dao and Gu 2024 (arXiv 2405.21060), section 7"
DELTA: Final = "Yang et al. 2024 (arXiv 2412.06464), section 3.3; per-channel decay: Kimi Linear (arXiv 2510.26692)"
LINEAR_ATTENTION: Final = (
    "Katharopoulos et al. 2020 (arXiv 2006.16236); lightning: MiniMax-01 (arXiv 2501.08313), section 2.2"
)
GRIFFIN: Final = "Griffin (De et al. 2024, arXiv 2402.19427), section 2.4; gates are block-diagonal, one block a head"
CONVOLUTION: Final = "He et al. 2021 (arXiv 2006.03654), section 4: a convolution beside the first layer"
CONVOLVED: Final = "Figliolia et al. 2025 (arXiv 2510.04476), section 3"
LFM2: Final = "LFM2 technical report, section 2"


def sublayer_params(sublayer: Sublayer) -> Node:
    """Parameters of one sublayer, without the norms around it."""
    match sublayer:
        case SelfAttention():
            return _self_attention(sublayer)
        case CrossAttention():
            return _cross_attention(sublayer)
        case LatentAttention():
            return latent_attention_params(sublayer)
        case CompressedAttention():
            return compressed_attention_params(sublayer)
        case RelativeAttention():
            return relative_attention_params(sublayer)
        case FeedForward():
            return feed_forward_params(sublayer)
        case LinearMap():
            D = symbol("D", sublayer.hidden_size)
            return linear("linear", D, D, bias=False)
        case MixtureOfExperts():
            return mixture_params(sublayer)
        case Mamba():
            return _mamba(sublayer)
        case Mamba2():
            return _mamba2(sublayer)
        case GatedDeltaNet():
            return _gated_delta_net(sublayer)
        case LinearAttention():
            return _linear_attention(sublayer)
        case RealGatedRecurrence():
            return _real_gated_recurrence(sublayer)
        case ShortConvolution():
            return _short_convolution(sublayer)
        case TokenConvolution():
            return _token_convolution(sublayer)
        case FourierMixing():
            return total("fourier_mixing", "parameters", [])
        case PerLayerInput() | LowRankResidual():
            return side_params(sublayer)


# ---- attention ------------------------------------------------------------------------------------------------------


def _self_attention(a: SelfAttention) -> Node:
    D, N = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads)
    K = symbol("K", a.num_key_value_heads)
    H, Hv = head_widths(a.head_dim, a.v_head_dim)
    own_kv, groups = a.kv_source is None, groups_of(a)
    parts = [
        blocks("q_proj", D, N * H, groups.q, bias=a.q_bias) if not a.expert_heads else None,
        blocks("k_proj", D, K * H, groups.k, bias=a.k_bias) if own_kv else None,
        blocks("v_proj", value_width(a, D), K * Hv, groups.v, bias=a.v_bias) if own_kv and not a.k_equals_v else None,
        blocks("o_proj", heads_out(a, N * Hv), _output(a, D), groups.o, bias=a.o_bias) if not a.expert_heads else None,
        span_convolution_params(a, D, N * H),
        leaf("value_conv", "parameters", N * symbol("kernel", a.value_conv)) if a.value_conv else None,
        leaf("exclusive", "parameters", 1 * N) if a.exclusive else None,
        expert_heads_params(a, D),
        _gate(a),
        _qk_norm(a.qk_norm, N, K if own_kv else None, H),
        norm_params("out_norm", a.out_norm),
        leaf("sinks", "parameters", 1 * N) if a.sinks else None,
        leaf("lambdas", "parameters", 4 * H) if a.differential else None,
        _global_projections(a),
        leaf("summary_norm", "parameters", 1 * D) if a.transient_global else None,
        _distance_scores(a, D, N),
        *chooser_params(a, D, K, H),
        _convolved(a, N, K, H),
        leaf("global_norm", "parameters", 2 * D) if a.global_stream else None,
        _position_params(a),
    ]
    return total("attention", "parameters", parts, source=ATTENTION)


def _output(a: SelfAttention, D: Expression) -> Expression:
    return D if a.out_size is None else symbol("out_size", a.out_size)


def _convolved(a: SelfAttention, N: Expression, K: Expression, H: Expression) -> Node | None:
    if a.convolved is None:
        return None
    channels, taps = (N + K) * H, symbol("grouped_taps", a.convolved.grouped)
    parts = [
        _convolution(channels, a.convolved.depthwise, bias=True),
        leaf("grouped_conv", "parameters", channels * H * taps + channels),
        leaf("key_scale", "parameters", 1 * K),
    ]
    return total("convolved_heads", "parameters", parts, source=CONVOLVED)


def _gate(a: SelfAttention) -> Node | None:
    D, N = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads)
    _, Hv = head_widths(a.head_dim, a.v_head_dim)
    match a.gate:
        case "none":
            return None
        case "channel":
            gate = linear("gate_proj", D, N * Hv, bias=a.q_bias if a.gate_bias is None else a.gate_bias)
            biases = leaf("gate_biases", "parameters", 1 * N)
            return total("gate", "parameters", [gate, biases]) if a.gate_head_bias else gate
        case "head":
            return linear("gate_proj", D, N, bias=False)


def _qk_norm(norm: QKNorm | None, N: int, K: int | None, H: int) -> Node | None:
    if norm is None or not norm.weight:
        return None
    tensors = 1 + norm.bias
    if norm.scope == "head":
        return leaf("qk_norm", "parameters", (2 if K is not None else 1) * tensors * H)
    heads = N + K if K is not None else N
    return leaf("qk_norm", "parameters", tensors * heads * H if norm.bias else heads * H)


def _distance_scores(a: SelfAttention, D: Expression, N: Expression) -> Node | None:
    if a.future_streams is None:
        return None
    return linear("distance_proj", D, symbol("num_buckets", a.future_streams.num_buckets) * N, bias=True)


def _global_projections(a: SelfAttention) -> Node | None:
    if a.global_tokens is None:
        return None
    D = symbol("D", a.hidden_size)
    return leaf("global_qkv", "parameters", 3 * (D * D + D) if a.global_tokens.bias else 3 * D * D)


def _position_params(a: SelfAttention) -> Node | None:
    match a.position:
        case RelativeBias(table="layer"):
            buckets = symbol("num_buckets", a.position.num_buckets)
            return leaf("relative_bias", "parameters", buckets * symbol("N", a.num_attention_heads))
        case Disentangled(share_key=False):
            D = symbol("D", a.hidden_size)
            kinds = a.position.content_to_position + a.position.position_to_content
            biases = kinds - (a.position.content_to_position and not a.position.key_bias)
            return leaf("position_projections", "parameters", kinds * D * D + biases * D)
        case RelativeKeys():
            rows = symbol("rows", a.position.rows)
            return leaf("relative_keys", "parameters", (2 * rows - 1) * symbol("H", a.head_dim))
        case ProjectedDistances():
            D, inner = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads) * symbol("H", a.head_dim)
            segments = symbol("segments", a.position.segments)
            vectors = 3 + segments if a.position.segments else symbol("biases", 2)
            return leaf("distances", "parameters", D * inner + vectors * inner)
        case _:
            return None


def _cross_attention(a: CrossAttention) -> Node:
    D, N = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads)
    source = D if a.source_size == a.hidden_size else symbol("source_size", a.source_size)
    K = symbol("K", a.num_key_value_heads)
    H, Hv = head_widths(a.head_dim, a.v_head_dim)
    parts = [
        linear("q_proj", D, N * H, bias=a.q_bias),
        linear("k_proj", source, K * H, bias=a.k_bias),
        linear("v_proj", source, K * Hv, bias=a.v_bias),
        linear("o_proj", N * Hv, D, bias=a.o_bias),
        _qk_norm(a.qk_norm, N, K, H),
    ]
    return total("cross_attention", "parameters", parts, source=CROSS)


# ---- recurrent mixers -----------------------------------------------------------------------------------------------


def _convolution(channels: int, kernel: int, *, bias: bool) -> Node:
    """Depthwise: one filter of ``kernel`` taps a channel."""
    taps = symbol("conv_kernel", kernel)
    return leaf("conv", "parameters", channels * taps + channels if bias else channels * taps)


def _mamba(m: Mamba) -> Node:
    D, F = symbol("D", m.hidden_size), symbol("F", m.intermediate_size)
    state, rank = symbol("state_size", m.state_size), symbol("time_step_rank", m.time_step_rank)
    parts = [
        linear("in_proj", D, 2 * F, bias=m.bias),
        _convolution(F, m.conv_kernel, bias=m.conv_bias),
        linear("x_proj", F, rank + 2 * state, bias=False),
        linear("dt_proj", rank, F, bias=True),
        leaf("A_log", "parameters", F * state),
        leaf("D_skip", "parameters", 1 * F),
        leaf("inner_norms", "parameters", rank + 2 * state) if m.inner_norms == "weighted" else None,
        linear("out_proj", F, D, bias=m.bias),
    ]
    return total("mamba", "parameters", parts, source=MAMBA)


def _mamba2(m: Mamba2) -> Node:
    D, heads = symbol("D", m.hidden_size), symbol("num_heads", m.num_heads)
    inner = heads * symbol("head_dim", m.head_dim)
    grouped = symbol("n_groups", m.n_groups) * symbol("state_size", m.state_size)
    parts = [
        linear("in_proj", D, 2 * inner + 2 * grouped + heads, bias=m.bias),
        _convolution(inner + 2 * grouped, m.conv_kernel, bias=m.conv_bias),
        leaf("A_log, D_skip, dt_bias", "parameters", 3 * heads),
        leaf("norm", "parameters", inner) if m.norm else None,
        linear("out_proj", inner, D, bias=m.bias if m.out_bias is None else m.out_bias),
    ]
    return total("mamba2", "parameters", parts, source=MAMBA2)


def _gated_delta_net(g: GatedDeltaNet) -> Node:
    D = symbol("D", g.hidden_size)
    keys = symbol("num_k_heads", g.num_k_heads) * symbol("head_k_dim", g.head_k_dim)
    heads, width = symbol("num_v_heads", g.num_v_heads), symbol("head_v_dim", g.head_v_dim)
    values = heads * width
    parts = [
        linear("qkv_proj", D, 2 * keys + values, bias=False),
        _convolution(2 * keys + values, g.conv_kernel, bias=False),
        linear("beta_proj", D, heads, bias=False),
        *_decay(g, D, heads),
        *_output_gate(g, D, values),
        leaf("norm", "parameters", 1 * width),
        linear("o_proj", values, D, bias=False),
    ]
    return total("gated_delta_net", "parameters", parts, source=DELTA)


def _decay(g: GatedDeltaNet, D: Expression, heads: Expression) -> list[Node]:
    if g.decay == "head":
        return [linear("decay_proj", D, heads, bias=False), leaf("A_log, dt_bias", "parameters", 2 * heads)]
    rank, keys = symbol("head_v_dim", g.head_v_dim), heads * symbol("head_k_dim", g.head_k_dim)
    if not g.decay_bottleneck:
        return [linear("decay_proj", D, keys, bias=False), leaf("A_log, dt_bias", "parameters", heads + keys)]
    return [
        linear("decay_a_proj", D, rank, bias=False),
        linear("decay_b_proj", rank, keys, bias=False),
        leaf("A_log, dt_bias", "parameters", heads + keys),
    ]


def _output_gate(g: GatedDeltaNet, D: Expression, values: Expression) -> list[Node]:
    if g.gate_rank is None:
        return [linear("gate_proj", D, values, bias=g.gate_bias)]
    rank = symbol("gate_rank", g.gate_rank)
    return [linear("gate_a_proj", D, rank, bias=False), linear("gate_b_proj", rank, values, bias=g.gate_bias)]


def _linear_attention(a: LinearAttention) -> Node:
    D = symbol("D", a.hidden_size)
    inner = symbol("N", a.num_heads) * symbol("H", a.head_dim)
    gated = a.feature_map == "lightning"
    parts = [
        linear("qkv_proj", D, 3 * inner, bias=a.bias),
        linear("gate_proj", D, inner, bias=False) if gated else None,
        leaf("norm", "parameters", inner) if gated else None,
        linear("o_proj", inner, D, bias=a.bias),
    ]
    return total("linear_attention", "parameters", parts, source=LINEAR_ATTENTION)


def _real_gated_recurrence(g: RealGatedRecurrence) -> Node:
    D, W = symbol("D", g.hidden_size), symbol("lru_width", g.lru_width)
    blocks = W * W // symbol("N", g.num_heads)
    parts = [
        linear("x_proj", D, W, bias=True),
        linear("y_proj", D, W, bias=True),
        _convolution(W, g.conv_kernel, bias=True),
        leaf("gates", "parameters", 2 * (blocks + W)),
        leaf("decay", "parameters", 1 * W),
        linear("out_proj", W, D, bias=True),
    ]
    return total("recurrence", "parameters", parts, source=GRIFFIN)


def _short_convolution(c: ShortConvolution) -> Node:
    D = symbol("D", c.hidden_size)
    parts = [
        linear("in_proj", D, 3 * D, bias=c.bias),
        _convolution(D, c.conv_kernel, bias=c.bias),
        linear("out_proj", D, D, bias=c.bias),
    ]
    return total("short_convolution", "parameters", parts, source=LFM2)


def _token_convolution(c: TokenConvolution) -> Node:
    D, taps = symbol("D", c.hidden_size), symbol("conv_kernel", c.conv_kernel)
    filters = D * (D // symbol("groups", c.groups)) * taps
    return leaf("token_convolution", "parameters", filters + D if c.bias else filters, source=CONVOLUTION)
