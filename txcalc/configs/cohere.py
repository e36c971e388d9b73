"""Command-R and Aya 23: parallel branches behind one bias-free LayerNorm, interleaved rotary, scaled logits."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import Model, QKNorm
from txcalc.configs import rope
from txcalc.configs.common import dense_decoder, head_dims, layer_norm, parallel, swiglu
from txcalc.configs.dense import flag_or_null
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType


def _cohere(r: Reader) -> Model:
    r.ignore("model_max_length")  # the tokenizer's
    eps, bias = r.number("layer_norm_eps"), r.flag("attention_bias")
    scale = r.optional_number("logit_scale")
    return dense_decoder(
        r,
        norm=layer_norm(r.integer("hidden_size"), eps, bias=False),
        feed_forward=swiglu(r),
        position=rope.rotary(r, head_dims(r)[3], theta=500_000.0, interleaved=True, whole=True),
        arrange=parallel,
        head={
            "prefix": "Cohere",
            "scale": 1.0 if scale is None else scale,
            "without": ("sequence_classification", "token_classification", "question_answering"),
        },
        qkv_bias=bias,
        o_bias=bias,
        qk_norm=QKNorm(kind="layernorm", scope="heads", eps=eps) if flag_or_null(r, "use_qk_norm") else None,
    )


TYPES: Final = {
    "cohere": ModelType(
        build=_cohere,
        defaults={
            "vocab_size": 256_000,
            "hidden_size": 8192,
            "intermediate_size": 22_528,
            "logit_scale": 0.0625,
            "num_hidden_layers": 40,
            "num_attention_heads": 64,
            "num_key_value_heads": None,
            "hidden_act": "silu",
            "max_position_embeddings": 8192,
            "layer_norm_eps": 1e-5,
            "tie_word_embeddings": True,
            "attention_bias": False,
            "use_qk_norm": False,
        },
        origin="transformers 5.23 CohereConfig",
    ),
}
