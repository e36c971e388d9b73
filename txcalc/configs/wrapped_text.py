"""Text parts of Qwen's and GLM's vision models, which have model types of their own.

They are Qwen2, Qwen3 and GLM with defaults of their own; positions are turned by time, row and column, which for text
are one and the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from txcalc.architecture import Model, QKNorm, Router
from txcalc.configs import moe, rope
from txcalc.configs.common import head_dims, llama_like, sandwich, self_attention, swiglu
from txcalc.configs.dense import flag_or_null, plain_head_dim
from txcalc.configs.heads import task_of
from txcalc.configs.llama_kin import both_biases
from txcalc.configs.qwen import QWEN2_DEFAULTS, qwen3_norm, qwen_layer_types
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.sigmoid_moe import TYPES as SIGMOID_MOE


def _qwen2_vl(r: Reader) -> Model:
    plain_head_dim(r)
    return _qwen2_5_omni(r)


def _qwen2_5_omni(r: Reader) -> Model:
    r.unused("attention_bias", True)
    return llama_like(r, qkv_bias=True, default_windows=qwen_layer_types(r), theta=1e6)


def _qwen3_vl(r: Reader) -> Model:
    r.unused("use_sliding_window", False)
    r.ignore("sliding_window", "max_window_layers")
    return llama_like(r, **both_biases(r), qk_norm=qwen3_norm(r), theta=5e5)


def _qwen3_omni_moe(r: Reader) -> Model:
    return _qwen3_vl_moe(r, 1e6)


def _qwen3_vl_moe(r: Reader, theta: float = 5e5) -> Model:
    r.unused("use_sliding_window", False)
    r.unused("norm_topk_prob", True)
    r.ignore("sliding_window", "max_window_layers", "shared_expert_intermediate_size")
    r.rounds_heads = True
    norm = QKNorm(kind="rmsnorm", scope="head", eps=r.number("rms_norm_eps"))
    position = rope.rotary(r, head_dims(r)[3], theta=theta, whole=True)
    attention = self_attention(r, position=position, qk_norm=norm, **both_biases(r))
    return moe.sparse_decoder(
        r,
        sparse=_sparse(r),
        mixture=lambda: moe.mixture(r, size="moe_intermediate_size", router=_ROUTER),
        dense=lambda: swiglu(r),
        attention=lambda _: attention,
    )


_ROUTER: Final = Router(scoring="softmax", norm_topk_prob=True)


def _sparse(r: Reader) -> list[bool]:
    """Every ``decoder_sparse_step``-th layer has experts, but for those that are named as plain."""
    r.ignore("intermediate_size", "moe_intermediate_size", "num_experts_per_tok", "num_experts")
    step, plain = r.integer("decoder_sparse_step"), set(r.integers("mlp_only_layers"))
    return [i not in plain and not (i + 1) % step for i in range(r.layers())]


def _glm4v(r: Reader) -> Model:
    """A norm after each sublayer too; the first half of each head is turned, in pairs, where the config says so."""
    plain_head_dim(r)
    r.unused("attention_bias", True)
    return llama_like(r, qkv_bias=True, arrange=sandwich, rotary={"interleaved": True, "whole": False})


def _glm_ocr(r: Reader) -> Model:
    """Heads of a width of their own, without a bias."""
    r.unused("attention_bias", False)
    return llama_like(r, arrange=sandwich, rotary={"interleaved": True, "whole": False})


def _paddleocr(r: Reader) -> Model:
    """ERNIE 4.5."""
    bias = flag_or_null(r, "use_bias")
    return llama_like(r, qkv_bias=bias, o_bias=bias, mlp_bias=bias, theta=5e5)


def _glm4v_moe(r: Reader) -> Model:
    r.unused("use_qk_norm", False)
    if r.config.get("use_qk_norm"):
        r.config = {key: value for key, value in r.config.items() if key != "use_qk_norm"}
    return SIGMOID_MOE["glm4_moe"].build(r)


def _alone(prefix: str, build: Callable[[Reader], Model]) -> Callable[[Reader], Model]:
    """The type by itself, whose one class has no head."""

    def read(r: Reader) -> Model:
        names = r.config.get("architectures")
        if names and task_of(r, "base", prefix=prefix) != "base":
            r.reasons.append(f"{prefix}Model is the only class of the type: no head is counted")
        r.config = {key: value for key, value in r.config.items() if key != "architectures"}
        r.ignore("tie_word_embeddings")
        model = build(r).replace(head=None)
        r.notes[:] = [note for note in r.notes if not note.startswith("no architectures")]
        return model

    return read


def _type(prefix: str, build: Callable[[Reader], Model], defaults: dict[str, Any], **fields: Any) -> ModelType:
    origin = f"transformers 5.23 {prefix}Config"
    return ModelType(build=_alone(prefix, build), defaults=defaults, origin=origin, **fields)


_QWEN2: Final = {
    **QWEN2_DEFAULTS, "vocab_size": 152_064, "hidden_size": 8192, "intermediate_size": 29_568,
    "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
    "max_window_layers": 80,
}  # fmt: skip
_QWEN3: Final = {
    "vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 22_016, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128, "hidden_act": "silu",
    "max_position_embeddings": 128_000, "rms_norm_eps": 1e-6, "attention_bias": False, "tie_word_embeddings": False,
}  # fmt: skip
_QWEN3_MOE: Final = {
    **_QWEN3, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24, "num_attention_heads": 16,
    "num_key_value_heads": 16, "head_dim": None, "decoder_sparse_step": 1, "moe_intermediate_size": 1408,
    "num_experts_per_tok": 4, "num_experts": 60, "mlp_only_layers": None, "tie_word_embeddings": True,
}  # fmt: skip
_OMNI_MOE: Final = {
    **_QWEN3_MOE, "vocab_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "max_position_embeddings": 32_768, "moe_intermediate_size": 768,
    "num_experts_per_tok": 8, "num_experts": 128, "tie_word_embeddings": False,
}  # fmt: skip
_GLM4V: Final = {
    "vocab_size": 151_552, "hidden_size": 4096, "intermediate_size": 13_696, "num_hidden_layers": 40,
    "num_attention_heads": 32, "num_key_value_heads": 2, "hidden_act": "silu", "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
}  # fmt: skip
_OMNI: Final = {
    **_QWEN2, "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "rms_norm_eps": 1e-6, "sliding_window": 32_768, "max_window_layers": 28,
    "tie_word_embeddings": True, "head_dim": None,
}  # fmt: skip
_GLM_OCR: Final = {
    **_GLM4V, "vocab_size": 59_392, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 16,
    "num_attention_heads": 16, "num_key_value_heads": 8, "max_position_embeddings": 131_072, "head_dim": None,
}  # fmt: skip
_PADDLE: Final = {
    "vocab_size": 103_424, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 18,
    "num_attention_heads": 16, "num_key_value_heads": 2, "hidden_act": "silu", "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "use_bias": False, "head_dim": 128,
}  # fmt: skip
_GLM4V_MOE: Final = {
    **SIGMOID_MOE["glm4_moe"].defaults, "vocab_size": 151_424, "max_position_embeddings": 65_536,
    "attention_bias": True,
}  # fmt: skip

TYPES: Final = {
    "qwen2_vl_text": _type("Qwen2VLText", _qwen2_vl, _QWEN2),
    "qwen2_5_vl_text": _type("Qwen2_5_VLText", _qwen2_vl, _QWEN2),
    "qwen2_5_omni_text": _type("Qwen2_5OmniThinkerText", _qwen2_5_omni, _OMNI),
    "qwen3_omni_moe_text": _type("Qwen3OmniMoeThinkerText", _qwen3_omni_moe, _OMNI_MOE),
    "glm_ocr_text": _type("GlmOcrText", _glm_ocr, _GLM_OCR),
    "paddleocr_vl_text": _type("PaddleOCRText", _paddleocr, _PADDLE),
    "qwen3_vl_text": _type("Qwen3VLText", _qwen3_vl, _QWEN3),
    "qwen3_vl_moe_text": _type(
        "Qwen3VLMoeText", _qwen3_vl_moe, _QWEN3_MOE, aliases={"num_local_experts": "num_experts"}
    ),
    "glm4v_text": _type("Glm4vText", _glm4v, _GLM4V),
    "glm4v_moe_text": _type("Glm4vMoeText", _glm4v_moe, _GLM4V_MOE, aliases=SIGMOID_MOE["glm4_moe"].aliases),
}
