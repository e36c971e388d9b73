"""Experts behind attention whose layers differ: MiMo-V2-Flash, AFMoE (Trinity), Laguna and Mellum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import MixtureOfExperts, Model, Rotary, Router, SelfAttention
from txcalc.configs import deepseek, moe, prediction, rope
from txcalc.configs.common import head_dims, layer_kinds, sandwich, self_attention, swiglu, windows_of
from txcalc.configs.heads import published
from txcalc.configs.llama import LLAMA_DEFAULTS
from txcalc.configs.llama_kin import both_biases, head_norm
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.sigmoid_moe import first_dense, listed_sparse

LOCAL: Final = "sliding_attention"
Rotations = Mapping[str, Mapping[str, Any]]


def rotary_of(r: Reader, kind: str, default: Rotations) -> Rotary:
    """The setting of one kind of layer, where ``rope_parameters`` holds one each."""
    settings = rope.entry(r, kind) if r.config.get("rope_parameters") is not None else default[kind]
    return rope.rotary(r, head_dims(r)[3], settings={"partial_rotary_factor": 1.0, **settings})


# ---- MiMo-V2-Flash --------------------------------------------------------------------------------------------------

_MIMO_ROPE: Final[Rotations] = {
    "full_attention": {"rope_theta": 5e6, "partial_rotary_factor": 0.334},
    LOCAL: {"rope_theta": 1e4, "partial_rotary_factor": 0.334},
}


def _mimo(r: Reader) -> Model:
    """Local layers have sinks and twice the KV heads; values are narrower than keys, and scaled."""
    num_layers = r.layers()
    default = ["full_attention" if i == 0 or not (i + 1) % 6 else LOCAL for i in range(num_layers)]
    kinds = layer_kinds(r, num_layers, lambda: default)
    sparse = listed_sparse(r)
    r.ignore("sliding_window", "sliding_window_size")
    _mimo_marks(r, kinds, sparse)
    return moe.sparse_decoder(
        r,
        sparse=sparse,
        mixture=lambda: moe.mixture(
            r, size="moe_intermediate_size", num_experts="num_local_experts", router=_mimo_router(r)
        ),
        dense=lambda: swiglu(r),
        attention=lambda kind: _mimo_attention(r, kind),
        kinds=kinds,
        head=published("MiMoV2Flash", ""),
    )


def _mimo_marks(r: Reader, kinds: list[str], sparse: list[bool]) -> None:
    """The published file's own spelling of layers, which transformers does not read: fine where it says the same."""
    r.unused("hybrid_layer_pattern", [int(kind == LOCAL) for kind in kinds])
    r.unused("moe_layer_freq", [int(each) for each in sparse])
    r.unused("swa_num_key_value_heads", 2 * head_dims(r)[2])
    r.unused("swa_num_attention_heads", head_dims(r)[1])
    r.unused("swa_head_dim", head_dims(r)[3])
    r.unused("swa_v_head_dim", r.integer("v_head_dim"))
    r.unused("add_swa_attention_sink_bias", True)
    r.unused("add_full_attention_sink_bias", False)
    r.unused("n_shared_experts", None, 0)
    r.ignore(
        "layernorm_epsilon",
        "swa_rope_theta",
        "hybrid_block_size",
        "attention_chunk_size",
        "attention_projection_layout",
    )


def _mimo_router(r: Reader) -> Router:
    factor = r.optional_number("routed_scaling_factor")
    groups, kept = deepseek.groups_of(r, "num_local_experts")
    return Router(
        scoring="sigmoid",
        correction_bias=True,
        norm_topk_prob=r.flag("norm_topk_prob"),
        scaling_factor=1.0 if factor is None else factor,
        n_group=groups,
        topk_group=kept,
        group_score="top2",
    )


def _mimo_attention(r: Reader, kind: str) -> SelfAttention:
    local, scale = kind == LOCAL, r.optional_number("attention_value_scale")
    a = self_attention(
        r,
        position=rotary_of(r, kind, _MIMO_ROPE),
        qkv_bias=r.flag("attention_bias"),
        window=_mimo_window(r) if local else None,
        sinks=local,
        value_scale=1.0 if scale is None else scale,
    )
    return a.replace(
        num_key_value_heads=a.num_key_value_heads * (2 if local else 1), v_head_dim=r.integer("v_head_dim")
    )


def _mimo_window(r: Reader) -> int:
    """``sliding_window_size`` counts the tokens before this one."""
    if r.config.get("sliding_window_size") is not None:
        return r.integer("sliding_window_size") + 1
    return r.integer("sliding_window")


# ---- AFMoE ----------------------------------------------------------------------------------------------------------


def _afmoe(r: Reader) -> Model:
    """Gated attention, sandwich norms; three local layers, then a global one that is not turned (Arcee Trinity)."""
    r.ignore("global_attn_every_n_layers", "route_scale")
    for name in ("score_func", "scoring_func"):
        r.unused(name, "sigmoid")
    r.unused("route_norm", True)
    r.unused("n_group", 1)
    r.unused("topk_group", 1)
    r.ignore("load_balance_coeff", "use_grouped_mm")
    num_layers = r.layers()
    kinds = layer_kinds(r, num_layers, lambda: _every(r, num_layers))
    position = rope.rotary(r, head_dims(r)[3], whole=True)

    def attention(key: tuple[str, int | None]) -> SelfAttention:
        kind, window = key
        return self_attention(
            r,
            position=position if kind == LOCAL else None,
            window=window,
            qk_norm=head_norm(r),
            gate="channel",
            gate_bias=False,
            **both_biases(r),
        )

    return moe.sparse_decoder(
        r,
        sparse=first_dense(r, "num_dense_layers"),
        mixture=lambda: _afmoe_experts(r),
        dense=lambda: swiglu(r),
        attention=attention,
        kinds=list(zip(kinds, windows_of(r, kinds), strict=True)),
        arrange=sandwich,
        head=published("Afmoe", ""),
        embedding_scale=r.integer("hidden_size") ** 0.5 if r.flag("mup_enabled") else 1.0,
    )


def _every(r: Reader, num_layers: int) -> list[str]:
    interval = r.integer("global_attn_every_n_layers")
    return [LOCAL if (i + 1) % interval else "full_attention" for i in range(num_layers)]


def _afmoe_experts(r: Reader) -> MixtureOfExperts:
    router = Router(
        scoring="sigmoid",
        correction_bias=True,
        correction_bias_stored=True,
        norm_topk_prob=True,
        scaling_factor=r.number("route_scale"),
    )
    shared = r.integer("moe_intermediate_size") * r.integer("num_shared_experts", minimum=0)
    return moe.mixture(r, size="moe_intermediate_size", router=router, shared=shared)


# ---- Laguna ---------------------------------------------------------------------------------------------------------

_LAGUNA_ROPE: Final[Rotations] = {
    "full_attention": {"rope_theta": 5e5, "partial_rotary_factor": 0.5},
    LOCAL: {"rope_theta": 1e4},
}


def _laguna(r: Reader) -> Model:
    """A softplus gate on each head, and query heads that differ by layer."""
    r.ignore("moe_routed_scaling_factor", "moe_router_logit_softcapping")
    r.unused("use_bidirectional_attention", False)
    r.unused("moe_apply_router_weight_on_input", False)
    num_layers = r.layers()
    kinds = layer_kinds(r, num_layers, lambda: ["full_attention"] * num_layers)
    heads = _heads_by_layer(r, num_layers)
    return moe.sparse_decoder(
        r,
        sparse=listed_sparse(r),
        mixture=lambda: _laguna_experts(r),
        dense=lambda: swiglu(r),
        attention=lambda key: _laguna_attention(r, *key),
        kinds=list(zip(kinds, windows_of(r, kinds), heads, strict=True)),
        head=published("Laguna", ""),
    )


def _heads_by_layer(r: Reader, num_layers: int) -> list[int]:
    """Query heads of every layer; the KV heads divide each."""
    _, heads, kv_heads, _ = head_dims(r)
    if r.config.get("num_attention_heads_per_layer") is None:
        r.ignore("num_attention_heads_per_layer")
        return [heads] * num_layers
    found = r.integers("num_attention_heads_per_layer", length=num_layers, minimum=1)
    uneven = [each for each in found if each % kv_heads]
    if uneven:
        raise r.error("num_attention_heads_per_layer", f"holds {uneven[0]}; {kv_heads} KV heads must divide it")
    return found


def _laguna_attention(r: Reader, kind: str, window: int | None, heads: int) -> SelfAttention:
    gating = r.raw("gating")
    by_head = gating is True or gating == "per-head"
    return self_attention(
        r,
        position=rotary_of(r, kind, _LAGUNA_ROPE),
        window=window,
        qk_norm=head_norm(r),
        gate="head" if by_head else "channel",
        gate_bias=False,
        gate_activation="softplus",
        **both_biases(r),
    ).replace(num_attention_heads=heads)


def _laguna_experts(r: Reader) -> MixtureOfExperts:
    softcap = r.number("moe_router_logit_softcapping")
    router = Router(
        scoring="sigmoid",
        correction_bias=True,
        correction_bias_stored=True,
        norm_topk_prob=True,
        scaling_factor=r.number("moe_routed_scaling_factor"),
        logit_softcap=softcap if softcap > 0 else None,
    )
    shared = r.integer("shared_expert_intermediate_size", minimum=0)
    return moe.mixture(r, size="moe_intermediate_size", router=router, shared=shared)


# ---- Mellum ---------------------------------------------------------------------------------------------------------

_MELLUM_ROPE: Final[Rotations] = {"full_attention": {"rope_theta": 5e5}, LOCAL: {"rope_theta": 1e4}}


def _mellum(r: Reader) -> Model:
    """Qwen 3 MoE with windows."""
    deepseek.predicted_tokens(r)
    r.ignore("mtp_layer_types", "mtp_mlp_layer_types")
    num_layers = r.layers()
    kinds = layer_kinds(r, num_layers, lambda: ["full_attention"] * num_layers)

    def attention(key: tuple[str, int | None]) -> SelfAttention:
        kind, window = key
        position = rotary_of(r, kind, _MELLUM_ROPE)
        return self_attention(r, position=position, window=window, qk_norm=head_norm(r), **both_biases(r))

    return moe.sparse_decoder(
        r,
        sparse=listed_sparse(r, 0),
        mixture=lambda: moe.mixture(
            r,
            size="moe_intermediate_size",
            num_experts="num_experts",
            router=Router(norm_topk_prob=r.flag("norm_topk_prob")),
        ),
        dense=lambda: swiglu(r),
        attention=attention,
        kinds=list(zip(kinds, windows_of(r, kinds), strict=True)),
        head=published("Mellum", ""),
    )


TYPES: Final = {
    "mimo_v2_flash": ModelType(
        build=_mimo,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 152_576, "intermediate_size": 16_384, "num_hidden_layers": 48,
            "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 192, "v_head_dim": 128,
            "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5, "sliding_window": 129,
            "attention_value_scale": 0.707, "moe_intermediate_size": 2048, "num_experts_per_tok": 8,
            "n_routed_experts": 256, "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1,
            "norm_topk_prob": True,
        },
        aliases={"num_local_experts": "n_routed_experts"},
        origin="transformers 5.23 MiMoV2FlashConfig",
        extra=prediction.windowed_dense,
    ),
    "afmoe": ModelType(
        build=_afmoe,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 200_192, "hidden_size": 2048, "intermediate_size": 6144,
            "num_attention_heads": 16, "head_dim": 128, "max_position_embeddings": 16_384, "rms_norm_eps": 1e-5,
            "moe_intermediate_size": 1408, "num_dense_layers": 1, "num_experts": 64, "num_experts_per_tok": 6,
            "num_shared_experts": 2, "route_scale": 1.0, "global_attn_every_n_layers": 4, "sliding_window": 1024,
            "mup_enabled": False,
        },
        origin="transformers 5.23 AfmoeConfig",
    ),
    "laguna": ModelType(
        build=_laguna,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 100_352, "hidden_size": 2048, "intermediate_size": 8192,
            "num_hidden_layers": 40, "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128,
            "max_position_embeddings": 131_072, "sliding_window": 512, "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 512, "num_experts_per_tok": 8, "num_experts": 256, "gating": True,
            "moe_routed_scaling_factor": 1.0, "moe_router_logit_softcapping": 0.0,
        },
        origin="transformers 5.23 LagunaConfig",
    ),
    "mellum": ModelType(
        build=_mellum,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 98_304, "hidden_size": 2304, "intermediate_size": 7168,
            "num_hidden_layers": 28, "num_key_value_heads": 4, "head_dim": 128, "max_position_embeddings": 131_072,
            "sliding_window": 1024, "moe_intermediate_size": 896, "num_experts_per_tok": 8, "num_local_experts": 64,
            "norm_topk_prob": True,
        },
        aliases={"num_experts": "num_local_experts", "num_mtp_layers": "num_nextn_predict_layers"},
        origin="transformers 5.23 MellumConfig",
        extra=prediction.windowed_sparse,
    ),
}  # fmt: skip
