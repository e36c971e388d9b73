"""Elementwise FLOPs, as an estimate: norms, softmax, activations, residual sums, rotary positions, biases, scans.

Every addition, multiplication, division, exponential and the like is one operation. Kernels fuse and approximate them
in their own ways and no counter sees them, so this never enters an exact sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import (
    CompressedAttention,
    CrossAttention,
    FeedForward,
    FourierMixing,
    GatedDeltaNet,
    LatentAttention,
    Layer,
    LinearAttention,
    LinearMap,
    LowRankResidual,
    Mamba,
    Mamba2,
    MixtureOfExperts,
    Model,
    Norm,
    PerLayerInput,
    RealGatedRecurrence,
    RelativeAttention,
    Residual,
    Rotary,
    SelfAttention,
    ShortConvolution,
    Stack,
    Sublayer,
    TokenConvolution,
)
from txcalc.architecture.feed_forward import Activation
from txcalc.expression import Expression, symbol
from txcalc.formulas.flops_parts import runs
from txcalc.formulas.flops_question import Question
from txcalc.formulas.flops_recurrent import DELTA_CHUNK
from txcalc.formulas.flops_work import Work
from txcalc.formulas.score_pairs import score_pairs
from txcalc.result import Node, deferred, leaf, times, total

REASON: Final = "operations per element as they are usually written; kernels fuse and approximate them"

# Operations on one element. LayerNorm: mean, difference, square, variance, quotient; RMSNorm lacks the first two.
NORM: Final[Mapping[str, int]] = {"layernorm": 5, "rmsnorm": 3, "l2": 3, "affine": 0}
ACTIVATION: Final[Mapping[Activation, int]] = {
    "relu": 1,
    "relu2": 2,
    "gelu": 5,
    "gelu_tanh": 9,
    "quick_gelu": 5,
    "silu": 4,
    "swiglu_oai": 8,
    "tanh": 1,
    "xielu": 8,
    "sigmoid": 3,
}
SOFTMAX: Final = 6  # scale, maximum, difference, exponential, sum, quotient
ROTARY: Final = 3  # two products and their sum, for each rotated channel
SCAN: Final = 6  # of one state element: decay, its exponential, input times step, both products, their sum
STEP: Final = 5  # of one state element in a step of matrix states: decay, product with the input, sum, read-out


def elementwise(model: Model, asked: Question) -> Node:
    """Elementwise operations of the stacks that run; a backward pass is taken as twice the forward's."""

    def stacks() -> list[Node]:
        return [_stack(stack, work) for stack in model.stacks if (work := asked.work(model, stack)) is not None]

    view: dict[str, Any] = {"key": "flops.elementwise", "aside": True, "basis": "estimated", "reason": REASON}
    if asked.phase == "train":
        view["count"] = symbol("forward_and_backward", 3)
    return deferred("elementwise", "FLOPs", stacks, **view)


def _stack(stack: Stack, work: Work) -> Node:
    layers = [
        times("layers", "FLOPs", symbol("L", count if runs(layer, work) else 0), _layer(layer, work), **_ESTIMATED)
        for layer, count in zip(stack.layers, stack.counts(), strict=True)
    ]
    norms = [stack.embedding.norm if hasattr(stack.embedding, "norm") else None, stack.final_norm]
    return total(stack.role, "FLOPs", [*layers, _norms(norms, work)], **_ESTIMATED)


_ESTIMATED: Final[dict[str, Any]] = {"basis": "estimated"}


def _guess(name: str, value: int) -> Node:
    return leaf(name, "FLOPs", value, basis="estimated")


def _layer(layer: Layer, work: Work) -> list[Node | None]:
    norms = [norm for step in layer.steps for norm in _step_norms(step)]
    sums = sum(len(step.branches) for step in layer.steps if step.residual)
    width = layer.steps[0].branches[0].sublayer.hidden_size if layer.steps[0].branches else 0
    return [
        _norms(norms, work),
        *(_sublayer(sublayer, work) for sublayer in layer.sublayers()),
        _guess("residual_sums", sums * work.rows * symbol("D", width)) if sums else None,
        _guess("streams", 4 * layer.altup.streams * work.rows * symbol("D", width)) if layer.altup else None,
    ]


def _step_norms(step: Residual) -> list[Norm | None]:
    branches = [norm for branch in step.branches for norm in (branch.norm_in, branch.norm_out)]
    return [step.norm_in, *branches, step.norm_out, step.norm_after]


def _norms(norms: list[Norm | None], work: Work) -> Node | None:
    each = [
        leaf("norm", "FLOPs", norm_operations(norm) * work.rows * symbol("D", norm.width), basis="estimated")
        for norm in norms
        if norm is not None
    ]
    return total("norms", "FLOPs", each, **_ESTIMATED) if each else None


def norm_operations(norm: Norm) -> int:
    """Operations on one channel."""
    return NORM[norm.kind] + norm.weight + norm.bias + norm.unit_offset


def _sublayer(sublayer: Sublayer, work: Work) -> Node | None:
    match sublayer:
        case SelfAttention():
            return _self_attention(sublayer, work)
        case CrossAttention():
            N = symbol("N", sublayer.num_attention_heads)
            S = work.source if work.source is not None else work.S
            return _guess("softmax", SOFTMAX * work.B * N * (work.T * S))
        case LatentAttention():
            return _latent_attention(sublayer, work)
        case RelativeAttention():
            N = symbol("N", sublayer.num_attention_heads)
            pairs = score_pairs(work, causal=sublayer.causal, window=sublayer.window)
            return _guess("softmax", (SOFTMAX + 2) * work.B * N * pairs)
        case CompressedAttention():
            N = symbol("N", sublayer.num_attention_heads)
            pairs = score_pairs(work, causal=sublayer.causal, window=sublayer.window)
            return _guess("softmax", (SOFTMAX + 1) * work.B * N * pairs)
        case FeedForward():
            return _guess("activation", _activations(sublayer, work))
        case LinearMap():
            return total("linear", "FLOPs", [], **_ESTIMATED)
        case MixtureOfExperts():
            return _mixture(sublayer, work)
        case Mamba():
            state = symbol("F", sublayer.intermediate_size) * symbol("state_size", sublayer.state_size)
            steps = SCAN + 2 if work.scan == "recurrent" else SCAN
            return _guess("scan", steps * work.rows * state)
        case Mamba2():
            heads, H = symbol("num_heads", sublayer.num_heads), symbol("head_dim", sublayer.head_dim)
            return _recurrent(work, heads * H, heads * H * symbol("state_size", sublayer.state_size))
        case GatedDeltaNet():
            return _delta(sublayer, work)
        case LinearAttention():
            N, H = symbol("N", sublayer.num_heads), symbol("H", sublayer.head_dim)
            return _recurrent(work, 3 * N * H, N * H * symbol("features", sublayer.features or sublayer.head_dim))
        case RealGatedRecurrence():
            return _guess("recurrence", 2 * SCAN * work.rows * symbol("lru_width", sublayer.lru_width))
        case ShortConvolution():
            return _guess("gates", 2 * work.rows * symbol("D", sublayer.hidden_size))
        case TokenConvolution():
            operations = ACTIVATION[sublayer.activation] + sublayer.bias
            return _guess("activation", operations * work.rows * symbol("D", sublayer.hidden_size))
        case FourierMixing():
            return _fourier(sublayer, work)
        case PerLayerInput():
            operations = ACTIVATION[sublayer.activation] + 1
            return _guess("activation", operations * work.rows * symbol("hidden_size_per_layer_input", sublayer.width))
        case LowRankResidual():
            return _guess("norm_and_sum", (NORM["rmsnorm"] + 2) * work.rows * symbol("D", sublayer.hidden_size))


def _self_attention(a: SelfAttention, work: Work) -> Node:
    N, K, H = symbol("N", a.num_attention_heads), symbol("K", a.num_key_value_heads), symbol("H", a.head_dim)
    pairs = score_pairs(work, causal=a.causal, window=a.window, chunk=a.chunk)
    each = (
        SOFTMAX + a.causal + (3 if a.softcap else 0) + (a.position is not None and not isinstance(a.position, Rotary))
    )
    parts = [_guess("softmax", each * work.B * N * pairs)]
    if isinstance(a.position, Rotary):
        rotated = symbol("rotary_dim", a.position.rotary_dim)
        parts.append(_guess("rotary", ROTARY * work.rows * (N + K) * rotated))
    if a.qk_norm is not None:
        parts.append(_guess("qk_norm", (NORM[a.qk_norm.kind] + a.qk_norm.weight) * work.rows * (N + K) * H))
    return total("attention", "FLOPs", parts, **_ESTIMATED)


def _latent_attention(a: LatentAttention, work: Work) -> Node:
    N, rope = symbol("N", a.num_attention_heads), symbol("qk_rope_head_dim", a.qk_rope_head_dim)
    parts = [
        _guess("softmax", (SOFTMAX + a.causal) * work.B * N * score_pairs(work, causal=a.causal, window=a.window)),
        _guess("rotary", ROTARY * work.rows * (N + 1) * rope),
    ]
    return total("attention", "FLOPs", parts, **_ESTIMATED)


def _activations(f: FeedForward, work: Work) -> Expression:
    return (ACTIVATION[f.activation] + f.gated) * work.rows * symbol("F", f.intermediate_size)


def _mixture(m: MixtureOfExperts, work: Work) -> Node:
    E, D = symbol("E", m.num_experts), symbol("D", m.hidden_size)
    visited = E if work.moe == "all_experts" else symbol("num_experts_per_tok", m.num_experts_per_tok)
    parts = [
        _guess("routing", SOFTMAX * work.rows * E) if not m.router.given else None,
        _guess("activation", visited * _activations(m.expert, work)),
        _guess("weighted_sum", 2 * work.rows * visited * D),
        _guess("shared_activation", _activations(m.shared_expert, work)) if m.shared_expert else None,
    ]
    return total("mixture_of_experts", "FLOPs", parts, **_ESTIMATED)


def _recurrent(work: Work, channels: Expression, state: Expression) -> Node:
    """Decays, gates and activations of the channels; step by step also the state itself."""
    parts = [_guess("decays_and_gates", 2 * SCAN * work.rows * channels)]
    if work.scan == "recurrent":
        parts.append(_guess("state_steps", STEP * work.rows * state))
    return total("recurrence", "FLOPs", parts, **_ESTIMATED)


def _delta(g: GatedDeltaNet, work: Work) -> Node:
    """In chunks, a triangular system of the chunk's length is solved for keys and values: n * n operations a column."""
    heads, key, value = (
        symbol("num_v_heads", g.num_v_heads),
        symbol("head_k_dim", g.head_k_dim),
        symbol("head_v_dim", g.head_v_dim),
    )
    node = _recurrent(work, heads * (key + value), heads * key * value)
    if work.scan == "recurrent":
        return node.replace(children=(*node.children, _guess("corrections", 2 * work.rows * heads * key * value)))
    chunk = symbol("chunk_size", DELTA_CHUNK)
    solved = _guess("triangular_systems", work.rows * chunk * heads * (key + value))
    return node.replace(children=(*node.children, solved))


def _fourier(f: FourierMixing, work: Work) -> Node:
    """5 n log2(n) for a transform of n points, over the channels and then over the tokens (Lee-Thorp et al. 2021)."""
    D = symbol("D", f.hidden_size)
    steps = symbol("log2_D", (f.hidden_size - 1).bit_length()) + symbol("log2_T", (int(work.T) - 1).bit_length())
    return _guess("fourier_transforms", 5 * work.rows * D * steps)
