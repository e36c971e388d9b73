"""Lengths, counts and memory as people write them."""

from __future__ import annotations

import pytest

from txcalc import units
from txcalc.errors import UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("4096", 4096),
        ("32k", 32_768),
        ("32K", 32_768),
        ("1M", 1_048_576),
        ("1.5k", 1536),
        ("131,072", 131_072),
    ],
)
def test_lengths_are_binary(text: str, value: int) -> None:
    assert units.length(text) == value


@pytest.mark.parametrize(("text", "value"), [("15T", 15 * 10**12), ("1.4B", 14 * 10**8), ("300M", 3 * 10**8), ("7", 7)])
def test_token_counts_are_decimal(text: str, value: int) -> None:
    assert units.count(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("24GiB", 24 * 2**30), ("80GB", 80 * 10**9), ("0.5 GiB", 2**29), ("512MiB", 2**29), ("1b", 1)]
)
def test_memory_names_its_unit(text: str, value: int) -> None:
    assert units.memory(text) == value


@pytest.mark.parametrize(
    "text", ["", " ", "0", "-5", "32q", "1.00001k", "1e3", "k", "١", "9" * 25, "1,00", "nan", "0x10"]
)
def test_bad_lengths_are_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        units.length(text)
    assert "32k" in caught.value.hint
    assert text in caught.value.message


@pytest.mark.parametrize("text", ["24", "24G", "GiB", "-1GiB", "0GiB"])
def test_memory_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        units.memory(text)


def test_bytes_for_reading() -> None:
    assert units.binary_bytes(1_073_741_824) == "1.00 GiB"
    assert units.binary_bytes(1023) == "1,023 B"
    assert units.short_count(8_030_261_248) == "8.03 B"
    assert units.short_count(134_515_008) == "134.5 M"
