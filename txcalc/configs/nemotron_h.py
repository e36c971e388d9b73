"""Nemotron-H and Nemotron 3: one sublayer a layer, most of them Mamba 2.

Sources: NVIDIA 2025 (arXiv 2504.03624), section 2; Nemotron 3 (arXiv 2512.20856), section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from txcalc.architecture import FeedForward, Mamba2, MixtureOfExperts, Model, Router, Sublayer
from txcalc.configs import moe
from txcalc.configs.common import LEGACY_KINDS, activation, decoder_of, each_once, pre_norm, rms_norm, self_attention
from txcalc.configs.heads import published
from txcalc.configs.reader import Reader
from txcalc.configs.recurrent import groups_of
from txcalc.configs.registry import ModelType

NEMOTRON_H_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 131_072,
    "hidden_size": 4096,
    "layers_block_type": None,
    "intermediate_size": 21_504,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 4096,
    "mlp_hidden_act": "relu2",
    "mlp_bias": False,
    "ssm_state_size": 128,
    "mamba_num_heads": 128,
    "mamba_head_dim": 64,
    "mamba_hidden_act": "silu",
    "n_groups": 8,
    "conv_kernel": 4,
    "time_step_min": 0.001,
    "use_conv_bias": True,
    "chunk_size": 128,
    "n_routed_experts": 8,
    "moe_intermediate_size": 7688,
    "moe_shared_expert_intermediate_size": 7688,
    "moe_latent_size": None,
    "num_experts_per_tok": 2,
    "routed_scaling_factor": 1.0,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
    "use_bias": False,
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": False,
}
LETTERS: Final = {"M": "linear_attention", "E": "moe", "*": "full_attention", "-": "mlp"}
_DEFAULT_KINDS: Final = ("linear_attention", "moe", "full_attention", "mlp")
# Older spellings that transformers still takes.
_NEMOTRON_ALIASES: Final = {
    "layer_types": "layers_block_type",
    "num_local_experts": "n_routed_experts",
}
_OLDER: Final = {
    "n_groups": "mamba_n_groups",
    "conv_kernel": "mamba_d_conv",
    "time_step_min": "mamba_dt_min",
    "use_conv_bias": "mamba_conv_bias",
    "chunk_size": "mamba_chunk_size",
}
_WITHOUT_BEARING: Final = (
    "num_logits_to_keep", "use_mamba_kernels", "mamba_proj_bias", "mamba_ssm_cache_dtype", "expand", "mamba_expand",
    "time_step_max", "mamba_dt_max", "time_step_limit", "mamba_dt_limit", "time_step_floor", "mamba_dt_init_floor",
    "time_step_rank", "rescale_prenorm_residual", "residual_in_fp32", "n_shared_experts", "moe_shared_expert_overlap",
    "mtp_layers_block_type", "mtp_hybrid_override_pattern", "num_hidden_layers", "norm_eps", "rms_norm_eps",
    "partial_rotary_factor", "rope_theta", "rope_scaling", "rope_parameters",
    "tie_word_embeddings", "num_nextn_predict_layers",
)  # fmt: skip


def _nemotron_h(r: Reader) -> Model:
    """One sublayer a layer: Mamba 2, attention without positions, a feed-forward with relu squared, or experts."""
    r.ignore(*_WITHOUT_BEARING, *_OLDER.values(), *NEMOTRON_H_DEFAULTS)
    r.unused("attention_bias", False)
    r.unused("sliding_window", None)
    r.unused("attention_head_dim", None, r.integer("head_dim"))
    kinds, norm = _nemotron_kinds(r), rms_norm(r.integer("hidden_size"), r.number("layer_norm_epsilon"))
    makers: dict[str, Callable[[Reader], Sublayer]] = {
        "linear_attention": _nemotron_mixer,
        "full_attention": lambda r: self_attention(r, position=None),
        "mlp": lambda r: _nemotron_feed_forward(r, r.integer("hidden_size"), r.integer("intermediate_size")),
        "moe": _nemotron_experts,
    }
    made = {kind: makers[kind](r) for kind in dict.fromkeys(kinds)}
    layers = each_once(kinds, lambda kind: pre_norm(made[kind], norm=norm))
    model = decoder_of(r, layers, final_norm=norm, head=published("NemotronH", ""))
    # the class ties nothing, whatever the config says
    return model.replace(head=model.head and model.head.replace(tied=False))


def _nemotron_kinds(r: Reader) -> list[str]:
    """``layers_block_type``, or ``hybrid_override_pattern``, a letter a layer; ``num_hidden_layers`` has no say."""
    r.ignore("hybrid_override_pattern")
    if r.raw("layers_block_type") is not None:
        kinds = [LEGACY_KINDS.get(kind, kind) for kind in r.texts("layers_block_type")]
    elif r.config.get("hybrid_override_pattern") is not None:
        kinds = [LETTERS.get(letter, letter) for letter in r.text("hybrid_override_pattern")]
    else:
        kinds = list(_DEFAULT_KINDS)
    unknown = sorted(set(kinds) - set(_DEFAULT_KINDS))
    if unknown or not kinds:
        raise r.error("layers_block_type", f"holds {unknown[:1] or 'nothing'}; known: {', '.join(_DEFAULT_KINDS)}")
    stated = r.config.get("num_hidden_layers")
    if stated is not None and stated != len(kinds):
        r.notes.append(f"num_hidden_layers = {stated}: the pattern names {len(kinds)} layers, which is what is built")
    return kinds


def _older(r: Reader, name: str) -> str:
    """The key that counts: an older spelling wins where the config has it."""
    return _OLDER[name] if r.has(_OLDER[name]) else name


def _nemotron_mixer(r: Reader) -> Mamba2:
    heads = r.integer("mamba_num_heads")
    groups = groups_of(r, _older(r, "n_groups"), heads)
    return Mamba2(
        hidden_size=r.integer("hidden_size"),
        num_heads=heads,
        head_dim=r.integer("mamba_head_dim"),
        state_size=r.integer("ssm_state_size"),
        n_groups=groups,
        norm_groups=groups,
        conv_kernel=r.integer(_older(r, "conv_kernel")),
        conv_bias=r.flag(_older(r, "use_conv_bias")),
        bias=r.flag("use_bias"),
        activation=activation(r, "mamba_hidden_act"),
        norm_eps=r.number("layer_norm_epsilon"),
        time_step_limit=(r.number(_older(r, "time_step_min")), float("inf")),
        chunk_size=r.integer(_older(r, "chunk_size")),
    )


def _nemotron_feed_forward(r: Reader, width: int, inner: int, *, bias: bool | None = None) -> FeedForward:
    bias = r.flag("mlp_bias") if bias is None else bias
    act = activation(r, "mlp_hidden_act")
    return FeedForward(
        hidden_size=width, intermediate_size=inner, activation=act, gated=False, up_bias=bias, down_bias=bias
    )


def _nemotron_experts(r: Reader) -> MixtureOfExperts:
    """DeepSeek-V3's choice of experts; from Nemotron 3 Super on these work in a narrower width."""
    hidden, experts, latent = (
        r.integer("hidden_size"),
        r.integer("n_routed_experts"),
        r.optional_integer("moe_latent_size"),
    )
    groups, kept = r.integer("n_group"), r.integer("topk_group")
    if experts % groups or kept > groups:
        raise r.error("n_group", f"is {groups}; it must divide {experts} experts, {kept} groups being kept")
    width = latent or hidden
    return MixtureOfExperts(
        hidden_size=hidden,
        num_experts=experts,
        num_experts_per_tok=moe.top_k(r, experts),
        expert=_nemotron_feed_forward(r, width, r.integer("moe_intermediate_size"), bias=False),
        router=Router(
            scoring="sigmoid",
            correction_bias=True,
            norm_topk_prob=r.flag("norm_topk_prob"),
            scaling_factor=r.number("routed_scaling_factor"),
            n_group=groups,
            topk_group=kept,
            group_score="top2",
        ),
        shared_expert=_nemotron_feed_forward(r, hidden, r.integer("moe_shared_expert_intermediate_size")),
        latent_size=latent,
        latent_bias=latent is not None and r.flag("mlp_bias"),
    )


TYPES: Final = {
    "nemotron_h": ModelType(
        build=_nemotron_h,
        defaults=NEMOTRON_H_DEFAULTS,
        aliases=_NEMOTRON_ALIASES,
        origin="transformers 5.23 NemotronHConfig",
    ),
}
