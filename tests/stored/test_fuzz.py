"""Damaged and lying files, end to end: an answer or one clear error, in little time and memory."""

from __future__ import annotations

import contextlib
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import published
from tests.stored.files import gguf_parts, tensors, written
from txcalc.cli import main
from txcalc.configs import architecture_of
from txcalc.configs.gguf import config_of
from txcalc.errors import ModelError

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8),
    st.lists(st.integers(-1, 2**62), max_size=3), st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)  # fmt: skip


def answers(path: str, *arguments: str) -> int:
    """Runs ``params``; whatever the file, one line of error at most, and no memory to speak of."""
    out, errors = io.StringIO(), io.StringIO()
    tracemalloc.start()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main(["params", path, *arguments])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    err = errors.getvalue()
    assert code in (0, 1)
    assert "Traceback" not in err
    assert "unexpected" not in err, err
    assert sum(line.startswith("error: ") for line in err.splitlines()) == code
    assert peak < 50_000_000
    return code


@pytest.fixture(scope="module")
def gguf_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return gguf_parts(tmp_path_factory.mktemp("gguf"), 1)[0].read_bytes()


@pytest.fixture(scope="module")
def safetensors_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    config = published.config("llama")
    return (Path(written(tmp_path_factory.mktemp("st"), config, tensors(config))) / "model.safetensors").read_bytes()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_gguf_file(gguf_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(gguf_bytes)
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, 3000))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / "x.gguf"
    path.write_bytes(bytes(whole[: len(whole) - data.draw(st.sampled_from((0, 0, 0, 1000)))]))
    answers(str(path))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_safetensors_header(
    safetensors_bytes: bytes, tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:  # fmt: skip
    length = int.from_bytes(safetensors_bytes[:8], "little")
    header = json.loads(safetensors_bytes[8 : 8 + length])
    for name in data.draw(st.lists(st.sampled_from(sorted(header)), min_size=1, max_size=3, unique=True)):
        part = data.draw(st.sampled_from(("dtype", "shape", "data_offsets", "name", "all")))
        entry = header.pop(name, {})
        if part == "all":
            header[name] = data.draw(VALUES)
        elif part == "name":
            header[data.draw(st.text(max_size=200))] = entry
        else:
            header[name] = {**entry, part: data.draw(VALUES)}
    text = json.dumps(header).encode()
    directory = tmp_path_factory.mktemp("fuzz")
    (directory / "model.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + safetensors_bytes[8 + length :]
    )
    if data.draw(st.booleans()):
        (directory / "config.json").write_text(json.dumps(published.config("llama")))
    answers(str(directory), "--tensors")


KEYS = ("quant_method", "bits", "group_size", "version", "weight_block_size", "modules_to_not_convert", "config_groups",
        "format", "ignore", "load_in_4bit", "bnb_4bit_use_double_quant", "activation_scheme")  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    method=st.sampled_from(("gptq", "awq", "fp8", "mxfp4", "bitsandbytes", "compressed-tensors", "other")),
    changes=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3),
    layers=st.integers(1, 2),
)
def test_a_mutated_quantization_config(
    tmp_path_factory: pytest.TempPathFactory, method: str, changes: dict[str, Any],
    layers: int,
) -> None:  # fmt: skip
    group = {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "channel"}}}
    found = {"quant_method": method, "format": "pack-quantized", "config_groups": group, **changes}
    path = tmp_path_factory.mktemp("fuzz") / "config.json"
    path.write_text(json.dumps(published.config("llama", num_hidden_layers=layers, quantization_config=found)))
    answers(str(path))


METADATA = ("block_count", "embedding_length", "attention.head_count", "attention.head_count_kv", "vocab_size",
            "feed_forward_length", "rope.dimension_count", "expert_count", "attention.key_length",
            "rope.scaling.type")  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    arch=st.sampled_from(("llama", "gemma2", "deepseek2", "glm4moe", "gpt2", "mamba", "stablelm")),
    pairs=st.dictionaries(st.sampled_from(METADATA), VALUES, max_size=8),
)
def test_any_metadata_is_a_config_or_one_error(arch: str, pairs: dict[str, Any]) -> None:
    metadata = {"general.architecture": arch, **{f"{arch}.{key}": value for key, value in pairs.items()}}
    with contextlib.suppress(ModelError):
        architecture_of(config_of(metadata, ["token_embd.weight"]))
