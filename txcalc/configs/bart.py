"""BART: an encoder and a decoder, post-norm LayerNorm, biases everywhere, learned positions that start at row 2.

Source: Lewis et al. 2020 (arXiv 1910.13461), section 2.1.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    CrossAttention,
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
from txcalc.configs.bert import idle_cross_attention
from txcalc.configs.common import activation, dtype_of, layer_norm, post_norm, quantization_of
from txcalc.configs.encoders import (
    biased_attention,
    dense_classifier,
    head_width,
    known_task,
    plain_feed_forward,
)
from txcalc.configs.heads import Task, classifier, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 50_265,
    "d_model": 1024,
    "encoder_layers": 12,
    "encoder_ffn_dim": 4096,
    "encoder_attention_heads": 16,
    "decoder_layers": 12,
    "decoder_ffn_dim": 4096,
    "decoder_attention_heads": 16,
    "max_position_embeddings": 1024,
    "activation_function": "gelu",
    "scale_embedding": False,
    "tie_word_embeddings": True,
}
_ALIASES: Final = {
    "hidden_size": "d_model",
    "num_hidden_layers": "encoder_layers",
    "num_attention_heads": "encoder_attention_heads",
}

_TASKS: Final = "seq2seq_lm causal_lm base sequence_classification question_answering"
_OFFSET: Final = 2  # fairseq's padding id plus one, which the position tables still leave room for
_EPS: Final = 1e-5  # torch's default; no field of the config


def _bart(r: Reader) -> Model:
    _first_release_keys(r)
    task = known_task(r, _TASKS, prefix="Bart", default="seq2seq_lm")
    hidden, tied = r.integer("hidden_size"), r.flag("tie_word_embeddings")
    alone = task == "causal_lm"
    shared: Role | None = "encoder" if tied and not alone else None
    stacks = [] if alone else [_stack(r, "encoder", hidden)]
    r.ignore("num_hidden_layers", "num_attention_heads", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")
    stacks.append(_stack(r, "decoder", hidden, shared_with=shared, alone=alone))
    return Model(
        name="",
        model_type=r.model_type,
        stacks=tuple(stacks),
        head=_head(r, task, hidden),
        unused=_unused(r, hidden, alone=alone, tied=tied),
        dtype=dtype_of(r),
        quantization=quantization_of(r),
        max_position_embeddings=r.integer("max_position_embeddings"),
    )


def _first_release_keys(r: Reader) -> None:
    """Switches of the first release, when one class served mBART too; BART's own values of them are still built."""
    r.ignore("classif_dropout", "force_bos_token_to_be_generated", "save_step", "extra_pos_embeddings")
    r.unused("normalize_before", False)
    r.unused("add_final_layer_norm", False)
    r.unused("normalize_embedding", True)
    r.unused("static_position_embeddings", False)
    r.unused("add_bias_logits", False)


def _stack(r: Reader, role: Role, hidden: int, *, shared_with: Role | None = None, alone: bool = False) -> Stack:
    """One stack; ``alone``: a decoder without an encoder, which runs no cross-attention."""
    heads, depth = _heads(r, role), _depth(r, role)
    head_dim, norm = head_width(r, hidden, heads), layer_norm(hidden, _EPS)
    sublayers: list[Sublayer] = [biased_attention(hidden, heads, head_dim, causal=role == "decoder")]
    if role == "decoder" and not alone:
        sublayers.append(biased_cross_attention(hidden, heads, head_dim))
    act = activation(r, "activation_function")
    sublayers.append(plain_feed_forward(hidden, r.integer(f"{role}_ffn_dim"), act))
    distinct, runs = runs_of([(post_norm(*sublayers, norm=norm), depth)])
    return Stack(
        role=role,
        hidden_size=hidden,
        embedding=_embedding(r, hidden, shared_with),
        layers=distinct,
        runs=runs,
    )


def _heads(r: Reader, role: Role) -> int:
    """The standard name stands for the encoder's heads and depth, as in every config that carries it."""
    return r.integer("num_attention_heads" if role == "encoder" else "decoder_attention_heads")


def _depth(r: Reader, role: Role) -> int:
    return r.layers("num_hidden_layers" if role == "encoder" else "decoder_layers")


def biased_cross_attention(hidden: int, heads: int, head_dim: int) -> CrossAttention:
    """Cross-attention over an equally wide encoder, with a bias on every projection."""
    return CrossAttention(
        hidden_size=hidden,
        source_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=head_dim,
        v_head_dim=head_dim,
        q_bias=True,
        k_bias=True,
        v_bias=True,
        o_bias=True,
    )


def _embedding(r: Reader, hidden: int, shared_with: Role | None) -> TokenEmbedding:
    scaled = r.raw("scale_embedding") is not None and r.flag("scale_embedding")
    rows = r.integer("max_position_embeddings") + _OFFSET
    return TokenEmbedding(
        vocab_size=r.integer("vocab_size"),
        embedding_size=hidden,
        scale=hidden**0.5 if scaled else 1.0,
        positions=LearnedPositions(rows=rows, width=hidden, offset=_OFFSET),
        norm=layer_norm(hidden, _EPS),
        shared_with=shared_with,
    )


def _head(r: Reader, task: Task, hidden: int) -> Head | None:
    """The language model's bias, ``final_logits_bias``, is a buffer of zeros and no parameter."""
    match task:
        case "base":
            return None
        case "sequence_classification":  # reads the decoder's state at the last end-of-sequence token
            return dense_classifier(hidden, num_labels(r, 3), "tanh", role="decoder")
        case "question_answering":
            return classifier(hidden, 2, role="decoder", bias=True)
    return Head(
        kind="lm",
        input_size=hidden,
        output_size=r.integer("vocab_size"),
        tied=r.flag("tie_word_embeddings"),
        tied_to="decoder" if task == "causal_lm" else "encoder",
    )


def _unused(r: Reader, hidden: int, *, alone: bool, tied: bool) -> tuple[UnusedTensor, ...]:
    """What transformers builds and does not read: a lone decoder's cross-attention, an untied model's shared table."""
    if alone:
        return idle_cross_attention(r, hidden, _depth(r, "decoder"))
    if tied:
        return ()
    r.notes.append(
        "tie_word_embeddings = false: encoder and decoder each have a token table, and a third is built that nothing "
        "reads, as in transformers 5; before, the three were one"
    )
    return (UnusedTensor(name="shared token table", shape=(r.integer("vocab_size"), hidden)),)


TYPES: Final = {
    "bart": ModelType(build=_bart, defaults=_DEFAULTS, aliases=_ALIASES, origin="transformers 5.23 BartConfig")
}
