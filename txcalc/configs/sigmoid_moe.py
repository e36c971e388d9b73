"""Experts chosen by sigmoid scores and a balancing bias, as in DeepSeek-V3, behind attention of the usual kind."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import MixtureOfExperts, Model, QKNorm, Router, SelfAttention
from txcalc.configs import deepseek, moe, prediction, rope
from txcalc.configs.common import (
    decoder_of,
    head_dims,
    layer_kinds,
    optional,
    pre_norm,
    rms_norm,
    sandwich,
    self_attention,
    swiglu,
    windows_of,
)
from txcalc.configs.heads import published
from txcalc.configs.llama import LLAMA_DEFAULTS
from txcalc.configs.llama_kin import both_biases, exaone_windows, head_norm
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

# Fields of experts that a model without any does not ask for.
EXPERT_KEYS: Final = (
    "n_routed_experts", "num_experts", "num_local_experts", "num_experts_per_tok", "n_shared_experts",
    "num_shared_experts", "moe_intermediate_size", "shared_expert_intermediate_size", "routed_scaling_factor",
    "norm_topk_prob", "n_group", "topk_group", "scoring_func", "topk_method",
)  # fmt: skip


def first_dense(r: Reader, name: str = "first_k_dense_replace") -> list[bool]:
    """Dense layers first, then experts; ``moe_layer_freq`` is 1 in every published file."""
    r.ignore(*EXPERT_KEYS, "intermediate_size")
    r.unused("moe_layer_freq", 1)
    dense = r.integer(name, minimum=0)
    return [i >= dense for i in range(r.layers())]


def listed_sparse(r: Reader, dense: int = 1) -> list[bool]:
    """``mlp_layer_types``, else ``dense`` dense layers and then experts."""
    r.ignore(*EXPERT_KEYS, "intermediate_size")
    num_layers = r.layers()
    return moe.sparse_layers(r, ["dense" if i < dense else "sparse" for i in range(num_layers)])


# ---- GLM 4.5, dots.llm1, Solar Open ---------------------------------------------------------------------------------


def _glm4_moe(r: Reader) -> Model:
    """Half of each head turned, biases on queries, keys and values (arXiv 2508.06471)."""
    deepseek.predicted_tokens(r)
    r.rounds_heads = True
    attention = self_attention(
        r,
        position=rope.rotary(r, head_dims(r)[3]),
        qkv_bias=r.flag("attention_bias"),
        qk_norm=head_norm(r) if r.flag("use_qk_norm") else None,
    )
    return _like_v3(r, attention, first_dense(r), "Glm4Moe")


def _like_v3(r: Reader, attention: SelfAttention, sparse: list[bool], prefix: str, **arrange: Any) -> Model:
    return moe.sparse_decoder(
        r,
        sparse=sparse,
        mixture=lambda: deepseek.mixture(r, deepseek.router_v3(r)),
        dense=lambda: swiglu(r),
        attention=lambda _: attention,
        head=published(prefix, ""),
        **arrange,
    )


def _dots1(r: Reader) -> Model:
    """Normed heads, windows as in Qwen (arXiv 2506.05767)."""
    num_layers = r.layers()
    first = optional(r, "max_window_layers")
    r.ignore("sliding_window", "max_window_layers")
    windowed = r.raw("sliding_window") is not None
    default = [
        "sliding_attention" if windowed and first is not None and i >= first else "full_attention"
        for i in range(num_layers)
    ]
    windows = windows_of(r, layer_kinds(r, num_layers, lambda: default))
    position, bias = rope.rotary(r, head_dims(r)[3], whole=True), both_biases(r)

    def attention(window: int | None) -> SelfAttention:
        return self_attention(r, position=position, window=window, qk_norm=head_norm(r), **bias)

    return moe.sparse_decoder(
        r,
        sparse=first_dense(r),
        mixture=lambda: deepseek.mixture(r, deepseek.router_v3(r)),
        dense=lambda: swiglu(r),
        attention=attention,
        kinds=windows,
        head=published("Dots1", ""),
    )


def _solar_open(r: Reader) -> Model:
    """Experts in every layer."""
    r.unused("first_k_dense_replace", 0)
    r.unused("use_qk_norm", False)
    r.ignore("intermediate_size")
    position = rope.rotary(r, head_dims(r)[3], theta=1e6)
    attention = self_attention(r, position=position, qkv_bias=r.flag("attention_bias"))
    return _like_v3(r, attention, [True] * r.layers(), "SolarOpen")


# ---- EXAONE and Kolibri ---------------------------------------------------------------------------------------------


def _exaone_attention(r: Reader, key: tuple[int | None, bool]) -> SelfAttention:
    window, turned = key
    position = rope.rotary(r, head_dims(r)[3], whole=True) if turned else None
    return self_attention(r, position=position, window=window, qk_norm=head_norm(r))


def _exaone_moe(r: Reader) -> Model:
    """EXAONE 4's attention in Llama's layer."""
    r.ignore("first_k_dense_replace")
    deepseek.predicted_tokens(r)
    windows, turned = exaone_windows(r)
    return moe.sparse_decoder(
        r,
        sparse=listed_sparse(r, r.integer("first_k_dense_replace", minimum=0)),
        mixture=lambda: moe.mixture(
            r,
            size="moe_intermediate_size",
            router=deepseek.router_v3(r, "num_experts"),
            shared=r.integer("moe_intermediate_size") * r.integer("num_shared_experts", minimum=0),
        ),
        dense=lambda: swiglu(r),
        attention=lambda key: _exaone_attention(r, key),
        kinds=list(zip(windows, turned, strict=True)),
        head=published("ExaoneMoe", ""),
    )


def _kolibri1(r: Reader) -> Model:
    """Sandwich norms; the balancing bias is added to logits."""
    r.unused("attention_bias", False)
    r.ignore("intermediate_size")  # every layer holds experts
    num_layers, windowed = r.layers(), r.optional_integer("sliding_window") is not None
    kinds = layer_kinds(
        r, num_layers, lambda: ["sliding_attention" if (i + 1) % 5 else "full_attention" for i in range(num_layers)]
    )
    turned = [kind == "sliding_attention" or not windowed for kind in kinds]
    router = Router(
        scoring="sigmoid",
        correction_bias=True,
        correction_on_logits=True,
        norm_topk_prob=r.flag("norm_topk_prob"),
    )
    return moe.sparse_decoder(
        r,
        sparse=[True] * num_layers,
        mixture=lambda: moe.mixture(
            r,
            size="moe_intermediate_size",
            num_experts="num_experts",
            router=router,
            shared=r.integer("shared_expert_intermediate_size", minimum=0),
        ),
        dense=lambda: swiglu(r),
        attention=lambda key: _exaone_attention(r, key),
        kinds=list(zip(windows_of(r, kinds), turned, strict=True)),
        arrange=sandwich,
        head=published("Kolibri1", ""),
    )


# ---- MiniMax-M2 and Hunyuan 3 ---------------------------------------------------------------------------------------


def _minimax_m2(r: Reader) -> Model:
    """One norm over all query heads and one over all key heads; experts in every layer."""
    r.unused("attention_bias", False)
    r.unused("use_qk_norm", True)
    r.unused("qk_norm_type", "per_layer")
    r.unused("scoring_func", "sigmoid")
    r.unused("use_routing_bias", True)
    r.unused("shared_intermediate_size", 0)
    r.unused("attn_type_list", None, [1] * r.layers())
    r.ignore("use_mtp", "num_mtp_modules", "mtp_transformer_layers", "max_model_len")
    if r.config.get("use_mtp"):
        r.notes.append("use_mtp: multi-token-prediction blocks are not counted")
    attention = self_attention(
        r,
        position=rope.rotary(r, head_dims(r)[3], theta=5e6, factor=_turned_part(r)),
        qk_norm=QKNorm(kind="rmsnorm", scope="width", eps=r.number("rms_norm_eps")),
    )
    router = Router(scoring="sigmoid", correction_bias=True, norm_topk_prob=True)
    experts = moe.mixture(r, size="intermediate_size", num_experts="num_local_experts", router=router)
    norm = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    return decoder_of(
        r,
        [(pre_norm(attention, experts, norm=norm), r.layers())],
        final_norm=norm,
        head=published("MiniMaxM2", ""),
    )


def _turned_part(r: Reader) -> float:
    """``rotary_dim`` channels of a head are turned, all where it is not given."""
    return r.integer("rotary_dim") / head_dims(r)[3] if r.config.get("rotary_dim") is not None else 1.0


def _hy_v3(r: Reader) -> Model:
    """Normed heads, a dense layer, then experts with a shared one."""
    r.ignore("enable_moe_fp32_combine", "router_scaling_factor", "mlp_bias")
    attention = self_attention(
        r,
        position=rope.rotary(r, head_dims(r)[3], theta=11_158_840.0, whole=True),
        qk_norm=head_norm(r),
        **both_biases(r),
    )
    return moe.sparse_decoder(
        r,
        sparse=listed_sparse(r),
        mixture=lambda: _hy_experts(r),
        dense=lambda: swiglu(r, bias=r.flag("mlp_bias")),
        attention=lambda _: attention,
        head=published("HYV3", ""),
    )


def _hy_experts(r: Reader) -> MixtureOfExperts:
    router = Router(
        scoring="sigmoid", correction_bias=True, norm_topk_prob=True, scaling_factor=r.number("router_scaling_factor")
    )
    # without shared experts transformers builds a shared one as wide as the dense layer
    shared = r.integer("moe_intermediate_size") * r.integer("num_shared_experts", minimum=0)
    return moe.mixture(
        r,
        size="moe_intermediate_size",
        num_experts="num_local_experts",
        router=router,
        shared=shared or r.integer("intermediate_size"),
        bias=r.flag("mlp_bias"),
    )


_V3_EXPERTS: Final[dict[str, Any]] = {
    "n_shared_experts": 1, "n_routed_experts": 128, "num_experts_per_tok": 8, "routed_scaling_factor": 1.0,
    "n_group": 1, "topk_group": 1, "norm_topk_prob": True,
}  # fmt: skip
_V3_ALIASES: Final = {"num_local_experts": "n_routed_experts", "num_mtp_layers": "num_nextn_predict_layers"}

TYPES: Final = {
    "glm4_moe": ModelType(
        build=_glm4_moe,
        defaults={
            **LLAMA_DEFAULTS, **_V3_EXPERTS, "vocab_size": 151_552, "intermediate_size": 10_944,
            "num_hidden_layers": 46, "num_attention_heads": 96, "num_key_value_heads": 8,
            "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5, "moe_intermediate_size": 1408,
            "first_k_dense_replace": 1, "use_qk_norm": False, "partial_rotary_factor": 0.5,
        },
        aliases=_V3_ALIASES,
        origin="transformers 5.23 Glm4MoeConfig",
        extra=prediction.after_layers,
    ),
    "dots1": ModelType(
        build=_dots1,
        defaults={
            **LLAMA_DEFAULTS, **_V3_EXPERTS, "vocab_size": 152_064, "hidden_size": 4608, "intermediate_size": 10_944,
            "num_hidden_layers": 62, "num_key_value_heads": 32, "moe_intermediate_size": 1408,
            "n_shared_experts": None, "n_routed_experts": None, "num_experts_per_tok": None,
            "first_k_dense_replace": 0, "norm_topk_prob": False, "sliding_window": 4096, "max_window_layers": 62,
        },
        aliases={"num_local_experts": "n_routed_experts"},
        origin="transformers 5.23 Dots1Config",
    ),
    "solar_open": ModelType(
        build=_solar_open,
        defaults={
            **LLAMA_DEFAULTS, **_V3_EXPERTS, "vocab_size": 196_608, "num_hidden_layers": 48,
            "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-5, "moe_intermediate_size": 1280,
        },
        aliases={"num_local_experts": "n_routed_experts"},
        origin="transformers 5.23 SolarOpenConfig",
    ),
    "exaone_moe": ModelType(
        build=_exaone_moe,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 102_400, "intermediate_size": 16_384, "num_key_value_heads": 32,
            "rms_norm_eps": 1e-5, "sliding_window": 4096, "sliding_window_pattern": 4, "first_k_dense_replace": 1,
            "moe_intermediate_size": 1024, "num_experts": 64, "num_experts_per_tok": 8, "num_shared_experts": 1,
            "norm_topk_prob": True, "routed_scaling_factor": 2.5, "n_group": 1, "topk_group": 1,
        },
        aliases={"num_mtp_layers": "num_nextn_predict_layers"},
        origin="transformers 5.23 ExaoneMoeConfig",
    ),
    "kolibri1": ModelType(
        build=_kolibri1,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 128_000, "hidden_size": 2560, "num_hidden_layers": 50,
            "num_attention_heads": 48, "num_key_value_heads": 4, "head_dim": 128, "max_position_embeddings": 262_144,
            "sliding_window": 513, "moe_intermediate_size": 512, "num_experts_per_tok": 6, "num_local_experts": 384,
            "norm_topk_prob": False, "shared_expert_intermediate_size": 512,
        },
        aliases={"num_experts": "num_local_experts"},
        origin="transformers 5.23 Kolibri1Config",
    ),
    "minimax_m2": ModelType(
        build=_minimax_m2,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 200_064, "hidden_size": 3072, "intermediate_size": 1536,
            "num_hidden_layers": 62, "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128,
            "max_position_embeddings": 196_608, "num_experts_per_tok": 8, "num_local_experts": 256,
        },
        aliases={"num_experts": "num_local_experts"},
        origin="transformers 5.23 MiniMaxM2Config",
    ),
    "hy_v3": ModelType(
        build=_hy_v3,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 120_832, "intermediate_size": 13_312, "num_hidden_layers": 80,
            "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-5, "num_experts": 192, "num_experts_per_tok": 8, "num_shared_experts": 1,
            "moe_intermediate_size": 1536, "router_scaling_factor": 2.826,
        },
        aliases={"num_local_experts": "num_experts"},
        origin="transformers 5.23 HYV3Config",
    ),
}  # fmt: skip
