"""Encoders whose attention approximates the softmax: Nystromformer, YOSO, MRA.

Sources: Xiong et al. 2021 (arXiv 2102.03902); Zeng et al. 2021 (arXiv 2111.09714); Zeng et al. 2022 (arXiv 2207.10284).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from txcalc.architecture import Landmarks, LearnedPositions, Model, TokenEmbedding
from txcalc.configs.bert import BERT_DEFAULTS
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
from txcalc.configs.heads import Task, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

NYSTROM_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "vocab_size": 30_000,
    "hidden_act": "gelu_new",
    "max_position_embeddings": 510,
    "segment_means_seq_len": 64,
    "num_landmarks": 64,
    "conv_kernel_size": 65,
    "inv_coeff_init_option": False,
    "layer_norm_eps": 1e-5,
}
YOSO_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "vocab_size": 50_265,
    "max_position_embeddings": 4096,
    "type_vocab_size": 1,
    "use_expectation": True,
    "conv_window": None,
}
MRA_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "vocab_size": 50_265,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
_FIRST: Final = 2  # the first token's row, and as many rows more than the config says


def _encoder(r: Reader, prefix: str, **attention: Any) -> Model:
    """BERT without a pooler, its attention exchanged; ``attention``: the fields that differ."""
    absolute_positions_only(r)
    r.ignore("pad_token_id")
    r.unused("is_decoder", False)
    r.ignore("add_cross_attention")  # a setting that transformers carries and builds nothing for
    tasks = "base masked_lm sequence_classification token_classification question_answering multiple_choice"
    task = known_task(r, tasks, prefix=prefix, default="masked_lm")
    hidden, rows = r.integer("hidden_size"), r.integer("max_position_embeddings") + _FIRST
    norm = layer_norm(hidden, r.number("layer_norm_eps"))
    mixer, feed_forward = bert_sublayers(r, role="encoder")
    return encoder_model(
        r,
        _plan(r, task, hidden),
        role="encoder",
        hidden=hidden,
        embedding=TokenEmbedding(
            vocab_size=r.integer("vocab_size"),
            embedding_size=hidden,
            positions=LearnedPositions(rows=rows, width=hidden, offset=_FIRST),
            token_types=r.integer("type_vocab_size"),
            norm=norm,
        ),
        layers=[(post_norm(mixer.replace(**attention), feed_forward, norm=norm), r.layers())],
        positions=rows - _FIRST,
    )


def _plan(r: Reader, task: Task, hidden: int) -> Plan:
    """A question's answer has two ends, whatever ``num_labels`` says."""
    if task in LM_TASKS:
        act, eps = activation(r), r.number("layer_norm_eps")
        return lm_plan(r, task, role="encoder", hidden=hidden, act=act, eps=eps)
    if task == "sequence_classification":
        return Plan(head=dense_classifier(hidden, num_labels(r), activation(r), role="encoder"))
    if task == "multiple_choice":
        return Plan(head=dense_classifier(hidden, 1, "relu", role="encoder"))
    labels = 2 if task == "question_answering" else None
    return plain_plan(r, task, role="encoder", hidden=hidden, labels=labels).replace(pooler=False)


def odd_kernel(r: Reader, key: str) -> int | None:
    """A kernel with a tap in its middle; null: none.

    Raises:
        ModelError: an even one.
    """
    kernel = r.optional_integer(key)
    if kernel is not None and kernel % 2 == 0:
        raise r.error(key, f"is {kernel}; a kernel with a middle has an odd number of taps")
    return kernel


def _nystromformer(r: Reader) -> Model:
    """As many landmarks as tokens are attended to in full."""
    if r.flag("inv_coeff_init_option"):
        raise r.error("inv_coeff_init_option", "is true: transformers cannot build it")
    length, count = r.integer("segment_means_seq_len"), r.integer("num_landmarks")
    if length % count:
        raise r.error("num_landmarks", f"is {count}; it does not divide segment_means_seq_len, {length}")
    marks = None if length == count else Landmarks(count=count, length=length)
    return _encoder(r, "Nystromformer", landmarks=marks, value_conv=odd_kernel(r, "conv_kernel_size"))


def _yoso(r: Reader) -> Model:
    r.ignore("hash_code_len", "num_hash", "use_fast_hash", "lsh_backward")
    weighting = "angle" if r.flag("use_expectation") else "hashes"
    return _encoder(r, "Yoso", weighting=weighting, value_conv=odd_kernel(r, "conv_window"))


def _mra(r: Reader) -> Model:
    r.ignore("block_per_row", "approx_mode", "initial_prior_first_n_blocks", "initial_prior_diagonal_n_blocks")
    return _encoder(r, "Mra", weighting="resolutions")


def _type(build: Callable[[Reader], Model], name: str, defaults: dict[str, Any]) -> ModelType:
    return ModelType(build=build, defaults=defaults, origin=f"transformers 5.23 {name}Config")


TYPES: Final = {
    "nystromformer": _type(_nystromformer, "Nystromformer", NYSTROM_DEFAULTS),
    "yoso": _type(_yoso, "Yoso", YOSO_DEFAULTS),
    "mra": _type(_mra, "Mra", MRA_DEFAULTS),
}
