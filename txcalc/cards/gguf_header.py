"""Reads the header of a .gguf file: its metadata, and names, types, shapes and places of its tensors.

Magic, version, counts, key-value pairs, tensor entries, then aligned data (ggml's docs/gguf.md, versions 2 and 3).
Every count and length is checked against what is left of the file before anything is made of it, so that a small file
cannot ask for much memory or time.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping
from math import prod
from typing import Any, Final, NoReturn

from txcalc.cards.files import unreadable
from txcalc.configs.reader import shown
from txcalc.errors import ModelError
from txcalc.record import Record

MAX_HEADER: Final = 2**28
MAX_PAIRS: Final = 65_536
MAX_TENSORS: Final = 1_000_000
MAX_TEXT: Final = 2**24
MAX_ELEMENTS: Final = 2**22  # of all arrays together; the longest are vocabularies and their merges
MAX_DEPTH: Final = 4
MAX_AXES: Final = 4  # ggml's own
_HINT: Final = "the file is damaged or was cut short; fetch it again"

# ggml type: (name, elements in a block, bytes of a block); ggml's type_traits.
TYPES: Final = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2),
    26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
_NUMBERS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT: Final = 8
_ARRAY: Final = 9


class GgufTensor(Record):
    """One tensor: bytes ``start`` to ``end`` of the file; ``shape`` with the contiguous axis last, as torch has it."""

    name: str
    type: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def numel(self) -> int:
        """Its elements."""
        return prod(self.shape)


class GgufHeader(Record):
    """Everything that a GGUF file says before its data."""

    version: int
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]


def read_header(path: str) -> GgufHeader:
    """The header of a .gguf file.

    Raises:
        ModelError: the file cannot be read, is not GGUF, or claims more than it holds.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 24:
                raise ModelError(f"{path} has {size} bytes, too few for a GGUF file", _HINT)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Parser(data, path).header()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


class _Parser:
    """A place in the file; every step forward is checked first."""

    def __init__(self, data: mmap.mmap, path: str) -> None:
        self.data, self.size, self.path = data, len(data), path
        self.end = min(self.size, MAX_HEADER)
        self.at = 0
        self.elements = 0

    def header(self) -> GgufHeader:
        if self.data[:4] != b"GGUF":
            raise ModelError(f"{self.path} does not begin with GGUF", "is it a GGUF file?")
        self.at = 4
        version = self.number("I")
        if version not in (2, 3):
            other_end = int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3)
            what = "is big-endian" if other_end else f"has version {version}"
            raise ModelError(f"{self.path} {what}; little-endian versions 2 and 3 are read")
        tensors, pairs = self.count("tensors", MAX_TENSORS, 24), self.count("key-value pairs", MAX_PAIRS, 13)
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            key = self.text("a key")
            if key in metadata:
                self.fail(f"gives {shown(key)} twice")
            metadata[key] = self.value(self.number("I"), key, 0)
        return GgufHeader(version=version, metadata=metadata, tensors=self.tensors(tensors, metadata))

    # ---- small steps ------------------------------------------------------------------------------------------------

    def fail(self, what: str) -> NoReturn:
        raise ModelError(f"{self.path} {what}", _HINT)

    def take(self, length: int, what: str) -> int:
        """Step over ``length`` bytes; returns where they begin."""
        if length > self.end - self.at:
            self.fail(f"claims {length:,} bytes for {what} at byte {self.at:,} of {self.size:,}")
        start, self.at = self.at, self.at + length
        return start

    def number(self, code: str) -> Any:
        start = self.take(struct.calcsize(f"<{code}"), "a number")
        return struct.unpack_from(f"<{code}", self.data, start)[0]

    def count(self, what: str, limit: int, least: int) -> int:
        """A count of things of which each takes at least ``least`` bytes."""
        count = int(self.number("Q"))
        if count > limit or count * least > self.end - self.at:
            self.fail(f"claims {count:,} {what} in {self.size:,} bytes")
        return count

    def text(self, what: str) -> str:
        length = int(self.number("Q"))
        if length > MAX_TEXT:
            self.fail(f"claims {length:,} bytes for {what} at byte {self.at:,} of {self.size:,}")
        start = self.take(length, what)
        return self.data[start : self.at].decode("utf-8", errors="replace")

    # ---- values -----------------------------------------------------------------------------------------------------

    def value(self, kind: int, key: str, depth: int) -> Any:
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _TEXT:
            return self.text(shown(key))
        if kind == _ARRAY and depth < MAX_DEPTH:
            return self.array(key, depth)
        self.fail(f"has a value of type {kind} for {shown(key)}" if kind != _ARRAY else f"nests {shown(key)} too deep")

    def array(self, key: str, depth: int) -> list[Any]:
        kind = self.number("I")
        code = _NUMBERS.get(kind)
        least = struct.calcsize(f"<{code}") if code else 12 if kind == _ARRAY else 8
        length = self.count(f"elements of {shown(key)}", MAX_ELEMENTS, least)
        self.elements += length
        if self.elements > MAX_ELEMENTS:
            self.fail(f"claims more than {MAX_ELEMENTS:,} elements in its arrays")
        if code:
            start = self.take(length * least, shown(key))
            return list(struct.unpack_from(f"<{length}{code}", self.data, start))
        if kind == _TEXT:
            return self.texts(length, key)
        return [self.value(kind, key, depth + 1) for _ in range(length)]

    def texts(self, length: int, key: str) -> list[str]:
        """``text`` many times, without a call for each: a vocabulary has 100,000 and more."""
        data, size, at = self.data, self.end, self.at
        read = struct.Struct("<Q").unpack_from
        found = []
        for _ in range(length):
            if at + 8 > size or (end := at + 8 + read(data, at)[0]) > size or end - at > MAX_TEXT:
                self.at = min(at, size)
                self.fail(f"claims more text for {shown(key)} at byte {at:,} than its {size:,} bytes hold")
            found.append(data[at + 8 : end].decode("utf-8", errors="replace"))
            at = end
        self.at = at
        return found

    # ---- tensors ----------------------------------------------------------------------------------------------------

    def tensors(self, count: int, metadata: Mapping[str, Any]) -> dict[str, GgufTensor]:
        entries = [self.entry() for _ in range(count)]
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 1 <= alignment <= 2**20 or alignment & (alignment - 1):
            self.fail(f"has general.alignment {shown(alignment)}; expected a power of two")
        data = -(-self.at // alignment) * alignment
        tensors: dict[str, GgufTensor] = {}
        for name, shape, kind, offset in entries:
            if name in tensors:
                self.fail(f"gives tensor {shown(name)} twice")
            tensors[name] = self.placed(name, shape, kind, data + offset)
        _refuse_overlap(tensors, self.path)
        return tensors

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        """(name, shape, type, offset) of one tensor."""
        name, axes = self.text("a tensor's name"), self.number("I")
        if axes > MAX_AXES:
            self.fail(f"gives tensor {shown(name)} {axes:,} axes; ggml has {MAX_AXES}")
        shape = tuple(self.number("Q") for _ in range(axes))
        return name, shape[::-1], self.number("I"), self.number("Q")

    def placed(self, name: str, shape: tuple[int, ...], kind: int, start: int) -> GgufTensor:
        if kind not in TYPES:
            self.fail(f"has tensor {shown(name)} of ggml type {kind}; known: {', '.join(t[0] for t in TYPES.values())}")
        label, block, size = TYPES[kind]
        if shape and shape[-1] % block:
            self.fail(f"has tensor {shown(name)} of {label} {list(shape)}: rows are no multiple of {block}")
        end = start + prod(shape) // block * size
        if end > self.size:
            self.fail(f"places tensor {shown(name)} at bytes {start:,} to {end:,} of {self.size:,}")
        return GgufTensor(name=name, type=label, shape=shape, start=start, end=end)


def _refuse_overlap(tensors: Mapping[str, GgufTensor], path: str) -> None:
    before: GgufTensor | None = None
    for tensor in sorted((each for each in tensors.values() if each.end > each.start), key=lambda each: each.start):
        if before is not None and tensor.start < before.end:
            raise ModelError(f"{path}: tensors {shown(before.name)} and {shown(tensor.name)} overlap", _HINT)
        before = tensor
