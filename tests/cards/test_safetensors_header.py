"""The header of a safetensors file against the package that writes them, and files that lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from txcalc.cards.safetensors_header import read_header
from txcalc.errors import ModelError

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool,
          torch.float8_e4m3fn]  # fmt: skip


def test_a_written_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.zeros(i, 3, dtype=dtype) for i, dtype in enumerate(DTYPES)}
    tensors["scalar"] = torch.tensor(2.5)
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    header = read_header(str(path))
    assert {name: each.shape for name, each in header.tensors.items()} == {
        n: tuple(t.shape) for n, t in tensors.items()
    }
    assert {name: each.end - each.start for name, each in header.tensors.items()} == {
        n: t.nbytes for n, t in tensors.items()
    }
    assert header.metadata == {"format": "pt"}
    scalar = header.tensors["scalar"]
    assert torch.frombuffer(path.read_bytes()[scalar.start : scalar.end], dtype=torch.float32) == 2.5


def written(tmp_path: Path, header: Any, data: bytes = b"\0" * 8, length: int | None = None) -> str:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return str(path)


def one(**changes: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


def test_the_file_that_the_lies_are_made_from_is_read(tmp_path: Path) -> None:
    assert read_header(written(tmp_path, one())).tensors["w"].numel == 2


LIES: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", "not JSON"),
    "no object": (b"[1]", "not an object"),
    "no text": (b"\xff\xfe", "not JSON"),
    "deep": (b"[" * 100_000, "not JSON"),
    "a name twice": (b'{"w": {}, "w": {}}', "twice"),
    "unknown dtype": (one(dtype="F3"), 'dtype "F3"'),
    "dtype no text": (one(dtype=[1]), "dtype [1]"),
    "negative shape": (one(shape=[-2]), "[-2]"),
    "shape of flags": (one(shape=[True, 2]), "[True, 2]"),
    "huge shape": (one(shape=[2**40, 2**40]), "needs"),
    "past the end": (one(shape=[4], data_offsets=[0, 16]), "of 8"),
    "backwards": (one(data_offsets=[8, 0]), "[8, 0]"),
    "one offset": (one(data_offsets=[8]), "[8]"),
    "too few bytes": (one(shape=[3]), "needs 12 bytes and has 8"),
    "overlap": ({**one(), "v": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}}, "overlap"),
    "an entry no object": ({"w": 5}, "dtype"),
}


@pytest.mark.parametrize("lie", LIES, ids=LIES)
def test_a_lie_is_refused_in_one_line(tmp_path: Path, lie: str) -> None:
    header, part = LIES[lie]
    with pytest.raises(ModelError) as caught:
        read_header(written(tmp_path, header))
    assert part in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("length", [9, 2**30, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_is_refused_unread(tmp_path: Path, length: int) -> None:
    with pytest.raises(ModelError, match="a header of"):
        read_header(written(tmp_path, b"", b"\0" * 8, length))


def test_a_header_over_the_formats_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:  # a sparse file: it takes no room
        file.write((100_000_001).to_bytes(8, "little"))
        file.truncate(200_000_000)
    with pytest.raises(ModelError, match="the format allows 100,000,000"):
        read_header(str(path))


@pytest.mark.parametrize("content", [b"", b"1234567"])
def test_a_file_without_a_header_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="too few"):
        read_header(str(path))


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ModelError, match="does not exist"):
        read_header("/nowhere/x.safetensors")


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 90), byte=st.integers(0, 255), cut=st.integers(0, 40))
def test_damage_is_either_harmless_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int, cut: int
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.safetensors"
    whole = bytearray(Path(written(path.parent, one())).read_bytes())
    whole[place % len(whole)] = byte
    path.write_bytes(bytes(whole[: len(whole) - cut]))
    try:
        header = read_header(str(path))
    except ModelError:
        return
    assert all(each.end <= len(whole) - cut for each in header.tensors.values())
