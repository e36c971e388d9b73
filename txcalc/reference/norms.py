"""Normalisation: keep the size of the residual stream in hand, channel by channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch


def normalise(x: Tensor, kind: str, eps: float) -> Tensor:
    """Divide the last axis by its size, in fp32: [..., width] -> [..., width] in fp32.

    ``layernorm``: (x - mean) / sqrt(variance + eps) (Ba et al. 2016, equation 4). ``rmsnorm``: x / sqrt(mean of
    squares + eps) (Zhang and Sennrich 2019, equation 4). ``l2``: x / sqrt(sum of squares + eps).
    """
    x = x.float()
    match kind:
        case "layernorm":
            x = x - x.mean(-1, keepdim=True)
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
        case "rmsnorm":
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
        case _:
            return x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + eps)


class Norm(nn.Module):
    """One normalisation of [..., width], then a weight per channel and perhaps a bias."""

    def __init__(self, norm: arch.Norm) -> None:
        super().__init__()
        self.kind, self.eps, self.unit_offset = norm.kind, norm.eps, norm.unit_offset
        self.weight = nn.Parameter(torch.empty(norm.width)) if norm.weight else None
        self.bias = nn.Parameter(torch.empty(norm.width)) if norm.bias else None
        self.gate_down = nn.Linear(norm.width, norm.gate_rank, bias=False) if norm.gate_rank else None
        self.gate_up = nn.Linear(norm.gate_rank, norm.width, bias=False) if norm.gate_rank else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        y = self.plain(x)
        if self.gate_down is None or self.gate_up is None:
            return y
        gate = torch.sigmoid(self.gate_up(F.silu(self.gate_down(y))).float())
        return (y * gate).to(y.dtype)

    def plain(self, x: Tensor) -> Tensor:
        """The normalisation itself."""
        if self.kind == "layernorm":
            weight = self.weight if self.weight is None or not self.unit_offset else self.weight + 1.0
            return F.layer_norm(x, x.shape[-1:], weight, self.bias, self.eps)
        return scaled(normalise(x, self.kind, self.eps), self.weight, self.bias, self.unit_offset, x.dtype)


class HeadNorm(nn.Module):
    """A normalisation of queries or keys, [B, T, heads, head_dim] (see ``architecture.QKNorm`` for its scopes)."""

    def __init__(self, norm: arch.QKNorm, heads: int, head_dim: int) -> None:
        super().__init__()
        self.kind, self.eps, self.unit_offset = norm.kind, norm.eps, norm.unit_offset
        self.over_heads = norm.scope == "width"
        shape = {"head": (head_dim,), "heads": (heads, head_dim), "width": (heads * head_dim,)}[norm.scope]
        self.weight = nn.Parameter(torch.empty(shape)) if norm.weight else None
        self.bias = nn.Parameter(torch.empty(shape)) if norm.weight and norm.bias else None

    def forward(self, x_BTNH: Tensor) -> Tensor:
        """[B, T, heads, head_dim] -> the same."""
        x = x_BTNH.flatten(-2) if self.over_heads else x_BTNH
        x = scaled(normalise(x, self.kind, self.eps), self.weight, self.bias, self.unit_offset, x.dtype)
        return x.view_as(x_BTNH)


def scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None, unit_offset: bool, dtype: torch.dtype) -> Tensor:
    """A normalised x in fp32, times its weight, in ``dtype``.

    With a unit offset the product is taken before x is rounded to ``dtype``: 1 + weight loses what a small weight says
    if it is rounded first.
    """
    if unit_offset and weight is not None:
        x = (x * (1.0 + weight.float())).to(dtype)
    elif weight is not None:
        x = x.to(dtype) * weight
    else:
        x = x.to(dtype)
    return x if bias is None else x + bias


class Nothing(nn.Identity):
    """No norm: so that a block's equation has no ifs. Called without a module's ceremony, as a layer has many."""

    def __call__(self, x: Tensor) -> Tensor:
        """x itself."""
        return x


def optional_norm(norm: arch.Norm | None) -> nn.Module:
    """The norm, or nothing."""
    return Nothing() if norm is None else Norm(norm)
