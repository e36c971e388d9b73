"""Griffin's recurrent block: one number a channel is all that is kept of the past.

a_t = exp(-8 softplus(w) r_t),  h_t = a_t h_(t-1) + sqrt(1 - a_t^2) (i_t x_t), with gates r_t and i_t of the input (the
real-gated linear recurrent unit: De et al. 2024, arXiv 2402.19427, section 2.4).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.cache import CacheSpec, StateCache
from txcalc.reference.context import Context
from txcalc.reference.convolution import CausalConvolution
from txcalc.reference.feed_forward import ACTIVATIONS
from txcalc.reference.recurrent import empty_state, scan
from txcalc.reference.sublayer import Sublayer

SHARPNESS: Final = 8.0  # the paper's c


class BlockDiagonal(nn.Module):
    """A matrix of square blocks along its diagonal, one a head: [.., width] -> the same."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(blocks, width // blocks, width // blocks))  # [blocks, in, out]
        self.bias = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        """[.., width] -> the same."""
        blocks = x.view(*x.shape[:-1], self.weight.shape[0], 1, -1)
        return (blocks @ self.weight).flatten(-3) + self.bias


class RealGatedRecurrence(Sublayer):
    """[B, T, hidden_size] -> the same, through lru_width channels that each remember on their own."""

    def __init__(self, g: arch.RealGatedRecurrence) -> None:
        super().__init__()
        self.g = g
        self.x_proj = nn.Linear(g.hidden_size, g.lru_width)
        self.y_proj = nn.Linear(g.hidden_size, g.lru_width)
        self.conv = CausalConvolution(g.lru_width, g.conv_kernel, bias=True)
        self.input_gate = BlockDiagonal(g.lru_width, g.num_heads)
        self.recurrence_gate = BlockDiagonal(g.lru_width, g.num_heads)
        self.decay = nn.Parameter(torch.empty(g.lru_width))
        self.out_proj = nn.Linear(g.lru_width, g.hidden_size)

    def forward(self, x_BTD: Tensor, context: Context, kept: StateCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        y_BTW = ACTIVATIONS[self.g.activation](self.y_proj(x_BTD))
        x_BTW = self.conv(self.x_proj(x_BTD), context, kept)
        out_BTD: Tensor = self.out_proj(self.recurrence(x_BTW, context, kept).to(x_BTD.dtype) * y_BTW)
        return out_BTD

    def recurrence(self, x_BTW: Tensor, context: Context, kept: StateCache | None) -> Tensor:
        """The recurrence, in fp32: [B, T, lru_width] -> the same. The first token enters at its full size."""
        input_BTW = torch.sigmoid(self.input_gate(x_BTW))
        strength_BTW = torch.sigmoid(self.recurrence_gate(x_BTW)).float()
        decay_BTW = (-SHARPNESS * strength_BTW * F.softplus(self.decay.float())).exp()
        first_BT1 = (context.positions_BT == 0)[..., None]
        size_BTW = torch.where(first_BT1, 1.0, (1 - decay_BTW.square()).clamp_min(1e-12).sqrt())
        entering_BTW = (x_BTW * input_BTW).float() * size_BTW

        def step(h_BW: Tensor, t: int) -> tuple[Tensor, Tensor]:
            h_BW = decay_BTW[:, t] * h_BW + entering_BTW[:, t]
            return h_BW, h_BW

        return scan(step, entering_BTW.new_zeros(x_BTW.shape[0], self.g.lru_width), context, kept)

    def new_cache(self, spec: CacheSpec) -> StateCache:
        """The state, and the convolution's last inputs."""
        return StateCache(state=empty_state(spec, self.g.lru_width), window=self.conv.window(spec))

    def initialise(self) -> None:
        """Decays such that a^8 lies about 0.95 (De et al. 2024, section 2.4)."""
        self.decay.fill_(-5.0)
