"""Mamba 2, Falcon-Mamba, RecurrentGemma and LFM2: recurrences and convolutions, some with attention between them.

Sources: Dao and Gu 2024 (arXiv 2405.21060); Zuo et al. 2024 (arXiv 2410.05355), section 2; Botev et al. 2024 (arXiv
2404.07839), section 2; Liquid AI 2025 (arXiv 2511.23404), section 2.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from txcalc.architecture import (
    FeedForward,
    Layer,
    Mamba,
    Mamba2,
    MixtureOfExperts,
    Model,
    QKNorm,
    RealGatedRecurrence,
    Router,
    SelfAttention,
    ShortConvolution,
)
from txcalc.configs import moe, rope
from txcalc.configs.common import (
    activation,
    decoder_of,
    each_once,
    head_dims,
    layer_kinds,
    optional,
    pre_norm,
    rms_norm,
    self_attention,
)
from txcalc.configs.heads import published
from txcalc.configs.mamba import MAMBA_DEFAULTS, time_step_rank
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

# How a fresh model's time steps are drawn, which kernel runs, in which dtype the residual is kept.
_WITHOUT_BEARING: Final = (
    "time_step_scale", "time_step_min", "time_step_max", "time_step_init_scheme", "time_step_floor",
    "rescale_prenorm_residual", "residual_in_fp32", "use_mambapy", "use_falcon_mambapy", "use_associative_scan",
    "pad_vocab_size_multiple", "fused_add_norm",
)  # fmt: skip


# ---- Mamba 2 and Falcon-Mamba ---------------------------------------------------------------------------------------

MAMBA2_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32_768,
    "hidden_size": 4096,
    "num_hidden_layers": 64,
    "num_heads": 128,
    "head_dim": 64,
    "state_size": 128,
    "n_groups": 8,
    "expand": 2,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "hidden_act": "silu",
    "layer_norm_epsilon": 1e-5,
    "chunk_size": 256,
    "time_step_limit": None,
    "tie_word_embeddings": False,
}
FALCON_MAMBA_DEFAULTS: Final[dict[str, Any]] = {**MAMBA_DEFAULTS, "mixer_rms_eps": 1e-6}


def _mamba2(r: Reader) -> Model:
    r.ignore(*_WITHOUT_BEARING, "time_step_rank", "norm_before_gate")
    r.unused("rms_norm", True)
    num_layers, hidden = r.layers(), r.integer("hidden_size")
    norm = rms_norm(hidden, r.number("layer_norm_epsilon"))
    heads, head_dim, groups = r.integer("num_heads"), r.integer("head_dim"), r.integer("n_groups")
    if r.number("expand") * hidden != heads * head_dim:
        raise r.error("num_heads", f"is {heads}; times head_dim it must be expand * hidden_size")
    mixer = Mamba2(
        hidden_size=hidden,
        num_heads=heads,
        head_dim=head_dim,
        state_size=r.integer("state_size"),
        n_groups=groups_of(r, "n_groups", heads),
        conv_kernel=r.integer("conv_kernel"),
        conv_bias=r.flag("use_conv_bias"),
        bias=r.flag("use_bias"),
        activation=activation(r),
        norm_groups=groups,
        norm_eps=r.number("layer_norm_epsilon"),
        time_step_limit=time_step_limit(r),
        chunk_size=r.integer("chunk_size"),
    )
    layers = [(pre_norm(mixer, norm=norm), num_layers)]
    return decoder_of(r, layers, final_norm=norm, head=published("Mamba2", ""))


def groups_of(r: Reader, name: str, heads: int) -> int:
    """Groups of heads that share B and C.

    Raises:
        ModelError: they do not divide the heads.
    """
    groups = r.integer(name)
    if heads % groups:
        raise r.error(name, f"is {groups}; it must divide the {heads} heads")
    return groups


def time_step_limit(r: Reader, least: float = 0.0) -> tuple[float, float]:
    """The range that time steps are clamped to; the upper end may be infinite, which JSON files write too."""
    limits = r.raw("time_step_limit")
    if limits is None:
        return least, float("inf")
    fine = isinstance(limits, list | tuple) and len(limits) == 2
    if not fine or not all(isinstance(each, int | float) and not isinstance(each, bool) for each in limits):
        raise r.error("time_step_limit", f"is {limits!r}; expected two numbers")
    return float(limits[0]), float(limits[1])


def _falcon_mamba(r: Reader) -> Model:
    """Mamba with norms without weights on the time step, B and C."""
    r.ignore(*_WITHOUT_BEARING)
    num_layers, hidden = r.layers(), r.integer("hidden_size")
    norm = rms_norm(hidden, r.number("layer_norm_epsilon"))
    expanded = int(r.number("expand") * hidden)
    mixer = Mamba(
        hidden_size=hidden,
        intermediate_size=r.integer("intermediate_size") if r.has("intermediate_size") else expanded,
        state_size=r.integer("state_size"),
        conv_kernel=r.integer("conv_kernel"),
        time_step_rank=time_step_rank(r, "time_step_rank", hidden),
        conv_bias=r.flag("use_conv_bias"),
        bias=r.flag("use_bias"),
        activation=activation(r),
        inner_norms="plain",
        norm_eps=r.number("mixer_rms_eps"),
    )
    layers = [(pre_norm(mixer, norm=norm), num_layers)]
    return decoder_of(r, layers, final_norm=norm, head=published("FalconMamba", ""))


# ---- RecurrentGemma -------------------------------------------------------------------------------------------------

RECURRENT_GEMMA_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 256_000,
    "hidden_size": 2560,
    "intermediate_size": 7680,
    "num_hidden_layers": 26,
    "num_attention_heads": 10,
    "num_key_value_heads": None,
    "lru_width": None,
    "attention_window_size": 2048,
    "conv1d_width": 4,
    "logits_soft_cap": 30.0,
    "rms_norm_eps": 1e-6,
    "hidden_activation": "gelu_pytorch_tanh",
    "attention_bias": False,
    "block_types": ["recurrent", "recurrent", "attention"],
    "tie_word_embeddings": True,
}


def _recurrent_gemma(r: Reader) -> Model:
    """Griffin: two recurrent layers, then one of local attention, over and over; ``intermediate_size`` counts twice."""
    r.ignore("w_init_variance_scale", "final_w_init_variance_scale", "hidden_act", "_block_types", "block_types")
    r.unused("head_dim", None, r.integer("hidden_size") // r.integer("num_attention_heads"))
    num_layers, hidden = r.layers(), r.integer("hidden_size")
    norm = rms_norm(hidden, r.number("rms_norm_eps"), unit_offset=True)
    act, inner = activation(r, "hidden_activation"), r.integer("intermediate_size", minimum=2) // 2
    feed_forward = moe.gated(hidden, inner, act, bias=True)
    pattern = r.texts("block_types")
    if not pattern or set(pattern) - {"recurrent", "attention"}:
        raise r.error("block_types", f"is {pattern}; expected recurrent and attention")
    # transformers repeats the pattern a hundred times, and no more
    kinds = (pattern * 100)[:num_layers]
    if len(kinds) < num_layers:
        raise r.error("num_hidden_layers", f"is {num_layers}; the pattern of {len(pattern)} is repeated 100 times")
    mixers: dict[str, SelfAttention | RealGatedRecurrence] = {"attention": _griffin_attention(r)}
    mixers["recurrent"] = _griffin_recurrence(r, act_name="hidden_activation")
    layers = each_once(kinds, lambda kind: pre_norm(mixers[kind], feed_forward, norm=norm))
    head = {**published("RecurrentGemma", ""), "softcap": r.optional_number("logits_soft_cap")}
    return decoder_of(r, layers, final_norm=norm, head=head, embedding_scale=_bfloat16(hidden**0.5))


def _bfloat16(x: float) -> float:
    """The nearest bfloat16, ties to even: the embedding's factor is one whatever the dtype, as in training."""
    bits = int.from_bytes(struct.pack(">f", x), "big")
    kept = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return float(struct.unpack(">f", (kept << 16).to_bytes(4, "big"))[0])


def _griffin_attention(r: Reader) -> SelfAttention:
    """Local attention; its output always has a bias."""
    return self_attention(
        r,
        position=rope.rotary(r, head_dims(r)[3], factor=0.5),
        qkv_bias=r.flag("attention_bias"),
        o_bias=True,
        window=r.integer("attention_window_size"),
    )


def _griffin_recurrence(r: Reader, *, act_name: str) -> RealGatedRecurrence:
    heads, width = r.integer("num_attention_heads"), optional(r, "lru_width") or r.integer("hidden_size")
    if width % heads:
        raise r.error("lru_width", f"is {width}; it is not a multiple of the {heads} heads")
    return RealGatedRecurrence(
        hidden_size=r.integer("hidden_size"),
        lru_width=width,
        num_heads=heads,
        conv_kernel=r.integer("conv1d_width"),
        activation=activation(r, act_name),
    )


# ---- LFM2 -----------------------------------------------------------------------------------------------------------

_LFM2_SHARED: Final[dict[str, Any]] = {
    "vocab_size": 65_536,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 128_000,
    "rope_theta": 1e6,
    "norm_eps": 1e-5,
    "conv_bias": False,
    "conv_L_cache": 3,
    "tie_word_embeddings": True,
}
LFM2_DEFAULTS: Final[dict[str, Any]] = {
    **_LFM2_SHARED,
    "hidden_size": 2560,
    "intermediate_size": 12_288,
    "block_multiple_of": 256,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": True,
    "full_attn_idxs": None,
}
LFM2_MOE_DEFAULTS: Final[dict[str, Any]] = {
    **_LFM2_SHARED,
    "hidden_size": 2048,
    "intermediate_size": 7168,
    "moe_intermediate_size": 1792,
    "num_dense_layers": 2,
    "num_experts": 32,
    "num_experts_per_tok": 4,
    "use_expert_bias": True,
    "routed_scaling_factor": 1.0,
    "norm_topk_prob": True,
}
_LFM2_ALIASES: Final = {"tie_word_embeddings": "tie_embedding"}  # as published files spell it
_LFM2_KINDS: Final = ("full_attention", "conv")
# The training code's names for what is built anyway, and its initialisation.
_LFM2_BLOCK: Final = (
    "block_dim", "block_mlp_init_scale", "block_norm_eps", "block_out_init_scale", "block_use_swiglu",
    "block_use_xavier_init", "conv_dim", "conv_dim_out", "conv_use_xavier_init", "use_pos_enc", "num_heads", "theta",
    "full_attn_idxs", "hidden_act",
)  # fmt: skip


def _lfm2(r: Reader) -> Model:
    return _lfm2_like(r, "Lfm2", [_lfm2_feed_forward(r)] * r.layers())


def _lfm2_moe(r: Reader) -> Model:
    """The first layers are dense, the others send a token to a few experts by sigmoid scores."""
    r.ignore("num_experts", "num_experts_per_tok", "moe_intermediate_size", "use_expert_bias", "norm_topk_prob")
    r.ignore("routed_scaling_factor")
    num_layers, dense_layers = r.layers(), r.integer("num_dense_layers", minimum=0)
    dense = moe.gated(r.integer("hidden_size"), r.integer("intermediate_size"), "silu")
    mixture = _lfm2_mixture(r) if dense_layers < num_layers else dense
    return _lfm2_like(r, "Lfm2Moe", [dense if i < dense_layers else mixture for i in range(num_layers)])


def _lfm2_mixture(r: Reader) -> MixtureOfExperts:
    router = Router(
        scoring="sigmoid",
        correction_bias=r.flag("use_expert_bias"),
        norm_topk_prob=r.flag("norm_topk_prob"),
        scaling_factor=r.number("routed_scaling_factor"),
    )
    return moe.mixture(r, size="moe_intermediate_size", router=router, act="silu")


def _lfm2_like(r: Reader, prefix: str, feed_forwards: list[Any]) -> Model:
    """Gated short convolutions and attention with normed queries and keys, as ``layer_types`` says."""
    r.rounds_heads = True
    r.ignore(*_LFM2_BLOCK, "block_ff_dim")
    num_layers, hidden = r.layers(), r.integer("hidden_size")
    norm = rms_norm(hidden, r.number("norm_eps"))
    attention = self_attention(
        r,
        position=rope.rotary(r, head_dims(r)[3], whole=True),
        qk_norm=QKNorm(kind="rmsnorm", scope="head", eps=r.number("norm_eps")),
    )
    convolution = ShortConvolution(hidden_size=hidden, conv_kernel=r.integer("conv_L_cache"), bias=r.flag("conv_bias"))
    mixers: dict[str, SelfAttention | ShortConvolution] = {"full_attention": attention, "conv": convolution}
    kinds = layer_kinds(r, num_layers, lambda: _lfm2_kinds(r, num_layers), known=_LFM2_KINDS)

    def layer(key: tuple[str, FeedForward | MixtureOfExperts]) -> Layer:
        return pre_norm(mixers[key[0]], key[1], norm=norm)

    layers = each_once(zip(kinds, feed_forwards, strict=True), layer)
    return decoder_of(r, layers, final_norm=norm, head=published(prefix, ""))


def _lfm2_kinds(r: Reader, num_layers: int) -> list[str]:
    """``full_attn_idxs`` names the attention layers; without it every layer is one."""
    if "full_attn_idxs" not in r.defaults:
        raise r.error("layer_types", "is missing", "name each layer full_attention or conv")
    listed = None if r.raw("full_attn_idxs") is None else set(r.integers("full_attn_idxs"))
    return ["full_attention" if listed is None or i in listed else "conv" for i in range(num_layers)]


def _lfm2_feed_forward(r: Reader) -> FeedForward:
    """Two thirds of the named width, times a factor, rounded up: unless ``block_auto_adjust_ff_dim`` is off."""
    size = r.integer("block_ff_dim") if r.has("block_ff_dim") else r.integer("intermediate_size")
    r.ignore("intermediate_size")
    if r.flag("block_auto_adjust_ff_dim"):
        size = int(2 * size / 3)  # in floating point, as transformers divides
        factor = r.optional_number("block_ffn_dim_multiplier")
        if factor is not None:
            multiple = r.integer("block_multiple_of")
            size = -(-int(factor * size) // multiple) * multiple
    r.ignore("block_ffn_dim_multiplier", "block_multiple_of")
    return moe.gated(r.integer("hidden_size"), size, "silu")


TYPES: Final = {
    "mamba2": ModelType(build=_mamba2, defaults=MAMBA2_DEFAULTS, origin="transformers 5.23 Mamba2Config"),
    "falcon_mamba": ModelType(
        build=_falcon_mamba, defaults=FALCON_MAMBA_DEFAULTS, origin="transformers 5.23 FalconMambaConfig"
    ),
    "recurrent_gemma": ModelType(
        build=_recurrent_gemma,
        defaults=RECURRENT_GEMMA_DEFAULTS,
        aliases={"sliding_window": "attention_window_size"},
        origin="transformers 5.23 RecurrentGemmaConfig",
    ),
    "lfm2": ModelType(
        build=_lfm2, defaults=LFM2_DEFAULTS, aliases=_LFM2_ALIASES, origin="transformers 5.23 Lfm2Config"
    ),
    "lfm2_moe": ModelType(
        build=_lfm2_moe, defaults=LFM2_MOE_DEFAULTS, aliases=_LFM2_ALIASES, origin="transformers 5.23 Lfm2MoeConfig"
    ),
}
