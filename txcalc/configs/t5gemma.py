"""T5Gemma: Gemma 2's layers as an encoder and a decoder (Zhang et al. 2025, arXiv 2504.06225, section 3)."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import CrossAttention, Head, Model, Role, SelfAttention, Stack, TokenEmbedding, runs_of
from txcalc.configs import moe, rope
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
from txcalc.configs.heads import Task, classifier, last_of_all, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

_KINDS: Final = ("full_attention", "sliding_attention")

MODULE_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 256_000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "final_logit_softcapping": 30.0,
    "attn_logit_softcapping": 50.0,
}


def _t5gemma(r: Reader) -> Model:
    r.ignore("classifier_dropout_rate", "vocab_size", "tie_word_embeddings")  # each side has a vocabulary of its own
    tasks = "seq2seq_lm base encoder sequence_classification token_classification"
    task = known_task(r, tasks, prefix="T5Gemma", default="seq2seq_lm")
    sides = {role: _side(r, role) for role in ("encoder", "decoder")}
    both = task in ("seq2seq_lm", "base") or (task != "encoder" and r.flag("is_encoder_decoder"))
    stacks = [_stack(sides["encoder"], "encoder", None)]
    if both:
        stacks.append(_stack(sides["decoder"], "decoder", stacks[0].hidden_size))
    return Model(
        name="",
        model_type=r.model_type,
        stacks=tuple(stacks),
        head=_head(r, task, stacks[-1], sides[stacks[-1].role]),
        dtype=dtype_of(r) or dtype_of(sides["decoder"]),
        quantization=quantization_of(r),
        max_position_embeddings=sides[stacks[-1].role].integer("max_position_embeddings"),
    )


def _side(r: Reader, role: str) -> Reader:
    """One side's config; the outer one says whether the head is tied."""
    side = r.nested(role, defaults=MODULE_DEFAULTS)
    side.origin = "transformers 5.23 T5GemmaModuleConfig"
    side.ignore("tie_word_embeddings", "cross_attention_hidden_size", "final_logit_softcapping", *MODULE_DEFAULTS)
    side.ignore("layer_types", "cache_implementation", "hidden_act", "rope_parameters", "rope_scaling", "rope_theta")
    return side


def _stack(r: Reader, role: Role, source: int | None) -> Stack:
    hidden, eps = r.integer("hidden_size"), r.number("rms_norm_eps")
    norm, num_layers = rms_norm(hidden, eps, unit_offset=True), r.layers()
    inner = moe.gated(hidden, r.integer("intermediate_size"), activation(r, "hidden_activation"))
    made = {kind: _attention(r, kind, role) for kind in _KINDS}
    crossed = [] if source is None else [_cross_attention(made["full_attention"], source)]
    kinds = layer_kinds(r, num_layers, lambda: [_KINDS[(i + 1) % 2] for i in range(num_layers)], known=_KINDS)
    layers = each_once(kinds, lambda kind: sandwich(made[kind], *crossed, inner, norm=norm))
    distinct, runs = runs_of(layers)
    return Stack(
        role=role,
        hidden_size=hidden,
        embedding=TokenEmbedding(vocab_size=r.integer("vocab_size"), embedding_size=hidden, scale=hidden**0.5),
        layers=distinct,
        runs=runs,
        final_norm=norm,
    )


def _attention(r: Reader, kind: str, role: Role) -> SelfAttention:
    """A decoder sees ``sliding_window`` tokens, itself among them; an encoder as many to each side."""
    bias, window = r.flag("attention_bias"), r.optional_integer("sliding_window")
    if kind == "full_attention":
        window = None
    return self_attention(
        r,
        position=rope.rotary(r, head_dims(r)[3], whole=True),
        qkv_bias=bias,
        o_bias=bias,
        causal=role == "decoder",
        window=2 * window if window and role == "encoder" else window,
        scale=r.integer("query_pre_attn_scalar") ** -0.5,
        softcap=r.optional_number("attn_logit_softcapping"),
    )


def _cross_attention(attention: SelfAttention, source: int) -> CrossAttention:
    """The same heads and biases over the encoder's width, without positions."""
    return CrossAttention(
        hidden_size=attention.hidden_size,
        source_size=source,
        num_attention_heads=attention.num_attention_heads,
        num_key_value_heads=attention.num_key_value_heads,
        head_dim=attention.head_dim,
        v_head_dim=attention.v_head_dim,
        q_bias=attention.q_bias,
        k_bias=attention.k_bias,
        v_bias=attention.v_bias,
        o_bias=attention.o_bias,
        scale=attention.scale,
        softcap=attention.softcap,
    )


def _head(r: Reader, task: Task, stack: Stack, side: Reader) -> Head | None:
    hidden = stack.hidden_size
    if task in ("base", "encoder"):
        return None
    if task in ("sequence_classification", "token_classification"):
        head = classifier(hidden, num_labels(r), role=stack.role, bias=True)
        if task == "token_classification":
            return head
        return last_of_all(head).replace(reads="last" if stack.role == "encoder" else "usual")
    return Head(
        kind="lm",
        input_size=hidden,
        output_size=side.integer("vocab_size"),
        tied=r.flag("tie_word_embeddings"),
        softcap=side.optional_number("final_logit_softcapping"),
    )


TYPES: Final = {
    "t5gemma": ModelType(
        build=_t5gemma,
        defaults={"tie_word_embeddings": True, "is_encoder_decoder": True},
        origin="transformers 5.23 T5GemmaConfig",
    )
}
