"""Dense decoders with one thing of their own: GLM 4, Nemotron, Jais 2, Persimmon, nanochat, DiffLlama."""

from __future__ import annotations

from math import exp
from typing import Any, Final

from txcalc.architecture import Differential, Layer, Model, Norm, QKNorm, TokenEmbedding
from txcalc.configs import rope
from txcalc.configs.common import (
    decoder_of,
    dense_decoder,
    head_dims,
    layer_norm,
    llama_like,
    pre_norm,
    rms_norm,
    sandwich,
    self_attention,
    swiglu,
)
from txcalc.configs.dense import mlp, plain_heads
from txcalc.configs.heads import published
from txcalc.configs.llama import LLAMA_DEFAULTS
from txcalc.configs.llama_kin import both_biases
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

# ---- GLM 4 ----------------------------------------------------------------------------------------------------------


def _glm(r: Reader, prefix: str = "Glm", **arrange: Any) -> Model:
    """Half of each head is turned, in pairs; biases on queries, keys and values."""
    r.unused("mlp_bias", False)
    return llama_like(
        r,
        rotary={"interleaved": True, "whole": False},
        qkv_bias=r.flag("attention_bias"),
        head=published(prefix, "sequence token"),
        **arrange,
    )


def _glm4(r: Reader) -> Model:
    """A norm after each sublayer too."""
    return _glm(r, "Glm4", arrange=sandwich)


# ---- LayerNorm and an ungated feed-forward --------------------------------------------------------------------------


def _nemotron(r: Reader) -> Model:
    """LayerNorm scaled by 1 + weight, squared ReLU, half of each head turned (arXiv 2402.16819)."""
    r.unused("kv_channels", None, head_dims(r)[3])
    norm = Norm(kind="layernorm", width=r.integer("hidden_size"), eps=r.number("norm_eps"), bias=True, unit_offset=True)
    plain = mlp(r, r.integer("intermediate_size"), bias=r.flag("mlp_bias"))
    return llama_like(
        r, norm=norm, feed_forward=plain, rotary={"whole": False}, **both_biases(r), head=published("Nemotron")
    )


def _jais2(r: Reader) -> Model:
    norm = layer_norm(r.integer("hidden_size"), r.number("layer_norm_eps"))
    plain = mlp(r, r.integer("intermediate_size"), bias=r.flag("mlp_bias"))
    return llama_like(r, norm=norm, feed_forward=plain, **both_biases(r), head=published("Jais2", ""))


def _persimmon(r: Reader) -> Model:
    """Biases everywhere, heads normed with a bias, half of each turned."""
    plain_heads(r)
    hidden, eps = r.integer("hidden_size"), r.number("layer_norm_eps")
    return dense_decoder(
        r,
        norm=layer_norm(hidden, eps),
        feed_forward=mlp(r, r.integer("intermediate_size")),
        position=rope.rotary(r, head_dims(r)[3]),
        head=published("Persimmon", "sequence token"),
        qkv_bias=True,
        o_bias=True,
        qk_norm=QKNorm(kind="layernorm", scope="head", eps=eps, bias=True) if r.flag("qk_layernorm") else None,
    )


# ---- nanochat -------------------------------------------------------------------------------------------------------


def _nanochat(r: Reader) -> Model:
    """Norms without weights, the first on the embedding; heads normed after they are turned, the other way."""
    hidden, eps = r.integer("hidden_size"), r.number("rms_norm_eps")
    norm = Norm(kind="rmsnorm", width=hidden, eps=eps, weight=False)
    softcap = r.optional_number("final_logit_softcapping")
    return dense_decoder(
        r,
        norm=norm,
        feed_forward=mlp(r, r.integer("intermediate_size"), bias=False),
        position=rope.rotary(r, head_dims(r)[3], whole=True).replace(reversed=True),
        embedding=TokenEmbedding(vocab_size=r.integer("vocab_size"), embedding_size=hidden, norm=norm),
        head={**published("NanoChat", ""), "softcap": softcap},
        qk_norm=QKNorm(kind="rmsnorm", scope="head", eps=eps, weight=False, after_rotary=True),
        **both_biases(r),
    )


# ---- DiffLlama ------------------------------------------------------------------------------------------------------


def _diffllama(r: Reader) -> Model:
    """Differential attention; lambda starts nearer to 0.8 the deeper the layer (arXiv 2410.05258, section 2.1)."""
    r.ignore("lambda_std_dev", "mlp_bias")
    eps, kv_heads = r.number("rms_norm_eps"), head_dims(r)[2]
    if kv_heads % 2:
        raise r.error("num_key_value_heads", f"is {kv_heads}; differential attention takes pairs of heads")
    norm, feed_forward = rms_norm(r.integer("hidden_size"), eps), swiglu(r)
    position = rope.rotary(r, head_dims(r)[3], whole=True)
    attention = self_attention(r, position=position, **both_biases(r))

    def layer(index: int) -> Layer:
        difference = Differential(lambda_init=0.8 - 0.6 * exp(-0.3 * index), norm_eps=eps)
        return pre_norm(attention.replace(differential=difference), feed_forward, norm=norm)

    layers = [(layer(index), 1) for index in range(r.layers())]
    return decoder_of(r, layers, final_norm=norm, head=published("DiffLlama"))


_GLM: Final[dict[str, Any]] = {
    **LLAMA_DEFAULTS,
    "vocab_size": 151_552,
    "intermediate_size": 13_696,
    "num_hidden_layers": 40,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1.5625e-7,
    "attention_bias": True,
    "partial_rotary_factor": 0.5,
}

TYPES: Final = {
    "glm": ModelType(build=_glm, defaults=_GLM, origin="transformers 5.23 GlmConfig"),
    "glm4": ModelType(build=_glm4, defaults=_GLM, origin="transformers 5.23 Glm4Config"),
    "nemotron": ModelType(
        build=_nemotron,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 256_000, "hidden_size": 6144, "intermediate_size": 24_576,
            "num_attention_heads": 48, "hidden_act": "relu2", "max_position_embeddings": 4096, "norm_eps": 1e-5,
            "partial_rotary_factor": 0.5,
        },
        origin="transformers 5.23 NemotronConfig",
    ),
    "jais2": ModelType(
        build=_jais2,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 150_272, "hidden_size": 3328, "intermediate_size": 26_624,
            "num_attention_heads": 26, "hidden_act": "relu2", "max_position_embeddings": 8192, "layer_norm_eps": 1e-5,
            "attention_bias": True, "mlp_bias": True,
        },
        origin="transformers 5.23 Jais2Config",
    ),
    "persimmon": ModelType(
        build=_persimmon,
        defaults={
            "vocab_size": 262_144, "hidden_size": 4096, "intermediate_size": 16_384, "num_hidden_layers": 36,
            "num_attention_heads": 64, "hidden_act": "relu2", "max_position_embeddings": 16_384,
            "layer_norm_eps": 1e-5, "tie_word_embeddings": False, "qk_layernorm": True, "partial_rotary_factor": 0.5,
        },
        origin="transformers 5.23 PersimmonConfig",
    ),
    "nanochat": ModelType(
        build=_nanochat,
        defaults={
            **LLAMA_DEFAULTS, "vocab_size": 50_304, "hidden_size": 768, "intermediate_size": 8192,
            "num_hidden_layers": 12, "num_attention_heads": 6, "hidden_act": "relu2", "final_logit_softcapping": 15.0,
        },
        origin="transformers 5.23 NanoChatConfig",
    ),
    "diffllama": ModelType(
        build=_diffllama,
        defaults={
            **LLAMA_DEFAULTS, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
            "rms_norm_eps": 1e-5,
        },
        origin="transformers 5.23 DiffLlamaConfig",
    ),
}  # fmt: skip
