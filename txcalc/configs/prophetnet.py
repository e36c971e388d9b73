"""ProphetNet: a decoder that predicts several tokens ahead (Qi et al. 2020, arXiv 2001.04063, section 3)."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    FutureStreams,
    Head,
    LearnedPositions,
    Model,
    Role,
    Stack,
    Sublayer,
    TokenEmbedding,
    UnusedTensor,
    runs_of,
)
from txcalc.configs.bart import cross_attention_of
from txcalc.configs.bert import first_position, idle_cross_attention
from txcalc.configs.common import activation, dtype_of, layer_norm, post_norm, quantization_of
from txcalc.configs.encoders import biased_attention, head_width, known_task, plain_feed_forward
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 30_522,
    "hidden_size": 1024,
    "encoder_ffn_dim": 4096,
    "num_encoder_layers": 12,
    "num_encoder_attention_heads": 16,
    "decoder_ffn_dim": 4096,
    "num_decoder_layers": 12,
    "num_decoder_attention_heads": 16,
    "activation_function": "gelu",
    "max_position_embeddings": 512,
    "add_cross_attention": True,
    "ngram": 2,
    "num_buckets": 32,
    "relative_max_distance": 128,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
}
_EPS: Final = 1e-5  # torch's default; no field of the config


def _prophetnet(r: Reader) -> Model:
    r.ignore("disable_ngram_loss", "eps", "num_encoder_layers", "num_encoder_attention_heads", "encoder_ffn_dim")
    task = known_task(r, "seq2seq_lm base causal_lm", prefix="ProphetNet", default="seq2seq_lm")
    alone, crossed = task == "causal_lm", r.flag("add_cross_attention")
    tied, hidden = r.flag("tie_word_embeddings"), r.integer("hidden_size")
    if not crossed and not alone:
        r.reasons.append("add_cross_attention = false: a decoder that does not read its encoder")
    stacks = [] if alone else [_stack(r, "encoder", crossed=False)]
    stacks.append(_stack(r, "decoder", crossed=crossed and not alone, shared=tied and not alone))
    vocab = r.integer("vocab_size")
    table = UnusedTensor(name="shared token table", shape=(vocab, hidden))
    idle = idle_cross_attention(r, hidden, r.layers("num_decoder_layers")) if alone and crossed else ()
    source: Role = "decoder" if alone else "encoder"
    return Model(
        name="",
        model_type=r.model_type,
        stacks=tuple(stacks),
        head=None
        if task == "base"
        else Head(kind="lm", input_size=hidden, output_size=vocab, tied=tied, tied_to=source),
        unused=idle if tied else (*idle, table),
        dtype=dtype_of(r),
        quantization=quantization_of(r),
        max_position_embeddings=r.integer("max_position_embeddings"),
    )


def _stack(r: Reader, role: Role, *, crossed: bool, shared: bool = False) -> Stack:
    hidden, heads = r.integer("hidden_size"), r.integer(f"num_{role}_attention_heads")
    norm, offset = layer_norm(hidden, _EPS), first_position(r)
    attention = biased_attention(hidden, heads, head_width(r, hidden, heads), causal=role == "decoder")
    streams = _streams(r) if role == "decoder" else None
    sublayers: list[Sublayer] = [attention.replace(future_streams=streams)]
    sublayers += [cross_attention_of(attention)] if crossed else []
    sublayers.append(plain_feed_forward(hidden, r.integer(f"{role}_ffn_dim"), activation(r, "activation_function")))
    distinct, runs = runs_of([(post_norm(*sublayers, norm=norm), r.layers(f"num_{role}_layers"))])
    rows = r.integer("max_position_embeddings")
    return Stack(
        role=role,
        hidden_size=hidden,
        embedding=TokenEmbedding(
            vocab_size=r.integer("vocab_size"),
            embedding_size=hidden,
            positions=LearnedPositions(rows=rows, width=hidden, offset=offset),
            extra_tokens=streams.streams if streams else 0,
            norm=norm,
            shared_with="encoder" if shared else None,
        ),
        layers=distinct,
        runs=runs,
    )


def _streams(r: Reader) -> FutureStreams:
    return FutureStreams(
        streams=r.integer("ngram"),
        num_buckets=r.integer("num_buckets"),
        max_distance=r.integer("relative_max_distance"),
    )


TYPES: Final = {
    "prophetnet": ModelType(
        build=_prophetnet,
        defaults=DEFAULTS,
        aliases={
            "num_attention_heads": "num_encoder_attention_heads",
            "num_hidden_layers": "num_encoder_layers",
        },
        origin="transformers 5.23 ProphetNetConfig",
    )
}
