"""StableLM: Llama with LayerNorms, a partly rotated head, and in 12B a norm for each query and key head."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import Model, QKNorm
from txcalc.configs import rope
from txcalc.configs.common import dense_decoder, head_dims, layer_norm, parallel, pre_norm, swiglu
from txcalc.configs.dense import plain_head_dim
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType


def _stablelm(r: Reader) -> Model:
    plain_head_dim(r)
    eps = r.number("layer_norm_eps")
    return dense_decoder(
        r,
        norm=layer_norm(r.integer("hidden_size"), eps),
        feed_forward=swiglu(r),
        position=rope.rotary(r, head_dims(r)[3]),
        arrange=parallel if r.flag("use_parallel_residual") else pre_norm,
        head={"prefix": "StableLm", "without": ("question_answering",)},
        qkv_bias=r.flag("use_qkv_bias"),
        qk_norm=QKNorm(kind="layernorm", scope="heads", eps=eps) if r.flag("qk_layernorm") else None,
    )


TYPES: Final = {
    "stablelm": ModelType(
        build=_stablelm,
        defaults={
            "vocab_size": 50_304,
            "intermediate_size": 6912,
            "hidden_size": 2560,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "layer_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "partial_rotary_factor": 0.25,
            "use_qkv_bias": False,
            "qk_layernorm": False,
            "use_parallel_residual": False,
        },
        origin="transformers 5.23 StableLmConfig",
    ),
}
