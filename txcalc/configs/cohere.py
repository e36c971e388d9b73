"""Command-R and Aya 23: parallel branches behind one bias-free LayerNorm, interleaved rotary, scaled logits.

Command-R7B and A (Cohere 2) have windows, and no rotation in layers without one; Cohere 2 MoE has experts.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import Branch, FeedForward, Layer, MixtureOfExperts, Model, Norm, QKNorm, Residual, Router
from txcalc.configs import moe, rope
from txcalc.configs.common import (
    activation,
    decoder_of,
    dense_decoder,
    each_once,
    head_dims,
    layer_kinds,
    layer_norm,
    parallel,
    rms_norm,
    self_attention,
    swiglu,
    windows_of,
)
from txcalc.configs.dense import flag_or_null
from txcalc.configs.heads import published
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType


def _head(r: Reader, prefix: str) -> dict[str, Any]:
    scale = r.optional_number("logit_scale")
    return {**published(prefix, ""), "scale": 1.0 if scale is None else scale}


def _cohere(r: Reader) -> Model:
    r.ignore("model_max_length")  # the tokenizer's
    eps, bias = r.number("layer_norm_eps"), r.flag("attention_bias")
    return dense_decoder(
        r,
        norm=layer_norm(r.integer("hidden_size"), eps, bias=False),
        feed_forward=swiglu(r),
        position=rope.rotary(r, head_dims(r)[3], theta=500_000.0, interleaved=True, whole=True),
        arrange=parallel,
        head=_head(r, "Cohere"),
        qkv_bias=bias,
        o_bias=bias,
        qk_norm=QKNorm(kind="layernorm", scope="heads", eps=eps) if flag_or_null(r, "use_qk_norm") else None,
    )


# ---- Cohere 2 -------------------------------------------------------------------------------------------------------


def _cohere2(r: Reader) -> Model:
    """Three layers with a window, then a full one that is not turned."""
    _marks(r)
    num_layers, bias = r.layers(), r.flag("attention_bias")
    windows = windows_of(r, _kinds(r, num_layers, num_layers))
    return dense_decoder(
        r,
        norm=layer_norm(r.integer("hidden_size"), r.number("layer_norm_eps"), bias=False),
        feed_forward=swiglu(r),
        position=rope.rotary(r, head_dims(r)[3], interleaved=True, whole=True),
        arrange=parallel,
        layer_windows=windows,
        turned=[window is not None for window in windows],
        head=_head(r, "Cohere2"),
        qkv_bias=bias,
        o_bias=bias,
    )


def _marks(r: Reader) -> None:
    """Keys of published files that transformers does not read."""
    r.ignore("cache_implementation", "model_max_length", "layer_switch", "_sliding_window_pattern")
    r.unused("order_of_interleaved_layers", "local_attn_first")
    r.unused("position_embedding_type", "rope_gptj")
    r.unused("rotary_pct", 1.0, 1)
    for name in ("use_embedding_sharing", "use_gated_activation", "use_parallel_block"):
        r.unused(name, True)
    r.unused("use_parallel_embedding", False)
    r.unused("use_qk_norm", False)


def _kinds(r: Reader, num_layers: int, patterned: int) -> list[str]:
    """``layer_types``, else every ``sliding_window_pattern``-th of the last ``patterned`` layers is full."""
    r.ignore("sliding_window_pattern", "prefix_dense_sliding_window_pattern")

    def default() -> list[str]:
        rest = _every(r.integer("sliding_window_pattern"), patterned)
        if patterned == num_layers:
            return rest
        return _every(r.integer("prefix_dense_sliding_window_pattern"), num_layers - patterned) + rest

    return layer_kinds(r, num_layers, default)


def _every(pattern: int, count: int) -> list[str]:
    return ["sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(count)]


# ---- Cohere 2 MoE ---------------------------------------------------------------------------------------------------


def _cohere2_moe(r: Reader) -> Model:
    """Dense layers first, which are turned even where they have no window; then experts."""
    r.ignore("prefix_dense_intermediate_size", "num_experts", "num_experts_per_tok", "num_shared_experts")
    r.ignore("shared_expert_combination_strategy", "expert_selection_fn", "norm_topk_prob")
    num_layers, dense = r.layers(), r.integer("first_k_dense_replace", minimum=0)
    if dense > num_layers:
        raise r.error("first_k_dense_replace", f"is {dense}; there are {num_layers} layers")
    kinds = _kinds(r, num_layers, num_layers - dense)
    sparse = moe.sparse_layers(r, ["dense"] * dense + ["sparse"] * (num_layers - dense))
    norm, windows = _either_norm(r), windows_of(r, kinds)
    forced = r.integer("prefix_dense_sliding_window_pattern") == 1
    made = {kind: _feed_forward(r, sparse=kind) for kind in dict.fromkeys(sparse)}
    position = rope.rotary(r, head_dims(r)[3], interleaved=True, whole=True)
    bias = r.flag("attention_bias")

    def layer(key: tuple[int | None, bool]) -> Layer:
        window, experts = key
        turned = window is not None or (forced and not experts)
        attention = self_attention(r, position=position if turned else None, window=window, qkv_bias=bias, o_bias=bias)
        scale = 0.5 if experts and _averaged(r) else 1.0
        branches = (Branch(sublayer=attention), Branch(sublayer=made[experts], scale=scale))
        return Layer(steps=(Residual(branches=branches, norm_in=norm),))

    layers = each_once(zip(windows, sparse, strict=True), layer)
    return decoder_of(r, layers, final_norm=norm, head=_head(r, "Cohere2Moe"))


def _averaged(r: Reader) -> bool:
    """Routed and shared experts count half each."""
    combined = r.choice("shared_expert_combination_strategy", ("average", "sum"))
    return combined == "average" and r.integer("num_shared_experts", minimum=0) > 0


def _either_norm(r: Reader) -> Norm:
    hidden, eps = r.integer("hidden_size"), r.optional_number("rms_norm_eps")
    if eps is not None:
        r.ignore("layer_norm_eps")
        return rms_norm(hidden, eps)
    return layer_norm(hidden, r.number("layer_norm_eps"), bias=False)


def _feed_forward(r: Reader, *, sparse: bool) -> FeedForward | MixtureOfExperts:
    width = r.integer("intermediate_size")
    if not sparse:
        return moe.gated(
            r.integer("hidden_size"), r.optional_integer("prefix_dense_intermediate_size") or width, activation(r)
        )
    shared = width * r.integer("num_shared_experts", minimum=0)
    softmax = r.choice("expert_selection_fn", ("softmax", "sigmoid")) == "softmax"
    router = Router(
        scoring="softmax_after_topk" if softmax else "sigmoid",
        norm_topk_prob=r.flag("norm_topk_prob") and not softmax,
    )
    return moe.mixture(r, size="intermediate_size", router=router, shared=shared)


_COHERE: Final[dict[str, Any]] = {
    "vocab_size": 256_000,
    "hidden_size": 8192,
    "intermediate_size": 22_528,
    "logit_scale": 0.0625,
    "num_hidden_layers": 40,
    "num_attention_heads": 64,
    "num_key_value_heads": None,
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "layer_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "attention_bias": False,
}

TYPES: Final = {
    "cohere": ModelType(
        build=_cohere, defaults={**_COHERE, "use_qk_norm": False}, origin="transformers 5.23 CohereConfig"
    ),
    "cohere2": ModelType(
        build=_cohere2,
        defaults={**_COHERE, "sliding_window": 4096, "sliding_window_pattern": 4},
        origin="transformers 5.23 Cohere2Config",
    ),
    "cohere2_moe": ModelType(
        build=_cohere2_moe,
        defaults={
            **_COHERE, "head_dim": 128, "sliding_window": 4096, "sliding_window_pattern": 4, "rms_norm_eps": None,
            "prefix_dense_sliding_window_pattern": 1, "prefix_dense_intermediate_size": None,
            "first_k_dense_replace": 0, "num_experts_per_tok": 2, "num_experts": 8, "num_shared_experts": 0,
            "shared_expert_combination_strategy": "average", "expert_selection_fn": "softmax", "norm_topk_prob": True,
        },
        origin="transformers 5.23 Cohere2MoeConfig",
    ),
}  # fmt: skip
