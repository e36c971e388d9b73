"""Experts chosen by a softmax: Phi-3.5-MoE, ERNIE 4.5, Hunyuan-A13B, DBRX."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import Layer, MixtureOfExperts, Model, Router, SelfAttention
from txcalc.configs import moe, prediction, rope
from txcalc.configs.common import (
    activation,
    decoder_of,
    each_once,
    head_dims,
    layer_norm,
    pre_norm,
    rms_norm,
    self_attention,
    swiglu,
)
from txcalc.configs.dense import flag_or_null, plain_head_dim
from txcalc.configs.heads import published
from txcalc.configs.llama import LLAMA_DEFAULTS
from txcalc.configs.llama_kin import both_biases, ernie_marks, head_norm, hunyuan_marks, hunyuan_rope
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

# ---- Phi-3.5-MoE ----------------------------------------------------------------------------------------------------


def _phimoe(r: Reader) -> Model:
    """LayerNorm, biases where the config says, and two experts chosen one after the other (arXiv 2409.12136)."""
    r.ignore("input_jitter_noise", "router_jitter_noise", "original_max_position_embeddings")
    if r.integer("num_experts_per_tok") != 2:
        r.reasons.append("num_experts_per_tok is not 2: transformers' sparse mixer takes two experts all the same")
    norm = layer_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    attention = self_attention(
        r,
        position=rope.rotary(r, head_dims(r)[3], theta=1e6, whole=True),
        window=r.optional_integer("sliding_window"),
        **both_biases(r),
    )
    router = Router(scoring="sparsemixer", jitter=r.number("router_jitter_noise"))
    experts = moe.mixture(r, size="intermediate_size", num_experts="num_local_experts", router=router)
    head = {**published("Phimoe", "sequence"), "bias": r.flag("lm_head_bias")}
    return decoder_of(r, [(pre_norm(attention, experts, norm=norm), r.layers())], final_norm=norm, head=head)


# ---- ERNIE 4.5 ------------------------------------------------------------------------------------------------------


def _ernie4_5_moe(r: Reader) -> Model:
    """``use_bias`` is on every projection but the experts', and on the head."""
    ernie_marks(r)
    r.ignore("moe_norm_min", "moe_num_experts", "moe_k", "moe_num_shared_experts", "moe_intermediate_size")
    r.ignore("num_experts", "num_experts_per_tok", "intermediate_size")
    bias = flag_or_null(r, "use_bias")
    attention = self_attention(
        r,
        position=rope.rotary(r, head_dims(r)[3], theta=500_000.0, interleaved=True, whole=True),
        qkv_bias=bias,
        o_bias=bias,
    )
    return moe.sparse_decoder(
        r,
        sparse=_ernie_sparse(r),
        mixture=lambda: _ernie_experts(r, bias=bias),
        dense=lambda: swiglu(r, bias=bias),
        attention=lambda _: attention,
        head={**published("Ernie4_5_Moe", ""), "bias": bias},
    )


def _ernie_sparse(r: Reader) -> list[bool]:
    """Every ``moe_layer_interval``-th layer from the start to the end index; an end of -1 is the last layer."""
    num_layers = r.layers()
    first, interval = r.integer("moe_layer_start_index", minimum=0), r.integer("moe_layer_interval")
    last = r.integer("moe_layer_end_index", minimum=-1)
    last = num_layers - 1 if last == -1 else last
    return [(i + 1) % interval == 0 and first <= i <= last for i in range(num_layers)]


def _ernie_experts(r: Reader, *, bias: bool) -> MixtureOfExperts:
    return moe.mixture(
        r,
        size="moe_intermediate_size",
        num_experts="num_experts",
        router=Router(correction_bias=True, correction_bias_stored=True, norm_topk_prob=True),
        shared=r.integer("moe_intermediate_size") * r.integer("moe_num_shared_experts", minimum=0),
        bias=bias,
    )


# ---- Hunyuan-A13B ---------------------------------------------------------------------------------------------------


def _hunyuan_v1_moe(r: Reader) -> Model:
    """Every layer holds experts and a shared one as wide; published files may say the same number once a layer."""
    hunyuan_marks(r)
    _hunyuan_moe_marks(r)
    position = rope.rotary(r, head_dims(r)[3], settings=hunyuan_rope(r), whole=True)
    attention = self_attention(r, position=position, qk_norm=head_norm(r, after_rotary=True), **both_biases(r))
    chosen, norm = _by_layer(r, "num_experts_per_tok"), rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))

    def layer(top_k: int) -> Layer:
        return pre_norm(attention, _hunyuan_experts(r, top_k), norm=norm)

    return decoder_of(r, each_once(chosen, layer), final_norm=norm, head=published("HunYuanMoEV1", "sequence"))


def _by_layer(r: Reader, name: str) -> list[int]:
    """A whole number, or one for each layer."""
    if isinstance(r.raw(name), list | tuple):
        return r.integers(name, length=r.layers(), minimum=1)
    return [r.integer(name)] * r.layers()


def _hunyuan_experts(r: Reader, top_k: int) -> MixtureOfExperts:
    """The shared expert is as wide as a routed one.

    Raises:
        ModelError: more experts chosen than there are.
    """
    experts = r.integer("num_local_experts")
    if top_k > experts:
        raise r.error("num_experts_per_tok", f"is {top_k}; there are {experts} experts", "choose at most that many")
    expert = swiglu(r)
    return MixtureOfExperts(
        hidden_size=expert.hidden_size,
        num_experts=experts,
        num_experts_per_tok=top_k,
        expert=expert,
        router=Router(norm_topk_prob=True),
        shared_expert=expert,
    )


def _hunyuan_moe_marks(r: Reader) -> None:
    """Keys of the published file that transformers does not read."""
    num_layers, width = r.layers(), r.integer("intermediate_size")
    r.unused("moe_intermediate_size", None, width, [width] * num_layers)
    r.unused("num_shared_expert", None, 1, [1] * num_layers)
    r.unused("use_mixed_mlp_moe", True)
    r.unused("moe_layer_num_skipped", 0)
    r.unused("norm_topk_prob", True)
    r.unused("routed_scaling_factor", 1.0, 1)
    for name in ("group_limited_greedy", "n_group", "topk_group", "use_mla"):
        r.unused(name, False, None)
    r.ignore("moe_drop_tokens", "moe_random_routing_dropped_token", "capacity_factor")


# ---- DBRX -----------------------------------------------------------------------------------------------------------

_DBRX_ATTENTION: Final = {"attn_pdrop": 0.0, "clip_qkv": None, "kv_n_heads": 1, "rope_theta": None}
_DBRX_EXPERTS: Final = {
    "ffn_act_fn": None, "ffn_hidden_size": 3584, "moe_num_experts": 4, "moe_top_k": 1, "moe_jitter_eps": None,
    "moe_loss_weight": 0.01, "moe_normalize_expert_weights": 1.0,
}  # fmt: skip


def _dbrx(r: Reader) -> Model:
    """LayerNorm without a bias, clamped projections, four of sixteen experts."""
    r.ignore("resid_pdrop", "emb_pdrop")
    norm = layer_norm(r.integer("hidden_size"), 1e-5, bias=False)
    layer = pre_norm(_dbrx_attention(r), _dbrx_experts(r), norm=norm)
    return decoder_of(r, [(layer, r.layers())], final_norm=norm, head=published("Dbrx", ""))


def _dbrx_attention(r: Reader) -> SelfAttention:
    plain_head_dim(r)
    inner = r.nested("attn_config", defaults=_DBRX_ATTENTION)
    inner.ignore("attn_pdrop", "model_type")
    kv_heads, heads = inner.integer("kv_n_heads"), r.integer("num_attention_heads")
    r.unused("num_key_value_heads", None, kv_heads)
    if heads % kv_heads:
        raise inner.error("kv_n_heads", f"is {kv_heads}; it must divide the {heads} query heads")
    settings = dict(rope.parameters(r))
    base = inner.optional_number("rope_theta")
    if base is not None:  # where published files keep it
        settings["rope_theta"] = base
    position = rope.rotary(r, head_dims(r)[3], settings=settings, whole=True)
    attention = self_attention(r, position=position, clip_qkv=inner.optional_number("clip_qkv"))
    return attention.replace(num_key_value_heads=kv_heads)


def _dbrx_experts(r: Reader) -> MixtureOfExperts:
    inner = r.nested("ffn_config", defaults=_DBRX_EXPERTS)
    inner.ignore("moe_jitter_eps", "moe_loss_weight", "model_type", "hidden_size", "uniform_expert_assignment")
    hidden, order = r.integer("hidden_size"), inner.optional_number("moe_normalize_expert_weights")
    act = Reader({"name": "silu", **inner.mapping("ffn_act_fn")}, defaults={}, origin="", path="ffn_config.ffn_act_fn.")
    experts = inner.integer("moe_num_experts")
    return MixtureOfExperts(
        hidden_size=hidden,
        num_experts=experts,
        num_experts_per_tok=moe.top_k(inner, experts, "moe_top_k"),
        expert=moe.gated(hidden, inner.integer("ffn_hidden_size"), activation(act, "name")),
        router=Router(norm_topk_prob=order is not None, norm_order=1.0 if order is None else order),
    )


TYPES: Final = {
    "phimoe": ModelType(
        build=_phimoe,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 32_064, "intermediate_size": 6400, "num_key_value_heads": 8,
            "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5, "sliding_window": None,
            "num_experts_per_tok": 2, "num_local_experts": 16, "router_jitter_noise": 0.01, "lm_head_bias": False,
        },
        aliases={"num_experts": "num_local_experts"},
        origin="transformers 5.23 PhimoeConfig",
    ),
    "ernie4_5_moe": ModelType(
        build=_ernie4_5_moe,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 103_424, "hidden_size": 2560, "intermediate_size": 12_288,
            "num_hidden_layers": 28, "num_attention_heads": 20, "num_key_value_heads": 4,
            "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "use_bias": False,
            "moe_intermediate_size": 1536, "moe_k": 6, "moe_num_experts": 64, "moe_num_shared_experts": 2,
            "moe_layer_start_index": 1, "moe_layer_end_index": -1, "moe_layer_interval": 1,
        },
        aliases={"num_experts": "moe_num_experts", "num_experts_per_tok": "moe_k"},
        origin="transformers 5.23 Ernie4_5_MoeConfig",
        extra=prediction.dense_unnormed,
    ),
    "hunyuan_v1_moe": ModelType(
        build=_hunyuan_v1_moe,
        defaults={**LLAMA_DEFAULTS, "vocab_size": 290_943, "rms_norm_eps": 1e-5, "num_experts": 1, "moe_topk": 1},
        aliases={"num_local_experts": "num_experts", "num_experts_per_tok": "moe_topk"},
        origin="transformers 5.23 HunYuanMoEV1Config",
    ),
    "dbrx": ModelType(
        build=_dbrx,
        defaults={
            "d_model": 2048, "n_heads": 16, "n_layers": 24, "max_seq_len": 2048, "vocab_size": 32_000,
            "tie_word_embeddings": False,
        },
        aliases={
            "hidden_size": "d_model", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers",
            "max_position_embeddings": "max_seq_len",
        },
        origin="transformers 5.23 DbrxConfig",
    ),
}  # fmt: skip
