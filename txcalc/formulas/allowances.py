"""What a GPU runtime takes beside the model: not computed but seen, each with its date and source; never exact."""

from __future__ import annotations

from typing import Final

from txcalc.expression import exact
from txcalc.record import Record
from txcalc.result import Node, leaf, total


class Allowance(Record):
    """Bytes that were seen, when, where, and what else was seen."""

    name: str
    bytes: int
    dated: str
    source: str
    note: str = ""
    training: bool = True


ALLOWANCES: Final = (
    Allowance(
        name="CUDA context and kernels",
        bytes=300 * 2**20,
        dated="2023-08",
        source="pytorch/pytorch issue 107667: about 300 MB since kernels are loaded lazily (CUDA 11.7)",
        note="0.15 to 0.39 GiB outside torch in logs of vLLM (vllm-project/vllm issues 15340 and 11251)",
    ),
    Allowance(
        name="cuBLAS workspace",
        bytes=32 * 2**20,
        dated="2024-03",
        source="cuBLAS, cublasSetWorkspace: 32 MiB recommended for Hopper (pytorch/pytorch pull 120925)",
        note="8,519,680 bytes before Hopper",
    ),
    Allowance(
        name="CUDA graphs of decoding",
        bytes=int(0.21 * 2**30),
        dated="2024-12",
        source="vllm-project/vllm pull 11349: 0.21 GiB for 35 batch sizes of a 1B model",
        note="0.13 to 0.36 GiB in other logs; nothing where graphs are off",
        training=False,
    ),
)


def allowances(*, training: bool) -> Node:
    """The allowances as estimated rows, beside every exact sum."""
    rows = [_row(each) for each in ALLOWANCES if each.training or not training]
    return total(
        "allowances",
        "bytes",
        rows,
        key="memory.allowances",
        aside=True,
        basis="estimated",
        reason="seen on other machines, not computed; fragmentation of an allocator comes on top",
    )


def _row(each: Allowance) -> Node:
    return leaf(
        each.name,
        "bytes",
        exact(each.bytes),
        basis="estimated",
        reason=f"seen, {each.dated}",
        source=each.source,
        note=each.note,
    )
