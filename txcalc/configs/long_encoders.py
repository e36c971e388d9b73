"""Longformer and BigBird: BERT with attention to a part of a long sequence.

Sources: Beltagy et al. 2020 (arXiv 2004.05150), section 3; Zaheer et al. 2020 (arXiv 2007.14062), section 2.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    Branch,
    FeedForward,
    GlobalAttention,
    Layer,
    LearnedPositions,
    Model,
    Norm,
    Residual,
    Role,
    SparseBlocks,
    TokenEmbedding,
)
from txcalc.configs.bert import (
    BERT_DEFAULTS,
    TASKS,
    bert_plan,
    cross_attention,
    first_position,
    roberta_plan,
    role_of,
)
from txcalc.configs.common import activation, each_once, layer_norm, post_norm
from txcalc.configs.encoders import (
    Plan,
    absolute_positions_only,
    bert_sublayers,
    dense_classifier,
    encoder_model,
    known_task,
)
from txcalc.configs.heads import Task, classifier, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

LONGFORMER_DEFAULTS: Final[dict[str, Any]] = {**BERT_DEFAULTS, "pad_token_id": 1, "attention_window": 512}
BIG_BIRD_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "vocab_size": 50_358,
    "hidden_act": "gelu_new",
    "max_position_embeddings": 4096,
    "attention_type": "block_sparse",
    "use_bias": True,
    "rescale_embeddings": False,
    "block_size": 64,
    "num_random_blocks": 3,
}


# ---- Longformer -----------------------------------------------------------------------------------------------------


def _longformer(r: Reader) -> Model:
    """RoBERTa with a window a layer; tokens that a task makes global have projections of their own."""
    r.ignore("onnx_export", "ignore_attention_mask", "sep_token_id", "attention_mode", "attention_dilation")
    r.unused("is_decoder", False)
    absolute_positions_only(r)
    task = known_task(r, TASKS.replace("causal_lm ", ""), prefix="Longformer", default="masked_lm")
    hidden, rows = r.integer("hidden_size"), r.integer("max_position_embeddings")
    norm, offset = layer_norm(hidden, r.number("layer_norm_eps")), first_position(r)
    attention, feed_forward = bert_sublayers(r, role="encoder")
    attention = attention.replace(global_tokens=GlobalAttention(), in_blocks=True)

    def layer(window: int) -> Layer:
        return post_norm(attention.replace(window=window), feed_forward, norm=norm)

    return encoder_model(
        r,
        roberta_plan(r, task, "encoder"),
        role="encoder",
        hidden=hidden,
        embedding=TokenEmbedding(
            vocab_size=r.integer("vocab_size"),
            embedding_size=hidden,
            positions=LearnedPositions(rows=rows, width=hidden, offset=offset),
            token_types=r.integer("type_vocab_size"),
            norm=norm,
        ),
        layers=each_once(attention_windows(r, r.layers()), layer),
        positions=max(rows - offset, 0),
    )


def attention_windows(r: Reader, num_layers: int) -> list[int]:
    """``attention_window``: one for all layers or a list; half of it to each side."""
    single = not isinstance(r.raw("attention_window"), list | tuple)
    found = (
        [r.integer("attention_window")] * num_layers if single else r.integers("attention_window", length=num_layers)
    )
    if any(window < 1 or window % 2 for window in found):
        raise r.error("attention_window", "holds an odd number or zero; half a window lies to each side")
    return found


# ---- BigBird --------------------------------------------------------------------------------------------------------


def _big_bird(r: Reader) -> Model:
    r.ignore("sep_token_id", "pad_token_id", "block_size", "num_random_blocks")
    absolute_positions_only(r)
    task = known_task(r, f"{TASKS} pretraining", prefix="BigBird", default="masked_lm")
    role, hidden, num_layers = role_of(r), r.integer("hidden_size"), r.layers()
    norm, bias = layer_norm(hidden, r.number("layer_norm_eps")), r.flag("use_bias")
    attention, feed_forward = bert_sublayers(r, role=role)
    blocks = sparse_blocks(r, role)
    attention = attention.replace(q_bias=bias, k_bias=bias, v_bias=bias, sparse_blocks=blocks)
    layers = [(post_norm(attention, feed_forward, norm=norm), num_layers)]
    if task == "question_answering":
        layers.append((_reading_layer(feed_forward, norm), 1))
    idle = cross_attention(r, role, hidden, num_layers)
    if idle and not bias:
        r.reasons.append("use_bias = false beside add_cross_attention: how many biases that has is not known")
    rows = r.integer("max_position_embeddings")
    return encoder_model(
        r,
        _big_bird_plan(r, task, role, hidden),
        role=role,
        hidden=hidden,
        embedding=TokenEmbedding(
            vocab_size=r.integer("vocab_size"),
            embedding_size=hidden,
            scale=hidden**0.5 if r.flag("rescale_embeddings") else 1.0,
            positions=LearnedPositions(rows=rows, width=hidden),
            token_types=r.integer("type_vocab_size"),
            norm=norm,
        ),
        layers=layers,
        positions=rows,
        unused=idle,
    )


def sparse_blocks(r: Reader, role: Role) -> SparseBlocks | None:
    """``attention_type``: full, or BigBird's blocks."""
    kind = r.choice("attention_type", ("block_sparse", "original_full"))
    if kind == "original_full":
        return None
    if role == "decoder":
        r.reasons.append("attention_type = block_sparse in a decoder: its blocks hide nothing of what comes later")
        return None
    return SparseBlocks(block_size=r.integer("block_size"), num_random_blocks=r.integer("num_random_blocks", minimum=0))


def _reading_layer(feed_forward: FeedForward, norm: Norm) -> Layer:
    """Before the answer's span is read stands one more feed-forward."""
    return Layer(steps=(Residual(branches=(Branch(sublayer=feed_forward),), norm_after=norm),))


def _big_bird_plan(r: Reader, task: Task, role: Role, hidden: int) -> Plan:
    """The pooler is there, and runs, under every head but question answering."""
    if task == "question_answering":
        return Plan(head=classifier(hidden, 2, role=role, bias=True))
    if task == "sequence_classification":
        return Plan(head=dense_classifier(hidden, num_labels(r), activation(r), role=role), pooler=True)
    return bert_plan(r, task, role).replace(pooler=True)


TYPES: Final = {
    "longformer": ModelType(
        build=_longformer, defaults=LONGFORMER_DEFAULTS, origin="transformers 5.23 LongformerConfig"
    ),
    "big_bird": ModelType(build=_big_bird, defaults=BIG_BIRD_DEFAULTS, origin="transformers 5.23 BigBirdConfig"),
}
