"""The feed-forward sublayer: every token on its own through a wider space and back.

FFN(x) = act(x W_1) W_2 (Vaswani et al. 2017, section 3.3); with a gate: (act(x W_gate) * x W_up) W_down (Shazeer 2020,
equation 6: SwiGLU, GEGLU).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.context import Context
from txcalc.reference.norms import optional_norm
from txcalc.reference.sublayer import Sublayer


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x): GELU's first approximation (Hendrycks and Gimpel 2016, section 2)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": quick_gelu,
    "silu": F.silu,
    "swiglu_oai": F.silu,  # see _clamped
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class XIELU(nn.Module):
    """An activation with two learned slopes (Huang and Schlag 2024, arXiv 2411.13010, equation 10, beta = 1/2).

    a_p x^2 + x / 2 for x > 0, a_n (exp(x) - 1 - x) + x / 2 below, with a_p = softplus(p), a_n = 1/2 + softplus(n).
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha_p, self.alpha_n = (nn.Parameter(torch.empty(1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        positive = F.softplus(self.alpha_p) * x.square()
        negative = (0.5 + F.softplus(self.alpha_n)) * (torch.expm1(x.clamp(max=-1e-6)) - x)
        return torch.where(x > 0, positive, negative) + 0.5 * x


class FeedForward(Sublayer):
    """[.., hidden_size] -> [.., intermediate_size] -> [.., hidden_size]."""

    def __init__(self, f: arch.FeedForward) -> None:
        super().__init__()
        self.f = f
        self.gate_proj = nn.Linear(f.hidden_size, f.intermediate_size, bias=f.up_bias) if f.gated else None
        self.up_proj = nn.Linear(f.hidden_size, f.intermediate_size, bias=f.up_bias)
        self.xielu = XIELU() if f.activation == "xielu" else None
        self.norm = optional_norm(f.norm)
        self.down_proj = nn.Linear(f.intermediate_size, f.hidden_size, bias=f.down_bias)

    def forward(self, x_BTD: Tensor, context: Context | None = None, kept: None = None) -> Tensor:
        """[.., D] -> [.., D]."""
        gate = None if self.gate_proj is None else self.gate_proj(x_BTD)
        out: Tensor = self.down_proj(self.norm(inner(self.f, gate, self.up_proj(x_BTD), self.xielu)))
        return out


def inner(f: arch.FeedForward, gate: Tensor | None, up: Tensor, learned: nn.Module | None = None) -> Tensor:
    """What stands between the matrices: act(up), or act(gate) * up; [.., intermediate_size]."""
    act = learned or ACTIVATIONS[f.activation]
    if gate is None:
        return act(up)
    if f.gate_scale != 1.0:
        gate = gate * f.gate_scale
    if f.activation == "swiglu_oai":
        return _clamped(f, gate, up)
    if f.limit is not None:
        gate, up = gate.clamp(max=f.limit), up.clamp(-f.limit, f.limit)
    if f.activation_sparsity:
        gate = _sparse(gate, f.activation_sparsity)
    return act(gate) * up


def _clamped(f: arch.FeedForward, gate: Tensor, up: Tensor) -> Tensor:
    """gpt-oss: both branches clamped, the gate from above only, and 1 added to the other."""
    if f.limit is not None:
        gate, up = gate.clamp(max=f.limit), up.clamp(-f.limit, f.limit)
    return gate * torch.sigmoid(f.alpha * gate) * (up + 1)


def _sparse(gate: Tensor, share: float) -> Tensor:
    """Zero the lower ``share`` of channels, by the quantile of a Gaussian with their mean and deviation (Gemma 3n)."""
    cutoff = gate.mean(-1, keepdim=True) + gate.std(-1, keepdim=True, unbiased=False) * NormalDist().inv_cdf(share)
    return F.relu(gate - cutoff)
