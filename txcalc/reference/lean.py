"""The same sums in fewer operations, for a model that only runs: at one token a layer's time is its operations' number.

What is written plainly in ``norms``, ``rotary`` and ``feed_forward`` (and stays there, because a backward pass and a
reader need every step of it) is replaced by ``make_lean``; ``packing`` asks for it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.attention import SelfAttention, turned
from txcalc.reference.context import Context
from txcalc.reference.experts import Router
from txcalc.reference.feed_forward import FeedForward
from txcalc.reference.norms import HeadNorm, Norm
from txcalc.reference.rotary import Turns
from txcalc.reference.sublayer import Sublayer


def make_lean(model: nn.Module) -> None:
    """Put lean modules in the places of plain ones. The model can no longer be trained."""
    for module in list(model.modules()):
        if isinstance(module, SelfAttention):
            module.turn = turned_at_once
        if isinstance(module, Router):
            module.weight.data = module.weight.data.float()  # it chooses in fp32: cast once, not at every token
        for name, child in module.named_children():
            if isinstance(child, Norm | HeadNorm) and child.kind == "rmsnorm" and child.bias is None:
                setattr(module, name, LeanNorm(child))
            elif isinstance(child, FeedForward) and _is_swiglu(child.f):
                setattr(module, name, LeanSwiGLU(child))


class LeanNorm(nn.Module):
    """x / sqrt(|x|^2 / width + eps): the size of each row in one operation, and no copy of x in fp32 for it."""

    def __init__(self, norm: Norm | HeadNorm) -> None:
        super().__init__()
        self.over_heads = isinstance(norm, HeadNorm) and norm.over_heads
        self.unit_offset, self.weight = norm.unit_offset, None if norm.weight is None else norm.weight.detach()
        if self.unit_offset and self.weight is not None:
            self.weight = 1.0 + self.weight.float()
        self.eps = torch.tensor(norm.eps)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        if self.over_heads:
            return self._normed(x.flatten(-2)).view_as(x)
        return self._normed(x)

    def _normed(self, x: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        y = x * torch.addcmul(self.eps, size, size, value=1 / x.shape[-1]).rsqrt_()
        if self.weight is None:
            return y.to(x.dtype)
        return y.mul_(self.weight).to(x.dtype) if self.unit_offset else y.to(x.dtype).mul_(self.weight)


class LeanSwiGLU(Sublayer):
    """silu(gate) * up, multiplied in place."""

    def __init__(self, plain: FeedForward) -> None:
        super().__init__()
        assert plain.gate_proj is not None
        self.gate_proj, self.up_proj, self.down_proj = plain.gate_proj, plain.up_proj, plain.down_proj

    def forward(self, x_BTD: Tensor, context: Context | None = None, kept: None = None) -> Tensor:
        """[.., D] -> [.., D]."""
        gate = F.silu(self.gate_proj(x_BTD))
        out: Tensor = self.down_proj(gate.mul_(self.up_proj(x_BTD)))
        return out


def _is_swiglu(f: arch.FeedForward) -> bool:
    plain = f.norm is None and f.gate_scale == 1.0 and not f.activation_sparsity
    return f.gated and f.activation == "silu" and plain


def turned_at_once(x_BTNH: Tensor, rotary: arch.Rotary, context: Context) -> Tensor:
    """x cos + (its partners) sin, with tables as wide as a head: [B, T, N, H] -> the same."""
    if rotary.rotary_dim != x_BTNH.shape[-1]:
        return turned(x_BTNH, rotary, context)
    key = ("wide", id(rotary), x_BTNH.dtype)
    cos, sin = context.once(key, lambda: _wide(context.turns(rotary, x_BTNH.dtype), rotary.interleaved))
    if rotary.interleaved:
        partners = x_BTNH.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    else:
        partners = x_BTNH.roll(rotary.rotary_dim // 2, -1)
    return torch.addcmul(x_BTNH * cos, partners, sin)


def _wide(narrow: Turns, interleaved: bool) -> Turns:
    """A cosine and a sine for every channel: of a pair (a, b) the partners are (b, a), the sines (-sin, sin)."""
    cos, sin = narrow
    if interleaved:
        return torch.stack((cos, cos), dim=-1).flatten(-2), torch.stack((-sin, sin), dim=-1).flatten(-2)
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
