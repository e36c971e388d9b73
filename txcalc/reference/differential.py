"""Differential attention: the difference of two softmax maps, so that what both attend to by habit cancels.

(softmax(Q_1 K_1^T s) - lambda softmax(Q_2 K_2^T s)) V with lambda = exp(l_q1 . l_k1) - exp(l_q2 . l_k2) + lambda_init
(Ye et al. 2024, arXiv 2410.05258, equations 1 and 2).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from txcalc import architecture as arch
from txcalc.reference.norms import normalise

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class Difference(nn.Module):
    """Heads n and n + N / 2 are the two maps of a pair; its values are two value heads side by side."""

    def __init__(self, d: arch.Differential, head_dim: int) -> None:
        super().__init__()
        self.d = d
        self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = (
            nn.Parameter(torch.empty(head_dim)) for _ in range(4)
        )

    def forward(self, q_BNTH: Tensor, k_BKSH: Tensor, v_BKSH: Tensor, attend: Attend) -> Tensor:
        """[B, N, T, H] from queries, keys and values; ``attend`` makes [B, N / 2, T, H] of half of their heads."""
        values = v_BKSH.chunk(2, dim=1)
        first, second = (
            torch.cat([attend(q, k, v) for v in values], dim=-1)
            for q, k in zip(q_BNTH.chunk(2, dim=1), k_BKSH.chunk(2, dim=1), strict=True)
        )
        weight = self._exp(self.lambda_q1, self.lambda_k1) - self._exp(self.lambda_q2, self.lambda_k2)
        difference = first - (weight + self.d.lambda_init).to(first.dtype) * second
        out = (1 - self.d.lambda_init) * normalise(difference, "rmsnorm", self.d.norm_eps).to(first.dtype)
        B, pairs, T, width = out.shape
        return out.view(B, pairs, T, 2, width // 2).transpose(2, 3).reshape(B, 2 * pairs, T, width // 2)

    @staticmethod
    def _exp(one: Tensor, other: Tensor) -> Tensor:
        return (one.float() * other.float()).sum().exp()
