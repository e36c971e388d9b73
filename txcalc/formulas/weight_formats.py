"""How weights are stored: plain dtypes, integers with scales per group or channel, ggml's block formats.

Sources: ggml's block layouts (``ggml-common.h``, llama.cpp); groups with fp16 scales and packed 4-bit zero points: GPTQ
(Frantar et al. 2022, arXiv 2210.17323) and AWQ (Lin et al. 2023, arXiv 2306.00978) as they are released; NF4 with
doubly quantised scales: QLoRA (Dettmers et al. 2023, arXiv 2305.14314), section 3.
"""

from __future__ import annotations

from typing import Final

from txcalc.errors import RequestError
from txcalc.expression import Expression, ceil_div, exact, symbol
from txcalc.record import Record


class WeightFormat(Record):
    """Bits of an element, and what is stored beside the elements of a matrix [size_in, size_out].

    ``block``: elements of a row that make a block of ``block_bytes`` with its scales in it (ggml). ``groups``: elements
    of a row that share a scale of ``scale_bytes`` and, where ``zero_bits``, a zero point; 0: one scale an output
    channel; None: none. ``per_matrix``: bytes a matrix.
    """

    name: str
    bits: int
    block: int = 1
    block_bytes: int = 0
    groups: int | None = None
    scale_bytes: int = 0
    zero_bits: int = 0
    per_matrix: int = 0
    nested: int = 0  # so many scales share one fp32 scale of their own, and a matrix one offset (NF4)

    @property
    def plain(self) -> bool:
        """Whether elements stand alone, so that vectors may be stored so too."""
        return self.block == 1 and self.groups is None and not self.per_matrix

    def bytes_of(self, size_in: Expression, size_out: Expression, copies: int = 1) -> Expression:
        """Bytes of ``copies`` matrices [size_in, size_out], their scales included.

        Raises:
            RequestError: rows that do not fill blocks or groups.
        """
        elements = size_in * size_out
        if self.block > 1:
            self._check(size_in, self.block)
            return elements * symbol("block_bytes", self.block_bytes) // symbol("block_size", self.block)
        size = elements * symbol("bits", self.bits) // 8 if self.bits < 8 else elements * (self.bits // 8)
        if self.groups is not None:
            size = size + self._scales(size_in, size_out)
        return size + self.per_matrix if self.per_matrix else size

    def _scales(self, size_in: Expression, size_out: Expression) -> Expression:
        assert self.groups is not None
        if self.nested:
            blocks = ceil_div(size_in * size_out, symbol("group_size", self.groups))
            return blocks * self.scale_bytes + ceil_div(blocks, self.nested) * 4 + 4
        if self.groups == 0:
            return size_out * self.scale_bytes
        self._check(size_in, self.groups)
        scales = size_in // symbol("group_size", self.groups) * size_out
        return scales * (8 * self.scale_bytes + self.zero_bits) // 8

    def _check(self, size_in: Expression, size: int) -> None:
        if int(size_in) % size:
            what = f"{self.name} packs {size} elements of a row; a row of {int(size_in):,} does not fill them"
            raise RequestError(what, "choose another format, or --keep that module in one, e.g. --keep down_proj=q8_0")


def _ggml(name: str, block: int, block_bytes: int) -> WeightFormat:
    return WeightFormat(name=name, bits=0, block=block, block_bytes=block_bytes)


_FORMATS: Final = {
    each.name: each
    for each in (
        WeightFormat(name="fp32", bits=32),
        WeightFormat(name="bf16", bits=16),
        WeightFormat(name="fp16", bits=16),
        WeightFormat(name="fp8", bits=8, per_matrix=4),  # one fp32 scale a matrix
        WeightFormat(name="int8", bits=8, groups=0, scale_bytes=2),
        WeightFormat(name="int4", bits=4, groups=128, scale_bytes=2, zero_bits=4),
        WeightFormat(name="nf4", bits=4, groups=64, scale_bytes=1, nested=256),
        _ggml("mxfp4", 32, 17),
        _ggml("q8_0", 32, 34),
        _ggml("q5_1", 32, 24),
        _ggml("q5_0", 32, 22),
        _ggml("q4_1", 32, 20),
        _ggml("q4_0", 32, 18),
        _ggml("iq4_nl", 32, 18),
        _ggml("q6_k", 256, 210),
        _ggml("q5_k", 256, 176),
        _ggml("q4_k", 256, 144),
        _ggml("q3_k", 256, 110),
        _ggml("q2_k", 256, 84),
        _ggml("iq4_xs", 256, 136),
        _ggml("iq3_s", 256, 110),
        _ggml("iq3_xxs", 256, 98),
        _ggml("iq2_s", 256, 82),
        _ggml("iq2_xs", 256, 74),
        _ggml("iq2_xxs", 256, 66),
        _ggml("iq1_m", 256, 56),
        _ggml("iq1_s", 256, 50),
        _ggml("tq2_0", 256, 66),
        _ggml("tq1_0", 256, 54),
    )
}
FORMATS: Final = tuple(_FORMATS)

_ALIASES: Final = {"f32": "fp32", "float32": "fp32", "f16": "fp16", "float16": "fp16", "bfloat16": "bf16"}
_ALIASES_TOO: Final = {"fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "gptq": "int4", "awq": "int4"}


def weight_format(name: str, group_size: int | None = None) -> WeightFormat:
    """The format of that name; ``group_size``: elements that share a scale, where the format has groups.

    Raises:
        RequestError: an unknown name, or a group size where there are no groups.
    """
    key = name.lower()
    found = _FORMATS.get({**_ALIASES, **_ALIASES_TOO}.get(key, key))
    if found is None:
        base = key.rpartition("_")[0]
        if base in _FORMATS:
            what = f"{name} is a file that mixes formats, not a format"
            raise RequestError(what, f"name the format of most, {base}, and of the others: --keep head=q6_k")
        raise RequestError(f"unknown weight format {name!r}", f"known: {', '.join(FORMATS)}")
    if group_size is None:
        return found
    if found.groups is None:
        raise RequestError(f"{found.name} has no groups", "leave out --group-size, or choose int4 or int8")
    return found.replace(groups=group_size)


def plain_bytes(elements: Expression, format_: WeightFormat) -> Expression:
    """Bytes of elements that stand alone."""
    return exact(elements) * (format_.bits // 8)
