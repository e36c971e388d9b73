"""Recurrent mixers: a state of fixed size that every token updates and reads, in place of a cache that grows.

All are written as the recurrence that defines them, one token after the other (``chunks`` has the same by the chunk).
States are kept in fp32: what a step adds is small beside what is there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from txcalc.reference.cache import CacheSpec, StateCache
from txcalc.reference.context import Context

STATE = "state"


def scan(
    step: Callable[[Tensor, int], tuple[Tensor, Tensor]], empty: Tensor, context: Context, kept: StateCache | None
) -> Tensor:
    """Run ``step`` over the tokens and stack what it reads, [B, T, ...].

    ``step(state, t)`` returns (new state, what token t reads of it). Padding leaves a row's state as it was. ``empty``
    is the state before the first token.
    """
    state = empty if kept is None else kept[STATE]
    real_BT = context.real_BT if context.padded else None
    outputs = []
    for t in range(context.tokens):
        new, read = step(state, t)
        if real_BT is not None:
            new = torch.where(real_BT[:, t].view(-1, *[1] * (new.dim() - 1)), new, state)
        state = new
        outputs.append(read)
    if kept is not None:
        kept[STATE] = state
    return torch.stack(outputs, dim=1)


def empty_state(spec: CacheSpec, *shape: int) -> Tensor:
    """Zeros [B, *shape] in fp32."""
    return torch.zeros(spec.batch, *shape, device=spec.device, dtype=torch.float32)
