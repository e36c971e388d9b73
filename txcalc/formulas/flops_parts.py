"""Matmul FLOPs outside the layers: convolutions and projections at the input, heads and poolers at the output."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import (
    AttentionPooling,
    AudioEmbedding,
    Branch,
    Connector,
    CrossAttention,
    Head,
    HyperConnection,
    InputEmbedding,
    Layer,
    Norm,
    PatchEmbedding,
    Pooler,
    Projection,
    Similarity,
    Stack,
    StreamHead,
    TokenEmbedding,
)
from txcalc.expression import Expression, symbol
from txcalc.formulas.flops_attention import cross_attention_flops
from txcalc.formulas.flops_blocks import bottleneck_flops
from txcalc.formulas.flops_side import per_layer_projection_flops
from txcalc.formulas.flops_work import Work, linear_flops
from txcalc.formulas.relative_attention import convolution, depth_flops
from txcalc.result import Node, leaf, total

# Convolutions on the input itself: their backward pass makes the weight's gradient only.
INPUT_CONVOLUTIONS: Final = frozenset({"patches", "frames"})


def input_flops(embedding: InputEmbedding, work: Work) -> Node:
    """From tokens, image or sound to the first hidden states; looking up a table is no product."""
    match embedding:
        case TokenEmbedding():
            parts = [
                projection_flops("projection", embedding.projection, work.rows),
                per_layer_projection_flops(embedding.per_layer, embedding.embedding_size, work)
                if embedding.per_layer
                else None,
            ]
        case PatchEmbedding():
            parts = [_patches(embedding, work)]
        case AudioEmbedding():
            parts = _audio(embedding, work)
    return total("input", "FLOPs", parts)


def _patches(e: PatchEmbedding, work: Work) -> Node:
    """A convolution whose step is its width: each patch once (Dosovitskiy et al. 2021, equation 1)."""
    C, P, D = symbol("num_channels", e.num_channels), symbol("patch_size", e.patch_size), symbol("D", e.hidden_size)
    patches = work.T - symbol("extra_tokens", e.extra_tokens) if e.extra_tokens else work.T
    frames = symbol("temporal_patch_size", e.temporal_patch_size)
    width = P if e.patch_width is None else symbol("patch_width", e.patch_width)
    once = 2 * work.B * patches * C * P * width * D
    return leaf("patches", "FLOPs", once if e.temporal_patch_size == 1 else once * frames)


def _audio(e: AudioEmbedding, work: Work) -> list[Node | None]:
    """Two convolutions, the second with step 2 (Radford et al. 2022, arXiv 2212.04356, section 2.2)."""
    D, kernel, mel = symbol("D", e.hidden_size), symbol("kernel", e.conv_kernel), symbol("num_mel_bins", e.num_mel_bins)
    return [
        leaf("frames", "FLOPs", 2 * work.B * (2 * work.T) * mel * kernel * D),
        leaf("halving", "FLOPs", 2 * work.rows * D * kernel * D),
    ]


def projection_flops(name: str, projection: Projection | None, rows: int) -> Node | None:
    """A plain linear map on ``rows`` vectors."""
    if projection is None:
        return None
    return linear_flops(name, rows, symbol("in", projection.in_size), symbol("out", projection.out_size))


def runs(layer: Layer, work: Work) -> bool:
    """Whether a layer runs: one that looks at an image does not without."""
    looking = any(isinstance(each, CrossAttention) and each.optional for each in layer.sublayers())
    return not looking or (work.source is not None and int(work.source) > 0)


def beside_flops(layer: Layer, work: Work) -> list[Node]:
    """Products of a layer outside its sublayers: gates in its norms, weights of its streams."""
    norms = [norm for step in layer.steps for norm in (step.norm_in, step.norm_out, step.norm_after)]
    norms += [norm for step in layer.steps for each in step.branches for norm in (each.norm_in, each.norm_out)]
    gates = [_norm_gate(norm, work) for norm in norms if norm is not None and norm.gate_rank is not None]
    branches = [branch for step in layer.steps for branch in step.branches]
    return [
        *gates,
        *(_streams(step.streams, work) for step in layer.steps if step.streams is not None),
        *(depth_flops(step.depth, work) for step in layer.steps if step.depth is not None),
        *(_out_conv(branch, work) for branch in branches if branch.out_conv is not None),
        *([bottleneck_flops(layer.bottleneck, work)] if layer.bottleneck is not None else []),
    ]


def _out_conv(branch: Branch, work: Work) -> Node:
    return convolution(work, symbol("D", branch.sublayer.hidden_size), symbol("conv_kernel", branch.out_conv or 1))


def _norm_gate(norm: Norm, work: Work) -> Node:
    D, rank = symbol("D", norm.width), symbol("gate_rank", norm.gate_rank or 0)
    return leaf("norm_gate", "FLOPs", 2 * (2 * work.rows * D * rank))


def _streams(hyper: HyperConnection | StreamHead, work: Work) -> Node:
    """What makes a token's weights; where streams are mixed, the product of those with the old streams."""
    n, D = symbol("streams", hyper.streams), symbol("D", hyper.hidden_size)
    if isinstance(hyper, StreamHead):
        return total("stream_head", "FLOPs", [linear_flops("weights", work.rows, n * D, n)])
    outputs = 2 * n + n * n if hyper.mixing else 2 * n
    mixed = linear_flops("mixing", work.rows * n, n, D) if hyper.mixing else None
    return total("streams", "FLOPs", [linear_flops("weights", work.rows, n * D, outputs), mixed])


def output_flops(stack: Stack, work: Work) -> list[Node | None]:
    """What follows the last layer within the stack."""
    return [
        _streams(stack.stream_head, work) if stack.stream_head else None,
        depth_flops(stack.depth, work) if stack.depth else None,
        projection_flops("out_projection", stack.out_projection, work.rows),
        _pooler(stack.pooler, work) if stack.pooler else None,
        _attention_pooling(stack.attention_pooling, work) if stack.attention_pooling else None,
        projection_flops("pooled_projection", stack.pooled_projection, work.B),
    ]


def _pooler(pooler: Pooler, work: Work) -> Node:
    D = symbol("D", pooler.hidden_size)
    out = D if pooler.out_size is None else symbol("pooler_output_size", pooler.out_size)
    return linear_flops("pooler", work.B, D, out)


def _attention_pooling(pooling: AttentionPooling, work: Work) -> Node:
    """One learned query a sequence attends over all tokens, then a feed-forward on the one vector."""
    query = work.replace(T=symbol("T", 1), rows=work.B, source=work.S, decoding=False)
    f = pooling.feed_forward
    D, F = symbol("D", f.hidden_size), symbol("F", f.intermediate_size)
    parts = [
        cross_attention_flops(pooling.attention, query),
        linear_flops("gate_proj", work.B, D, F) if f.gated else None,
        linear_flops("up_proj", work.B, D, F),
        linear_flops("down_proj", work.B, F, D),
    ]
    return total("attention_pooling", "FLOPs", parts)


def connector_flops(connector: Connector, images: Expression, tokens: int) -> Node:
    """From a tower to the decoder: ``tokens`` vectors an image."""
    rows = images * symbol("image_tokens", connector.tokens or tokens)
    parts = [_pooling(connector, rows, tokens) if connector.pool_by_product else None]
    return total(
        "connector", "FLOPs", [*parts, *(projection_flops("projection", p, rows) for p in connector.projections)]
    )


def _pooling(connector: Connector, rows: Expression, patches: int) -> Node:
    """Every pooled vector as a weighted sum of all patches of its image, most of them with weight 0 (Gemma 4)."""
    return linear_flops("pooling", rows, symbol("patches", patches), symbol("D", connector.projections[0].in_size))


def similarity_flops(similarity: Similarity, texts: Expression, images: Expression) -> Node:
    """Every text's vector with every image's of the batch (Radford et al. 2021, arXiv 2103.00020, figure 3)."""
    return leaf("similarity", "FLOPs", 2 * texts * images * symbol("projection_dim", similarity.width))


def head_flops(head: Head, rows: Expression, *, name: str = "head") -> Node:
    """The output matrix, tied or not, applied to ``rows`` vectors, after the head's own transform."""
    D = symbol("D", head.input_size)
    V = symbol("V" if head.kind != "classifier" else "num_labels", head.output_size)
    parts: list[Node | None] = []
    if head.transform is not None:
        parts.append(projection_flops("dense", head.transform.dense, rows))
        parts.append(projection_flops("second", head.transform.second, rows))
        D = symbol("embedding_size", (head.transform.second or head.transform.dense).out_size)
    parts.append(linear_flops("matrix", rows, D, V))
    return total(name, "FLOPs", parts)
