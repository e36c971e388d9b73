"""What has no walk yet: named, so that a figure is refused or called an estimate, never guessed in silence."""

from __future__ import annotations

from collections.abc import Iterator

from txcalc.architecture import (
    CrossAttention,
    Disentangled,
    FeedForward,
    FourierMixing,
    GatedDeltaNet,
    LatentAttention,
    Layer,
    LinearAttention,
    Mamba,
    Mamba2,
    MixtureOfExperts,
    RealGatedRecurrence,
    RelativeBias,
    RelativeKeys,
    SelfAttention,
    ShortConvolution,
    Sublayer,
)


def unwalked(layer: Layer, *, training: bool) -> tuple[str, ...]:
    """What a layer has that no walk covers; empty where its memory is known to the byte."""
    found = [reason for sublayer in layer.sublayers() for reason in _reasons(sublayer, training)]
    branches = [branch for step in layer.steps for branch in step.branches]
    found += ["branches that join later"] if any(branch.defer for branch in branches) else []
    return tuple(dict.fromkeys(found))


def depends_on_data(layer: Layer) -> bool:
    """Whether how much is live depends on which expert each token passes."""
    return any(isinstance(sublayer, MixtureOfExperts) for sublayer in layer.sublayers())


def _reasons(sublayer: Sublayer, training: bool) -> Iterator[str]:
    match sublayer:
        case SelfAttention():
            yield from _self_attention(sublayer, training)
        case LatentAttention():
            if sublayer.indexer is not None:
                yield "sparse-attention indexers"
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


def _self_attention(a: SelfAttention, training: bool) -> Iterator[str]:
    if a.global_tokens is not None or a.sparse_blocks is not None:
        yield "global tokens and sparse blocks"
    if a.differential is not None:
        yield "differential attention"
    if a.kv_source is not None:
        yield "keys and values of another layer"
    if isinstance(a.position, Disentangled | RelativeKeys):
        yield "scores of relative positions"
    if isinstance(a.position, RelativeBias) and (training or a.position.table == "layer"):
        yield "learned biases of relative positions"


def _feed_forward(f: FeedForward) -> Iterator[str]:
    if f.activation == "xielu" or f.activation_sparsity:
        yield "learned or sparse activations"


def _mixture(m: MixtureOfExperts) -> Iterator[str]:
    yield from _feed_forward(m.expert)
    if m.router.scoring == "sparsemixer" or m.router.zero_experts:
        yield "sparse mixers and zero experts"
