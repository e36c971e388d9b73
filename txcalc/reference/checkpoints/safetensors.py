"""safetensors files, one or several with an index."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from txcalc.cards.checkpoint import MAX_INDEX, require_listed, weight_map, weights_in
from txcalc.cards.files import read_mapping
from txcalc.cards.safetensors_header import read_header
from txcalc.configs.reader import shown
from txcalc.errors import ModelError
from txcalc.reference.checkpoints.checkpoint import Checkpoint, mapped, view

DTYPES: Final = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip


class SafetensorsFile(Checkpoint):
    """One .safetensors file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.header = read_header(path)
        self.memory = mapped(path)
        self.dtype = _most([(each.numel, each.dtype) for each in self.header.tensors.values()])

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.header.tensors[name]
        if tensor.dtype not in DTYPES:
            raise ModelError(f"{self.path}: tensor {shown(name)} is {tensor.dtype}, which torch has no type for")
        return view(self.memory, tensor.start, tensor.end, DTYPES[tensor.dtype], tensor.shape)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor, from the header alone."""
        return self.header.tensors[name].shape

    def names(self) -> Iterator[str]:
        """Every tensor's name."""
        return iter(self.header.tensors)


class ShardedFiles(Checkpoint):
    """Several files, and an index that says which tensor is in which."""

    def __init__(self, index: str) -> None:
        self.index = index
        where = weight_map(read_mapping(index, limit=MAX_INDEX), index)
        directory = os.path.dirname(index)
        self.files = {name: SafetensorsFile(os.path.join(directory, name)) for name in sorted(set(where.values()))}
        require_listed(where, {name: file.header.tensors for name, file in self.files.items()}, index)
        self.where = {name: file for file, each in self.files.items() for name in each}
        self.dtype = _most([(f.numel, n) for f in self.files.values() for n in [_name_of(f.dtype)]])

    def __getitem__(self, name: str) -> Tensor:
        return self.files[self.where[name]][name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor, from its file's header."""
        return self.files[self.where[name]].shape(name)

    def names(self) -> Iterator[str]:
        """Every tensor's name, file by file."""
        return iter(self.where)


def open_directory(directory: str) -> Checkpoint:
    """The weights of a directory: its index with all shards, or its one file.

    Raises:
        ModelError: there are none, only pickles, or an index that does not fit its files.
    """
    path = weights_in(directory)
    return ShardedFiles(path) if path.endswith(".json") else SafetensorsFile(path)


def _most(counts: list[tuple[int, str]]) -> torch.dtype:
    """The floating-point dtype of most elements; fp32 where there is none."""
    total: dict[str, int] = {}
    for numel, name in counts:
        if name in DTYPES and DTYPES[name].is_floating_point:
            total[name] = total.get(name, 0) + numel
    return DTYPES[max(total, key=lambda name: total[name])] if total else torch.float32


def _name_of(dtype: torch.dtype) -> str:
    return next(name for name, each in DTYPES.items() if each == dtype)
