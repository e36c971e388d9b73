"""Qwen2, Qwen2.5 and Qwen3, dense: Llama with biases on queries, keys and values, or with normed queries and keys."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import Model, QKNorm
from txcalc.configs import prediction
from txcalc.configs.common import llama_like
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

QWEN2_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 151_936,
    "hidden_size": 4096,
    "intermediate_size": 22_016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
}


def qwen_layer_types(r: Reader) -> list[str]:
    """The kind of each layer: with ``use_sliding_window``, those from ``max_window_layers`` on have a window.

    Raises:
        ModelError: ``layer_types`` asks for windows that ``use_sliding_window`` or ``sliding_window`` rules out.
    """
    windowed = r.flag("use_sliding_window") and r.optional_integer("sliding_window") is not None
    first = r.integer("max_window_layers", minimum=0)
    listed = r.texts("layer_types") if r.has("layer_types") else []
    if not windowed and "sliding_attention" in listed:
        raise r.error(
            "layer_types",
            "holds sliding_attention, but no window is in use",
            "set use_sliding_window and sliding_window",
        )
    return ["sliding_attention" if windowed and index >= first else "full_attention" for index in range(r.layers())]


def _qwen2(r: Reader, prefix: str = "Qwen2") -> Model:
    r.unused("use_mrope", False)
    r.unused("attention_bias", True)
    return llama_like(r, qkv_bias=True, default_windows=qwen_layer_types(r), head={"prefix": prefix})


def _mimo(r: Reader) -> Model:
    """MiMo-7B (arXiv 2505.07608): Qwen2's layers, published with code of its own, and a block that predicts further."""
    return _qwen2(r, "MiMo")


def qwen3_norm(r: Reader) -> QKNorm:
    """RMSNorm of each query and key head, one weight for all heads."""
    return QKNorm(kind="rmsnorm", scope="head", eps=r.number("rms_norm_eps"))


def _qwen3(r: Reader) -> Model:
    bias = r.flag("attention_bias")
    return llama_like(
        r,
        qkv_bias=bias,
        o_bias=bias,
        qk_norm=qwen3_norm(r),
        default_windows=qwen_layer_types(r),
        head={"prefix": "Qwen3"},
    )


TYPES: Final = {
    "qwen2": ModelType(build=_qwen2, defaults=QWEN2_DEFAULTS, origin="transformers 5.23 Qwen2Config"),
    "mimo": ModelType(  # transformers does not know the name; its own config class extends Qwen2's
        build=_mimo,
        defaults=QWEN2_DEFAULTS,
        origin="transformers 5.23 Qwen2Config",
        extra=prediction.like_the_last,
    ),
    "qwen3": ModelType(
        build=_qwen3,
        defaults={**QWEN2_DEFAULTS, "head_dim": 128, "attention_bias": False},
        origin="transformers 5.23 Qwen3Config",
    ),
}
