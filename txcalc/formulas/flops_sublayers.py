"""Matmul FLOPs of each kind of sublayer: one function a kind, chosen by a match that mypy proves complete."""

from __future__ import annotations

from txcalc.architecture import (
    CompressedAttention,
    CrossAttention,
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
    RealGatedRecurrence,
    RelativeAttention,
    SelfAttention,
    ShortConvolution,
    Sublayer,
    TokenConvolution,
)
from txcalc.expression import Expression, symbol
from txcalc.formulas.flops_attention import cross_attention_flops, latent_attention_flops, self_attention_flops
from txcalc.formulas.flops_blocks import blocks_flops
from txcalc.formulas.flops_compressed import compressed_attention_flops
from txcalc.formulas.flops_recurrent import (
    gated_delta_net_flops,
    linear_attention_flops,
    mamba2_flops,
    mamba_flops,
    real_gated_recurrence_flops,
    short_convolution_flops,
    token_convolution_flops,
)
from txcalc.formulas.flops_side import low_rank_flops, per_layer_input_flops
from txcalc.formulas.flops_work import Work, linear_flops
from txcalc.formulas.params_experts import FEED_FORWARD, MIXTURE, router_outputs
from txcalc.formulas.relative_attention import relative_attention_flops
from txcalc.result import Node, times, total


def sublayer_flops(sublayer: Sublayer, work: Work) -> Node:
    """Matmul FLOPs of one sublayer for the work of its stack."""
    match sublayer:
        case SelfAttention():
            return self_attention_flops(sublayer, work)
        case CrossAttention():
            return cross_attention_flops(sublayer, work)
        case LatentAttention():
            return latent_attention_flops(sublayer, work)
        case CompressedAttention():
            return compressed_attention_flops(sublayer, work)
        case RelativeAttention():
            return relative_attention_flops(sublayer, work)
        case FeedForward():
            return feed_forward_flops(sublayer, work)
        case LinearMap():
            D = symbol("D", sublayer.hidden_size)
            return linear_flops("linear", work.rows, D, D)
        case MixtureOfExperts():
            return _mixture(sublayer, work)
        case Mamba():
            return mamba_flops(sublayer, work)
        case Mamba2():
            return mamba2_flops(sublayer, work)
        case GatedDeltaNet():
            return gated_delta_net_flops(sublayer, work)
        case LinearAttention():
            return linear_attention_flops(sublayer, work)
        case RealGatedRecurrence():
            return real_gated_recurrence_flops(sublayer, work)
        case ShortConvolution():
            return short_convolution_flops(sublayer, work)
        case TokenConvolution():
            return token_convolution_flops(sublayer, work)
        case FourierMixing():
            return total("fourier_mixing", "FLOPs", [], note="a fast Fourier transform is no matrix product")
        case PerLayerInput():
            return per_layer_input_flops(sublayer, work)
        case LowRankResidual():
            return low_rank_flops(sublayer, work)


def feed_forward_flops(f: FeedForward, work: Work, name: str = "feed_forward") -> Node:
    """Two matrices, or three with a gate."""
    D, F = symbol("D", f.hidden_size), symbol("F", f.intermediate_size)
    parts = [
        linear_flops("gate_proj", work.rows, D, F) if f.gated else None,
        blocks_flops("up_proj", work.rows, D, F, f.up_groups),
        blocks_flops("down_proj", work.rows, F, D, f.down_groups),
        *_adapter(f, work, D, F),
    ]
    return total(name, "FLOPs", parts, source=FEED_FORWARD)


def _adapter(f: FeedForward, work: Work, D: Expression, F: Expression) -> list[Node]:
    """Beside gate and up."""
    if f.adapter_rank is None:
        return []
    rank = symbol("adapter_rank", f.adapter_rank)
    return [linear_flops("adapter_in", work.rows, D, rank), linear_flops("adapter_out", work.rows, rank, 2 * F)]


_ZERO_EXPERTS = "a token may choose experts that do nothing; counted as if it never did"


def _mixture(m: MixtureOfExperts, work: Work) -> Node:
    """Router, the experts that a token visits (or all of them, as some implementations run), and shared ones."""
    D, E = symbol("D", m.hidden_size), symbol("E", m.num_experts)
    zero = m.router.zero_experts
    visited = E if work.moe == "all_experts" else symbol("num_experts_per_tok", m.num_experts_per_tok)
    parts = [
        _router(m, work, D) if not m.router.given else None,
        *_latent_projections(m, work),
        times("experts", "FLOPs", visited, [feed_forward_flops(m.expert, work, "expert")]),
        feed_forward_flops(m.shared_expert, work, "shared_expert") if m.shared_expert else None,
        linear_flops("shared_expert_gate", work.rows, D, 1) if m.shared_expert_gate else None,
    ]
    estimated = bool(zero) and work.moe == "routed"
    return total(
        "mixture_of_experts",
        "FLOPs",
        parts,
        source=MIXTURE,
        basis="estimated" if estimated else "exact",
        reason=_ZERO_EXPERTS if estimated else "",
    )


def _router(m: MixtureOfExperts, work: Work, D: Expression) -> Node:
    network = m.router.network
    if network is None:
        return linear_flops("router", work.rows, D, router_outputs(m))
    r = symbol("router_hidden_size", network.size)
    parts = [
        linear_flops("down_proj", work.rows, D, r),
        linear_flops("layers", work.rows, r, 2 * r),
        linear_flops("out_proj", work.rows, r, router_outputs(m)),
    ]
    return total("router", "FLOPs", parts)


def _latent_projections(m: MixtureOfExperts, work: Work) -> list[Node]:
    """Into the width of the routed experts and back, once for all experts of a token."""
    if m.latent_size is None:
        return []
    D, latent = symbol("D", m.hidden_size), symbol("latent_size", m.latent_size)
    down = linear_flops("latent_down_proj", work.rows, D, latent)
    return [down, linear_flops("latent_up_proj", work.rows, latent, D)]
