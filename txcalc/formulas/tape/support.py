"""What has no walk yet: named, so that a figure is refused or called an estimate, never guessed in silence."""

from __future__ import annotations

from collections.abc import Iterator

from txcalc.architecture import (
    CompressedAttention,
    CrossAttention,
    Disentangled,
    FeedForward,
    FourierMixing,
    GatedDeltaNet,
    LatentAttention,
    Layer,
    LinearAttention,
    LowRankResidual,
    Mamba,
    Mamba2,
    MixtureOfExperts,
    PerLayerInput,
    Position,
    ProjectedDistances,
    RealGatedRecurrence,
    RelativeAttention,
    RelativeBias,
    RelativeKeys,
    Rotary,
    SelfAttention,
    ShortConvolution,
    Stack,
    Sublayer,
    TokenEmbedding,
)


def unwalked_in(stack: Stack, *, training: bool) -> tuple[str, ...]:
    """The same for a whole stack."""
    found = [reason for layer in stack.layers for reason in unwalked(layer, training=training)]
    found += ["streams that run in cycles"] if stack.cycles else []
    if isinstance(stack.embedding, TokenEmbedding) and (stack.embedding.tables or stack.embedding.neighbours):
        found.append("further input tables")
    return tuple(dict.fromkeys(found))


def unwalked(layer: Layer, *, training: bool) -> tuple[str, ...]:
    """What a layer has that no walk covers; empty where its memory is known to the byte."""
    found = [reason for sublayer in layer.sublayers() for reason in _reasons(sublayer, training)]
    branches = [branch for step in layer.steps for branch in step.branches]
    found += ["branches that join later"] if any(branch.defer for branch in branches) else []
    found += ["gated branches and learned skips"] if _gated(layer) else []
    found += ["convolved outputs"] if any(branch.out_conv for branch in branches) else []
    found += ["reading from earlier depths"] if any(step.depth for step in layer.steps) else []
    found += ["scaled and shifted streams"] if any(step.affine for step in layer.steps) else []
    found += ["blocks beside the stream"] if any(step.aside for step in layer.steps) else []
    found += ["several residual streams"] if any(step.streams for step in layer.steps) else []
    found += ["several streams a token"] if layer.altup else []
    found += ["layers with a stored factor"] if layer.scalar else []
    found += ["streams mixed with the embedded tokens"] if any(step.mixes_input for step in layer.steps) else []
    found += ["layers with a bottleneck"] if layer.bottleneck else []
    return tuple(dict.fromkeys(found))


def _gated(layer: Layer) -> bool:
    norms = [norm for step in layer.steps for norm in (step.norm_in, step.norm_out, step.norm_after)]
    norms += [norm for step in layer.steps for each in step.branches for norm in (each.norm_in, each.norm_out)]
    return (
        any(norm is not None and norm.gate_rank is not None for norm in norms)
        or any(step.learned_skip for step in layer.steps)
        or any(branch.scalar_gate for step in layer.steps for branch in step.branches)
    )


def depends_on_data(layer: Layer) -> bool:
    """Whether how much is live depends on which expert each token passes."""
    return any(isinstance(sublayer, MixtureOfExperts) for sublayer in layer.sublayers())


def product_unknown(a: Sublayer, *, training: bool) -> tuple[str, ...]:
    """What the attention product itself has that no walk covers, whatever stands around it."""
    return () if isinstance(a, CrossAttention) else tuple(dict.fromkeys(_reasons(a, training)))


def _reasons(sublayer: Sublayer, training: bool) -> Iterator[str]:
    match sublayer:
        case SelfAttention():
            yield from _self_attention(sublayer, training)
        case LatentAttention():
            if sublayer.indexer is not None:
                yield "sparse-attention indexers"
            if sublayer.gate != "none" or sublayer.sinks or sublayer.key_norm or sublayer.window is not None:
                yield "latent attention with gates, sinks or windows"
            if sublayer.q_lora_scale != 1.0 or sublayer.kv_lora_scale != 1.0:
                yield "scaled latents"
            yield from _position(sublayer.position)
        case RelativeAttention():
            yield "biases by distance that tokens make"
        case CompressedAttention():
            yield "compressed attention"
        case CrossAttention():
            yield "cross-attention"
        case FeedForward():
            yield from _feed_forward(sublayer)
        case MixtureOfExperts():
            yield from _mixture(sublayer)
        case Mamba() | Mamba2():
            yield "state-space mixers"
        case GatedDeltaNet():
            yield "gated delta nets"
        case LinearAttention():
            yield "linear attention"
        case RealGatedRecurrence():
            yield "gated linear recurrences"
        case ShortConvolution():
            yield "short convolutions"
        case FourierMixing():
            yield "Fourier mixing"
        case PerLayerInput():
            yield "inputs of each layer's own"
        case LowRankResidual():
            yield "low-rank residuals"


def _self_attention(a: SelfAttention, training: bool) -> Iterator[str]:
    if a.head_dim == 1:  # torch then reads the heads' outputs where they lie, and adds o_proj's bias apart
        yield "heads of one channel"
    if a.global_tokens is not None or a.sparse_blocks is not None:
        yield "global tokens and sparse blocks"
    if a.in_blocks:
        yield "attention in padded blocks of a window"
    if a.transient_global is not None or a.global_stream is not None:
        yield "summaries of blocks and streams beside the sequence"
    if a.future_streams is not None:
        yield "streams that predict tokens ahead"
    if a.landmarks is not None or a.value_conv is not None or a.weighting != "softmax" or a.exclusive:
        yield "attention that is approximated or corrected"
    if a.groups is not None or a.span_convolution is not None or a.value_size is not None:
        yield "grouped projections and convolutions beside attention"
    if a.convolved is not None:
        yield "convolved heads"
    if a.expert_heads is not None:
        yield "heads that are experts"
    if a.block_indexer is not None or a.dynamic_mask is not None:
        yield "masks that depend on the content"
    if a.temperature is not None and a.temperature.power:
        yield "powers of the position"
    if a.gate_head_bias:
        yield "gates with a bias for each head"
    if a.gate != "none" and (a.gate_activation != "sigmoid" or a.gate_bias not in (None, a.q_bias)):
        yield "gates other than a sigmoid with the queries' bias"
    if a.differential is not None:
        yield "differential attention"
    if a.adapter_rank is not None:
        yield "adapters of a shared layer"
    if a.joins_source:
        yield "attention that sees an encoder's output beside its own"
    if a.kv_source is not None:
        yield "keys and values of another layer"
    if isinstance(a.position, Disentangled | RelativeKeys | ProjectedDistances):
        yield "scores of relative positions"
    if isinstance(a.position, RelativeBias) and (training or a.position.table == "layer"):
        yield "learned biases of relative positions"
    yield from _position(a.position)


def _position(position: Position | None) -> Iterator[str]:
    if isinstance(position, Rotary) and (position.axes != 1 or position.still_pairs):
        yield "positions on several axes or pairs that stand still"


def _feed_forward(f: FeedForward) -> Iterator[str]:
    if f.activation == "xielu" or f.activation_sparsity:
        yield "learned or sparse activations"
    if f.output_scale or f.softcaps is not None:
        yield "scaled outputs and softcapped gates"
    if f.up_groups != 1 or f.down_groups != 1:
        yield "block-diagonal matrices"
    if f.adapter_rank is not None:
        yield "adapters of a shared layer"
    if f.gate_scale != 1.0:
        yield "scaled gates"
    if f.limit is not None and f.activation != "swiglu_oai":
        yield "clamped gates"


def _mixture(m: MixtureOfExperts) -> Iterator[str]:
    yield from _feed_forward(m.expert)
    if m.latent_size is not None:
        yield "experts in a width of their own"
    if m.router.network is not None:
        yield "routers of several layers"
    if m.out_bias:
        yield "biases on the sum of experts"
    if m.router.scored_shared or m.router.learned_scale:
        yield "shared experts that are scored"
    if m.router.given:
        yield "experts that the input names"
    if m.router.product_keys or m.router.hashed:
        yield "experts that are pairs of keys, or a table's"
    if (
        m.router.input_norm is not None
        or m.router.input_scale != 1.0
        or m.expert_norm is not None
        or m.router.expert_scale
    ):
        yield "routers and experts that read the stream through norms of their own"
    if m.router.scoring == "sparsemixer" or m.router.zero_experts:
        yield "sparse mixers and zero experts"
    if m.router.logit_softcap is not None or m.router.norm_order != 1.0 or m.router.correction_on_logits:
        yield "capped, corrected or otherwise normed routing logits"
