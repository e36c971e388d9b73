"""Positions that meet the content: scores from a query or a key and a learned vector of their distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from txcalc import architecture as arch


class DisentangledTable(nn.Module):
    """The relative vectors that every layer of a DeBERTa stack reads, [2 * span, hidden_size]."""

    def __init__(self, d: arch.Disentangled, width: int, norm: nn.Module) -> None:
        super().__init__()
        self.table = nn.Embedding(2 * d.span, width)
        self.norm = norm

    def forward(self) -> Tensor:
        """[2 * span, hidden_size], normalised where the model says so."""
        vectors: Tensor = self.norm(self.table.weight)
        return vectors


class DisentangledScores(nn.Module):
    """Content-to-position and position-to-content scores (He et al. 2021, equation 4).

    score(i, j) = q_i . K_r[d(i, j)] + k_j . Q_r[d(i, j)], K_r and Q_r being the relative vectors through the layer's
    own projections or through two of their own. (The paper writes d(j, i) in the second term and reverses the table.)
    """

    def __init__(self, d: arch.Disentangled, hidden_size: int, heads: int) -> None:
        super().__init__()
        self.d, self.heads = d, heads
        own = not d.share_key
        self.key_proj = nn.Linear(hidden_size, hidden_size, bias=d.key_bias) if own and d.content_to_position else None
        self.query_proj = nn.Linear(hidden_size, hidden_size) if own and d.position_to_content else None

    def forward(
        self, q_BNTH: Tensor, k_BNSH: Tensor, table_RD: Tensor, shared: tuple[nn.Module, nn.Module], offset_BTS: Tensor
    ) -> Tensor:
        """Unscaled scores [B, N, T, S]; ``shared`` are the layer's query and key projections."""
        span = min(self.d.span, offset_BTS.shape[-1]) if self.d.within_length else self.d.span
        table_RD = table_RD[self.d.span - span : self.d.span + span]
        rows_BTS = (self.rows(offset_BTS) + span).clamp(0, 2 * span - 1)
        scores = q_BNTH.new_zeros(())
        if self.d.content_to_position:
            k_NRH = self._heads((self.key_proj or shared[1])(table_RD))
            scores = scores + _pick(q_BNTH @ k_NRH.mT, rows_BTS)
        if self.d.position_to_content:
            q_NRH = self._heads((self.query_proj or shared[0])(table_RD))
            scores = scores + _pick(k_BNSH @ q_NRH.mT, rows_BTS.mT).mT
        return scores

    def rows(self, offset_BTS: Tensor) -> Tensor:
        """Query minus key position, near ones exact, far ones in logarithmic buckets (DeBERTaV2)."""
        if self.d.buckets <= 0:
            return offset_BTS
        half = self.d.buckets // 2
        distance = offset_BTS.abs().clamp_min(half)
        growth = (distance / half).log() / math.log((self.d.max_distance - 1) / half)
        far = (growth * (half - 1)).ceil().long() + half
        return torch.where(offset_BTS.abs() <= half, offset_BTS, far * offset_BTS.sign())

    def _heads(self, x_RD: Tensor) -> Tensor:
        return x_RD.view(x_RD.shape[0], self.heads, -1).transpose(0, 1)


class RelativeKeyScores(nn.Module):
    """A learned vector per distance, [2 * rows - 1, head_dim], times the query (Shaw et al. 2018, equation 5)."""

    def __init__(self, r: arch.RelativeKeys, head_dim: int) -> None:
        super().__init__()
        self.r = r
        self.table = nn.Embedding(2 * r.rows - 1, head_dim)

    def forward(self, q_BNTH: Tensor, k_BNSH: Tensor, offset_BTS: Tensor) -> Tensor:
        """Unscaled scores [B, N, T, S]; with ``queries`` also the key's product with the same vector."""
        rows_BTS = (offset_BTS + self.r.rows - 1).clamp(0, 2 * self.r.rows - 2)
        scores = _pick(q_BNTH @ self.table.weight.T, rows_BTS)
        if self.r.queries:
            scores = scores + _pick(k_BNSH @ self.table.weight.T, rows_BTS.mT).mT
        return scores


def _pick(scores_BNTR: Tensor, rows_BTS: Tensor) -> Tensor:
    """Of each query's scores with every relative vector those of its distances to the keys: [B, N, T, S]."""
    return scores_BNTR.gather(-1, rows_BTS[:, None].expand(*scores_BNTR.shape[:2], -1, -1))
