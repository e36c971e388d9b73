"""Several residual streams: a step reads a weighted sum of them and writes to each with a weight of its own.

Hyper-connections (Zhu et al. 2025, arXiv 2409.19606); with the old streams mixed by a doubly stochastic matrix they are
DeepSeek-V4's manifold-constrained ones (section 2.2). All weights are made of the streams themselves, token by token.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.norms import normalise


def _flat(x_BTND: Tensor, eps: float) -> Tensor:
    """All streams of a token side by side, normed without a weight, in fp32: [B, T, N * D]."""
    return normalise(x_BTND.flatten(2), "rmsnorm", eps)


def _read(x_BTND: Tensor, weights_BTN: Tensor) -> Tensor:
    return (weights_BTN[..., None] * x_BTND).sum(2).to(x_BTND.dtype)


class HyperConnection(nn.Module):
    """One step between streams [B, T, N, D]."""

    def __init__(self, h: arch.HyperConnection) -> None:
        super().__init__()
        self.h = h
        outputs = 2 * h.streams + (h.streams**2 if h.mixing else 0)
        self.matrix = nn.Parameter(torch.empty(outputs, h.streams * h.hidden_size))
        self.biases = nn.Parameter(torch.empty(outputs))
        self.scales = nn.Parameter(torch.empty(3 if h.mixing else 2))

    def forward(self, x_BTND: Tensor, step: Callable[[Tensor], Tensor]) -> Tensor:
        """[B, T, N, D] -> the same; ``step`` is [B, T, D] -> [B, T, D]."""
        n, weights = self.h.streams, F.linear(_flat(x_BTND, self.h.norm_eps), self.matrix.float())
        biases = self.biases.float()
        read_BTN = torch.sigmoid(weights[..., :n] * self.scales[0] + biases[:n]) + self.h.eps
        write_BTN = torch.sigmoid(weights[..., n : 2 * n] * self.scales[1] + biases[n : 2 * n])
        write_BTN = self.h.magnitude * write_BTN + self.h.write_eps
        out_BTD = step(_read(x_BTND, read_BTN))
        kept_BTND = x_BTND
        if self.h.mixing:
            mixing_BTNN = self.mixing((weights[..., 2 * n :] * self.scales[2] + biases[2 * n :]).unflatten(-1, (n, n)))
            kept_BTND = mixing_BTNN.to(x_BTND.dtype).mT @ x_BTND
        return (write_BTN[..., None] * out_BTD[:, :, None] + kept_BTND).to(x_BTND.dtype)

    def mixing(self, logits_BTNN: Tensor) -> Tensor:
        """Doubly stochastic by rounds of dividing rows and columns by their sums (Sinkhorn and Knopp 1967)."""
        eps = self.h.eps
        m = logits_BTNN.softmax(-1) + eps
        m = m / (m.sum(-2, keepdim=True) + eps)
        for _ in range(self.h.mixing - 1):
            m = m / (m.sum(-1, keepdim=True) + eps)
            m = m / (m.sum(-2, keepdim=True) + eps)
        return m


class StreamHead(nn.Module):
    """The streams as one: [B, T, N, D] -> [B, T, D]."""

    def __init__(self, h: arch.StreamHead) -> None:
        super().__init__()
        self.h = h
        self.matrix = nn.Parameter(torch.empty(h.streams, h.streams * h.hidden_size))
        self.biases = nn.Parameter(torch.empty(h.streams))
        self.scales = nn.Parameter(torch.empty(1))

    def forward(self, x_BTND: Tensor) -> Tensor:
        """[B, T, N, D] -> [B, T, D]."""
        weights = F.linear(_flat(x_BTND, self.h.norm_eps), self.matrix.float())
        return _read(x_BTND, torch.sigmoid(weights * self.scales.float() + self.biases.float()) + self.h.eps)
