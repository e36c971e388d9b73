"""LongCat-Flash: two attentions and two dense feed-forwards a layer, experts on a shortcut (arXiv 2509.01322, 2)."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import Branch, LatentAttention, Layer, MixtureOfExperts, Model, Residual, Router
from txcalc.configs import deepseek, moe
from txcalc.configs.common import decoder_of, rms_norm, swiglu
from txcalc.configs.heads import published
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

LONGCAT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 131_072,
    "hidden_size": 6144,
    "num_layers": 28,
    "num_attention_heads": 64,
    "hidden_act": "silu",
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "rope_theta": 1e7,
    "attention_bias": False,
    "ffn_hidden_size": 12_288,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "moe_topk": 12,
    "n_routed_experts": 512,
    "zero_expert_num": 256,
    "expert_ffn_hidden_size": 2048,
    "routed_scaling_factor": 6.0,
}
_ALIASES: Final = {
    "num_local_experts": "n_routed_experts",
    "num_experts_per_tok": "moe_topk",
    "intermediate_size": "ffn_hidden_size",
    "moe_intermediate_size": "expert_ffn_hidden_size",
}
# Widths that follow from others; what a layer's number is worth in sublayers; what was trained beside the model.
_WITHOUT_BEARING: Final = (
    "num_key_value_heads", "head_dim", "attention_method", "zero_expert_type", "mla_scale_q_lora",
    "mla_scale_kv_lora", "ep_size", "moe_layer_freq",
)  # fmt: skip


def _longcat_flash(r: Reader) -> Model:
    """Experts read what the first dense feed-forward reads, and join the stream at the end of the layer."""
    r.ignore(*_WITHOUT_BEARING)
    r.unused("zero_expert_type", "identity")
    r.unused("norm_topk_prob", False)
    _doubled(r)
    _head_width(r)
    norm = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    attention, dense = _attention(r), swiglu(r, size="ffn_hidden_size")
    shortcut = Branch(sublayer=_experts(r), defer=2)
    attend = Residual(branches=(Branch(sublayer=attention),), norm_in=norm)
    feed = Residual(branches=(Branch(sublayer=dense),), norm_in=norm)
    layer = Layer(steps=(attend, feed.replace(branches=(*feed.branches, shortcut)), attend, feed))
    return decoder_of(r, [(layer, r.layers("num_layers"))], final_norm=norm, head=published("LongcatFlash", ""))


def _head_width(r: Reader) -> None:
    """transformers cuts queries by ``qk_head_dim`` where a config has it; beside its two parts it must agree."""
    parts = r.integer("qk_nope_head_dim") + r.integer("qk_rope_head_dim")
    r.unused("qk_head_dim", None, parts)


def _doubled(r: Reader) -> None:
    """``num_hidden_layers`` counts a layer's two halves; beside ``num_layers`` it must agree."""
    if "num_hidden_layers" in r.config and r.integer("num_hidden_layers") // 2 != r.integer("num_layers"):
        r.reasons.append(
            f"num_hidden_layers = {r.integer('num_hidden_layers')}: not twice num_layers = {r.integer('num_layers')}"
        )


def _attention(r: Reader) -> LatentAttention:
    """Both latents are scaled up to the variance of the full width (section 2.2.2)."""
    hidden = r.integer("hidden_size")
    return deepseek.latent_attention(
        r,
        interleaved=True,
        q_lora_scale=(hidden / r.integer("q_lora_rank")) ** 0.5,
        kv_lora_scale=(hidden / r.integer("kv_lora_rank")) ** 0.5,
    )


def _experts(r: Reader) -> MixtureOfExperts:
    """Some of the choices are experts that give back what they get: they hold nothing and compute nothing."""
    zero = 0 if r.raw("zero_expert_num") is None else r.integer("zero_expert_num", minimum=0)
    experts, chosen = r.integer("n_routed_experts"), r.integer("moe_topk")
    if chosen > experts + zero:
        raise r.error("moe_topk", f"is {chosen}; there are {experts} experts and {zero} zero ones")
    if zero:
        r.reasons.append(_about_zero_experts(r, zero))
    router = Router(
        scoring="softmax",
        correction_bias=True,
        bias=r.flag("router_bias") if r.has("router_bias") else False,
        scaling_factor=r.number("routed_scaling_factor"),
        zero_experts=zero,
    )
    return moe.mixture(
        r, size="expert_ffn_hidden_size", router=router, num_experts="n_routed_experts", chosen="moe_topk"
    )


def _about_zero_experts(r: Reader, zero: int) -> str:
    """Two things that no config settles: what an implementation stores for them, and how often they are chosen."""
    aside = r.layers("num_layers") * zero * 2 * r.integer("expert_ffn_hidden_size") * r.integer("hidden_size")
    return (
        f"zero_expert_num = {zero}: transformers also sets {aside:,} parameters aside for them, which checkpoints do "
        "not hold; active parameters and FLOPs are those of a token that is sent to none of them"
    )


TYPES: Final = {
    "longcat_flash": ModelType(
        build=_longcat_flash, defaults=LONGCAT_DEFAULTS, aliases=_ALIASES, origin="transformers 5.23 LongcatFlashConfig"
    ),
}
