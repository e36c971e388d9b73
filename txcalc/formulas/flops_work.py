"""What one stack is asked to do, and the operation that most counts are made of.

A multiply-add is 2 FLOPs. ``rows`` is batch times query tokens: how many vectors a linear map is applied to.
"""

from __future__ import annotations

from typing import Final, Literal

from txcalc.expression import Expression
from txcalc.record import Record
from txcalc.result import Node, leaf

Phase = Literal["forward", "prefill", "decode", "train"]
Mask = Literal["full", "half", "exact"]
Routing = Literal["routed", "all_experts"]
Latent = Literal["expanded", "absorbed"]
Logits = Literal["all", "last"]
Scan = Literal["chunked", "recurrent"]
Recompute = Literal["none", "selective", "full"]

PHASES: Final = ("forward", "prefill", "decode", "train")
MASKS: Final = ("full", "half", "exact")
ROUTINGS: Final = ("routed", "all_experts")
LATENTS: Final = ("expanded", "absorbed")
LOGITS: Final = ("all", "last")
SCANS: Final = ("chunked", "recurrent")
RECOMPUTES: Final = ("none", "selective", "full")
CONVENTIONS: Final = (
    "matmul-full",
    "matmul-causal",
    "palm",
    "kaplan",
    "gpt3-6nd",
    "chinchilla",
    "megatron",
    "torchtitan",
    "narayanan-hw",
    "korthikanti",
    "korthikanti-hw",
    "hf-trainer",
    "executed",
)


class Work(Record):
    """Lengths of one stack and how its operations are counted.

    ``source`` is the length of the encoder's output that cross-attention reads; ``decoding``: one new token against a
    filled cache, S = tokens before it + 1.
    """

    B: Expression
    T: Expression
    S: Expression
    rows: Expression
    source: Expression | None = None
    decoding: bool = False
    mask: Mask = "full"
    moe: Routing = "routed"
    mla: Latent = "expanded"
    scan: Scan = "chunked"


def linear_flops(name: str, rows: int, size_in: int, size_out: int) -> Node:
    """A matrix [size_in, size_out] applied to ``rows`` vectors."""
    return leaf(name, "FLOPs", 2 * rows * size_in * size_out)
