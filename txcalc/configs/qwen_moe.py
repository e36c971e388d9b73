"""Qwen3-MoE (arXiv 2505.09388) and Qwen3-Next, which mixes gated delta networks with gated attention, 3 to 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import (
    FeedForward,
    GatedDeltaNet,
    MixtureOfExperts,
    Model,
    QKNorm,
    Router,
    SelfAttention,
)
from txcalc.configs import moe, prediction, rope
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
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

_SHARED_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 151_936,
    "hidden_size": 2048,
    "hidden_act": "silu",
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "mlp_only_layers": None,
}
QWEN2_MOE_DEFAULTS: Final[dict[str, Any]] = {
    **{key: value for key, value in _SHARED_DEFAULTS.items() if key != "attention_bias"},
    "intermediate_size": 5632,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "moe_intermediate_size": 1408,
    "shared_expert_intermediate_size": 5632,
    "num_experts_per_tok": 4,
    "num_experts": 60,
    "norm_topk_prob": False,
    "qkv_bias": True,
}
QWEN3_MOE_DEFAULTS: Final[dict[str, Any]] = {
    **_SHARED_DEFAULTS,
    "intermediate_size": 6144,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "moe_intermediate_size": 768,
    "num_experts_per_tok": 8,
    "num_local_experts": 128,
    "norm_topk_prob": False,
}
QWEN3_NEXT_DEFAULTS: Final[dict[str, Any]] = {
    **_SHARED_DEFAULTS,
    "intermediate_size": 5632,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "num_experts_per_tok": 10,
    "num_experts": 512,
    "norm_topk_prob": True,
    "full_attention_interval": 4,
}
_EXPERT_KEYS: Final = (
    "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob", "shared_expert_intermediate_size",
)  # fmt: skip
_LINEAR_KEYS: Final = tuple(key for key in QWEN3_NEXT_DEFAULTS if key.startswith("linear_"))


# ---- Qwen2-MoE ------------------------------------------------------------------------------------------------------


def _qwen2_moe(r: Reader) -> Model:
    """Experts beside a gated shared one (Qwen1.5-MoE, Qwen2-57B-A14B)."""
    num_layers, windowed = r.layers(), r.flag("use_sliding_window")
    first = r.integer("max_window_layers", minimum=0)
    r.ignore("sliding_window")
    default = [
        "sliding_attention" if windowed and not i % 2 and i < first else "full_attention" for i in range(num_layers)
    ]
    kinds = layer_kinds(r, num_layers, lambda: default)
    if not windowed and "sliding_attention" in kinds:
        r.reasons.append("layer_types holds sliding_attention, but use_sliding_window is false")
    window = optional(r, "sliding_window") if windowed else None
    position, bias = rope.rotary(r, head_dims(r)[3], whole=True), r.flag("qkv_bias")
    mixers = {
        kind: self_attention(r, position=position, qkv_bias=bias, window=window if kind != "full_attention" else None)
        for kind in dict.fromkeys(kinds)
    }
    return _model(r, kinds, mixers, prefix="Qwen2Moe", shared_expert=True)


# ---- Qwen3-MoE ------------------------------------------------------------------------------------------------------


def _qwen3_moe(r: Reader) -> Model:
    r.unused("qkv_bias", False)
    r.unused("use_qk_norm", True)
    r.unused("shared_expert_intermediate_size", 0, None)
    attention = self_attention(
        r,
        position=rope.rotary(r, head_dims(r)[3]),
        qkv_bias=r.flag("attention_bias"),
        o_bias=r.flag("attention_bias"),
        qk_norm=QKNorm(kind="rmsnorm", scope="head", eps=r.number("rms_norm_eps")),
        window=_window(r),
    )
    return _model(r, ["full_attention"] * r.layers(), {"full_attention": attention}, prefix="Qwen3Moe")


def _window(r: Reader) -> int | None:
    """Every layer's window. ``max_window_layers`` has no say in this type, though engines may give it one."""
    windowed = r.flag("use_sliding_window")
    r.ignore("sliding_window")
    if not windowed:
        r.ignore("max_window_layers")
        return None
    r.unused("max_window_layers", 0)
    return optional(r, "sliding_window")


# ---- Qwen3-Next -----------------------------------------------------------------------------------------------------


def _qwen3_next(r: Reader) -> Model:
    r.unused("use_sliding_window", False)
    kinds, mixers = gated_mixers(r)
    return _model(r, kinds, mixers, prefix="Qwen3Next", unit_offset=True, shared_expert=True)


def gated_mixers(r: Reader) -> tuple[list[str], dict[str, SelfAttention | GatedDeltaNet]]:
    """The kind of every layer, and the mixer of each kind: every fourth layer attends."""
    r.ignore("full_attention_interval", *_LINEAR_KEYS)
    num_layers = r.layers()

    def default() -> list[str]:
        interval = r.integer("full_attention_interval")
        return ["linear_attention" if (i + 1) % interval else "full_attention" for i in range(num_layers)]

    kinds = layer_kinds(r, num_layers, default, known=("full_attention", "linear_attention"))
    mixers: dict[str, SelfAttention | GatedDeltaNet] = {"full_attention": _gated_attention(r)}
    if "linear_attention" in kinds:
        mixers["linear_attention"] = _delta_net(r)
    return kinds, mixers


def _gated_attention(r: Reader) -> SelfAttention:
    bias = r.flag("attention_bias")
    null_part = r.has("partial_rotary_factor") and r.raw("partial_rotary_factor") is None
    return self_attention(
        r,
        position=rope.rotary(r, head_dims(r)[3], factor=1.0 if null_part else 0.25),
        qkv_bias=bias,
        o_bias=bias,
        qk_norm=QKNorm(kind="rmsnorm", scope="head", eps=r.number("rms_norm_eps"), unit_offset=True),
        gate="channel",
    )


def _delta_net(r: Reader) -> GatedDeltaNet:
    keys, values = r.integer("linear_num_key_heads"), r.integer("linear_num_value_heads")
    if values % keys:
        raise r.error("linear_num_value_heads", f"is {values}; it must be a multiple of the {keys} key heads")
    return GatedDeltaNet(
        hidden_size=r.integer("hidden_size"),
        num_k_heads=keys,
        num_v_heads=values,
        head_k_dim=r.integer("linear_key_head_dim"),
        head_v_dim=r.integer("linear_value_head_dim"),
        conv_kernel=r.integer("linear_conv_kernel_dim"),
        norm_eps=r.number("rms_norm_eps"),
        activation=activation(r),
    )


# ---- both -----------------------------------------------------------------------------------------------------------


def _model(
    r: Reader,
    kinds: list[str],
    mixers: Mapping[str, SelfAttention | GatedDeltaNet],
    *,
    prefix: str,
    unit_offset: bool = False,
    shared_expert: bool = False,
) -> Model:
    hidden = r.integer("hidden_size")
    norm = rms_norm(hidden, r.number("rms_norm_eps"), unit_offset=unit_offset)
    sparse = _sparse(r, len(kinds))
    dense = moe.gated(hidden, r.integer("intermediate_size"), activation(r))
    sent = mixture(r, shared_expert=shared_expert) if any(sparse) else dense
    layers = each_once(
        zip(kinds, sparse, strict=True),
        lambda key: pre_norm(mixers[key[0]], sent if key[1] else dense, norm=norm),
    )
    return decoder_of(r, layers, final_norm=norm, head={"prefix": prefix})


def _sparse(r: Reader, num_layers: int) -> list[bool]:
    """Which layers hold experts: every ``decoder_sparse_step``-th that ``mlp_only_layers`` does not name."""
    r.ignore(*_EXPERT_KEYS)
    dense, step = set(r.integers("mlp_only_layers")), r.integer("decoder_sparse_step")
    some = r.integer("num_experts", minimum=0) > 0
    return [some and (i + 1) % step == 0 and i not in dense for i in range(num_layers)]


def mixture(r: Reader, *, shared_expert: bool, norm_topk_prob: bool | None = None) -> MixtureOfExperts:
    """Routed experts, perhaps with a gated shared one; ``norm_topk_prob`` where the type leaves no choice."""
    normed = r.flag("norm_topk_prob") if norm_topk_prob is None else norm_topk_prob
    hidden, experts, act = r.integer("hidden_size"), r.integer("num_experts"), activation(r)
    shared: FeedForward | None = None
    if shared_expert:
        shared = moe.gated(hidden, r.integer("shared_expert_intermediate_size", minimum=0), act)
    return MixtureOfExperts(
        hidden_size=hidden,
        num_experts=experts,
        num_experts_per_tok=moe.top_k(r, experts),
        expert=moe.gated(hidden, r.integer("moe_intermediate_size"), act),
        router=Router(scoring="softmax", norm_topk_prob=normed),
        shared_expert=shared,
        shared_expert_gate=shared_expert,
    )


TYPES: Final = {
    "qwen2_moe": ModelType(
        build=_qwen2_moe,
        defaults=QWEN2_MOE_DEFAULTS,
        origin="transformers 5.23 Qwen2MoeConfig",
    ),
    "qwen3_moe": ModelType(
        build=_qwen3_moe,
        defaults=QWEN3_MOE_DEFAULTS,
        aliases={"num_experts": "num_local_experts"},
        origin="transformers 5.23 Qwen3MoeConfig",
    ),
    "qwen3_next": ModelType(
        build=_qwen3_next,
        defaults=QWEN3_NEXT_DEFAULTS,
        origin="transformers 5.23 Qwen3NextConfig",
        extra=prediction.attending,
    ),
}
