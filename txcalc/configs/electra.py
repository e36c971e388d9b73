"""ELECTRA and RemBERT: BERT between embeddings of a width of their own.

Sources: Clark et al. 2020 (arXiv 2003.10555), section 3; Chung et al. 2020 (arXiv 2010.12821), section 4.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    Head,
    HeadTransform,
    LearnedPositions,
    Model,
    Norm,
    Projection,
    Role,
    TokenEmbedding,
)
from txcalc.architecture.feed_forward import Activation
from txcalc.configs.bert import BERT_DEFAULTS, TASKS, cross_attention, role_of
from txcalc.configs.common import activation, layer_norm, post_norm
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

ELECTRA_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "embedding_size": 128,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "summary_type": "first",
    "summary_use_proj": True,
    "summary_activation": "gelu",
}
REMBERT_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "vocab_size": 250_300,
    "hidden_size": 1152,
    "num_hidden_layers": 32,
    "num_attention_heads": 18,
    "intermediate_size": 4608,
    "input_embedding_size": 256,
    "output_embedding_size": 1664,
    "tie_word_embeddings": False,
}


def narrow_embedding(r: Reader, width: int, norm: Norm, *, always: bool = False) -> TokenEmbedding:
    """Tables of ``width`` channels, normed, then a projection to the model's: where it differs, or ``always``."""
    hidden, rows = r.integer("hidden_size"), r.integer("max_position_embeddings")
    projected = always or width != hidden
    return TokenEmbedding(
        vocab_size=r.integer("vocab_size"),
        embedding_size=width,
        positions=LearnedPositions(rows=rows, width=width),
        token_types=r.integer("type_vocab_size"),
        norm=norm,
        projection=Projection(in_size=width, out_size=hidden, bias=True) if projected else None,
    )


def _layered(r: Reader, plan: Plan, role: Role, embedding: TokenEmbedding) -> Model:
    """BERT's layers between that embedding and those heads."""
    hidden, num_layers = r.integer("hidden_size"), r.layers()
    norm = layer_norm(hidden, r.number("layer_norm_eps"))
    return encoder_model(
        r,
        plan,
        role=role,
        hidden=hidden,
        embedding=embedding,
        layers=[(post_norm(*bert_sublayers(r, role=role), norm=norm), num_layers)],
        positions=r.integer("max_position_embeddings"),
        unused=cross_attention(r, role, hidden, num_layers),
    )


# ---- ELECTRA --------------------------------------------------------------------------------------------------------


def _electra(r: Reader) -> Model:
    absolute_positions_only(r)
    r.ignore("summary_last_dropout", "summary_use_proj", "summary_activation", "summary_type")
    task = known_task(r, f"{TASKS} pretraining", prefix="Electra", default="masked_lm")
    role, width = role_of(r), r.integer("embedding_size")
    embedding = narrow_embedding(r, width, layer_norm(width, r.number("layer_norm_eps")))
    return _layered(r, _electra_plan(r, task, role, width), role, embedding)


def _electra_plan(r: Reader, task: Task, role: Role, width: int) -> Plan:
    """The generator predicts tokens, the discriminator says of every position whether its token was replaced."""
    hidden, eps = r.integer("hidden_size"), r.number("layer_norm_eps")
    if task == "pretraining":
        return Plan(head=_discriminator(hidden, activation(r), role))
    if task in LM_TASKS:
        return lm_plan(r, task, role=role, hidden=hidden, act="gelu", eps=eps, width=width, spare_bias=False)
    if task == "sequence_classification":
        return Plan(head=dense_classifier(hidden, num_labels(r), "gelu", role=role))
    if task == "multiple_choice":
        return Plan(head=summary_choice(r, hidden, role))
    return plain_plan(r, task, role=role, hidden=hidden).replace(pooler=False)


def _discriminator(hidden: int, act: Activation, role: Role) -> Head:
    dense = Projection(in_size=hidden, out_size=hidden, bias=True, activation=act)
    return Head(
        kind="discriminator",
        input_size=hidden,
        output_size=1,
        tied=False,
        bias=True,
        transform=HeadTransform(dense=dense),
        tied_to=role,
    )


def summary_choice(r: Reader, hidden: int, role: Role) -> Head:
    """The head of multiple choice behind transformers' older "sequence summary": the first token, dense, activation."""
    r.unused("summary_proj_to_labels", False, None)
    if r.text("summary_type") != "first" or not r.flag("summary_use_proj") or r.raw("summary_activation") is None:
        r.reasons.append("summary_type, summary_use_proj, summary_activation: another summary than the first token's")
        return classifier(hidden, 1, role=role, bias=True, pooled=True)
    return dense_classifier(hidden, 1, activation(r, "summary_activation"), role=role)


# ---- RemBERT --------------------------------------------------------------------------------------------------------


def _rembert(r: Reader) -> Model:
    absolute_positions_only(r)
    r.ignore("classifier_dropout_prob", "output_embedding_size")
    if r.has("embedding_size"):  # an older name of the input's width
        r.unused("embedding_size", r.integer("input_embedding_size"))
    task = known_task(r, TASKS, prefix="RemBert", default="masked_lm")
    role, width = role_of(r), r.integer("input_embedding_size")
    embedding = narrow_embedding(r, width, layer_norm(width, r.number("layer_norm_eps")), always=True)
    return _layered(r, _rembert_plan(r, task, role), role, embedding)


def _rembert_plan(r: Reader, task: Task, role: Role) -> Plan:
    """The output matrix is wider than the input table and never tied to it, whatever the config says."""
    hidden = r.integer("hidden_size")
    if task not in LM_TASKS:
        return plain_plan(r, task, role=role, hidden=hidden)
    width, act = r.integer("output_embedding_size"), activation(r)
    dense = Projection(in_size=hidden, out_size=width, bias=True, activation=act)
    head = Head(
        kind="lm" if task == "causal_lm" else "masked_lm",
        input_size=hidden,
        output_size=r.integer("vocab_size"),
        tied=False,
        bias=True,
        transform=HeadTransform(dense=dense, norm=layer_norm(width, r.number("layer_norm_eps"))),
        tied_to=role,
    )
    return Plan(head=head)


TYPES: Final = {
    "electra": ModelType(build=_electra, defaults=ELECTRA_DEFAULTS, origin="transformers 5.23 ElectraConfig"),
    "rembert": ModelType(build=_rembert, defaults=REMBERT_DEFAULTS, origin="transformers 5.23 RemBertConfig"),
}
