"""Positions that are added: to the input (sinusoidal, learned) or to the scores (ALiBi, T5's relative bias).

Rotary positions, which turn queries and keys instead, stand in ``rotary``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from txcalc import architecture as arch


def sinusoidal(positions: arch.Sinusoidal, rows_BT: Tensor) -> Tensor:
    """Sines and cosines of given rows, [B, T] -> [B, T, width] in fp32 (Vaswani et al. 2017, section 3.5).

    PE(row, 2i) = sin(row / 10000^(2i / width)), PE(row, 2i + 1) = cos of the same; laid out in turn where
    ``interleaved``, else all sines before all cosines, as later code bases do, at tensor2tensor's rates.
    """
    pairs = positions.width // 2
    steps = torch.arange(pairs, device=rows_BT.device, dtype=torch.float32)
    spread = pairs if positions.interleaved or positions.paper_rates else max(pairs - 1, 1)
    angles = rows_BT[..., None].float() * torch.exp(steps * (-math.log(10_000.0) / spread))
    both = (angles.sin(), angles.cos())
    return torch.stack(both, dim=-1).flatten(-2) if positions.interleaved else torch.cat(both, dim=-1)


def alibi_slopes(heads: int, max_bias: float) -> list[float]:
    """One slope a head (Press et al. 2022, section 3): 2^(-max_bias / n), 2^(-2 max_bias / n), ...

    Where heads are no power of two: those of the power below, then every second one of the power above.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-max_bias * (i + 1) / power) for i in range(power)]
    between = [2.0 ** (-max_bias * (i + 1) / (2 * power)) for i in range(0, 2 * power, 2)]
    return (slopes + between)[:heads]


def alibi_bias(alibi: arch.Alibi, slopes_N: Tensor, q_BT: Tensor, k_BS: Tensor) -> Tensor:
    """-slope * distance for every pair, [1 or B, N, T, S] in fp32 (Press et al. 2022, section 3).

    ``rounded``: slope * key position in bfloat16, for a query anywhere: without the rounding it would be the same.
    """
    if alibi.rounded:
        bias_BNS = slopes_N.bfloat16()[:, None] * k_BS[:, None, :].bfloat16()
        return bias_BNS[:, :, None].float().expand(-1, -1, q_BT.shape[-1], -1)
    distance_BTS = q_BT[:, :, None] - k_BS[:, None, :]
    return -slopes_N[:, None, None] * distance_BTS[:, None].float()


class RelativeBias(nn.Module):
    """T5's table of biases, [num_buckets, heads]: near distances have a bucket each, far ones share (section 2.1)."""

    def __init__(self, bias: arch.RelativeBias, heads: int) -> None:
        super().__init__()
        self.bias = bias
        self.table = nn.Embedding(bias.num_buckets, heads)

    def forward(self, q_BT: Tensor, k_BS: Tensor) -> Tensor:
        """Positions [1 or B, T] and [1 or B, S] -> biases [1 or B, N, T, S]."""
        buckets_BTS = self.buckets(k_BS[:, None, :] - q_BT[:, :, None])
        biases_BTSN: Tensor = self.table(buckets_BTS)
        return biases_BTSN.permute(0, 3, 1, 2)

    def buckets(self, offset: Tensor) -> Tensor:
        """The bucket of each offset (key minus query): exact for the nearer half, logarithmic up to max_distance."""
        buckets = self.bias.num_buckets
        side = torch.zeros_like(offset)
        if self.bias.bidirectional:
            buckets //= 2
            side = (offset > 0).long() * buckets
            distance = offset.abs()
        else:
            distance = (-offset).clamp_min(0)
        exact = buckets // 2
        growth = (distance.clamp_min(1).float() / exact).log() / math.log(self.bias.max_distance / exact)
        far = (exact + (growth * (buckets - exact)).long()).clamp_max(buckets - 1)
        return side + torch.where(distance < exact, distance, far)
