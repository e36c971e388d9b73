"""Korthikanti's activation memory: the field's best-known formula, as its paper prints it, by name.

Korthikanti et al. 2022 (arXiv 2205.05198), equations 1 to 6 and table 2: bytes a layer of a GPT with GELU of width 4 h,
as many key heads as query heads, dropout, attention as separate operations, two bytes an activation and one a dropout
mask. Other shapes are not what it describes; ``training`` counts what a model's own layers keep.
"""

from __future__ import annotations

from typing import Final, Literal

from txcalc.architecture import Model, SelfAttention
from txcalc.errors import RequestError
from txcalc.expression import Expression, symbol
from txcalc.result import Node, leaf

SOURCE: Final = "Korthikanti et al. 2022 (arXiv 2205.05198), table 2"
Technique = Literal["none", "tp", "tp_sp", "tp_selective", "tp_sp_selective", "full"]
TECHNIQUES: Final[tuple[Technique, ...]] = ("none", "tp", "tp_sp", "tp_selective", "tp_sp_selective", "full")


def layer_bytes(
    technique: Technique, *, seq: int, batch: int, hidden_size: int, heads: int, tensor_parallel: int = 1
) -> Expression:
    """Bytes that one layer keeps: table 2's row of that technique, over ``tensor_parallel`` devices.

    Raises:
        RequestError: an unknown technique, sizes that the devices do not divide.
    """
    s, b, h, a = symbol("T", seq), symbol("B", batch), symbol("D", hidden_size), symbol("N", heads)
    t = symbol("tensor_parallel", tensor_parallel)
    sbh, scores = s * b * h, 5 * a * s * s * b
    if technique not in TECHNIQUES:
        raise RequestError(f"unknown technique {technique!r}", f"one of {', '.join(TECHNIQUES)}")
    if int(sbh) % tensor_parallel or int(scores) % tensor_parallel:
        raise RequestError(f"{tensor_parallel} devices do not divide the activations", "choose another number")
    rows: dict[str, Expression] = {
        "none": 34 * sbh + scores,
        "tp": 10 * sbh + (24 * sbh + scores) // t,
        "tp_sp": (34 * sbh + scores) // t,
        "tp_selective": 10 * sbh + 24 * sbh // t,
        "tp_sp_selective": 34 * sbh // t,
        "full": 2 * sbh,
    }
    return rows[technique]


def by_convention(model: Model, *, seq: int, batch: int) -> list[Node]:
    """The paper's formula on this model's width and heads, all layers, beside what the model really keeps."""
    found = [each for layer in model.main.layers for each in layer.sublayers() if isinstance(each, SelfAttention)]
    if not found:
        return []
    shape = {"seq": seq, "batch": batch, "hidden_size": found[0].hidden_size, "heads": found[0].num_attention_heads}
    whole = symbol("L", model.main.num_hidden_layers) * layer_bytes("none", **shape)
    convention = "GELU of width 4 h, a key head for each query head, dropout, scores held: whatever the model has"
    return [leaf("by Korthikanti's formula", "bytes", whole, source=SOURCE, convention=convention, aside=True)]
