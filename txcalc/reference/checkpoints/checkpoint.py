"""What every file of weights is: a mapping that knows the shape of a tensor without reading it."""

from __future__ import annotations

import mmap
from abc import abstractmethod
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


class Checkpoint(Mapping[str, Tensor]):
    """Names to tensors. ``dtype`` is the one in which most elements are held."""

    dtype: torch.dtype

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor, from the header alone."""

    @abstractmethod
    def names(self) -> Iterator[str]:
        """Every tensor's name, in the order of the file."""

    @property
    def numel(self) -> int:
        """Elements of all tensors, as the file counts them."""
        return sum(torch.Size(self.shape(name)).numel() for name in self)

    def __iter__(self) -> Iterator[str]:
        return self.names()

    def __len__(self) -> int:
        return sum(1 for _ in self.names())


def shape_of(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """The shape of a tensor in any mapping, without reading it where that can be avoided."""
    return state.shape(name) if isinstance(state, Checkpoint) else tuple(state[name].shape)


def mapped(path: str) -> mmap.mmap:
    """A file as memory: pages are read when they are touched, and written to nowhere but memory."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def view(memory: mmap.mmap, start: int, end: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """Bytes ``start`` to ``end`` as a tensor: no copy, unless the file holds the values out of step with their size."""
    if end == start:
        return torch.empty(shape, dtype=dtype)
    if start % dtype.itemsize:
        return torch.frombuffer(bytearray(memory[start:end]), dtype=dtype).view(shape)
    return torch.frombuffer(memory, dtype=dtype, offset=start, count=(end - start) // dtype.itemsize).view(shape)
