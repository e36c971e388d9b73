"""Adapters: what is trained, what it keeps, what it costs (LoRA: Hu et al. 2021, arXiv 2106.09685, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from txcalc.architecture import Model
from txcalc.errors import RequestError, UsageError
from txcalc.expression import Expression, symbol
from txcalc.formulas.params import params
from txcalc.formulas.tape.walk import Lora
from txcalc.formulas.weights import matrix_of
from txcalc.result import Node, leaf, total

SOURCE: Final = "LoRA (Hu et al. 2021, arXiv 2106.09685), section 4.2: r * (size_in + size_out) a matrix"


def parse_lora(text: str) -> Lora:
    """``r=16,q_proj,v_proj`` as adapters.

    Raises:
        UsageError: no rank, or no projection.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    ranks = [part.partition("=")[2] for part in parts if part.startswith("r=")]
    names = tuple(part for part in parts if "=" not in part)
    known = len(ranks) + len(names) == len(parts)
    if not known or len(ranks) != 1 or not ranks[0].isdigit() or not int(ranks[0]) or not names:
        raise UsageError(f"--lora: {text!r} is not a rank and projections", "write it as --lora r=16,q_proj,v_proj")
    return Lora(rank=int(ranks[0]), projections=names)


def lora_params(model: Model, lora: Lora) -> Node:
    """Trainable parameters of the adapters, a row a projection.

    Raises:
        RequestError: a projection that the model has not, or only inside its experts.
    """
    matrices = list(_matrices(params(model).find("params.total"), 1))
    _require(lora.projections, matrices)
    r = symbol("r", lora.rank)
    rows = [
        leaf(node.name, "parameters", times * (r * (size_in + size_out)))
        for node, times, size_in, size_out in matrices
        if node.name in lora.projections
    ]
    return total("adapters", "parameters", rows, key="lora.trainable", source=SOURCE)


def _matrices(node: Node, times: int) -> Iterator[tuple[Node, int, Expression, Expression]]:
    """(leaf, how often it is there, size_in, size_out) of every projection outside experts."""
    for child in node.children:
        if child.aside or child.name == "experts":
            continue
        matrix = matrix_of(child)
        if matrix is not None:
            yield child, times, matrix.size_in, matrix.size_out
        yield from _matrices(child, times if child.count is None else child.count * times)


def _require(names: Sequence[str], matrices: list[tuple[Node, int, Expression, Expression]]) -> None:
    known = list(dict.fromkeys(node.name for node, *_ in matrices if node.name.endswith("_proj")))
    for name in names:
        if name not in known:
            hint = f"one of {', '.join(known)}; matrices of experts and of the head take no adapters here"
            raise RequestError(f"no projection is named {name!r}", hint)


def lora_flops(trained: int, frozen: int) -> Node:
    """FLOPs a token of a step: 6 a trained parameter of a matrix, 4 a frozen one, whose own gradient is not made."""
    rows = [
        leaf("adapters", "FLOPs", 6 * symbol("trained", trained)),
        leaf("frozen", "FLOPs", 4 * symbol("frozen", frozen)),
    ]
    return total(
        "matrices_per_token",
        "FLOPs",
        rows,
        key="lora.flops_per_token",
        aside=True,
        convention="2 a multiply-add; forward 2, to the input 2, to a trained weight 2; no attention products",
    )
