"""Every target of the fuzzer on drawn bytes and damaged files, and on whole ones, which it must accept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.parsers import TARGETS, accepts
from tests.reference import published
from tests.stored.files import gguf_parts, tensors, written
from txcalc.cards import gguf_header


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A good file for every target."""
    config, made = published.config("llama"), tmp_path_factory.mktemp("whole")
    written(made / "st", config, tensors(config))
    text = json.dumps(config)
    return {
        "gguf": gguf_parts(made, 1)[0].read_bytes(),
        "safetensors": (made / "st" / "model.safetensors").read_bytes(),
        "card": f"config: {text}".encode(),
        "config": text.encode(),
        "limits": b"limits:\n  - params.total <= 8.1B\nmodels:\n  gpt2:\n    - memory.total at 4k <= 24GiB\n",
    }


@pytest.mark.parametrize("name", TARGETS)
def test_a_good_file_is_accepted(name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    assert accepts(name, whole[name], tmp_path)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_bytes_are_an_answer_or_one_error(
    name: str, whole: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory, good = tmp_path_factory.mktemp("fuzz"), bytearray(whole[name])
    assert not accepts(name, data.draw(st.binary(max_size=40)), directory)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(good), 3000)))
        good[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    accepts(name, bytes(good), directory)


def test_what_is_no_refusal_passes_through(
    whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a parser that forgets to check raises something else, and the fuzzer sees it."""

    def careless(path: str) -> None:
        raise KeyError(path)

    monkeypatch.setattr(gguf_header, "read_header", careless)
    with pytest.raises(KeyError):
        accepts("gguf", whole["gguf"], tmp_path)
