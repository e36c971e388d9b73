"""GGUF files: plain tensors as views of the file, blocks dequantised by the ``gguf`` package as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from txcalc.cards.gguf_header import GgufTensor, read_header
from txcalc.errors import MissingExtraError, ModelError
from txcalc.reference.checkpoints.checkpoint import Checkpoint, mapped, view

_PLAIN: Final = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class GgufFile(Checkpoint):
    """One .gguf file; its header's metadata stands in ``header.metadata``. Blocks become fp32."""

    dtype = torch.float32

    def __init__(self, path: str) -> None:
        self.path = path
        self.header = read_header(path)
        self.memory = mapped(path)

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.header.tensors[name]
        if tensor.type in _PLAIN:
            return view(self.memory, tensor.start, tensor.end, _PLAIN[tensor.type], tensor.shape)
        return self._dequantised(tensor)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor, from the header alone."""
        return self.header.tensors[name].shape

    def names(self) -> Iterator[str]:
        """Every tensor's name."""
        return iter(self.header.tensors)

    def _dequantised(self, tensor: GgufTensor) -> Tensor:
        """Blocks -> fp32.

        Raises:
            MissingExtraError: the gguf package is not installed.
            ModelError: it cannot dequantise this type.
        """
        try:
            import gguf
        except ModuleNotFoundError:
            raise MissingExtraError(
                f"{tensor.name} is {tensor.type}: dequantising needs the gguf package", "pip install 'txcalc[gguf]'"
            ) from None
        raw = view(self.memory, tensor.start, tensor.end, torch.uint8, (*tensor.shape[:-1], -1))
        kind = gguf.GGMLQuantizationType[tensor.type]
        try:
            values = gguf.quants.dequantize(raw.numpy(), kind)
        except NotImplementedError:
            raise ModelError(f"{self.path}: {tensor.name} is {tensor.type}, which is not dequantised") from None
        return torch.from_numpy(values).view(tensor.shape)
