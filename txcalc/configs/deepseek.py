"""DeepSeek-V2 (arXiv 2405.04434) and V3 (arXiv 2412.19437): latent attention, dense first layers, shared experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log
from typing import Any, Final

from txcalc.architecture import LatentAttention, MixtureOfExperts, Model, Rotary, Router, YarnScaling
from txcalc.configs import moe, prediction, rope
from txcalc.configs.common import activation, decoder_of, pre_norm, rms_norm
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

_SHARED_DEFAULTS: Final[dict[str, Any]] = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}
DEEPSEEK_V2_DEFAULTS: Final[dict[str, Any]] = {
    **_SHARED_DEFAULTS,
    "vocab_size": 102_400,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "moe_intermediate_size": 1407,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "mlp_bias": False,
    "first_k_dense_replace": 0,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": None,
    "routed_scaling_factor": 1.0,
    "topk_method": "greedy",
    "n_group": None,
    "topk_group": None,
}
DEEPSEEK_V3_DEFAULTS: Final[dict[str, Any]] = {
    **_SHARED_DEFAULTS,
    "vocab_size": 129_280,
    "hidden_size": 7168,
    "intermediate_size": 18_432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "max_position_embeddings": 4096,
    "first_k_dense_replace": 3,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "routed_scaling_factor": 2.5,
    "norm_topk_prob": True,
    "n_group": 8,
    "topk_group": 4,
    "rope_interleave": True,
}
# No heads of keys and values; head_dim and qk_head_dim follow from the other widths; ep_size is a runtime's.
_WITHOUT_BEARING: Final = ("num_key_value_heads", "head_dim", "qk_head_dim", "ep_size")
_EXPERT_KEYS: Final = (
    "n_routed_experts", "n_shared_experts", "num_experts_per_tok", "moe_intermediate_size", "routed_scaling_factor",
    "norm_topk_prob", "topk_method", "scoring_func", "n_group", "topk_group",
)  # fmt: skip


def _deepseek_v2(r: Reader) -> Model:
    head = {"prefix": "DeepseekV2", "without": {"token_classification", "question_answering"}}
    model = _model(r, interleaved=True, mlp_bias=r.flag("mlp_bias"), router=_router_v2, head=head)
    if _UNROUTED not in r.reasons:
        return model
    r.reasons.remove(_UNROUTED)  # the type's own default: what is stored is known, what runs is not
    r.notes.append(_UNROUTED)
    return model.replace(only_params=_UNROUTED)


def _deepseek_v3(r: Reader) -> Model:
    predicted_tokens(r)
    interleaved = r.raw("rope_interleave") is not None and r.flag("rope_interleave")
    head = {"prefix": "DeepseekV3", "without": {"question_answering"}}
    return _model(r, interleaved=interleaved, mlp_bias=False, router=router_v3, head=head)


def predicted_tokens(r: Reader) -> None:
    """Multi-token prediction (DeepSeek-V3, section 2.2): blocks beside the model, see ``prediction``."""
    r.ignore("num_nextn_predict_layers", "num_mtp_layers")


# ---- layers ---------------------------------------------------------------------------------------------------------


def _model(
    r: Reader, *, interleaved: bool, mlp_bias: bool, router: Callable[[Reader], Router], head: Mapping[str, Any]
) -> Model:
    r.ignore(*_WITHOUT_BEARING, *_EXPERT_KEYS, "intermediate_size")
    r.unused("moe_layer_freq", 1)
    num_layers, hidden = r.layers(), r.integer("hidden_size")
    norm = rms_norm(hidden, r.number("rms_norm_eps"))
    attention = latent_attention(r, interleaved=interleaved)
    dense_layers = min(r.integer("first_k_dense_replace", minimum=0), num_layers)
    layers = []
    if dense_layers:
        dense = moe.gated(hidden, r.integer("intermediate_size"), activation(r), bias=mlp_bias)
        layers.append((pre_norm(attention, dense, norm=norm), dense_layers))
    if dense_layers < num_layers:
        experts = mixture(r, router(r), bias=mlp_bias)
        layers.append((pre_norm(attention, experts, norm=norm), num_layers - dense_layers))
    return decoder_of(r, layers, final_norm=norm, head=head)


def latent_attention(
    r: Reader, *, interleaved: bool, settings: Mapping[str, Any] | None = None, **fields: Any
) -> LatentAttention:
    """Latent attention in DeepSeek's spelling; ``settings`` are rotary ones, where the type has its own."""
    nope, turned = r.integer("qk_nope_head_dim"), r.integer("qk_rope_head_dim")
    given = rope.parameters(r) if settings is None else settings
    position = rope.rotary(r, turned, interleaved=interleaved, settings={**given, "partial_rotary_factor": 1.0})
    return LatentAttention(
        hidden_size=r.integer("hidden_size"),
        num_attention_heads=r.integer("num_attention_heads"),
        q_lora_rank=r.optional_integer("q_lora_rank"),
        kv_lora_rank=r.integer("kv_lora_rank"),
        qk_nope_head_dim=nope,
        qk_rope_head_dim=turned,
        v_head_dim=fields.pop("v_head_dim", None) or r.integer("v_head_dim"),
        norm_eps=1e-6,  # both latents' norms: the default of the norm, not the config's rms_norm_eps
        position=position,
        bias=r.flag("attention_bias"),
        scale=_scale(position, nope + turned),
        **fields,
    )


def _scale(position: Rotary, width: int) -> float | None:
    """YaRN's temperature on the scores (Peng et al. 2023, section 3.4), where ``mscale_all_dim`` asks for it."""
    yarn = position.scaling
    if not isinstance(yarn, YarnScaling) or not yarn.mscale_all_dim:
        return None
    mscale = 0.1 * yarn.mscale_all_dim * log(yarn.factor) + 1.0 if yarn.factor > 1 else 1.0
    return float(width**-0.5) * mscale * mscale


# ---- experts --------------------------------------------------------------------------------------------------------


def mixture(r: Reader, router: Router, *, bias: bool = False) -> MixtureOfExperts:
    """``n_routed_experts`` of ``moe_intermediate_size``, and ``n_shared_experts`` side by side as one."""
    hidden, width, act = r.integer("hidden_size"), r.integer("moe_intermediate_size"), activation(r)
    experts = r.integer("n_routed_experts")
    shared = 0 if r.raw("n_shared_experts") is None else r.integer("n_shared_experts", minimum=0)
    return MixtureOfExperts(
        hidden_size=hidden,
        num_experts=experts,
        num_experts_per_tok=_chosen(r, experts),
        expert=moe.gated(hidden, width, act),  # no biases, whatever mlp_bias says
        router=router,
        # none of them is a feed-forward of no width, which with biases still has its last one
        shared_expert=moe.gated(hidden, width * shared, act, bias=bias) if shared or bias else None,
    )


_UNROUTED: Final = "num_experts_per_tok is not set, which says what a token uses: --set num_experts_per_tok=6, or so"


def _chosen(r: Reader, experts: int) -> int:
    if r.raw("num_experts_per_tok") is not None:
        return moe.top_k(r, experts)
    r.reasons.append(_UNROUTED)
    return experts


def _router_v2(r: Reader) -> Router:
    """Softmax, then the best experts of all, or of the best groups (DeepSeek-V2, section 2.2.2)."""
    r.unused("scoring_func", "softmax")
    r.unused("norm_topk_prob", False, None)
    method = r.choice("topk_method", ("greedy", "group_limited_greedy"))
    groups, kept = groups_of(r) if method == "group_limited_greedy" else (1, 1)
    return Router(
        scoring="softmax",
        scaling_factor=r.number("routed_scaling_factor"),
        n_group=groups,
        topk_group=kept,
        group_score="max",
    )


def router_v3(r: Reader, experts: str = "n_routed_experts", *, grouped: bool = True) -> Router:
    """Sigmoid scores, a balancing bias that only chooses, groups scored by their two best (DeepSeek-V3, 2.1.2)."""
    r.unused("scoring_func", "sigmoid")
    r.unused("topk_method", "noaux_tc")
    groups, kept = groups_of(r, experts) if grouped else (1, 1)
    return Router(
        scoring="sigmoid",
        correction_bias=True,
        norm_topk_prob=r.raw("norm_topk_prob") is not None and r.flag("norm_topk_prob"),
        scaling_factor=r.number("routed_scaling_factor"),
        n_group=groups,
        topk_group=kept,
        group_score="top2",
    )


def groups_of(r: Reader, name: str = "n_routed_experts") -> tuple[int, int]:
    """(groups of experts, how many of them a token may choose from).

    Raises:
        ModelError: groups of unlike sizes, or more chosen than there are.
    """
    groups, kept, experts = r.integer("n_group"), r.integer("topk_group"), r.integer(name)
    if experts % groups:
        raise r.error("n_group", f"is {groups}; it must divide the {experts} routed experts")
    if kept > groups:
        raise r.error("topk_group", f"is {kept}; there are {groups} groups")
    return groups, kept


TYPES: Final = {
    "deepseek_v2": ModelType(
        build=_deepseek_v2,
        defaults=DEEPSEEK_V2_DEFAULTS,
        aliases={"num_experts": "n_routed_experts"},
        origin="transformers 5.23 DeepseekV2Config",
    ),
    "deepseek_v3": ModelType(
        build=_deepseek_v3,
        defaults=DEEPSEEK_V3_DEFAULTS,
        aliases={"num_local_experts": "n_routed_experts", "num_mtp_layers": "num_nextn_predict_layers"},
        origin="transformers 5.23 DeepseekV3Config",
        extra=prediction.after_layers,
    ),
    "kimi_k2": ModelType(  # published with DeepSeek-V3's classes; transformers does not know the name
        build=_deepseek_v3,
        defaults=DEEPSEEK_V3_DEFAULTS,
        aliases={"num_local_experts": "n_routed_experts", "num_mtp_layers": "num_nextn_predict_layers"},
        origin="transformers 5.23 DeepseekV3Config",
        extra=prediction.after_layers,
    ),
}
