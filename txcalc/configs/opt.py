"""OPT: learned positions from row 2 on; OPT-350m norms after each sublayer and embeds in a narrower space."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import LearnedPositions, Model, Norm, Projection, TokenEmbedding
from txcalc.configs.common import decoder_model, decoder_stack, foreign_spelling, post_norm, pre_norm, self_attention
from txcalc.configs.dense import mlp, plain_heads
from txcalc.configs.heads import causal_head
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

POSITION_OFFSET: Final = 2

OPT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 50_272,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 2048,
    "do_layer_norm_before": True,
    "_remove_final_layer_norm": False,
    "word_embed_proj_dim": None,
    "num_attention_heads": 12,
    "activation_function": "relu",
    "enable_bias": True,
    "layer_norm_elementwise_affine": True,
    "tie_word_embeddings": True,
}


def _opt(r: Reader) -> Model:
    plain_heads(r)
    foreign_spelling(r, "intermediate_size")
    r.unused("learned_embeddings", True)
    r.unused("scale_embeddings", False)
    hidden, bias = r.integer("hidden_size"), r.flag("enable_bias")
    width = r.optional_integer("word_embed_proj_dim") or hidden
    affine = r.flag("layer_norm_elementwise_affine")
    norm = Norm(kind="layernorm", width=hidden, eps=1e-5, weight=affine, bias=affine)
    before, no_final = r.flag("do_layer_norm_before"), r.flag("_remove_final_layer_norm")
    attention = self_attention(r, position=None, qkv_bias=bias, o_bias=bias)
    feed_forward = mlp(r, r.integer("intermediate_size"), act="activation_function", bias=bias)
    layer = (pre_norm if before else post_norm)(attention, feed_forward, norm=norm)
    stack = decoder_stack(
        r,
        [(layer, r.layers())],
        final_norm=norm if before and not no_final else None,
        embedding=_embedding(r, hidden, width),
        out_projection=_projection(hidden, width),
    )
    vocab = r.integer("vocab_size")
    head = causal_head(r, input_size=width, vocab_size=vocab, prefix="OPT", without=("token_classification",))
    return decoder_model(r, stack, head)


def _embedding(r: Reader, hidden: int, width: int) -> TokenEmbedding:
    rows = r.integer("max_position_embeddings") + POSITION_OFFSET
    return TokenEmbedding(
        vocab_size=r.integer("vocab_size"),
        embedding_size=width,
        positions=LearnedPositions(rows=rows, width=hidden, offset=POSITION_OFFSET),
        projection=_projection(width, hidden),
    )


def _projection(size_in: int, size_out: int) -> Projection | None:
    return Projection(in_size=size_in, out_size=size_out) if size_in != size_out else None


TYPES: Final = {
    "opt": ModelType(
        build=_opt,
        defaults=OPT_DEFAULTS,
        aliases={"intermediate_size": "ffn_dim"},
        origin="transformers 5.23 OPTConfig",
    ),
}
