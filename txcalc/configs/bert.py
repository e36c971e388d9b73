"""BERT and RoBERTa: learned positions, post-norm layers with biases everywhere, a pooler where a task reads it.

Sources: Devlin et al. 2019 (arXiv 1810.04805), section 3; Liu et al. 2019 (arXiv 1907.11692).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import LearnedPositions, Model, Role, TokenEmbedding, UnusedTensor
from txcalc.configs.common import activation, layer_norm, post_norm, pre_norm
from txcalc.configs.encoders import (
    LM_TASKS,
    Plan,
    absolute_positions_only,
    bert_sublayers,
    dense_classifier,
    encoder_model,
    known_task,
    lm_plan,
    plain_plan,
)
from txcalc.configs.heads import Task, classifier, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

BERT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 30_522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
ROBERTA_DEFAULTS: Final[dict[str, Any]] = {**BERT_DEFAULTS, "vocab_size": 50_265, "pad_token_id": 1}

# The first release's pooler settings, which no code reads.
_OLD_KEYS: Final = """
directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type
""".split()

TASKS: Final = (
    "base masked_lm causal_lm sequence_classification token_classification question_answering multiple_choice"
)


def bert_like(
    r: Reader,
    plan: Plan,
    *,
    role: Role,
    position_offset: int = 0,
    pre_normed: bool = False,
    embedding_normed: bool = True,
    attention: Mapping[str, Any] | None = None,
    embedding: Mapping[str, Any] | None = None,
) -> Model:
    """The encoder of BERT, under the heads that ``plan`` holds; ``position_offset``: the first token's row.

    ``pre_normed``: norms before each sublayer and a final one (Xiong et al. 2020), not after each addition.
    ``attention``, ``embedding``: fields in which a type's attention or embedding is not BERT's.
    """
    absolute_positions_only(r)
    hidden = r.integer("hidden_size")
    norm = layer_norm(hidden, r.number("layer_norm_eps"))
    rows = r.integer("max_position_embeddings")
    fields: dict[str, Any] = {
        "positions": LearnedPositions(rows=rows, width=hidden, offset=position_offset),
        "norm": norm if embedding_normed else None,
        **(embedding or {"token_types": r.integer("type_vocab_size")}),
    }
    num_layers, arrange = r.layers(), pre_norm if pre_normed else post_norm
    mixer, feed_forward = bert_sublayers(r, role=role)
    return encoder_model(
        r,
        plan,
        role=role,
        hidden=hidden,
        embedding=TokenEmbedding(vocab_size=r.integer("vocab_size"), embedding_size=hidden, **fields),
        layers=[(arrange(mixer.replace(**(attention or {})), feed_forward, norm=norm), num_layers)],
        positions=max(rows - position_offset, 0),
        unused=cross_attention(r, role, hidden, num_layers),
        final_norm=norm if pre_normed else None,
    )


def role_of(r: Reader) -> Role:
    """``is_decoder`` makes the attention causal."""
    return "decoder" if r.flag("is_decoder") else "encoder"


def cross_attention(r: Reader, role: Role, hidden: int, num_layers: int) -> tuple[UnusedTensor, ...]:
    """``add_cross_attention``: weights for another model's encoder, idle as long as the model runs alone."""
    if not r.flag("add_cross_attention"):
        return ()
    if role == "encoder":
        raise r.error("add_cross_attention", "is true and is_decoder is not: an encoder has no cross-attention")
    return idle_cross_attention(r, hidden, num_layers)


def idle_cross_attention(r: Reader, hidden: int, num_layers: int, *, biases: int = 4) -> tuple[UnusedTensor, ...]:
    """The cross-attention of a decoder that is loaded without its encoder: four projections and a LayerNorm a layer."""
    r.notes.append("cross-attention weights are counted as unused: without an encoder nothing runs them")
    return (
        UnusedTensor(name="cross-attention matrices", shape=(4, hidden, hidden), count=num_layers),
        *([UnusedTensor(name="cross-attention biases", shape=(biases, hidden), count=num_layers)] if biases else []),
        UnusedTensor(name="cross-attention norms", shape=(2, hidden), count=num_layers),
    )


def bert_plan(r: Reader, task: Task, role: Role) -> Plan:
    """BERT's heads, with the pooler where a head reads it."""
    hidden = r.integer("hidden_size")
    if task not in LM_TASKS:
        return plain_plan(r, task, role=role, hidden=hidden)
    plan = lm_plan(r, task, role=role, hidden=hidden, act=activation(r), eps=r.number("layer_norm_eps"))
    if task == "pretraining":
        next_sentence = classifier(hidden, 2, role=role, bias=True, pooled=True)
        plan = plan.replace(pooled_head=next_sentence, pooler=True)
    return plan


def _bert(r: Reader) -> Model:
    r.ignore("pad_token_id", *_OLD_KEYS)
    task = known_task(r, f"{TASKS} pretraining next_sentence", prefix="Bert", default="masked_lm")
    role = role_of(r)
    return bert_like(r, bert_plan(r, task, role), role=role)


def roberta_plan(r: Reader, task: Task, role: Role) -> Plan:
    """RoBERTa's heads: the language model's activation is always GELU, and the classifier has a layer of its own."""
    hidden = r.integer("hidden_size")
    if task in LM_TASKS:
        return lm_plan(r, task, role=role, hidden=hidden, act="gelu", eps=r.number("layer_norm_eps"))
    if task == "sequence_classification":
        return Plan(head=dense_classifier(hidden, num_labels(r), "tanh", role=role))
    return plain_plan(r, task, role=role, hidden=hidden)


def roberta_like(r: Reader, prefix: str, *, tasks: str = TASKS, **layers: Any) -> Model:
    """RoBERTa and the types that are RoBERTa by another name; ``layers`` goes to ``bert_like``."""
    task = known_task(r, tasks, prefix=prefix, default="masked_lm")
    role = role_of(r)
    return bert_like(r, roberta_plan(r, task, role), role=role, position_offset=first_position(r), **layers)


def first_position(r: Reader) -> int:
    """The row of the first token: positions are counted from the padding token's id."""
    padding = r.optional_integer("pad_token_id", minimum=0)
    if padding is None:
        raise r.error("pad_token_id", "is null; positions are counted from it", "RoBERTa's is 1")
    return padding + 1


def _roberta(r: Reader) -> Model:
    return roberta_like(r, "Roberta")


TYPES: Final = {
    "bert": ModelType(build=_bert, defaults=BERT_DEFAULTS, origin="transformers 5.23 BertConfig"),
    "roberta": ModelType(build=_roberta, defaults=ROBERTA_DEFAULTS, origin="transformers 5.23 RobertaConfig"),
}
