"""Files of weights: what transformers and the gguf package write is read back, tensor by tensor."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.oracles import transformers_tiny
from tests.reference.published import TYPES, every
from txcalc.errors import MissingExtraError, ModelError, RequestError
from txcalc.reference import Transformer, build
from txcalc.reference.checkpoints import GgufFile, SafetensorsFile, open_directory
from txcalc.reference.pretrained import find, load
from txcalc.reference.weights import load_state_dict_from

EVERY = every()


def saved(name: str, directory: Path, **how: Any) -> tuple[Any, Path]:
    """A tiny transformers model, and the directory that its own ``save_pretrained`` made."""
    theirs = transformers_tiny.made(EVERY[name])
    theirs.save_pretrained(directory, **how)
    return theirs, directory


# ---- directories ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_what_transformers_saves_is_loaded(name: str, tmp_path: Path) -> None:
    """The file has the names of published checkpoints: experts one by one, tied tensors once."""
    theirs, directory = saved(name, tmp_path)
    pretrained = find(str(directory))
    from_file = load(pretrained)
    from_memory = load_state_dict_from(build(pretrained.model), pretrained.model, theirs.state_dict())
    assert same(from_file, from_memory)


def same(ours: Transformer, other: Transformer) -> bool:
    mine, theirs = ours.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.parametrize("name", ["llama", "mixtral", "t5"])
def test_shards_are_one_checkpoint(name: str, tmp_path: Path) -> None:
    theirs, directory = saved(name, tmp_path, max_shard_size="20KB")
    shards = sorted(file.name for file in directory.glob("*.safetensors"))
    assert len(shards) > 2
    pretrained = find(str(directory))
    other = load_state_dict_from(build(pretrained.model), pretrained.model, theirs.state_dict())
    assert same(load(pretrained), other)
    (directory / shards[1]).unlink()
    with pytest.raises(ModelError, match=shards[1]):
        find(str(directory))


def test_the_checkpoints_dtype_is_kept_unless_another_is_asked_for(tmp_path: Path) -> None:
    theirs = transformers_tiny.made(EVERY["llama"]).to(torch.bfloat16)
    theirs.save_pretrained(tmp_path)
    pretrained = find(str(tmp_path))
    assert {parameter.dtype for parameter in load(pretrained).parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in load(pretrained, dtype=torch.float32).parameters()} == {torch.float32}


def test_weights_stay_in_the_file_until_they_are_used(tmp_path: Path) -> None:
    """The table's memory is the mapping's own: loading took none."""
    _, directory = saved("llama", tmp_path)
    pretrained = find(str(directory))
    model = load(pretrained)
    mapping = torch.frombuffer(pretrained.checkpoint.memory, dtype=torch.uint8)  # type: ignore[attr-defined]  # one file
    begin, table = mapping.data_ptr(), model.table("decoder").data_ptr()
    assert begin <= table < begin + len(mapping)
    before = (directory / "model.safetensors").read_bytes()
    with torch.no_grad():
        model.table("decoder").zero_()
    assert (directory / "model.safetensors").read_bytes() == before, "written through to the file"


def test_every_dtype_is_read_as_it_was_written(tmp_path: Path) -> None:
    tensors = {
        "f64": torch.randn(3, dtype=torch.float64), "f16": torch.randn(3, 2).half(), "i8": torch.tensor([-1, 2]).char(),
        "bool": torch.tensor([True, False, True]), "f8": torch.randn(5).to(torch.float8_e4m3fn),
        "none": torch.ones(0, 4),
        "bf16": torch.randn(2, 2).bfloat16(), "scalar": torch.tensor(1.5),
    }  # fmt: skip
    save_file(tensors, tmp_path / "x.safetensors")
    read = SafetensorsFile(str(tmp_path / "x.safetensors"))
    assert set(read) == set(tensors)
    assert len(read) == len(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape == read.shape(name)
        assert torch.equal(read[name].view(torch.uint8) if name == "f8" else read[name],
                           tensor.view(torch.uint8) if name == "f8" else tensor)  # fmt: skip
    assert read.dtype == torch.float16  # six elements, more than of any other floating type


def test_values_out_of_step_with_their_size_are_read_all_the_same(tmp_path: Path) -> None:
    """A header whose length is no multiple of four: torch cannot view fp32 there."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    header += b" " * (3 - (8 + len(header)) % 4 + 4)
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + np.array([1.5, -2.0], dtype="<f4").tobytes())
    assert (8 + len(header)) % 4 != 0
    assert SafetensorsFile(str(path))["w"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({}, "no weights"),
        ({"pytorch_model.bin": b"x"}, "pickle"),
        ({"a.safetensors": b"x", "b.safetensors": b"x"}, "2 safetensors files and no"),
        ({"model.safetensors.index.json": b"{}"}, "no weight_map"),
        ({"model.safetensors.index.json": b'{"weight_map": {"w": "../w.safetensors"}}'}, "expected a .safetensors"),
        ({"model.safetensors.index.json": b'{"weight_map": {"w": "/etc/passwd"}}'}, "expected a .safetensors"),
        ({"model.safetensors.index.json": b'{"weight_map": {"w": "w.safetensors"}}'}, "does not exist"),
        ({"model.safetensors": b"x"}, "too few"),
    ],
)
def test_a_directory_without_usable_weights_says_why(files: dict[str, bytes], part: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=part):
        open_directory(str(tmp_path))


def test_an_index_must_fit_its_files(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "w.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"v": "w.safetensors"}}))
    with pytest.raises(ModelError, match='"v" is not in'):
        open_directory(str(tmp_path))
    save_file({"w": torch.ones(2), "v": torch.ones(2)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match='does not list tensor "w"'):
        open_directory(str(tmp_path))


# ---- GGUF -----------------------------------------------------------------------------------------------------------

QUANTISED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16", "F16")


def gguf_file(path: Path, tensors: dict[str, tuple[Any, Any]], **metadata: Any) -> GgufFile:
    writer = gguf.GGUFWriter(path, "llama")
    for name, (values, kind) in tensors.items():
        writer.add_tensor(name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GgufFile(str(path))


@pytest.mark.parametrize("kind", QUANTISED)
def test_blocks_become_what_the_package_makes_of_them(kind: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32)
    type_ = gguf.GGMLQuantizationType[kind]
    blocks = gguf.quants.quantize(values, type_)
    file = gguf_file(tmp_path / "x.gguf", {"w": (blocks, type_), "plain": (values, None)})
    assert file.shape("w") == (6, 64)
    assert np.array_equal(file["w"].float().numpy(), gguf.quants.dequantize(blocks, type_))
    assert np.abs(file["w"].float().numpy() - values).max() < 0.3  # 4 bits over +-3; a wrong order of bytes is 3 off
    assert np.array_equal(file["plain"].numpy(), values)


def test_dequantising_without_the_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    type_ = gguf.GGMLQuantizationType.Q8_0
    blocks = gguf.quants.quantize(np.ones((2, 32), dtype=np.float32), type_)
    file = gguf_file(tmp_path / "x.gguf", {"w": (blocks, type_), "plain": (np.ones(2, dtype=np.float32), None)})
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert file["plain"].tolist() == [1, 1]
    with pytest.raises(MissingExtraError) as caught:
        file["w"]
    assert caught.value.hint == "pip install 'txcalc[gguf]'"


# ---- memory ---------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, directory = saved("llama", tmp_path)
    pretrained = find(str(directory))
    monkeypatch.setattr("txcalc.reference.device.Cpu.free_memory", lambda self: 300 * 2**20)
    load(pretrained)
    load(pretrained, ctx=64)
    monkeypatch.setattr(type(pretrained.checkpoint), "__getitem__", lambda self, name: pytest.fail("read"))
    with pytest.raises(RequestError, match=r"0\.00 GiB of weights, 0\.36 GiB of cache .* together 0\.61 GiB"):
        load(pretrained, ctx=10**6)  # 3 layers, keys and values of 2 heads of 8 channels in fp32: 384 bytes a token
