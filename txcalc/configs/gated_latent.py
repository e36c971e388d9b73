"""Latent attention whose output is gated: A.X K2 and Hy4."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import (
    Branch,
    FeedForward,
    HyperConnection,
    Layer,
    MixtureOfExperts,
    Model,
    Residual,
    Router,
    StreamHead,
)
from txcalc.configs import deepseek, moe
from txcalc.configs.common import decoder_of, each_once, layer_kinds, rms_norm, swiglu
from txcalc.configs.heads import published
from txcalc.configs.latent import WITHOUT_BEARING, indexer
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.sigmoid_moe import EXPERT_KEYS, listed_sparse


def _query_rank(r: Reader) -> int:
    """Their gates and indexers read the queries' latent: there must be one."""
    return r.integer("q_lora_rank")


def _indexed(r: Reader) -> None:
    """``layer_types`` tells the cache of indexers, and knows one kind."""
    num_layers = r.layers()
    layer_kinds(r, num_layers, lambda: ["indexed_attention"] * num_layers, known=("indexed_attention",))


# ---- A.X K2 ---------------------------------------------------------------------------------------------------------


def _axk2(r: Reader) -> Model:
    """The norms before attention and experts have gates of their own; so has attention, from the queries' latent."""
    r.ignore(*WITHOUT_BEARING, "first_k_dense_replace", "moe_layer_freq", *EXPERT_KEYS, "intermediate_size")
    r.unused("rope_interleave", True)
    r.unused("mlp_bias", False)
    deepseek.predicted_tokens(r)
    _indexed(r)
    _query_rank(r)
    plain = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    gated = plain.replace(gate_rank=r.integer("gated_norm_rank"))
    attention = deepseek.latent_attention(r, interleaved=True, indexer=indexer(r, interleaved=False), gate="latent")

    def layer(experts: bool) -> Layer:
        mixer = Branch(sublayer=attention, norm_in=gated)
        fed: FeedForward | MixtureOfExperts = deepseek.mixture(r, _axk2_router(r)) if experts else swiglu(r)
        return _steps(mixer, Branch(sublayer=fed, norm_in=gated if experts else plain))

    dense = r.integer("first_k_dense_replace", minimum=0) if r.has("first_k_dense_replace") else 1
    every = r.integer("moe_layer_freq") if r.has("moe_layer_freq") else 1
    default = ["sparse" if i >= dense and i % every == 0 else "dense" for i in range(r.layers())]
    layers = each_once(moe.sparse_layers(r, default), layer)
    return decoder_of(r, layers, final_norm=plain, head=published("AXK2", "sequence token"))


def _steps(*branches: Branch) -> Layer:
    return Layer(steps=tuple(Residual(branches=(branch,)) for branch in branches))


def _axk2_router(r: Reader) -> Router:
    """Groups only where a config asks for them, and then with both numbers."""
    groups, kept = (r.optional_integer(name) for name in ("n_group", "topk_group"))
    if (groups is None) != (kept is None):
        raise r.error("n_group", "and topk_group must both be set, or neither")
    router = deepseek.router_v3(r, grouped=groups is not None)
    if groups is not None and groups > 1:
        r.notes.append("experts outside the chosen groups score 0 here, not less: a token may still be sent to one")
    return router


# ---- Hy4 ------------------------------------------------------------------------------------------------------------


def _hy_v4(r: Reader) -> Model:
    """Four residual streams, sinks, and layers that take the choice of keys of the layer before."""
    r.ignore(*WITHOUT_BEARING, "learnable_sink_init")
    r.unused("first_k_dense_replace", 1)
    deepseek.predicted_tokens(r)
    _indexed(r)
    _query_rank(r)
    hidden, eps = r.integer("hidden_size"), r.number("rms_norm_eps")
    norm, streams = rms_norm(hidden, eps), r.integer("hc_mult")
    own = indexer(r, interleaved=False, turns_last=True, norm_eps=eps)
    attention = deepseek.latent_attention(r, interleaved=False, gate="channel", sinks=True)
    hyper = HyperConnection(
        streams=streams,
        hidden_size=hidden,
        eps=r.number("hc_eps"),
        norm_eps=eps,
        magnitude=r.number("hc_magnitude"),
        write_eps=r.number("hc_eps"),
    )

    def layer(key: tuple[bool, bool]) -> Layer:
        shared, experts = key
        mixer = attention.replace(indexer=own.replace(shared=shared))
        fed: FeedForward | MixtureOfExperts = _hy_v4_experts(r) if experts else swiglu(r)
        return Layer(
            steps=tuple(
                Residual(branches=(Branch(sublayer=each, norm_in=norm),), streams=hyper) for each in (mixer, fed)
            )
        )

    keys = zip(_shared_choice(r), listed_sparse(r), strict=True)
    head = StreamHead(streams=streams, hidden_size=hidden, eps=r.number("hc_eps"), norm_eps=eps)
    return decoder_of(
        r, each_once(keys, layer), final_norm=norm, stream_head=head, head=published("HYV4", "")
    )  # fmt: skip


def _shared_choice(r: Reader) -> list[bool]:
    """Which layers have no indexer: by default all but the first two and every fourth after that."""
    num_layers = r.layers()
    r.ignore("indexer_types")
    if r.config.get("indexer_types") is None:
        return [i != 0 and (i - 1) % 4 != 0 for i in range(num_layers)]
    kinds = r.texts("indexer_types", length=num_layers)
    if not set(kinds) <= {"full", "shared"} or kinds[0] == "shared":
        raise r.error("indexer_types", "must say full or shared for each layer, full for the first")
    return [kind == "shared" for kind in kinds]


def _hy_v4_experts(r: Reader) -> MixtureOfExperts:
    """Routed experts are clamped before their gate; the shared one and dense layers are not."""
    mixture, limit = deepseek.mixture(r, deepseek.router_v3(r)), r.number("swiglu_limit")
    if limit <= 0:
        return mixture
    return mixture.replace(expert=mixture.expert.replace(limit=limit))


_V3: Final = deepseek.DEEPSEEK_V3_DEFAULTS
_INDEX: Final = {"index_topk": 2048, "index_head_dim": 128, "index_n_heads": 16}
_ALIASES: Final = {"num_local_experts": "n_routed_experts", "num_experts": "n_routed_experts"}
TYPES: Final = {
    "axk2": ModelType(
        build=_axk2,
        defaults={
            **_V3, **_INDEX, "vocab_size": 163_840, "hidden_size": 2048, "intermediate_size": 5120,
            "moe_intermediate_size": 512, "num_hidden_layers": 48, "num_attention_heads": 32,
            "n_routed_experts": 128, "kv_lora_rank": 128, "q_lora_rank": 384, "qk_rope_head_dim": 32,
            "v_head_dim": 64, "qk_nope_head_dim": 64, "n_group": None, "topk_group": None,
            "max_position_embeddings": 131_072, "gated_norm_rank": 16,
        },
        aliases=_ALIASES,
        origin="transformers 5.23 AXK2Config",
    ),
    "hy_v4": ModelType(
        build=_hy_v4,
        defaults={
            **_V3, **_INDEX, "vocab_size": 120_832, "hidden_size": 2816, "intermediate_size": 6912,
            "moe_intermediate_size": 768, "num_hidden_layers": 34, "num_attention_heads": 32,
            "routed_scaling_factor": 2.827, "n_group": 1, "topk_group": 1, "qk_nope_head_dim": 192,
            "v_head_dim": 256, "max_position_embeddings": 262_144, "rms_norm_eps": 1e-5, "hc_mult": 4,
            "hc_magnitude": 2.0, "hc_eps": 1e-6, "swiglu_limit": 10.0,
        },
        aliases=_ALIASES,
        origin="transformers 5.23 HYV4Config",
    ),
}  # fmt: skip
