"""Files that somebody else wrote: whatever is wrong with one is said in a line; nothing hangs, runs or expands."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cards.conftest import refused
from txcalc.cards import files as card_files
from txcalc.cards import find, load
from txcalc.cards.files import MAX_BYTES, read_mapping
from txcalc.cards.yaml_subset import SubsetError
from txcalc.cards.yaml_subset import load as load_yaml
from txcalc.errors import ModelError, TxcalcError

LLAMA = dict(find("llama3-8b").config)


@pytest.fixture
def written(tmp_path: Path) -> Any:
    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def test_a_config_its_directory_and_any_ending(written: Any, tmp_path: Path) -> None:
    path = written("my-model/config.json", json.dumps(LLAMA))
    plain = written("shape.txt", json.dumps(LLAMA))
    assert [load(each).name for each in (path, os.path.dirname(path), plain)] == ["my-model", "my-model", "shape"]


def test_a_byte_order_mark_is_no_fault(written: Any) -> None:
    assert load(written("c.json", b"\xef\xbb\xbf" + json.dumps(LLAMA).encode())).model_type == "llama"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("is empty",)),
        (" \n\t", ("is empty",)),
        (json.dumps(LLAMA)[:100], ("is not JSON", "ends too early")),
        (json.dumps(LLAMA)[:-1], ("is not JSON", "ends too early")),
        ('{"model_type": llama}', ("is not JSON", "line 1, column 16")),
        ("[1, 2]", ("holds a list",)),
        ('"llama"', ('holds "llama"',)),
        ("null", ("holds null",)),
        (json.dumps({**LLAMA, "name": "é"}, ensure_ascii=False).encode("latin-1"), ("not UTF-8",)),
        (json.dumps(LLAMA).encode("utf-16"), ("not UTF-8",)),
        (b"\x00\x01\x02\xff", ("not UTF-8",)),
        (json.dumps({**LLAMA, "rms_norm_eps": float("nan")}), ("rms_norm_eps", "nan")),
        (json.dumps({**LLAMA, "hidden_size": float("inf")}), ("hidden_size", "inf")),
        (json.dumps({**LLAMA, "rope_scaling": {"factor": float("-inf")}}), ("rope_scaling.factor", "-inf")),
        ('{"model_type": "llama", "rope_theta": 1e400}', ("rope_theta", "inf")),
        ('{"model_type": "llama", "hidden_size": ' + "9" * 5000 + "}", ("whole number", "digits")),
        ('{"model_type": "llama", "hidden_size": ' + "9" * 150 + "}", ("whole number", "digits")),
        ('{"a": ' * 100_000 + "1" + "}" * 100_000, ("nested",)),
        ('{"model_type": "llama", "a": ' + "[" * 200 + "]" * 200 + "}", ("nested",)),
        ('{"model_type": "llama", "hidden_size": 1, "hidden_size": 2}', ('"hidden_size" twice',)),
        ("{}", ("no model_type",)),
        (json.dumps({**LLAMA, "model_type": "lama"}), ("lama",)),
        ('{"model_typ": "llama"}', ("model_typ",)),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bad_json(written: Any, content: str | bytes, words: tuple[str, ...]) -> None:
    path = written("config.json", content)
    with refused(path, *words, kind=ModelError):
        load(path)


def test_infinity_where_models_are_published_with_it(written: Any) -> None:
    """Mamba-2 configs carry ``time_step_limit: [0.0, Infinity]``; refusing that would refuse the model."""
    path = written("c.json", '{"model_type": "mamba2", "time_step_limit": [0.0, Infinity]}')
    assert read_mapping(path)["time_step_limit"] == [0.0, float("inf")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("# nothing\n", ("holds null",)),
        ("- a\n", ("holds a list",)),
        ("a: &x [*x]\n", ("anchor or alias", "line 1")),
        ("a: &x [1, 1]\nb: &y [*x, *x]\nc: [*y, *y]\n", ("anchor or alias",)),
        ("a: !!python/object/apply:os.system ['true']\n", ("tag",)),
        ("a: 1\nb: 2\na: 3\n", ('"a" twice', "line 3")),
        ("? [1, 2]\n: 3\n", ("key that is not a string",)),
        ("a: [1,\n", ("is not YAML",)),
        ("\t- x", ("is not YAML",)),
        ("a: b: c", ("is not YAML", "line 1")),
        ("a: 1\n---\nb: 2\n", ("several documents",)),
        ("[" * 100_000, ("nested",)),
        ("a:\n" + "".join(" " * depth + "a:\n" for depth in range(1, 300)), ("nested",)),
        ("a: x\0", ("is not YAML",)),
        ("model_type: llama\nrope_theta: .inf\n", ("rope_theta", "inf")),
        ("model_type: llama\nhidden_size: " + "9" * 5000, ("digits",)),
        ("model_type: llama\nhidden_size: 010\n", ("hidden_size", '"010"')),
        ("model_type: llama\nhidden_size: yes\n", ("hidden_size", '"yes"')),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bad_yaml(written: Any, content: str, words: tuple[str, ...]) -> None:
    path = written("card.yaml", content)
    with refused(path, *words, kind=ModelError):
        load(path)


def test_yaml_numbers_are_jsons() -> None:
    """YAML 1.1 takes 1e-5 for a string, 010 for eight, no for false and 1:30 for ninety."""
    text = "a: 1e-5\nb: 010\nc: no\nd: 1:30\ne: 2024-04-18\nf: -0.5\ng: [1, .5, true, null, ~]\nh: '7'\ni:\n"
    assert load_yaml(text, max_depth=9) == {
        "a": 1e-5,
        "b": "010",
        "c": "no",
        "d": "1:30",
        "e": "2024-04-18",
        "f": -0.5,
        "g": [1, 0.5, True, None, None],
        "h": "7",
        "i": None,
    }


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF, exclude_categories=["Cc", "Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz_.", min_size=1), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text("abcxyz_", min_size=1), JSON_VALUES, max_size=5))
@settings(max_examples=200, deadline=None)
def test_json_read_as_yaml_is_the_same(data: dict[str, Any]) -> None:
    """JSON is YAML 1.2: Python's own JSON writer is the oracle."""
    assert load_yaml(json.dumps(data), max_depth=99) == data


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
@settings(max_examples=300, deadline=None)
def test_no_text_makes_the_yaml_reader_fail_otherwise(text: str) -> None:
    with suppress(SubsetError):
        load_yaml(text, max_depth=9)


@given(raw=st.binary(max_size=80), ending=st.sampled_from([".json", ".yaml"]))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_load_fail_otherwise(tmp_path_factory: Any, raw: bytes, ending: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz{ending}"
    path.write_bytes(raw)
    with pytest.raises(TxcalcError):
        load(str(path))


# ---- what is no ordinary file ---------------------------------------------------------------------------------------


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    for name, limit in (("a.json", MAX_BYTES[False]), ("a.yaml", MAX_BYTES[True])):
        path = tmp_path / name
        with path.open("wb") as file:
            file.truncate(limit + 1)
        with refused("larger than", str(path)):
            load(str(path))


def test_the_largest_file_takes_seconds_at_most(written: Any) -> None:
    path = written("a.json", '{"a": [' + "1," * (MAX_BYTES[False] // 2 - 10) + "1]}")
    start = time.perf_counter()
    with refused("no model_type"):
        load(path)
    assert time.perf_counter() - start < 20  # two on an idle core; the limit catches what grows with the square


def test_a_pipe_a_socket_and_a_device_are_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    with refused("is a pipe"):
        load(str(pipe))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.json"))
        with refused("is a socket"):
            load(str(tmp_path / "s.json"))
    with refused("is a device"):
        load("/dev/zero")


def test_paths_that_lead_nowhere(tmp_path: Path, written: Any) -> None:
    loop = tmp_path / "loop.json"
    loop.symlink_to(loop)
    for path, words in {
        str(tmp_path / "none.json"): ("does not exist",),
        str(tmp_path / "none") + "/": ("does not exist",),
        "./none": ("does not exist",),
        str(loop): ("symbolic links",),
        written("c.json", "{}") + "/d.json": ("Not a directory",),
        "/" + "a" * 5000 + ".json": ("too long",),
        "./a\0b.json": ("null byte",),
    }.items():
        with refused(*words, kind=ModelError):
            load(path)


def test_a_file_without_permission(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written("c.json", "{}")

    def denied(*_: Any) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(card_files, "open", denied, raising=False)  # root may read anything, so the mode proves nothing
    with refused(path, "Permission denied", hint="permissions"):
        load(path)


def test_a_directory_without_a_config(tmp_path: Path, written: Any) -> None:
    with refused("has no config.json", hint="directory that holds one"):
        load(str(tmp_path))
    written("other.json", "{}")
    with refused("has no config.json", hint="other.json"):
        load(str(tmp_path))
    (tmp_path / "config.json").mkdir()
    with refused("is a directory"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", ["model.gguf", "dir/model-00001-of-00002.safetensors", "MODEL.GGUF"])
def test_weights_that_are_not_there(name: str) -> None:
    with refused(name, "does not exist"):
        load(name)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a/b.pt", "x.ckpt", "m.pkl"])
def test_pickles_are_never_read(name: str) -> None:
    with refused(name, "pickle"):
        load(name)
