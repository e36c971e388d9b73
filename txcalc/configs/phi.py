"""Phi-1 to Phi-2 (parallel branches, biases everywhere) and Phi-3 to Phi-4 (Llama's layer, long-context rotary)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import Model, QKNorm
from txcalc.configs import rope
from txcalc.configs.common import dense_decoder, head_dims, layer_norm, parallel, rms_norm, swiglu
from txcalc.configs.dense import mlp
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

PHI_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 51_200,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "hidden_act": "gelu_new",
    "max_position_embeddings": 2048,
    "layer_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "partial_rotary_factor": 0.5,
    "qk_layernorm": False,
}

PHI3_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32_064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "sliding_window": None,
}


def _phi(r: Reader) -> Model:
    eps = r.number("layer_norm_eps")
    return dense_decoder(
        r,
        norm=layer_norm(r.integer("hidden_size"), eps),
        feed_forward=mlp(r, r.integer("intermediate_size")),
        position=rope.rotary(r, head_dims(r)[3]),
        arrange=parallel,
        head={"bias": True, "prefix": "Phi", "without": ("question_answering",)},
        qkv_bias=True,
        o_bias=True,
        qk_norm=_phi_qk_norm(r, eps),
    )


def _phi_qk_norm(r: Reader, eps: float) -> QKNorm | None:
    if not r.flag("qk_layernorm"):
        return None
    hidden, heads, _, head_dim = head_dims(r)
    if head_dim * heads != hidden:
        r.reasons.append(f"qk_layernorm with head_dim = {head_dim}: transformers norms {hidden // heads} channels")
    return QKNorm(kind="layernorm", scope="head", eps=eps, bias=True)


def _phi3(r: Reader) -> Model:
    for name in ("attention_bias", "mlp_bias", "lm_head_bias"):
        r.unused(name, False)
    r.unused("full_attn_mod", 1)
    r.unused("interpolate_factor", 1)
    return dense_decoder(
        r,
        norm=rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps")),
        feed_forward=swiglu(r),
        position=rope.rotary(r, head_dims(r)[3], settings=phi3_rope(r)),
        layer_windows=[r.optional_integer("sliding_window")] * r.layers(),
        head={"prefix": "Phi3", "without": ("question_answering",)},
    )


def phi3_rope(r: Reader) -> Mapping[str, Any]:
    """Phi-3's one scaling is LongRoPE, in early files under two other names; it has a trained length of its own."""
    settings = rope.parameters(r)
    trained = r.integer("original_max_position_embeddings")
    if (settings.get("rope_type") or settings.get("type")) in ("su", "yarn", "longrope"):
        return {**settings, "rope_type": "longrope", "original_max_position_embeddings": trained}
    return settings


TYPES: Final = {
    "phi": ModelType(build=_phi, defaults=PHI_DEFAULTS, origin="transformers 5.23 PhiConfig"),
    "phi3": ModelType(build=_phi3, defaults=PHI3_DEFAULTS, origin="transformers 5.23 Phi3Config"),
}
