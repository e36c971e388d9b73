"""Causal convolutions over the sequence, one filter a channel: what recurrent mixers use to look a few tokens back."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.cache import CacheSpec, StateCache
from txcalc.reference.context import Context
from txcalc.reference.feed_forward import ACTIVATIONS
from txcalc.reference.sublayer import Sublayer

WINDOW = "window"  # the name of a convolution's state: its last kernel - 1 inputs


class CausalConvolution(nn.Module):
    """y_t = sum over i < kernel of w_i x_(t - i), channel by channel: [B, T, channels] -> the same."""

    def __init__(self, channels: int, kernel: int, *, bias: bool) -> None:
        super().__init__()
        self.channels, self.kernel = channels, kernel
        self.weight = nn.Parameter(torch.empty(channels, kernel))
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None

    def forward(self, x_BTC: Tensor, context: Context, kept: StateCache | None) -> Tensor:
        """[B, T, channels] -> the same; the inputs that later tokens look back on are kept."""
        x_BCT = x_BTC.transpose(1, 2)
        if kept is None:
            seen_BCT = F.pad(x_BCT, (self.kernel - 1, 0))
        else:
            seen_BCT = torch.cat((kept[WINDOW].to(x_BCT.dtype), x_BCT), dim=-1)
            kept[WINDOW] = self._last(seen_BCT, context)
        y_BCT = F.conv1d(seen_BCT, self.weight[:, None], self.bias, groups=self.channels)
        return y_BCT.transpose(1, 2)

    def window(self, spec: CacheSpec) -> Tensor:
        """An empty window, [B, channels, kernel - 1]."""
        return torch.zeros(spec.batch, self.channels, self.kernel - 1, device=spec.device, dtype=spec.dtype)

    def _last(self, seen_BCT: Tensor, context: Context) -> Tensor:
        """Each row's last kernel - 1 inputs that are not padding."""
        if not context.padded:
            return seen_BCT[..., seen_BCT.shape[-1] - self.kernel + 1 :]
        rows = [row[:, count : count + self.kernel - 1] for row, count in zip(seen_BCT, context.counts, strict=True)]
        return torch.stack(rows)


class ShortConvolution(Sublayer):
    """LFM2's mixer: y = C * conv(B * x), where B, C and x are projections of the input (technical report, 2.1)."""

    def __init__(self, c: arch.ShortConvolution) -> None:
        super().__init__()
        self.in_proj = nn.Linear(c.hidden_size, 3 * c.hidden_size, bias=c.bias)
        self.conv = CausalConvolution(c.hidden_size, c.conv_kernel, bias=c.bias)
        self.out_proj = nn.Linear(c.hidden_size, c.hidden_size, bias=c.bias)

    def forward(self, x_BTD: Tensor, context: Context, kept: StateCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        before, after, x = self.in_proj(x_BTD).chunk(3, dim=-1)
        out_BTD: Tensor = self.out_proj(after * self.conv(before * x, context, kept))
        return out_BTD

    def new_cache(self, spec: CacheSpec) -> StateCache:
        """The convolution's last inputs."""
        return StateCache(window=self.conv.window(spec))


class TokenConvolution(Sublayer):
    """Every channel from all channels of its group at the tokens around it, then an activation (DeBERTa-v2).

    Padding is zero before the filters, as it is where the published model puts this sublayer: on the embeddings.
    """

    def __init__(self, c: arch.TokenConvolution) -> None:
        super().__init__()
        D, around = c.hidden_size, (c.conv_kernel - 1) // 2
        self.conv = nn.Conv1d(D, D, c.conv_kernel, padding=around, groups=c.groups, bias=c.bias)
        self.activation = ACTIVATIONS[c.activation]

    def forward(self, x_BTD: Tensor, context: Context, kept: None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        if context.padded:
            x_BTD = x_BTD * context.real_BT[..., None]
        y_BTD = self.conv(x_BTD.transpose(1, 2)).transpose(1, 2)
        return self.activation(y_BTD)
