"""Llama and the types that are Llama with a switch or two: Mistral."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import Model
from txcalc.configs.common import llama_like
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

LLAMA_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
}


def _llama(r: Reader) -> Model:
    r.ignore("is_llama_config", "rope_interleaved")  # marks that converters leave
    bias = r.flag("attention_bias")
    return llama_like(r, qkv_bias=bias, o_bias=bias, mlp_bias=r.flag("mlp_bias"), head={"prefix": "Llama"})


def _mistral(r: Reader) -> Model:
    r.ignore("sliding_window_size", "attention_sink_size")  # settings of one runtime
    kinds = ["sliding_attention" if r.optional_integer("sliding_window") else "full_attention"] * r.layers()
    r.unused("layer_types", kinds, None)  # one window for all layers; alternating ones are ministral
    return llama_like(r, default_windows=kinds, head={"prefix": "Mistral"})


TYPES: Final = {
    "llama": ModelType(build=_llama, defaults=LLAMA_DEFAULTS, origin="transformers 5.23 LlamaConfig"),
    "mistral": ModelType(
        build=_mistral,
        defaults={
            **LLAMA_DEFAULTS,
            "intermediate_size": 14_336,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131_072,
            "sliding_window": 4096,
        },
        origin="transformers 5.23 MistralConfig",
    ),
}
