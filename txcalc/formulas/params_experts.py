"""Parameters of feed-forwards, of experts and what chooses among them, and of adapters beside shared matrices."""

from __future__ import annotations

from math import isqrt
from typing import Final

from txcalc.architecture import FeedForward, MixtureOfExperts, SelfAttention, Sublayer
from txcalc.expression import Expression, symbol
from txcalc.formulas.letters import head_widths
from txcalc.formulas.params_blocks import blocks
from txcalc.formulas.params_parts import linear, norm_params
from txcalc.result import Node, leaf, times, total

FEED_FORWARD: Final = (
    "Vaswani et al. 2017 (arXiv 1706.03762), section 3.3; gated: Shazeer 2020 (arXiv 2002.05202), equation 6"
)
MIXTURE: Final = (
    "Shazeer et al. 2017 (arXiv 1701.06538); shared experts: Dai et al. 2024 (arXiv 2401.06066), section 3.2"
)


def feed_forward_params(f: FeedForward, name: str = "feed_forward") -> Node:
    """Two matrices, or three with a gate."""
    D, F = symbol("D", f.hidden_size), symbol("F", f.intermediate_size)
    parts = [
        linear("gate_proj", D, F, bias=f.up_bias) if f.gated else None,
        blocks("up_proj", D, F, f.up_groups, bias=f.up_bias),
        blocks("down_proj", F, D, f.down_groups, bias=f.down_bias),
        norm_params("norm", f.norm),
        leaf("output_scale", "parameters", 1) if f.output_scale else None,
        leaf("xielu", "parameters", 2) if f.activation == "xielu" else None,
    ]
    return total(name, "parameters", parts, source=FEED_FORWARD)


def expert_params(m: MixtureOfExperts) -> Node:
    """One routed expert."""
    return feed_forward_params(m.expert, "expert")


def mixture_params(m: MixtureOfExperts) -> Node:
    """Router, routed experts, and what every token passes."""
    D, E = symbol("D", m.hidden_size), symbol("E", m.num_experts)
    parts = [
        _router(m, D) if not m.router.given else None,
        norm_params("router_norm", m.router.input_norm),
        leaf("expert_scale", "parameters", 1 * E) if m.router.expert_scale else None,
        norm_params("expert_norm", m.expert_norm),
        leaf("correction_bias", "parameters", 1 * E) if m.router.correction_bias_stored else None,
        leaf("router_scale", "parameters", 1) if m.router.learned_scale else None,
        *_latent_projections(m, D),
        times("experts", "parameters", E, [expert_params(m)]),
        feed_forward_params(m.shared_expert, "shared_expert") if m.shared_expert else None,
        leaf("shared_expert_gate", "parameters", 1 * D) if m.shared_expert_gate else None,
        leaf("out_bias", "parameters", 1 * D) if m.out_bias else None,
    ]
    return total("mixture_of_experts", "parameters", parts, source=MIXTURE)


def _router(m: MixtureOfExperts, D: Expression) -> Node:
    network = m.router.network
    if network is None:
        return linear("router", D, router_outputs(m), bias=m.router.bias)
    r = symbol("router_hidden_size", network.size)
    parts = [
        linear("down_proj", D, r, bias=True),
        leaf("carried_scale", "parameters", 1 * r) if network.carries else None,
        leaf("norm", "parameters", 1 * r),
        leaf("layers", "parameters", 2 * (r * r + r)),
        linear("out_proj", r, router_outputs(m), bias=m.router.bias),
    ]
    return total("router", "parameters", parts)


def router_outputs(m: MixtureOfExperts) -> Expression:
    """Scores a router gives for a token: one an expert, or one a key of each half (Doge)."""
    E = symbol("E", m.num_experts)
    if m.router.product_keys:
        return 2 * symbol("num_keys", isqrt(m.num_experts))
    if m.router.scored_shared:
        return E + symbol("n_shared_experts", m.router.scored_shared)
    return E + symbol("zero_experts", m.router.zero_experts) if m.router.zero_experts else E


def _latent_projections(m: MixtureOfExperts, D: Expression) -> list[Node]:
    if m.latent_size is None:
        return []
    latent = symbol("latent_size", m.latent_size)
    return [
        linear("latent_down_proj", D, latent, bias=m.latent_bias),
        linear("latent_up_proj", latent, D, bias=m.latent_bias),
    ]


def attention_expert_params(a: SelfAttention) -> Node:
    """One expert of an attention whose query heads are chosen."""
    D, K = symbol("D", a.hidden_size), symbol("K", a.num_key_value_heads)
    H, Hv = head_widths(a.head_dim, a.v_head_dim)
    parts = [linear("q_proj", D, K * H, bias=False), linear("o_proj", K * Hv, D, bias=False)]
    return total("expert", "parameters", parts)


def expert_heads_params(a: SelfAttention, D: Expression) -> Node | None:
    """Queries and outputs that are experts, their router and the bias on their sum; None where there are none."""
    if a.expert_heads is None:
        return None
    E = symbol("E", a.expert_heads.num_experts)
    parts = [
        linear("router", D, E, bias=False),
        times("experts", "parameters", E, [attention_expert_params(a)]),
        leaf("out_bias", "parameters", 1 * D),
    ]
    return total("expert_heads", "parameters", parts, source=MIXTURE)


def adapter_params(sublayer: Sublayer) -> Node | None:
    """Two narrow matrices beside each that others share: they stay each layer's own (Zamba 2, arXiv 2411.15242)."""
    match sublayer:
        case SelfAttention(adapter_rank=int(rank), hidden_size=size):
            D, r = symbol("D", size), symbol("adapter_rank", rank)
            return leaf("adapters", "parameters", 3 * (D * r + r * D))
        case FeedForward(adapter_rank=int(rank), hidden_size=size, intermediate_size=inner):
            D, F, r = symbol("D", size), symbol("F", inner), symbol("adapter_rank", rank)
            return leaf("adapters", "parameters", D * r + r * (2 * F))
        case _:
            return None
