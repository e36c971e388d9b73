"""OLMo Hybrid, Kimi Linear and Ling 3: gated delta networks, and attention in every fourth layer or so.

Sources: Ai2 2026 (OLMo Hybrid's report); Kimi Team 2025 (arXiv 2510.26692), sections 2 and 4; Ling 3.0's model cards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import GatedDeltaNet, LatentAttention, Layer, Model, QKNorm, Rotary, SelfAttention
from txcalc.configs import deepseek, moe, rope
from txcalc.configs.common import (
    activation,
    decoder_of,
    each_once,
    head_dims,
    layer_kinds,
    optional,
    output_norm,
    pre_norm,
    rms_norm,
    self_attention,
    swiglu,
)
from txcalc.configs.heads import published
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

_MIXED: Final = ("full_attention", "linear_attention")

# ---- OLMo Hybrid ----------------------------------------------------------------------------------------------------

OLMO_HYBRID_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 100_352,
    "hidden_size": 3840,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 30,
    "num_key_value_heads": None,
    "hidden_act": "silu",
    "max_position_embeddings": 65_536,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "linear_num_key_heads": None,
    "linear_num_value_heads": None,
    "linear_key_head_dim": None,
    "linear_value_head_dim": None,
    "linear_conv_kernel_dim": 4,
    "linear_allow_neg_eigval": True,
}
_INITIAL: Final = ("linear_a_log_min", "linear_a_log_max", "linear_dt_min", "linear_dt_max", "linear_dt_init_floor")


def _olmo_hybrid(r: Reader) -> Model:
    """Delta networks behind a norm, attention before one, as in OLMo 2."""
    r.ignore(*_INITIAL)
    r.rounds_heads = True
    num_layers, norm = r.layers(), rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    kinds = layer_kinds(r, num_layers, lambda: _every_fourth(num_layers), known=_MIXED)
    if len(set(kinds)) < 2:
        raise r.error("layer_types", f"are all {kinds[0]}; this type has layers of both kinds")
    feed_forward, mixer, attention = swiglu(r), _olmo_delta(r), _olmo_attention(r)

    def layer(kind: str) -> Layer:
        if kind == "full_attention":
            return output_norm(attention, feed_forward, norm=norm)
        return pre_norm(mixer, feed_forward, norm=norm)

    return decoder_of(r, each_once(kinds, layer), final_norm=norm, head=published("OlmoHybrid", ""))


def _every_fourth(num_layers: int) -> list[str]:
    """Attention in every fourth layer, or in the last of fewer."""
    kinds = ["full_attention" if i % 4 == 3 else "linear_attention" for i in range(num_layers)]
    return kinds if num_layers > 3 else [*kinds[:-1], "full_attention"]


def _olmo_attention(r: Reader) -> SelfAttention:
    bias = r.flag("attention_bias")
    return self_attention(
        r,
        position=_perhaps_rotary(r),
        qkv_bias=bias,
        o_bias=bias,
        qk_norm=QKNorm(kind="rmsnorm", scope="width", eps=r.number("rms_norm_eps")),
    )


def _perhaps_rotary(r: Reader) -> Rotary | None:
    """None where the config says that there is no ``rope_theta``: positions are then the delta networks' business."""
    given = r.mapping("rope_parameters")
    if given and given.get("rope_theta", 0) is None:
        rope.parameters(r)
        return None
    return rope.rotary(r, head_dims(r)[3], whole=True)


def _olmo_delta(r: Reader) -> GatedDeltaNet:
    """As wide as the attention where the config does not say; keys are three quarters of a head, values twice that."""
    heads, hidden = r.integer("num_attention_heads"), r.integer("hidden_size")
    keys, values = optional(r, "linear_num_key_heads") or heads, optional(r, "linear_num_value_heads") or heads
    if values % keys:
        raise r.error("linear_num_value_heads", f"is {values}; it must be a multiple of the {keys} key heads")
    width = optional(r, "linear_key_head_dim") or int(0.75 * hidden / keys)
    if not width:
        raise r.error("linear_num_key_heads", f"is {keys}; {hidden} channels are too few for so many")
    return GatedDeltaNet(
        hidden_size=hidden,
        num_k_heads=keys,
        num_v_heads=values,
        head_k_dim=width,
        head_v_dim=optional(r, "linear_value_head_dim") or 2 * width,
        conv_kernel=r.integer("linear_conv_kernel_dim"),
        norm_eps=1e-5,  # whatever rms_norm_eps is
        activation=activation(r),
        beta_scale=2.0 if r.flag("linear_allow_neg_eigval") else 1.0,
    )


# ---- Kimi Linear ----------------------------------------------------------------------------------------------------

KIMI_LINEAR_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 163_840,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "moe_intermediate_size": 1024,
    "num_hidden_layers": 27,
    "num_attention_heads": 32,
    "num_shared_experts": 1,
    "routed_scaling_factor": 2.446,
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "qk_nope_head_dim": 128,
    "num_expert_group": 1,
    "topk_group": 1,
    "num_experts_per_token": 8,
    "moe_renormalize": True,
    "hidden_act": "silu",
    "model_max_length": 1_048_576,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "num_experts": 256,
    "linear_head_dim": 128,
    "linear_num_heads": 32,
    "linear_conv_kernel_dim": 4,
}
_KIMI_ALIASES: Final = {
    "max_position_embeddings": "model_max_length",
    "norm_topk_prob": "moe_renormalize",
    "n_group": "num_expert_group",
    "num_local_experts": "num_experts",
    "num_experts_per_tok": "num_experts_per_token",
    "n_shared_experts": "num_shared_experts",
}
_KIMI_WITHOUT_BEARING: Final = (
    "num_key_value_heads", "head_dim", "qk_head_dim", "first_k_dense_replace", "pretraining_tp", "rope_theta",
    "rope_scaling", "rope_parameters", "use_grouped_topk", "tie_word_embeddings", "intermediate_size",
    "moe_intermediate_size", "num_experts", "num_experts_per_token", "num_shared_experts", "moe_renormalize",
    "routed_scaling_factor", "num_expert_group", "topk_group", "num_local_experts", "num_experts_per_tok",
    "n_shared_experts", "norm_topk_prob", "n_group",
)  # fmt: skip


def _kimi_linear(r: Reader) -> Model:
    """Three delta networks with a decay per channel to one layer of latent attention, which knows no positions."""
    r.ignore(*_KIMI_WITHOUT_BEARING)
    for name, built in (("moe_layer_freq", 1), ("mla_use_nope", True), ("moe_router_activation_func", "sigmoid")):
        r.unused(name, built)
    deepseek.predicted_tokens(r)
    linear = r.nested("linear_attn_config", defaults={})
    num_layers, norm = r.layers(), rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    kinds = layer_kinds(r, num_layers, lambda: _kimi_kinds(linear, num_layers), known=_MIXED)
    linear.ignore("full_attn_layers", "kda_layers")
    mixers: dict[str, GatedDeltaNet | LatentAttention] = {"linear_attention": _kimi_delta(r, linear)}
    mixers["full_attention"] = _kimi_attention(r)
    first = r.integer("first_k_dense_replace", minimum=0) if r.has("first_k_dense_replace") else 1
    sparse = moe.sparse_layers(r, ["dense" if i < first else "sparse" for i in range(num_layers)])
    experts = _kimi_experts(r) if any(sparse) else None
    dense = swiglu(r) if not all(sparse) else None

    def layer(key: tuple[str, bool]) -> Layer:
        feed_forward = experts if key[1] else dense
        assert feed_forward is not None
        return pre_norm(mixers[key[0]], feed_forward, norm=norm)

    layers = each_once(zip(kinds, sparse, strict=True), layer)
    return _untied(decoder_of(r, layers, final_norm=norm, head=published("KimiLinear", "")))


def _untied(model: Model) -> Model:
    """These classes tie nothing, whatever the config says."""
    return model.replace(head=model.head and model.head.replace(tied=False))


def _kimi_kinds(linear: Reader, num_layers: int) -> list[str]:
    """Both lists of ``linear_attn_config`` count from one; without them every fourth layer but the first attends."""
    if not (linear.has("full_attn_layers") and linear.has("kda_layers")):
        return ["full_attention" if i and i % 4 == 0 else "linear_attention" for i in range(num_layers)]
    lists = {"full_attention": "full_attn_layers", "linear_attention": "kda_layers"}
    named = {index: kind for kind, name in lists.items() for index in linear.integers(name, minimum=1)}
    if set(named) != set(range(1, num_layers + 1)):
        raise linear.error("kda_layers", f"and full_attn_layers must name each of the {num_layers} layers once")
    return [named[i + 1] for i in range(num_layers)]


def _kimi_delta(r: Reader, linear: Reader) -> GatedDeltaNet:
    """``linear_attn_config``, as published files have it, comes before the plain keys."""

    def size(older: str, name: str) -> int:
        r.ignore(name)
        return linear.integer(older) if linear.has(older) else r.integer(name)

    heads, width = size("num_heads", "linear_num_heads"), size("head_dim", "linear_head_dim")
    return GatedDeltaNet(
        hidden_size=r.integer("hidden_size"),
        num_k_heads=heads,
        num_v_heads=heads,
        head_k_dim=width,
        head_v_dim=width,
        conv_kernel=size("short_conv_kernel_size", "linear_conv_kernel_dim"),
        norm_eps=r.number("rms_norm_eps"),
        activation=activation(r),
        decay="channel",
        gate_rank=width,
        gate_activation="sigmoid",
    )


def _kimi_attention(r: Reader) -> LatentAttention:
    return LatentAttention(
        hidden_size=r.integer("hidden_size"),
        num_attention_heads=r.integer("num_attention_heads"),
        q_lora_rank=r.optional_integer("q_lora_rank"),
        kv_lora_rank=r.integer("kv_lora_rank"),
        qk_nope_head_dim=r.integer("qk_nope_head_dim"),
        qk_rope_head_dim=r.integer("qk_rope_head_dim"),
        v_head_dim=r.integer("v_head_dim"),
        norm_eps=1e-6,  # the norm's own default, whatever rms_norm_eps is
        position=None,
        bias=r.flag("attention_bias"),
    )


def _kimi_experts(r: Reader) -> Any:
    router = deepseek.router_v3(r, "num_experts")
    shared = r.integer("num_shared_experts", minimum=0) * r.integer("moe_intermediate_size")
    return moe.mixture(r, size="moe_intermediate_size", router=router, chosen="num_experts_per_token", shared=shared)


# ---- Ling 3 ---------------------------------------------------------------------------------------------------------

BAILING_HYBRID_DEFAULTS: Final[dict[str, Any]] = {
    **{key: value for key, value in KIMI_LINEAR_DEFAULTS.items() if not key.startswith("linear_")},
    "vocab_size": 157_184,
    "hidden_size": 2560,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_hidden_layers": 42,
    "routed_scaling_factor": 2.5,
    "num_expert_group": 8,
    "topk_group": 4,
    "model_max_length": 262_144,
    "rms_norm_eps": 1e-6,
    "num_experts": 512,
    "first_k_dense_replace": 2,
    "rope_theta": 6e6,
    "head_dim": 128,
    "short_conv_kernel_size": 4,
    "layer_group_size": 6,
    "kda_safe_gate": True,
    "kda_lower_bound": -5.0,
    "num_nextn_predict_layers": 1,
}
_BAILING_WITHOUT_BEARING: Final = (
    *(key for key in _KIMI_WITHOUT_BEARING if key not in ("head_dim", "rope_theta", "rope_scaling", "rope_parameters")),
    "head_dim", "mtp_loss_scaling_factor", "kda_lower_bound", "layer_group_size", "short_conv_kernel_size",
)  # fmt: skip


def _bailing_hybrid(r: Reader) -> Model:
    """Five delta networks as wide as the attention, then latent attention with a gate for each head."""
    r.ignore(*_BAILING_WITHOUT_BEARING)
    deepseek.predicted_tokens(r)
    num_layers = r.layers()

    def grouped() -> list[str]:
        group = r.integer("layer_group_size")
        return ["linear_attention" if (i + 1) % group else "full_attention" for i in range(num_layers)]

    kinds = layer_kinds(r, num_layers, grouped, known=_MIXED)
    mixers: dict[str, GatedDeltaNet | LatentAttention] = {"full_attention": _bailing_attention(r)}
    mixers["linear_attention"] = _bailing_delta(r)
    first = r.integer("first_k_dense_replace", minimum=0)
    sparse = moe.sparse_layers(r, ["dense" if i < first else "sparse" for i in range(num_layers)])
    model = moe.sparse_decoder(
        r,
        sparse=sparse,
        mixture=lambda: _kimi_experts(r),
        dense=lambda: swiglu(r),
        attention=lambda kind: mixers[kind],
        kinds=kinds,
        head=published("BailingHybrid", ""),
    )
    return _untied(model)


def _bailing_delta(r: Reader) -> GatedDeltaNet:
    """Files that transformers wrote have ``linear_`` keys beside a ``head_dim`` that is the turned part of a head."""

    def size(written: str, name: str) -> int:
        return r.integer(written) if r.has(written) else r.integer(name)

    heads, width = size("linear_num_heads", "num_attention_heads"), size("linear_head_dim", "head_dim")
    return GatedDeltaNet(
        hidden_size=r.integer("hidden_size"),
        num_k_heads=heads,
        num_v_heads=heads,
        head_k_dim=width,
        head_v_dim=width,
        conv_kernel=size("linear_conv_kernel_dim", "short_conv_kernel_size"),
        norm_eps=r.number("rms_norm_eps"),
        activation=activation(r),
        decay="channel",
        decay_bottleneck=False,
        decay_floor=r.number("kda_lower_bound") if r.flag("kda_safe_gate") else None,
        gate_activation="sigmoid",
    )


def _bailing_attention(r: Reader) -> LatentAttention:
    """Queries have no bottleneck in this type."""
    r.unused("q_lora_rank", None)
    return deepseek.latent_attention(r, interleaved=True, gate="head").replace(q_lora_rank=None)


def _type(build: Any, defaults: Mapping[str, Any], name: str, aliases: Mapping[str, str] | None = None) -> ModelType:
    return ModelType(build=build, defaults=defaults, aliases=aliases or {}, origin=f"transformers 5.23 {name}Config")


TYPES: Final = {
    "olmo_hybrid": _type(_olmo_hybrid, OLMO_HYBRID_DEFAULTS, "OlmoHybrid"),
    "kimi_linear": _type(_kimi_linear, KIMI_LINEAR_DEFAULTS, "KimiLinear", _KIMI_ALIASES),
    "bailing_hybrid": _type(
        _bailing_hybrid,
        BAILING_HYBRID_DEFAULTS,
        "BailingHybrid",
        {**_KIMI_ALIASES, "num_mtp_layers": "num_nextn_predict_layers"},
    ),
}
