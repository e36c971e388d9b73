"""Faster matrix products on a CPU: weights laid out once as oneDNN's kernels read them, and maps of one input fused.

The plain modules stay as they are written; ``pack`` puts others in their places that give the same numbers, those of
``lean`` among them. A packed model can run and no longer be trained or saved. The operators are torch's own but
private: where they are missing, or the processor cannot run them, ``reason_against_packing`` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from txcalc.errors import RequestError
from txcalc.reference.attention import SelfAttention
from txcalc.reference.experts import Experts
from txcalc.reference.feed_forward import FeedForward, inner
from txcalc.reference.heads import Head
from txcalc.reference.lean import make_lean
from txcalc.reference.model import Transformer

_READ_ELSEWHERE = ("kv_b_proj",)  # latent attention takes this matrix apart (absorbed decoding)


def reason_against_packing(model: nn.Module) -> str:
    """Why a model cannot be packed; empty where it can."""
    parameter = next(model.parameters())
    if parameter.device.type != "cpu":
        return f"packed weights are for the CPU; this model is on {parameter.device.type}"
    if not hasattr(torch.ops.mkldnn, "_reorder_linear_weight") or not torch.backends.mkldnn.is_available():
        return "this torch has no oneDNN linear operators"
    if parameter.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "this processor has no bf16 products"
    if parameter.dtype not in (torch.float32, torch.bfloat16):
        return f"oneDNN packs float32 and bfloat16, not {str(parameter.dtype).removeprefix('torch.')}"
    return ""


def pack(model: Transformer) -> None:
    """Replace the model's linear maps, its head included, by packed ones.

    Raises:
        RequestError: it cannot be packed.
    """
    reason = reason_against_packing(model)
    if reason:
        raise RequestError(reason, "run it unpacked")
    model.requires_grad_(False)
    _pack_head(model)
    parents = [module for module in model.modules() if any(True for _ in module.children())]  # not what is replaced:
    for module in parents:  # every plain matrix is let go as its packed one is made
        if isinstance(module, SelfAttention):
            _fuse(module, ("q_proj", "k_proj", "v_proj"))
        elif isinstance(module, FeedForward):
            _fuse(module, ("gate_proj", "up_proj"))
        for name, child in module.named_children():
            if type(child) is Experts:
                setattr(module, name, PackedExperts(child))
            elif type(child) is nn.Linear and name not in _READ_ELSEWHERE:
                setattr(module, name, PackedLinear(child.weight, child.bias))
            del child
    make_lean(model)


class PackedLinear(nn.Module):
    """x W^T + b with W in oneDNN's own layout: [.., in] -> [.., out]."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), 1)
        self.bias_N = None if bias is None else bias.detach().clone()
        self.product = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, x: Tensor) -> Tensor:
        """[.., in] -> [.., out]."""
        return self.product(x, self.packed, self.bias_N, "none", [], "")


class Fused:
    """Several maps of one input as one product: the first that is asked computes for all, the last one lets go."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        self.widths = [linear.out_features for linear in linears]
        biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
        whole = PackedLinear(torch.cat([linear.weight for linear in linears]), torch.cat(biases) if biases else None)
        self.product = whole
        self.input: Tensor | None = None
        self.outputs: dict[int, Tensor] = {}

    def part(self, index: int, x: Tensor) -> Tensor:
        """What map number ``index`` makes of x."""
        if self.input is not x:
            self.input, self.outputs = x, dict(enumerate(self.product(x).split(self.widths, dim=-1)))
        output = self.outputs.pop(index)
        if not self.outputs:
            self.input = None
        return output


class FusedPart(nn.Module):
    """One of the maps of a ``Fused``, standing where its linear map stood."""

    def __init__(self, fused: Fused, index: int) -> None:
        super().__init__()
        self.fused, self.index = fused, index

    def forward(self, x: Tensor) -> Tensor:
        """[.., in] -> [.., out]."""
        return self.fused.part(self.index, x)


class PackedExperts(nn.Module):
    """A feed-forward an expert, its gate and up maps as one product."""

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        self.f, self.xielu = experts.f, experts.xielu
        first = [(experts.gate_proj, experts.gate_bias), (experts.up_proj, experts.up_bias)]
        self.into = [
            self._packed(e, [each for each in first if each[0] is not None]) for e in range(experts.num_experts)
        ]
        self.out = [self._packed(e, [(experts.down_proj, experts.down_bias)]) for e in range(experts.num_experts)]

    @staticmethod
    def _packed(expert: int, maps: Sequence[tuple[Any, Tensor | None]]) -> PackedLinear:
        biases = [bias[expert] for _, bias in maps if bias is not None]
        return PackedLinear(torch.cat([matrix[expert] for matrix, _ in maps]), torch.cat(biases) if biases else None)

    def forward(self, expert: int, x_MD: Tensor) -> Tensor:
        """Tokens [M, D] through one expert."""
        *gate, up = self.into[expert](x_MD).split(self.f.intermediate_size, dim=-1)
        out_MD: Tensor = self.out[expert](inner(self.f, gate[0] if gate else None, up, self.xielu))
        return out_MD


class PackedHead:
    """Stands for ``F.linear`` in a head: the matrix that it is given is the one that was packed."""

    def __init__(self, matrix_VD: Tensor, bias: Tensor | None) -> None:
        self.product = PackedLinear(matrix_VD, bias)

    def __call__(self, x: Tensor, matrix_VD: Tensor, bias: Tensor | None) -> Tensor:
        """[.., D] -> [.., V]."""
        return self.product(x)


def _fuse(module: nn.Module, names: Sequence[str]) -> None:
    linears = [getattr(module, name, None) for name in names]
    found = [(name, linear) for name, linear in zip(names, linears, strict=True) if type(linear) is nn.Linear]
    biased = {linear.bias is not None for _, linear in found}
    if len(found) < 2 or len(biased) > 1:
        return
    fused = Fused([linear for _, linear in found])
    for index, (name, _) in enumerate(found):
        setattr(module, name, FusedPart(fused, index))


def _pack_head(model: Transformer) -> None:
    for head in (model.head, model.pooled_head):
        if isinstance(head, Head):
            matrix_VD = model.table(head.head.tied_to) if head.matrix is None else head.matrix
            head.linear = PackedHead(matrix_VD, head.bias)
