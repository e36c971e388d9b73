"""Tensors as exporters lay them out: AutoGPTQ 0.7.1, AutoAWQ 0.2.9, bitsandbytes, compressed-tensors 0.20, gpt-oss.

Shapes and types are those that their modules register (qlinear_cuda_old, WQLinear_GEMM, Linear4bit's state dict,
PackedQuantizationCompressor); fp8's come from transformers' own module. Values are zeros: headers are read, not values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from math import ceil
from typing import Any

import torch
from transformers.integrations.finegrained_fp8 import FP8Linear

Tensors = dict[str, torch.Tensor]
Exporter = Callable[[str, torch.Tensor], Iterator[tuple[str, torch.Tensor]]]


def linear(name: str, tensor: torch.Tensor) -> bool:
    """Whether a tensor is the weight of a linear map inside a layer that exporters pack."""
    inside = ".layers." in name and name.endswith(".weight") and tensor.dim() == 2
    return inside and ".gate.weight" not in name and "norm" not in name


def exported(state: Tensors, export: Exporter, packs: Callable[[str, torch.Tensor], bool] = linear) -> Tensors:
    """A state dict with every linear map in the exporter's form."""
    made: Tensors = {}
    for name, tensor in state.items():
        if packs(name, tensor):
            made |= dict(export(name.removesuffix(".weight"), tensor))
        else:
            made[name] = tensor
    return made


def _zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def gptq(bits: int, group: int) -> Exporter:
    def export(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        outfeatures, infeatures = weight.shape
        group_size = group if group != -1 else infeatures
        yield f"{name}.qweight", _zeros(infeatures // 32 * bits, outfeatures, dtype=torch.int32)
        rows = ceil(infeatures / group_size)
        yield f"{name}.qzeros", _zeros(rows, outfeatures // 32 * bits, dtype=torch.int32)
        yield f"{name}.scales", _zeros(rows, outfeatures, dtype=torch.float16)
        yield f"{name}.g_idx", torch.tensor([i // group_size for i in range(infeatures)], dtype=torch.int32)

    return export


def awq_gemm(group: int) -> Exporter:
    def export(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        out_features, in_features = weight.shape
        yield f"{name}.qweight", _zeros(in_features, out_features // (32 // 4), dtype=torch.int32)
        yield f"{name}.qzeros", _zeros(in_features // group, out_features // (32 // 4), dtype=torch.int32)
        yield f"{name}.scales", _zeros(in_features // group, out_features, dtype=torch.float16)

    return export


def fp8(block: tuple[int, int] | None, scheme: str = "dynamic") -> Exporter:
    def export(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        out_features, in_features = weight.shape
        module = FP8Linear(in_features, out_features, block_size=block, activation_scheme=scheme)
        yield from ((f"{name}.{key}", value.detach()) for key, value in module.state_dict().items())

    return export


def bnb_4bit(kind: str, *, nested: bool) -> Exporter:
    """QuantState.as_dict(packed=True) beside the packed weight."""

    def export(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        blocks = ceil(weight.numel() / 64)
        settings: dict[str, Any] = {
            "quant_type": kind,
            "blocksize": 64,
            "dtype": "bfloat16",
            "shape": list(weight.shape),
        }
        yield f"{name}.weight", _zeros(ceil(weight.numel() / 2), 1, dtype=torch.uint8)
        yield f"{name}.weight.absmax", _zeros(blocks, dtype=torch.uint8 if nested else torch.float32)
        yield f"{name}.weight.quant_map", _zeros(16, dtype=torch.float32)
        if nested:
            yield f"{name}.weight.nested_absmax", _zeros(ceil(blocks / 256), dtype=torch.float32)
            yield f"{name}.weight.nested_quant_map", _zeros(256, dtype=torch.float32)
            settings |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.03}
        text = torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8)
        yield f"{name}.weight.quant_state.bitsandbytes__{kind}", text

    return export


def bnb_8bit(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    yield f"{name}.weight", _zeros(*weight.shape, dtype=torch.int8)
    yield f"{name}.SCB", _zeros(weight.shape[0], dtype=torch.float32)
    yield f"{name}.weight_format", torch.tensor(0, dtype=torch.uint8)


def pack_quantized(bits: int, group: int, *, symmetric: bool) -> Exporter:
    def export(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        rows, columns = weight.shape
        groups = 1 if group == -1 else columns // group
        yield f"{name}.weight_packed", _zeros(rows, ceil(columns * bits / 32), dtype=torch.int32)
        yield f"{name}.weight_scale", _zeros(rows, groups, dtype=torch.bfloat16)
        yield f"{name}.weight_shape", torch.tensor(weight.shape)
        if not symmetric:
            yield f"{name}.weight_zero_point", _zeros(ceil(rows * bits / 32), groups, dtype=torch.int32)

    return export


def compressed_8bit(dtype: torch.dtype, strategy: str, *, static: bool = False) -> Exporter:
    def export(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        yield f"{name}.weight", torch.zeros(weight.shape, dtype=dtype)
        yield (
            f"{name}.weight_scale",
            _zeros(*((1,) if strategy == "tensor" else (weight.shape[0], 1)), dtype=torch.bfloat16),
        )
        if static:
            yield f"{name}.input_scale", _zeros(1, dtype=torch.bfloat16)

    return export


def nvfp4(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    rows, columns = weight.shape
    yield f"{name}.weight_packed", _zeros(rows, columns // 2, dtype=torch.uint8)
    yield f"{name}.weight_scale", torch.zeros(rows, columns // 16, dtype=torch.float8_e4m3fn)
    yield f"{name}.weight_global_scale", _zeros(1, dtype=torch.float32)
    yield f"{name}.input_global_scale", _zeros(1, dtype=torch.float32)


def mxfp4(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """gpt-oss's experts [E, in, out]: blocks of 32 along the input, two numbers a byte."""
    experts, size_in, size_out = weight.shape
    yield f"{name}_blocks", _zeros(experts, size_out, size_in // 32, 16, dtype=torch.uint8)
    yield f"{name}_scales", _zeros(experts, size_out, size_in // 32, dtype=torch.uint8)
