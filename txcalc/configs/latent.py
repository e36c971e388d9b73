"""Types with DeepSeek's latent attention: sparse ones (V3.2, GLM 5), GLM 4.7 Flash, MiniCPM3, Youtu, Mistral 4, A.X."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from txcalc.architecture import (
    Branch,
    Indexer,
    LatentAttention,
    Layer,
    LengthTemperature,
    MixtureOfExperts,
    Model,
    Norm,
    Residual,
    Router,
    Sublayer,
)
from txcalc.configs import deepseek, moe, prediction
from txcalc.configs.common import decoder_of, layer_kinds, pre_norm, rms_norm, swiglu
from txcalc.configs.dense import flag_or_null
from txcalc.configs.heads import published
from txcalc.configs.llama_kin import said_or
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.sigmoid_moe import EXPERT_KEYS, first_dense, listed_sparse

# No heads of keys and values; the widths of heads follow from the others; ep_size is a runtime's.
WITHOUT_BEARING: Final = ("num_key_value_heads", "head_dim", "qk_head_dim", "ep_size")


def _with_experts(r: Reader, sparse: list[bool], attention: Any, prefix: str, tasks: str = "", **fields: Any) -> Model:
    return moe.sparse_decoder(
        r,
        sparse=sparse,
        mixture=lambda: deepseek.mixture(r, deepseek.router_v3(r)),
        dense=lambda: swiglu(r),
        attention=attention,
        head=published(prefix, tasks),
        **fields,
    )


def _interleaved(r: Reader) -> bool:
    return flag_or_null(r, "rope_interleave")


# ---- sparse attention -----------------------------------------------------------------------------------------------


def _deepseek_v32(r: Reader) -> Model:
    """V3 whose heads look at 2,048 tokens that an indexer picks (DeepSeek-V3.2 report, section 2.1)."""
    _sparse_marks(r)
    attention = deepseek.latent_attention(r, interleaved=True, indexer=indexer(r, interleaved=False))
    sparse = _listed_after_dense(r)
    return _with_experts(r, sparse, lambda _: attention, "DeepseekV32")


def _glm_moe_dsa(r: Reader) -> Model:
    """Some layers take the choice of the layer before them, and have no indexer (GLM 5, arXiv 2602.15763)."""
    _sparse_marks(r)
    r.unused("rope_interleave", True)
    r.unused("indexer_rope_interleave", True)
    attention = deepseek.latent_attention(r, interleaved=True)
    made = {shared: indexer(r, interleaved=True, shared=shared) for shared in (False, True)}

    def layer(shared: bool) -> LatentAttention:
        return attention.replace(indexer=made[shared])

    return _with_experts(r, _listed_after_dense(r), layer, "GlmMoeDsa", kinds=_shared_indexers(r))


def _sparse_marks(r: Reader) -> None:
    r.ignore(*WITHOUT_BEARING, "first_k_dense_replace")
    deepseek.predicted_tokens(r)
    r.unused("mlp_bias", False)
    r.unused("moe_layer_freq", 1)
    num_layers = r.layers()
    layer_kinds(r, num_layers, lambda: ["indexed_attention"] * num_layers, known=("indexed_attention",))


def _listed_after_dense(r: Reader) -> list[bool]:
    return listed_sparse(r, r.integer("first_k_dense_replace", minimum=0))


def indexer(r: Reader, *, interleaved: bool, shared: bool = False, **fields: Any) -> Indexer:
    """The scorer of DeepSeek's sparse attention in its usual spelling."""
    return Indexer(
        query_size=r.integer("q_lora_rank"),
        num_heads=r.integer("index_n_heads"),
        head_dim=r.integer("index_head_dim", minimum=r.integer("qk_rope_head_dim")),
        top_k=r.integer("index_topk"),
        rope_dim=r.integer("qk_rope_head_dim"),
        interleaved=interleaved,
        shared=shared,
        **fields,
    )


def _shared_indexers(r: Reader) -> list[bool]:
    """Which layers take the choice before them: ``indexer_types``, a pattern of F and S, or every so many layers.

    Raises:
        ModelError: a kind that is not known, or a first layer with nothing before it.
    """
    r.ignore("indexer_types", "index_topk_pattern", "index_topk_freq", "index_skip_topk_offset")
    num_layers = r.layers()
    name = next((each for each in ("indexer_types", "index_topk_pattern") if r.config.get(each)), "")
    if not name:
        every = r.integer("index_topk_freq", minimum=0) if r.has("index_topk_freq") else 1
        offset = r.integer("index_skip_topk_offset", minimum=0) if r.has("index_skip_topk_offset") else 2
        return [max(i - offset + 1, 0) % max(every, 1) != 0 for i in range(num_layers)]
    value = r.raw(name)
    kinds = (
        [{"F": "full", "S": "shared"}.get(each, each) for each in value] if isinstance(value, str) else r.texts(name)
    )
    if len(kinds) != num_layers or not set(kinds) <= {"full", "shared"} or kinds[0] == "shared":
        raise r.error(name, f"must say full or shared for each of {num_layers} layers, full for the first")
    return [kind == "shared" for kind in kinds]


# ---- GLM 4.7 Flash, A.X K1, Mistral 4 -------------------------------------------------------------------------------


def _glm4_moe_lite(r: Reader) -> Model:
    """GLM 4.5's experts behind latent attention; the type's ``head_dim`` is the turned part of a head."""
    r.integer("head_dim")
    r.ignore(*WITHOUT_BEARING)
    deepseek.predicted_tokens(r)
    dense = [i for i, each in enumerate(listed_sparse(r)) if not each]
    r.unused("first_k_dense_replace", len(dense))
    attention = deepseek.latent_attention(r, interleaved=_interleaved(r))
    return _with_experts(r, listed_sparse(r), lambda _: attention, "Glm4MoeLite")


def _axk1(r: Reader) -> Model:
    """A norm on what experts give out."""
    r.ignore(*WITHOUT_BEARING, "first_k_dense_replace", "moe_layer_freq", *EXPERT_KEYS, "intermediate_size")
    dense = r.integer("first_k_dense_replace", minimum=0) if r.has("first_k_dense_replace") else 1
    every = r.integer("moe_layer_freq") if r.has("moe_layer_freq") else 1
    default = ["sparse" if i >= dense and i % every == 0 else "dense" for i in range(r.layers())]
    attention = deepseek.latent_attention(r, interleaved=_interleaved(r))
    return _with_experts(
        r, moe.sparse_layers(r, default), lambda _: attention, "AXK1", "sequence token", arrange=_normed_experts
    )


def _normed_experts(*sublayers: Sublayer, norm: Norm) -> Layer:
    """Pre-norm, and a norm after experts."""
    branches = (
        Branch(sublayer=each, norm_in=norm, norm_out=norm if isinstance(each, MixtureOfExperts) else None)
        for each in sublayers
    )
    return Layer(steps=tuple(Residual(branches=(branch,)) for branch in branches))


_MISTRAL4_ROPE: Final = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 128.0,
    "original_max_position_embeddings": 8192,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale_all_dim": 1.0,
    "mscale": 1.0,
    "llama_4_scaling_beta": 0.1,
}


def _mistral4(r: Reader) -> Model:
    """Experts by a softmax, and queries that grow with the position."""
    r.ignore(*WITHOUT_BEARING)
    settings = said_or(r, _MISTRAL4_ROPE)
    beta, trained = settings.get("llama_4_scaling_beta"), settings.get("original_max_position_embeddings")
    attention = deepseek.latent_attention(
        r,
        interleaved=_interleaved(r),
        settings=settings,
        temperature=LengthTemperature(factor=float(beta), length=int(trained)) if beta and trained else None,
    )
    return moe.sparse_decoder(
        r,
        sparse=first_dense(r),
        mixture=lambda: deepseek.mixture(r, _softmax_router(r)),
        dense=lambda: swiglu(r),
        attention=lambda _: attention,
        head={**published("Mistral4", "sequence token"), "default": "base"},  # as transformers' auto classes know it
    )


def _softmax_router(r: Reader) -> Router:
    """V3's groups over a softmax, without a balancing bias."""
    return deepseek.router_v3(r).replace(scoring="softmax", correction_bias=False)


# ---- dense ----------------------------------------------------------------------------------------------------------


def _minicpm3(r: Reader) -> Model:
    """Constant multipliers of embedding, residual branches and logits (MiniCPM, arXiv 2404.06395, table 7)."""
    r.ignore(*WITHOUT_BEARING)
    hidden, num_layers = r.integer("hidden_size"), r.layers()
    depth, base = r.optional_number("scale_depth"), r.optional_integer("dim_model_base")
    norm = rms_norm(hidden, r.number("rms_norm_eps"))
    values = r.optional_integer("v_head_dim") or hidden // r.integer("num_attention_heads")
    attention = deepseek.latent_attention(r, interleaved=False, v_head_dim=values)
    scale = 1.0 if depth is None else depth / num_layers**0.5
    layer = partial(pre_norm, scale=scale)(attention, swiglu(r, bias=r.flag("mlp_bias")), norm=norm)
    head = {**published("MiniCPM3", "sequence"), "scale": (base or hidden) / hidden}
    return decoder_of(r, [(layer, num_layers)], final_norm=norm, head=head, embedding_scale=r.number("scale_emb"))


def _youtu(r: Reader) -> Model:
    r.ignore(*WITHOUT_BEARING, "embedding_initializer_range")
    r.unused("mlp_bias", False)
    norm = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    layer = pre_norm(deepseek.latent_attention(r, interleaved=_interleaved(r)), swiglu(r), norm=norm)
    return decoder_of(r, [(layer, r.layers())], final_norm=norm, head=published("Youtu", ""))


_V3: Final = deepseek.DEEPSEEK_V3_DEFAULTS
_INDEX: Final = {"index_topk": 2048, "index_head_dim": 128, "index_n_heads": 64}
_ALIASES: Final = {"num_local_experts": "n_routed_experts", "num_mtp_layers": "num_nextn_predict_layers"}

TYPES: Final = {
    "deepseek_v32": ModelType(
        build=_deepseek_v32,
        defaults={**_V3, **_INDEX, "max_position_embeddings": 163_840},
        aliases={**_ALIASES, "num_experts": "n_routed_experts"},
        origin="transformers 5.23 DeepseekV32Config",
        extra=prediction.after_layers,
    ),
    "glm_moe_dsa": ModelType(
        build=_glm_moe_dsa,
        defaults={
            **_V3, **_INDEX, "vocab_size": 154_880, "hidden_size": 6144, "intermediate_size": 12_288,
            "num_hidden_layers": 78, "num_attention_heads": 64, "q_lora_rank": 2048, "v_head_dim": 256,
            "qk_nope_head_dim": 192, "n_group": 1, "topk_group": 1, "max_position_embeddings": 202_752,
            "rms_norm_eps": 1e-5, "index_n_heads": 32,
        },
        aliases={**_ALIASES, "num_experts": "n_routed_experts"},
        origin="transformers 5.23 GlmMoeDsaConfig",
        extra=prediction.after_layers,
    ),
    "glm4_moe_lite": ModelType(
        build=_glm4_moe_lite,
        defaults={
            **_V3, "vocab_size": 154_880, "hidden_size": 2048, "intermediate_size": 10_240,
            "moe_intermediate_size": 1536, "num_hidden_layers": 47, "num_attention_heads": 20, "n_routed_experts": 64,
            "routed_scaling_factor": 1.8, "q_lora_rank": 768, "v_head_dim": 256, "qk_nope_head_dim": 192,
            "n_group": 1, "topk_group": 1, "num_experts_per_tok": 4, "max_position_embeddings": 202_752,
            "rms_norm_eps": 1e-5,
        },
        aliases={**_ALIASES, "head_dim": "qk_rope_head_dim"},
        origin="transformers 5.23 Glm4MoeLiteConfig",
        extra=prediction.after_layers,
    ),
    "axk1": ModelType(
        build=_axk1,
        defaults={
            **_V3, "vocab_size": 163_840, "num_attention_heads": 64, "n_routed_experts": 192,
            "max_position_embeddings": 32_768,
        },
        aliases=_ALIASES,
        origin="transformers 5.23 AXK1Config",
    ),
    "mistral4": ModelType(
        build=_mistral4,
        defaults={
            **_V3, "vocab_size": 131_072, "hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 36,
            "num_attention_heads": 32, "n_routed_experts": 128, "routed_scaling_factor": 1.0, "kv_lora_rank": 256,
            "q_lora_rank": 1024, "qk_nope_head_dim": 64, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 4,
            "first_k_dense_replace": 0, "max_position_embeddings": 1_048_576,
        },
        aliases=_ALIASES,
        origin="transformers 5.23 Mistral4Config",
    ),
    "minicpm3": ModelType(
        build=_minicpm3,
        defaults={
            **_V3, "vocab_size": 73_448, "hidden_size": 2560, "intermediate_size": 6400, "num_hidden_layers": 62,
            "num_attention_heads": 40, "max_position_embeddings": 32_768, "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True, "mlp_bias": False, "kv_lora_rank": 256, "q_lora_rank": 768,
            "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": None, "scale_emb": 12, "scale_depth": 1.4,
            "dim_model_base": 256,
        },
        origin="transformers 5.23 MiniCPM3Config",
    ),
    "youtu": ModelType(
        build=_youtu,
        defaults={
            **_V3, "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 32,
            "num_attention_heads": 16, "max_position_embeddings": 131_072, "tie_word_embeddings": True,
        },
        origin="transformers 5.23 YoutuConfig",
    ),
}  # fmt: skip
