"""DistilBERT: BERT without token types and pooler; its tasks read the first token.

Source: Sanh et al. 2019 (arXiv 1910.01108), section 3.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import LearnedPositions, Model, Sinusoidal, TokenEmbedding
from txcalc.configs.common import activation, layer_norm, post_norm
from txcalc.configs.encoders import (
    LM_TASKS,
    Plan,
    biased_attention,
    dense_classifier,
    encoder_model,
    foreign_spelling,
    head_width,
    known_task,
    lm_plan,
    plain_feed_forward,
    plain_plan,
)
from txcalc.configs.heads import Task, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 30_522,
    "dim": 768,
    "hidden_dim": 3072,
    "n_layers": 6,
    "n_heads": 12,
    "activation": "gelu",
    "max_position_embeddings": 512,
    "sinusoidal_pos_embds": False,
    "tie_word_embeddings": True,
}
_ALIASES: Final = {
    "hidden_size": "dim",
    "intermediate_size": "hidden_dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
}

_EPS: Final = 1e-12  # fixed in the code, no field of the config

_TASKS: Final = """
base masked_lm sequence_classification token_classification question_answering multiple_choice
"""


def _distilbert(r: Reader) -> Model:
    r.ignore("qa_dropout", "seq_classif_dropout", "tie_weights_", "output_past")
    foreign_spelling(r, "intermediate_size")
    task = known_task(r, _TASKS, prefix="DistilBert", default="masked_lm")
    hidden, heads = r.integer("hidden_size"), r.integer("num_attention_heads")
    rows, norm = r.integer("max_position_embeddings"), layer_norm(hidden, _EPS)
    attention = biased_attention(hidden, heads, head_width(r, hidden, heads), causal=False)
    feed_forward = plain_feed_forward(hidden, r.integer("intermediate_size"), activation(r, "activation"))
    return encoder_model(
        r,
        _plan(r, task, hidden),
        role="encoder",
        hidden=hidden,
        embedding=TokenEmbedding(
            vocab_size=r.integer("vocab_size"), embedding_size=hidden, positions=_positions(r, rows, hidden), norm=norm
        ),
        layers=[(post_norm(attention, feed_forward, norm=norm), r.layers())],
        positions=rows,
    )


def _positions(r: Reader, rows: int, width: int) -> LearnedPositions | Sinusoidal:
    """Sinusoidal ones only start as sines: they are stored, and trained, as a table of parameters all the same."""
    if r.flag("sinusoidal_pos_embds"):
        return Sinusoidal(rows=rows, width=width, interleaved=True, stored=True)
    return LearnedPositions(rows=rows, width=width)


def _plan(r: Reader, task: Task, hidden: int) -> Plan:
    if task in LM_TASKS:
        act = activation(r, "activation")
        return lm_plan(r, task, role="encoder", hidden=hidden, act=act, eps=_EPS, spare_bias=False)
    if task in ("sequence_classification", "multiple_choice"):
        outputs = 1 if task == "multiple_choice" else num_labels(r)
        return Plan(head=dense_classifier(hidden, outputs, "relu", role="encoder"))
    if task == "question_answering" and num_labels(r) != 2:
        raise r.error("num_labels", f"is {num_labels(r)}; a question answering head has 2 (start and end)")
    return plain_plan(r, task, role="encoder", hidden=hidden).replace(pooler=False)


TYPES: Final = {
    "distilbert": ModelType(
        build=_distilbert, defaults=_DEFAULTS, aliases=_ALIASES, origin="transformers 5.23 DistilBertConfig"
    )
}
