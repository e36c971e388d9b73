"""Masks that depend on what the tokens are: blocks of keys that an indexer picks, keys that their values speak for."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.context import Context, Keys
from txcalc.reference.norms import Norm
from txcalc.reference.rotary import rotate


class BlockIndexer(nn.Module):
    """MiniMax M3: each head scores every key, and picks blocks of keys for the query heads of its group."""

    def __init__(self, i: arch.BlockIndexer, hidden_size: int) -> None:
        super().__init__()
        self.i = i
        norm = arch.Norm(kind="rmsnorm", width=i.head_dim, eps=i.norm_eps, unit_offset=True)
        self.q_proj = nn.Linear(hidden_size, i.num_heads * i.head_dim, bias=False)
        self.k_proj = nn.Linear(hidden_size, i.head_dim, bias=False)
        self.q_norm, self.k_norm = Norm(norm), Norm(norm)

    def keys(self, x_BTD: Tensor, position: arch.Position | None, context: Context) -> Tensor:
        """[B, 1, T, head_dim]: what is kept of each token."""
        return self._turned(self.k_norm(self.k_proj(x_BTD))[:, :, None], position, context).transpose(1, 2)

    def choose(
        self, x_BTD: Tensor, keys: Keys, visible: Tensor, position: arch.Position | None, heads: int, context: Context
    ) -> Tensor:
        """Which keys each query head looks at, boolean [B, N, T, S]: the best blocks, and those next to the query."""
        i = self.i
        with torch.no_grad():
            q_BTJH = self.q_norm(self.q_proj(x_BTD).unflatten(-1, (i.num_heads, i.head_dim)))
            q_BJTH = self._turned(q_BTJH, position, context).transpose(1, 2)
            scores_BJTS = (q_BJTH.float() @ keys.tensors[2].float().mT).masked_fill(~visible, float("-inf"))
            blocks_BS = keys.positions_BS.clamp_min(0) // i.block_size
            picked = self._blocks(scores_BJTS, blocks_BS, context.positions_BT // i.block_size)
            index = blocks_BS[:, None, None, :].expand(*picked.shape[:-1], blocks_BS.shape[-1])
            chosen_BJTS = picked.gather(-1, index)
        return chosen_BJTS.repeat_interleave(heads // i.num_heads, dim=1) & visible

    def _blocks(self, scores_BJTS: Tensor, blocks_BS: Tensor, own_BT: Tensor) -> Tensor:
        """Which blocks are picked, [B, J, T, blocks]."""
        count = int(blocks_BS.max()) + 1
        best = scores_BJTS.new_full((*scores_BJTS.shape[:-1], count), float("-inf"))
        best = best.scatter_reduce(-1, blocks_BS[:, None, None, :].expand_as(scores_BJTS), scores_BJTS, "amax")
        near_BTL = (own_BT[..., None] - torch.arange(self.i.local_blocks, device=own_BT.device)).clamp_min(0)
        best = best.scatter(-1, near_BTL[:, None].expand(*best.shape[:-1], -1), float("inf"))
        picked = torch.zeros_like(best, dtype=torch.bool)
        return picked.scatter(-1, best.topk(min(self.i.top_k, count), dim=-1).indices, True)

    def _turned(self, x_BTNH: Tensor, position: arch.Position | None, context: Context) -> Tensor:
        if not isinstance(position, arch.Rotary):
            return x_BTNH
        return rotate(x_BTNH, context.turns(position, x_BTNH.dtype), position.interleaved)


class DynamicMask(nn.Module):
    """Doge: how much each key counts for every query is made of its value."""

    def __init__(self, m: arch.DynamicMask, kv_heads: int, v_head_dim: int) -> None:
        super().__init__()
        self.m = m
        self.A = nn.Parameter(torch.empty(kv_heads))
        self.dt_proj = nn.Linear(kv_heads * v_head_dim, kv_heads, bias=m.bias)

    def bias(self, v_BKSH: Tensor, heads: int) -> Tensor:
        """What is added to the scores, [B, N, 1, S]."""
        weight_BSK = torch.exp(self.A * F.softplus(self.dt_proj(v_BKSH.transpose(1, 2).flatten(-2))))
        return weight_BSK.transpose(1, 2).repeat_interleave(heads // len(self.A), dim=1)[:, :, None]

    def choose(self, v_BKSH: Tensor, visible: Tensor, heads: int) -> Tensor:
        """Which keys each query sees: of more than ``keep`` those that count most, boolean [B, N, T, S]."""
        if v_BKSH.shape[2] <= self.m.keep:
            return visible
        weight = self.bias(v_BKSH, heads).expand(-1, -1, visible.shape[2], -1).masked_fill(~visible, float("-inf"))
        kept = torch.zeros_like(weight, dtype=torch.bool)
        return kept.scatter(-1, weight.topk(self.m.keep, dim=-1).indices, True) & visible
