"""ALBERT: layers that share their parameters in groups, and an embedding narrower than the model.

Source: Lan et al. 2020 (arXiv 1909.11942), section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from txcalc.architecture import Layer, LearnedPositions, Model, Projection, TokenEmbedding
from txcalc.configs.common import activation, layer_norm, post_norm
from txcalc.configs.encoders import (
    LM_TASKS,
    Plan,
    absolute_positions_only,
    biased_attention,
    encoder_model,
    head_width,
    known_task,
    lm_plan,
    plain_feed_forward,
    plain_plan,
)
from txcalc.configs.heads import Task, classifier, num_labels
from txcalc.configs.reader import MAX_LAYERS, Reader
from txcalc.configs.registry import ModelType

_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 30_000,
    "embedding_size": 128,
    "hidden_size": 4096,
    "num_hidden_layers": 12,
    "num_hidden_groups": 1,
    "inner_group_num": 1,
    "num_attention_heads": 64,
    "intermediate_size": 16_384,
    "hidden_act": "gelu_new",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "tie_word_embeddings": True,
}

_TASKS: Final = """
base masked_lm pretraining sequence_classification token_classification question_answering multiple_choice
"""


def _albert(r: Reader) -> Model:
    # Keys of the first release: no memory blocks and no gaps were ever built.
    r.ignore("classifier_dropout_prob", "down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks")
    absolute_positions_only(r)
    task = known_task(r, _TASKS, prefix="Albert", default="masked_lm")
    hidden, width = r.integer("hidden_size"), r.integer("embedding_size")
    rows = r.integer("max_position_embeddings")
    embedding = TokenEmbedding(
        vocab_size=r.integer("vocab_size"),
        embedding_size=width,
        positions=LearnedPositions(rows=rows, width=width),
        token_types=r.integer("type_vocab_size"),
        norm=layer_norm(width, r.number("layer_norm_eps")),
        projection=Projection(in_size=width, out_size=hidden, bias=True),
    )
    return encoder_model(
        r,
        _plan(r, task, hidden, width),
        role="encoder",
        hidden=hidden,
        embedding=embedding,
        layers=_grouped(r, _layer(r, hidden)),
        positions=rows,
    )


def _layer(r: Reader, hidden: int) -> Layer:
    heads = r.integer("num_attention_heads")
    attention = biased_attention(hidden, heads, head_width(r, hidden, heads), causal=False)
    feed_forward = plain_feed_forward(hidden, r.integer("intermediate_size"), activation(r))
    return post_norm(attention, feed_forward, norm=layer_norm(hidden, r.number("layer_norm_eps")))


def _grouped(r: Reader, layer: Layer) -> Iterator[tuple[Layer, int]]:
    """Layer i belongs to group i * groups / layers; a group runs its inner layers in turn, and stores them once."""
    num_layers, groups = r.layers(), r.integer("num_hidden_groups", maximum=MAX_LAYERS)
    inner = r.integer("inner_group_num", maximum=MAX_LAYERS // max(num_layers, groups))
    stored = [
        [layer.replace(shared=f"group {group} layer {index}") for index in range(inner)] for group in range(groups)
    ]
    for index in range(num_layers):
        # in floating point, as transformers divides: of 18 layers in 14 groups, layer 9 falls into group 6
        group = int(index / (num_layers / groups))
        yield from ((each, 1) for each in stored[group])
    yield from ((each, 0) for group in stored for each in group)  # a group that no layer falls into is stored too


def _plan(r: Reader, task: Task, hidden: int, width: int) -> Plan:
    if task not in LM_TASKS:
        return plain_plan(r, task, role="encoder", hidden=hidden)
    eps = r.number("layer_norm_eps")
    plan = lm_plan(r, task, role="encoder", hidden=hidden, act=activation(r), eps=eps, width=width)
    if task == "pretraining":
        order = classifier(hidden, num_labels(r), role="encoder", bias=True, pooled=True)
        plan = plan.replace(pooled_head=order, pooler=True)
    return plan


TYPES: Final = {"albert": ModelType(build=_albert, defaults=_DEFAULTS, origin="transformers 5.23 AlbertConfig")}
