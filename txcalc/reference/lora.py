"""Low-rank adapters: y = x W^T + (alpha / r) x A^T B^T with W frozen (Hu et al. 2022, equation 3).

A is [r, in] and random, B is [out, r] and zero: at the start the model is unchanged. Only A and B are trained.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from txcalc.errors import RequestError


class LoraLinear(nn.Module):
    """A frozen linear map and its adapter: [.., in] -> [.., out]."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base, self.scale = base, alpha / rank
        self.lora_A = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        self.dropout = nn.Dropout(dropout)
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)
        base.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """[.., in] -> [.., out]."""
        added = nn.functional.linear(nn.functional.linear(self.dropout(x), self.lora_A), self.lora_B)
        return self.base(x) + self.scale * added

    def merged(self) -> nn.Linear:
        """One linear map that gives the same: W + (alpha / r) B A."""
        with torch.no_grad():
            self.base.weight += self.scale * self.lora_B @ self.lora_A
        return self.base


def add_lora(
    model: nn.Module, projections: Collection[str], *, rank: int, alpha: float | None = None, dropout: float = 0.0
) -> list[str]:
    """Freeze the model and put adapters on every linear map of the given names (``q_proj``, ``down_proj``).

    ``alpha`` is 2 * rank where it is not given. Returns the full names of what was adapted.

    Raises:
        RequestError: a rank below 1, or a name that no linear map has.
    """
    if rank < 1:
        raise RequestError(f"LoRA rank is {rank}; it must be at least 1")
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    known = {name.rpartition(".")[2] for name in linears}
    unknown = sorted(set(projections) - known)
    if unknown:
        raise RequestError(f"no projection is named {unknown[0]!r}", f"one of {', '.join(sorted(known))}")
    model.requires_grad_(False)
    chosen = [name for name in linears if name.rpartition(".")[2] in projections]
    for name in chosen:
        parent, _, own = name.rpartition(".")
        scale = 2.0 * rank if alpha is None else alpha
        setattr(model.get_submodule(parent), own, LoraLinear(linears[name], rank, scale, dropout))
    return chosen


def merge_lora(model: nn.Module) -> None:
    """Add every adapter to the map that it adapts, and take it away."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLinear):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, module.merged())
