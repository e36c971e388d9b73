"""T5Gemma 2: Gemma 3's layers as an encoder and a decoder whose attention sees both at once (arXiv 2512.14856).

A decoder layer has one set of projections: the encoder's output passes its key and value matrices too, and one softmax
runs over both. The encoder may read images through a SigLIP tower.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    CountedPart,
    Head,
    Model,
    QKNorm,
    Role,
    SelfAttention,
    Stack,
    TokenEmbedding,
    runs_of,
)
from txcalc.configs import moe
from txcalc.configs.common import (
    activation,
    dtype_of,
    each_once,
    head_dims,
    layer_kinds,
    quantization_of,
    rms_norm,
    sandwich,
    self_attention,
)
from txcalc.configs.encoders import known_task
from txcalc.configs.gemma import KINDS, gemma3_rotary, siglip_tower
from txcalc.configs.heads import Task, classifier, last_of_all, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

TEXT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
    "final_logit_softcapping": None,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
}
_MARKS: Final = ("eoi_token_index", "image_token_index", "boi_token_index", "eoi_token_id", "image_token_id",
                 "boi_token_id")  # fmt: skip
_SIDE: Final = ("tie_word_embeddings", "cache_implementation", "hidden_act", "attn_logit_softcapping", "layer_types",
                "rope_parameters", "rope_scaling", "final_logit_softcapping", "max_position_embeddings",
                "use_bidirectional_attention", *_MARKS)  # fmt: skip


def _t5gemma2(r: Reader) -> Model:
    r.ignore(*_MARKS, "vocab_size", "classifier_dropout_rate")
    tasks = "seq2seq_lm base sequence_classification token_classification"
    task = known_task(r, tasks, prefix="T5Gemma2", default="seq2seq_lm")
    outer = r.nested("encoder", defaults={"mm_tokens_per_image": 256})
    outer.ignore(*_MARKS, "tie_word_embeddings", "dropout_rate", "attention_dropout")
    encoder_text, decoder_text = _side(outer, "text_config"), _side(r, "decoder")
    tied = r.flag("tie_word_embeddings")
    encoder = _stack(encoder_text, "encoder", shared_with=None)
    decoder = _stack(decoder_text, "decoder", shared_with="encoder" if tied else None)
    _same(r, encoder_text, decoder_text)
    tower, connector = siglip_tower(outer, encoder.hidden_size)
    marks = CountedPart(name="end_of_image", tensors=(("vector", (encoder.hidden_size,), 1 if tied else 2),))
    return Model(
        name="",
        model_type=r.model_type,
        stacks=(encoder, decoder, tower),
        head=_head(r, task, decoder, decoder_text, tied=tied),
        connectors=(connector,),
        counted=(marks,),
        dtype=dtype_of(r) or dtype_of(decoder_text),
        quantization=quantization_of(r),
        max_position_embeddings=decoder_text.integer("max_position_embeddings"),
    )


def _side(r: Reader, name: str) -> Reader:
    side = r.nested(name, defaults=TEXT_DEFAULTS)
    side.origin = "transformers 5.23 T5Gemma2TextConfig"
    side.ignore(*_SIDE, *TEXT_DEFAULTS)
    return side


def _same(r: Reader, encoder: Reader, decoder: Reader) -> None:
    """Both sides share one table, so that their widths and vocabularies are the same.

    Raises:
        ModelError: they are not.
    """
    for name in ("hidden_size", "vocab_size"):
        if encoder.integer(name) != decoder.integer(name):
            what = f"is {encoder.integer(name)} in the encoder and {decoder.integer(name)} in the decoder"
            raise r.error(name, f"{what}; this type has one for both")


def _stack(r: Reader, role: Role, *, shared_with: Role | None) -> Stack:
    hidden, num_layers = r.integer("hidden_size"), r.layers()
    norm = rms_norm(hidden, r.number("rms_norm_eps"), unit_offset=True)
    inner = moe.gated(hidden, r.integer("intermediate_size"), activation(r, "hidden_activation"))
    pattern = r.integer("sliding_window_pattern")
    kinds = layer_kinds(r, num_layers, lambda: [KINDS[(i + 1) % pattern != 0] for i in range(num_layers)], known=KINDS)
    made = {kind: _attention(r, kind, role) for kind in dict.fromkeys(kinds)}
    layers, runs = runs_of(each_once(kinds, lambda kind: sandwich(made[kind], inner, norm=norm)))
    table = TokenEmbedding(
        vocab_size=r.integer("vocab_size"), embedding_size=hidden, scale=hidden**0.5, shared_with=shared_with
    )
    return Stack(role=role, hidden_size=hidden, embedding=table, layers=layers, runs=runs, final_norm=norm)


def _attention(r: Reader, kind: str, role: Role) -> SelfAttention:
    bias, window = r.flag("attention_bias"), r.optional_integer("sliding_window")
    return self_attention(
        r,
        position=gemma3_rotary(r, kind, head_dims(r)[3]),
        qkv_bias=bias,
        o_bias=bias,
        qk_norm=QKNorm(kind="rmsnorm", scope="head", eps=r.number("rms_norm_eps"), unit_offset=True),
        causal=role == "decoder",
        window=window if kind == "sliding_attention" else None,
        scale=r.integer("query_pre_attn_scalar") ** -0.5,
        joins_source=role == "decoder",
    )


def _head(r: Reader, task: Task, decoder: Stack, side: Reader, *, tied: bool) -> Head | None:
    hidden = decoder.hidden_size
    if task == "base":
        return None
    if task in ("sequence_classification", "token_classification"):
        head = classifier(hidden, num_labels(r), role="decoder", bias=True)
        return last_of_all(head) if task == "sequence_classification" else head
    return Head(
        kind="lm",
        input_size=hidden,
        output_size=side.integer("vocab_size"),
        tied=tied,
        tied_to="encoder",
        softcap=side.optional_number("final_logit_softcapping"),
    )


TYPES: Final = {
    "t5gemma2": ModelType(
        build=_t5gemma2, defaults={"tie_word_embeddings": True}, origin="transformers 5.23 T5Gemma2Config"
    )
}
