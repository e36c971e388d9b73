"""StarCoder2: grouped heads and rotary with GPT-2's feed-forward, norms and biases, and a window in every layer."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import Model
from txcalc.configs import rope
from txcalc.configs.common import dense_decoder, head_dims, layer_norm
from txcalc.configs.dense import mlp
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType


def _starcoder2(r: Reader) -> Model:
    r.ignore("activation_function", "layer_norm_epsilon")  # doubles of hidden_act and norm_epsilon
    r.ignore("attention_softmax_in_fp32", "scale_attention_softmax_in_fp32")  # arithmetic
    r.unused("scale_attn_weights", True)
    r.unused("norm_type", "layer_norm")
    r.unused("mlp_type", "default")
    bias = r.flag("use_bias")
    return dense_decoder(
        r,
        norm=layer_norm(r.integer("hidden_size"), r.number("norm_epsilon")),
        feed_forward=mlp(r, r.integer("intermediate_size"), bias=bias),
        position=rope.rotary(r, head_dims(r)[3], whole=True),
        layer_windows=[r.optional_integer("sliding_window")] * r.layers(),
        head={"prefix": "Starcoder2", "without": ("question_answering",)},
        qkv_bias=bias,
        o_bias=bias,
    )


TYPES: Final = {
    "starcoder2": ModelType(
        build=_starcoder2,
        defaults={
            "vocab_size": 49_152,
            "hidden_size": 3072,
            "intermediate_size": 12_288,
            "num_hidden_layers": 30,
            "num_attention_heads": 24,
            "num_key_value_heads": 2,
            "hidden_act": "gelu_pytorch_tanh",
            "max_position_embeddings": 4096,
            "norm_epsilon": 1e-5,
            "sliding_window": None,
            "use_bias": True,
            "tie_word_embeddings": True,
        },
        origin="transformers 5.23 Starcoder2Config",
    ),
}
