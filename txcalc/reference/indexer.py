"""Sparse attention: a small scorer picks the keys that each query will look at (DeepSeek-V3.2, section 2.1).

I(t, s) = sum over heads j of w_j(t) ReLU(q_j(t) . k(s)); query t attends to the ``top_k`` keys with the largest I.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.attention import split_heads
from txcalc.reference.context import Context
from txcalc.reference.norms import Norm
from txcalc.reference.rotary import rotate


class Indexer(nn.Module):
    """Scores of every key for every query, from one key of ``head_dim`` a token; a choice has no gradient."""

    def __init__(self, i: arch.Indexer, hidden_size: int) -> None:
        super().__init__()
        self.i = i
        self.q_proj = nn.Linear(i.query_size, i.num_heads * i.head_dim, bias=False)
        self.k_proj = nn.Linear(hidden_size, i.head_dim, bias=False)
        self.k_norm = Norm(arch.Norm(kind="layernorm", width=i.head_dim, eps=i.norm_eps, bias=True))
        self.head_weights = nn.Linear(hidden_size, i.num_heads, bias=False)

    def keys(self, x_BTD: Tensor, rotary: arch.Rotary | None, context: Context) -> Tensor:
        """[B, 1, T, head_dim]: what is kept of each token."""
        return self._turned(self.k_norm(self.k_proj(x_BTD))[:, :, None], rotary, context).transpose(1, 2)

    def choose(
        self, x_BTD: Tensor, queries_BTQ: Tensor, k_B1SH: Tensor, visible: Tensor, rotary: arch.Rotary | None,
        context: Context,
    ) -> Tensor:  # fmt: skip
        """Which keys each query looks at, boolean [B, 1, T, S]: the best ``top_k`` of those that are ``visible``."""
        if k_B1SH.shape[2] <= self.i.top_k:
            return visible
        with torch.no_grad():
            q_BTJH = self._turned(split_heads(self.q_proj(queries_BTQ), self.i.num_heads), rotary, context)
            scores_BJTS = F.relu(q_BTJH.transpose(1, 2).float() @ k_B1SH.float().mT * self.i.head_dim**-0.5)
            weights_BTJ = self.head_weights(x_BTD).float() * self.i.num_heads**-0.5
            index_BTS = (weights_BTJ.transpose(1, 2)[..., None] * scores_BJTS).sum(1)
            index_BTS = index_BTS.masked_fill(~visible[:, 0], float("-inf"))
            chosen = torch.zeros_like(index_BTS, dtype=torch.bool)
            chosen.scatter_(-1, index_BTS.topk(self.i.top_k, dim=-1).indices, True)
        return chosen[:, None] & visible

    def _turned(self, x_BTNH: Tensor, rotary: arch.Rotary | None, context: Context) -> Tensor:
        if rotary is None or not self.i.rope_dim:
            return x_BTNH
        turns = context.turns(rotary, x_BTNH.dtype)
        if not self.i.turns_last:
            return rotate(x_BTNH, turns, self.i.interleaved)
        kept, turned = x_BTNH.split([self.i.head_dim - self.i.rope_dim, self.i.rope_dim], dim=-1)
        return torch.cat((kept, rotate(turned, turns, self.i.interleaved)), dim=-1)
