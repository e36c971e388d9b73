"""Longformer's global tokens: a few that see everything, and that everything sees (Beltagy et al. 2020, section 3.1).

Their own look at the sequence goes through query, key and value projections of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from txcalc import architecture as arch

Attend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class GlobalProjections(nn.Module):
    """The second set of projections, [hidden_size, hidden_size] each."""

    def __init__(self, g: arch.GlobalAttention, hidden_size: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(hidden_size, hidden_size, bias=g.bias) for _ in range(3))

    def forward(self, x_BTD: Tensor, local: Tensor, global_BT: Tensor, real_BT: Tensor, attend: Attend) -> Tensor:
        """``local`` [B, N, T, H] with the rows of global tokens replaced by what they see: every real token."""
        heads = local.shape[1]
        q, k, v = (
            projection(x_BTD).unflatten(-1, (heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        everywhere = attend(q, k, v, real_BT[:, None, None, :].expand(-1, 1, x_BTD.shape[1], -1))
        return torch.where(global_BT[:, None, :, None], everywhere, local)
