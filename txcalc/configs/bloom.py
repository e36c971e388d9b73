"""BLOOM: ALiBi, a norm on the embeddings, biases everywhere."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import Alibi, Branch, FeedForward, Layer, Model, Norm, Residual, Sublayer, TokenEmbedding
from txcalc.configs.common import dense_decoder, layer_norm, pre_norm
from txcalc.configs.dense import plain_heads
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType


def _normed_stream(*sublayers: Sublayer, norm: Norm) -> Layer:
    """``apply_residual_connection_post_layernorm``: the stream itself is normed before each sublayer reads it."""
    attention, feed_forward = sublayers
    return Layer(
        steps=(
            Residual(branches=(), norm_after=norm),
            Residual(branches=(Branch(sublayer=attention),), norm_after=norm),
            Residual(branches=(Branch(sublayer=feed_forward),)),
        )
    )


def _bloom(r: Reader) -> Model:
    plain_heads(r)
    r.ignore(
        "attention_softmax_in_fp32", "masked_softmax_fusion", "bias_dropout_fusion", "slow_but_exact"
    )  # arithmetic
    r.ignore("offset_alibi", "skip_bias_add", "skip_bias_add_qkv", "unk_token_id")  # of the training code
    hidden = r.integer("hidden_size")
    r.unused("n_inner", None, 4 * hidden)
    norm = layer_norm(hidden, r.number("layer_norm_epsilon"))
    return dense_decoder(
        r,
        norm=norm,
        feed_forward=FeedForward(
            hidden_size=hidden,
            intermediate_size=4 * hidden,
            activation="gelu_tanh",
            gated=False,
            up_bias=True,
            down_bias=True,
        ),
        position=Alibi(),
        arrange=_normed_stream if r.flag("apply_residual_connection_post_layernorm") else pre_norm,
        embedding=TokenEmbedding(vocab_size=r.integer("vocab_size"), embedding_size=hidden, norm=norm),
        head={"prefix": "Bloom"},
        qkv_bias=True,
        o_bias=True,
    )


TYPES: Final = {
    "bloom": ModelType(
        build=_bloom,
        defaults={
            "vocab_size": 250_880,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 8,
            "layer_norm_epsilon": 1e-5,
            "apply_residual_connection_post_layernorm": False,
            "tie_word_embeddings": True,
        },
        aliases={
            "hidden_size": "n_embed",
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
            "max_position_embeddings": "seq_length",
        },
        origin="transformers 5.23 BloomConfig",
    ),
}
