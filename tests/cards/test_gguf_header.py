"""The header of a GGUF file against the package that writes them, and files that claim more than they hold."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txcalc.cards.gguf_header import TYPES, read_header
from txcalc.errors import ModelError


def packaged(path: Path, version: int = 3) -> str:
    """A file from the gguf package's writer: every kind of value, two types of tensor."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("a.number", 7)
    writer.add_int8("a.small", -3)
    writer.add_float32("a.float", 0.5)
    writer.add_bool("a.flag", True)
    writer.add_string("a.text", "grüße")
    writer.add_array("a.list", ["x", "yz", ""])
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_tensor("plain", np.arange(6, dtype=np.float32).reshape(2, 3))
    blocks = gguf.quants.quantize(np.ones((2, 64), dtype=np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("packed", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def test_a_written_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = packaged(tmp_path / "x.gguf")
    header = read_header(path)
    expected = {"general.architecture": "llama", "a.number": 7, "a.small": -3, "a.float": 0.5, "a.flag": True,
                "a.text": "grüße", "a.list": ["x", "yz", ""], "a.numbers": [1, 2, 3]}  # fmt: skip
    assert header.metadata == expected
    plain, blocks = header.tensors["plain"], header.tensors["packed"]
    assert (plain.type, plain.shape, plain.numel) == ("F32", (2, 3), 6)
    assert (blocks.type, blocks.shape, blocks.end - blocks.start) == ("Q8_0", (2, 64), 2 * 2 * 34)
    assert Path(path).read_bytes()[plain.start : plain.end] == np.arange(6, dtype=np.float32).tobytes()


def test_places_agree_with_the_packages_own_reader(tmp_path: Path) -> None:
    path = packaged(tmp_path / "x.gguf")
    ours, theirs = read_header(path), gguf.GGUFReader(path)
    assert {each.name: each.data_offset for each in theirs.tensors} == {
        name: each.start for name, each in ours.tensors.items()
    }


def test_block_sizes_are_the_packages() -> None:
    """Every type that we know has the package's name, block and bytes."""
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert theirs.items() >= TYPES.items()
    assert set(theirs) - set(TYPES) == {9}  # Q8_1: between two kernels, never in a file


# ---- files that lie -------------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str = "w", shape: tuple[int, ...] = (8,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def gguf_bytes(
    pairs: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
    magic: bytes = b"GGUF",
    data: bytes = b"\0" * 64,
) -> bytes:
    pairs, tensors = pairs or [], [tensor()] if tensors is None else tensors
    head = magic + struct.pack("<IQQ", version, *(counts or (len(tensors), len(pairs)))) + b"".join(pairs + tensors)
    return head + b"\0" * (-len(head) % 32) + data


def test_the_file_that_the_lies_are_made_from_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_bytes([pair("k", 8, text("v"))]))
    header = read_header(str(path))
    assert header.metadata == {"k": "v"}
    assert header.tensors["w"].shape == (8,)


ARRAY = struct.pack("<I", 9)
LIES: dict[str, tuple[bytes, str]] = {
    "other magic": (gguf_bytes(magic=b"GGML"), "does not begin with GGUF"),
    "version 1": (gguf_bytes(version=1), "version 1"),
    "big-endian": (gguf_bytes(version=3 << 24), "big-endian"),
    "tensors without end": (gguf_bytes(counts=(2**60, 0)), "tensors"),
    "pairs without end": (gguf_bytes(counts=(0, 2**60)), "key-value pairs"),
    "more pairs than there are": (gguf_bytes([pair("k", 7, b"\1")], counts=(0, 9)), "gives"),
    "array of 2**60": (gguf_bytes([pair("k", 9, struct.pack("<IQ", 4, 2**60))]), "1,152,921,504,606,846,976 elements"),
    "texts without end": (gguf_bytes([pair("k", 9, struct.pack("<IQ", 8, 2**60))]), "elements"),
    "text of 2**60": (gguf_bytes([pair("k", 8, struct.pack("<Q", 2**60))]), "bytes for"),
    "text past the end": (gguf_bytes([pair("k", 9, struct.pack("<IQQ", 8, 1, 2**40))]), "more text"),
    "key of 2**60": (gguf_bytes([struct.pack("<Q", 2**60)]), "bytes for a key"),
    "arrays in arrays": (gguf_bytes([pair("k", 9, struct.pack("<IQ", 9, 1) * 9)]), "too deep"),
    "unknown value type": (gguf_bytes([pair("k", 77, b"")]), "type 77"),
    "a key twice": (gguf_bytes([pair("k", 7, b"\1")] * 2), "twice"),
    "a tensor twice": (gguf_bytes(tensors=[tensor(), tensor(offset=32)]), "twice"),
    "unknown tensor type": (gguf_bytes(tensors=[tensor(kind=99)]), "type 99"),
    "axes without end": (gguf_bytes(tensors=[text("w") + struct.pack("<I", 2**31) + b"\0" * 64]), "axes"),
    "a tensor past the end": (gguf_bytes(tensors=[tensor(shape=(2**40,))]), "places tensor"),
    "a huge product": (gguf_bytes(tensors=[tensor(shape=(2**62, 2**62, 2**62))]), "places tensor"),
    "rows of no whole block": (gguf_bytes(tensors=[tensor(shape=(8,), kind=8)]), "multiple of 32"),
    "overlap": (gguf_bytes(tensors=[tensor(), tensor("v", offset=16)]), "overlap"),
    "bad alignment": (gguf_bytes([pair("general.alignment", 4, struct.pack("<I", 3))]), "general.alignment 3"),
    "no alignment": (gguf_bytes([pair("general.alignment", 4, struct.pack("<I", 0))]), "general.alignment 0"),
    "empty": (b"", "too few"),
    "cut short": (gguf_bytes()[:40], "claims"),
}


@pytest.mark.parametrize("lie", LIES, ids=LIES)
def test_a_lie_is_refused_at_once_in_one_line(tmp_path: Path, lie: str) -> None:
    content, part = LIES[lie]
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    before = time.perf_counter()
    with pytest.raises(ModelError) as caught:
        read_header(str(path))
    assert time.perf_counter() - before < 0.5
    assert part in caught.value.message
    assert "\n" not in caught.value.message


def test_an_array_with_a_length_that_fits_is_read(tmp_path: Path) -> None:
    """Negative control of the array of 2**60: with a length that fits, the same bytes are a file."""
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_bytes([pair("k", 9, struct.pack("<IQ2I", 4, 2, 5, 6))]))
    assert read_header(str(path)).metadata == {"k": [5, 6]}


def test_a_directory_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.gguf"):
        with pytest.raises(ModelError):
            read_header(str(path))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_is_either_harmless_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.gguf"
    pairs = [pair("k", 8, text("v")), pair("n", 9, struct.pack("<IQ2I", 4, 2, 5, 6)), pair("f", 6, b"\0\0\0\0")]
    whole = bytearray(gguf_bytes(pairs))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 65))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(whole))
    try:
        header = read_header(str(path))
    except ModelError:
        return
    assert all(each.end <= len(whole) for each in header.tensors.values())
