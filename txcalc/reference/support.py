"""What an Architecture can describe and this model does not run yet: one list, refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from txcalc import architecture as arch
from txcalc.errors import RequestError
from txcalc.record import Record

# Fields that change what is computed when they differ from their default.
NOT_BUILT: Final[Mapping[type[Record], Mapping[str, str]]] = {
    arch.SelfAttention: {
        "sparse_blocks": "BigBird's sparse blocks",
        "transient_global": "LongT5's transient global attention",
        "global_stream": "PEGASUS-X's global tokens",
        "joins_source": "attention over an encoder's output and its own tokens at once (T5Gemma 2)",
        "future_streams": "ProphetNet's prediction streams",
        "expert_heads": "attention heads that are experts (JetMoE)",
        "convolved": "queries and keys mixed over tokens (ZAYA)",
        "groups": "block-diagonal projections (SqueezeBERT)",
        "span_convolution": "convolutions beside attention (ConvBERT)",
        "landmarks": "attention by way of landmarks (Nystromformer)",
        "value_conv": "convolved values beside attention (Nystromformer, YOSO)",
        "weighting": "attention without a softmax of every pair (YOSO, MRA)",
        "exclusive": "outputs that give up their own value (NeoMME)",
        "value_size": "values of another width than queries (MobileBERT)",
    },
    arch.FeedForward: {
        "up_groups": "block-diagonal matrices (SqueezeBERT, ConvBERT)",
        "down_groups": "block-diagonal matrices (SqueezeBERT, ConvBERT)",
    },
    arch.Layer: {"bottleneck": "layers narrower than the stream (MobileBERT)"},
    arch.Residual: {
        "aside": "blocks beside the stream (Zamba)",
        "affine": "scaled and shifted streams (ZAYA)",
        "mixes_input": "a stream mixed with the embedded tokens (NeoMME)",
    },
    arch.HeadTransform: {"tied": "a head through the embedding's projection (NeoMME)"},
    arch.TokenEmbedding: {
        "extra_tokens": "learned tokens beside a text (PEGASUS-X)",
        "prompt_tokens": "a learned prompt before every text (CPM-Ant)",
        "other_types": "a table by task or language (ERNIE, XLM)",
        "tables": "further input tables (LayoutLM, TAPAS, RoCBert)",
        "neighbours": "inputs of three tokens at once (MobileBERT)",
    },
    arch.MixtureOfExperts: {
        "latent_size": "experts in a width of their own (Nemotron 3)",
        "out_bias": "a bias on the sum of experts (JetMoE)",
    },
    arch.Router: {
        "product_keys": "experts that are pairs of keys (Doge)",
        "hashed": "experts by token (DeepSeek-V4)",
        "given": "experts that the input names (X-MOD)",
    },
    arch.Rotary: {"axes": "rotary positions along rows and columns"},
    arch.ProjectedDistances: {"segments": "scores of projected distances (XLNet)"},
    arch.PatchEmbedding: {"temporal_patch_size": "patches that reach over several frames"},
    arch.Connector: {"merge": "patches joined four by four (Qwen)"},
    arch.Stack: {
        "cycles": "two streams that run in cycles (HRM)",
        "pooled_projection": "a projection of one vector an input (CLIP)",
    },
    arch.Model: {
        "only_params": "models of which only the parameters are known, not how they run (Perceiver)",
        "counted": "parts that are counted by their tensors alone",
        "similarity": "similarities of texts and images (CLIP)",
    },
    arch.Head: {
        "reads": "a classifier that reads another vector than the usual",
        "own_channels": "an output matrix that is tied in part (MobileBERT)",
    },
}
NOT_BUILT_VALUES: Final[Mapping[type[Record], Mapping[str, Mapping[object, str]]]] = {
    arch.Norm: {"kind": {"affine": "norms that only scale and shift (MobileBERT)"}},
}


NOT_BUILT_KINDS: Final[Mapping[type[Record], str]] = {
    arch.CompressedAttention: "compressed attention (DeepSeek-V4)",
    arch.RelativeAttention: "biases by distance that tokens make (Inkling)",
    arch.LinearMap: "blocks beside the stream (Zamba)",
}


def not_built(part: Record) -> None:
    """Refuse what is not built, in this part or any part of it.

    Raises:
        RequestError: naming it.
    """
    for feature in _features(part):
        raise unbuilt(feature)


def unbuilt(feature: str) -> RequestError:
    """The refusal of what is described and not built."""
    return RequestError(
        f"the reference model does not build {feature} yet", "the calculators (params, kvcache, flops) know it"
    )


def features_not_built() -> list[str]:
    """Every feature that is refused, by name."""
    by_field = list(dict.fromkeys(feature for fields in NOT_BUILT.values() for feature in fields.values()))
    by_value = [values for fields in NOT_BUILT_VALUES.values() for values in fields.values()]
    return [*by_field, *(feature for values in by_value for feature in values.values())]


def _features(part: Record) -> Iterator[str]:
    values = part.all_fields()
    if type(part) in NOT_BUILT_KINDS:
        yield NOT_BUILT_KINDS[type(part)]
    for field, feature in NOT_BUILT.get(type(part), {}).items():
        if values[field] != part.__defaults__[field]:
            yield feature
    for field, features in NOT_BUILT_VALUES.get(type(part), {}).items():
        if values[field] in features:
            yield features[values[field]]
    for value in values.values():
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Record):
                yield from _features(each)
