"""Quantities as people type and read them. The integer that is used is always echoed by who asked for it.

Lengths of text are binary (``32k`` = 32,768); counts of training tokens are decimal (``15T``); memory says which
(``24GiB``, ``80GB``).
"""

from __future__ import annotations

import re
from typing import Final

from txcalc.errors import UsageError

_BINARY: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_DECIMAL: Final = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_MEMORY: Final = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_LIMIT: Final = 2**60
_NUMBER: Final = re.compile(r"([0-9]{1,99}(?:,[0-9]{3})*)(?:\.([0-9]{1,9}))?\s*([a-zA-Z]*)")

LENGTH_FORMS: Final = "4096, 32k (32,768) or 1M (1,048,576)"
COUNT_FORMS: Final = "300000000, 300M, 1.4B or 15T"
MEMORY_FORMS: Final = "24GiB, 80GB or 512MiB"


def length(text: str) -> int:
    """A number of tokens in a context: ``32k`` is 32,768.

    Raises:
        UsageError: not a positive length.
    """
    return _parse(text, _BINARY, LENGTH_FORMS, "a length")


def count(text: str, what: str = "a number of tokens") -> int:
    """A number of training tokens, or of something else: ``15T`` is 15 * 10**12.

    Raises:
        UsageError: not a positive count.
    """
    return _parse(text, _DECIMAL, COUNT_FORMS, what)


def memory(text: str) -> int:
    """An amount of memory in bytes: ``24GiB``, ``80GB``; the unit must be written.

    Raises:
        UsageError: not a positive amount, or no unit.
    """
    return _parse(text, _MEMORY, MEMORY_FORMS, "an amount of memory")


def positive(text: str) -> int:
    """A plain positive whole number.

    Raises:
        UsageError: anything else.
    """
    return _parse(text, {"": 1}, "1, 2, 3 ...", "a positive whole number")


def _parse(text: str, suffixes: dict[str, int], forms: str, what: str) -> int:
    match = _NUMBER.fullmatch(text.strip())
    suffix = match.group(3).lower() if match else ""
    if match is None or suffix not in suffixes:
        raise UsageError(f"{text!r} is not {what}", f"write it as {forms}")
    whole, part = match.group(1).replace(",", ""), match.group(2) or ""
    scale: int = 10 ** len(part)
    scaled: int = int(whole + part) * suffixes[suffix]
    if scaled % scale:
        raise UsageError(f"{text!r} is not a whole number", f"write it as {forms}")
    if not 0 < scaled // scale <= _LIMIT:
        raise UsageError(f"{text!r} is out of range: {what} is from 1 to 2**60", f"write it as {forms}")
    return scaled // scale


def binary_bytes(value: float) -> str:
    """Bytes for reading: ``4.00 GiB``."""
    for unit, size in (("PiB", 2**50), ("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(value) >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:,.0f} B"


def short_count(value: float) -> str:
    """A count for reading: ``8.03 B``, ``134.5 M``."""
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if abs(value) >= size:
            scaled = value / size
            return f"{scaled:.2f} {unit}" if scaled < 100 else f"{scaled:.1f} {unit}"
    return f"{value:,}"


def short_flops(value: float) -> str:
    """Operations for reading: ``32.9 TFLOP``."""
    for unit, size in (("YFLOP", 10**24), ("ZFLOP", 10**21), ("EFLOP", 10**18), ("PFLOP", 10**15), ("TFLOP", 10**12)):
        if abs(value) >= size:
            return f"{value / size:.2f} {unit}"
    for unit, size in (("GFLOP", 10**9), ("MFLOP", 10**6)):
        if abs(value) >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:,.0f} FLOP"
