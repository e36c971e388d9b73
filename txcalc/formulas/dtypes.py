"""How many bytes an element takes, block formats with their scales included."""

from __future__ import annotations

from typing import Final

from txcalc.errors import RequestError
from txcalc.expression import Expression, symbol
from txcalc.record import Record


class DType(Record):
    """A storage format: ``block_bytes`` for every ``block_size`` elements (1 where elements stand alone)."""

    name: str
    block_size: int
    block_bytes: int

    @property
    def bits(self) -> float:
        """Bits per element, scales included."""
        return 8 * self.block_bytes / self.block_size

    def bytes_of(self, elements: Expression) -> Expression:
        """Bytes of that many elements, which fill whole blocks."""
        if self.block_size == 1:
            return elements * symbol("bytes_per_element", self.block_bytes)
        return elements * symbol("block_bytes", self.block_bytes) // symbol("block_size", self.block_size)


DTYPES: Final = {
    dtype.name: dtype
    for dtype in (
        DType(name="fp32", block_size=1, block_bytes=4),
        DType(name="bf16", block_size=1, block_bytes=2),
        DType(name="fp16", block_size=1, block_bytes=2),
        DType(name="fp8", block_size=1, block_bytes=1),
        DType(name="int8", block_size=1, block_bytes=1),
        # ggml block formats: 32 elements with an fp16 scale (and an fp16 minimum in the _1 kinds)
        DType(name="q8_0", block_size=32, block_bytes=34),
        DType(name="q5_1", block_size=32, block_bytes=24),
        DType(name="q5_0", block_size=32, block_bytes=22),
        DType(name="q4_1", block_size=32, block_bytes=20),
        DType(name="q4_0", block_size=32, block_bytes=18),
    )
}

_CONFIG_NAMES: Final = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float": "fp32"}
_ALIASES: Final = {**_CONFIG_NAMES, "f32": "fp32", "f16": "fp16", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "q8": "q8_0"}


def dtype_named(name: str) -> DType:
    """The format of that name, in the field's usual spellings.

    Raises:
        RequestError: an unknown name.
    """
    key = _ALIASES.get(name.lower(), name.lower())
    if key not in DTYPES:
        raise RequestError(f"unknown dtype {name!r}", f"known: {', '.join(DTYPES)}")
    return DTYPES[key]


def config_dtype(name: str | None) -> DType:
    """The dtype that a config names where it is a plain float one, else bf16.

    A quantised weight format (float8, int8) says nothing about activations and cache.
    """
    own = name if name in ("fp32", "fp16") else _CONFIG_NAMES.get(name or "", "bf16")
    return DTYPES[own]
