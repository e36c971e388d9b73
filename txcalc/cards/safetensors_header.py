"""Reads the header of a .safetensors file: names, types, shapes and places of its tensors, never the tensors.

Eight bytes of length, that many bytes of JSON, then the data (the format's README, "Format"). Everything is checked
against the size of the file before it is believed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from math import prod
from typing import Any, Final

from txcalc.cards.files import unreadable
from txcalc.configs.reader import shown
from txcalc.errors import ModelError
from txcalc.record import Record

MAX_HEADER: Final = 100_000_000  # the format's own limit
MAX_AXES: Final = 16
BITS: Final = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
_HINT: Final = "the file is damaged or was cut short; fetch it again"


class StoredTensor(Record):
    """One tensor in a file: bytes ``start`` to ``end`` of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def numel(self) -> int:
        """Its elements."""
        return prod(self.shape)


class SafetensorsHeader(Record):
    """All tensors of one file, by name, and its metadata."""

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]


def read_header(path: str) -> SafetensorsHeader:
    """The header of a .safetensors file.

    Raises:
        ModelError: the file cannot be read, its header is too long or no JSON, or a tensor does not lie in the file.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = length_of(file.read(8), size, path)
            text = file.read(length)
    except OSError as error:
        raise unreadable(path, error) from None
    return header_of(text, size, path)


def length_of(first: bytes, size: int, path: str) -> int:
    """How long the header of a file of ``size`` bytes is, from its first eight.

    Raises:
        ModelError: longer than the file, or than the format allows.
    """
    if size < 8 or len(first) < 8:
        raise ModelError(f"{path} has {size} bytes, too few for a safetensors file", _HINT)
    length = int.from_bytes(first[:8], "little")
    if length > min(MAX_HEADER, size - 8):
        limit = f"the file has {size:,} bytes" if length > size - 8 else f"the format allows {MAX_HEADER:,}"
        raise ModelError(f"{path}: a header of {length:,} bytes, and {limit}", _HINT)
    return length


def header_of(text: bytes, size: int, path: str) -> SafetensorsHeader:
    """What a header says, of a file of ``size`` bytes; ``path`` names it in errors.

    Raises:
        ModelError: no JSON, or a tensor that does not lie in the file.
    """
    entries = _entries(text, path)
    metadata = entries.pop("__metadata__", {})
    tensors = {name: _tensor(name, entry, path, 8 + len(text), size) for name, entry in entries.items()}
    _refuse_overlap(tensors, path)
    return SafetensorsHeader(tensors=tensors, metadata=metadata if isinstance(metadata, dict) else {})


def _entries(text: bytes, path: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ModelError(f"{path}: its header gives a name twice", _HINT)
        return made

    try:
        entries = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):  # ValueError: no JSON, no UTF-8, or a number of thousands of digits
        raise ModelError(f"{path}: its header is not JSON", "is it a safetensors file?") from None
    if not isinstance(entries, dict):
        raise ModelError(f"{path}: its header is not an object", "is it a safetensors file?")
    return entries


def _tensor(name: str, entry: Any, path: str, data: int, size: int) -> StoredTensor:
    fields = entry if isinstance(entry, dict) else {}
    where = f"{path}: tensor {shown(name)}"
    dtype = fields.get("dtype")
    if not isinstance(dtype, str) or dtype not in BITS:
        raise ModelError(f"{where} has dtype {shown(dtype)}; known: {', '.join(BITS)}", _HINT)
    shape = _whole(fields.get("shape"), f"{where} has shape")
    offsets = _whole(fields.get("data_offsets"), f"{where} has data_offsets")
    if len(offsets) != 2 or not offsets[0] <= offsets[1] <= size - data:
        raise ModelError(f"{where} lies at bytes {offsets} of {size - data:,}", _HINT)
    bits, held = prod(shape) * BITS[dtype], 8 * (offsets[1] - offsets[0])
    if not bits <= held < bits + 8:
        raise ModelError(f"{where} of {dtype} {shape} needs {-(-bits // 8):,} bytes and has {held // 8:,}", _HINT)
    return StoredTensor(name=name, dtype=dtype, shape=tuple(shape), start=data + offsets[0], end=data + offsets[1])


def _whole(values: Any, what: str) -> list[int]:
    if not isinstance(values, list) or len(values) > MAX_AXES or not all(_is_size(value) for value in values):
        raise ModelError(f"{what} {shown(values)}; expected a list of whole numbers", _HINT)
    return values


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _refuse_overlap(tensors: Mapping[str, StoredTensor], path: str) -> None:
    before: StoredTensor | None = None
    for tensor in sorted((each for each in tensors.values() if each.end > each.start), key=lambda each: each.start):
        if before is not None and tensor.start < before.end:
            raise ModelError(f"{path}: tensors {shown(before.name)} and {shown(tensor.name)} overlap", _HINT)
        before = tensor
