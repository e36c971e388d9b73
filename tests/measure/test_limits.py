"""Limits: what a file may say, what it may not, and that each operator is the one that it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cards.conftest import refused
from txcalc.cards import load
from txcalc.measure.limits import hold, named_in, of_model, read_limits

LLAMA = load("llama3-8b")


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "limits.yaml"
    path.write_text(text, encoding="utf-8")
    return read_limits(str(path))


def verdict(tmp_path: Path, line: str) -> str:
    limits = read(tmp_path, f"limits:\n- {line}\n")
    (held,) = hold(LLAMA, limits.every, limits.path)
    return str(held.verdict)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("params <= 8030261248", True),  # its recorded truth
        ("params <= 8030261247", False),
        ("params < 8030261248", False),
        ("params < 8030261249", True),
        ("params == 8030261248", True),
        ("params == 8030261249", False),
        ("params >= 8030261248", True),
        ("params > 8030261248", False),
        ("params.embedding <= 526M", True),  # 128,256 * 4,096 = 525,336,576
        ("params.embedding <= 525M", False),
        ("kv_cache.bytes_per_token <= 128KiB", True),  # 32 layers * 2 * 8 * 128 * 2 bytes = 131,072
        ("kv_cache.bytes_per_token < 128KiB", False),
        ("kv_cache.bytes_per_token <= 131kB", False),
        ("kv_cache at 32k <= 4GiB", True),
        ("kv_cache.total_bytes at 32k batch 2 <= 8GiB", True),
        ("kv_cache at 32k batch 3 <= 8GiB", False),
        ("kv_cache at 32k batch 2 < 8GiB", False),
        ("flops at 2k <= 32938104193024", True),
        ("flops at 2k batch 2 <= 65876208386047", False),
        ("memory.weights at 1 <= 16061MB", True),  # 2 bytes a parameter: 16,060.5 MB
        ("memory.weights at 32k <= 16060MB", False),
        ("memory.total at 32k <= 24GiB", True),  # weights, 4 GiB of cache and 4.51 GiB of activations: 23.5
        ("memory at 32k <= 23GiB", False),
        ("params<=9B", True),
        ("  params   <=   9B  ", True),
    ],
)
def test_a_limit_is_kept_or_not(tmp_path: Path, line: str, kept: bool) -> None:
    assert verdict(tmp_path, line) == ("passed" if kept else "failed")


def test_the_sentence_of_a_limit_has_every_number(tmp_path: Path) -> None:
    limits = read(tmp_path, "limits: [params <= 8B]")
    (held,) = hold(LLAMA, limits.every, limits.path)
    assert held.sentence() == ("params <= 8B: it is 8,030,261,248, the limit 8,000,000,000 parameters, +30,261,248")


def test_limits_of_every_model_and_of_one(tmp_path: Path) -> None:
    limits = read(
        tmp_path,
        "limits: [params <= 9B]\nmodels:\n  llama3-8b: [params >= 8B]\n  ./own/config.json: [params <= 1B]\n",
    )
    own = str(tmp_path / "own" / "config.json")
    assert named_in(limits) == ["llama3-8b", own]
    assert [each.text for each in of_model(limits, "llama3-8b")] == ["params <= 9B", "params >= 8B"]
    assert [each.text for each in of_model(limits, own)] == ["params <= 9B", "params <= 1B"]
    assert [each.text for each in of_model(limits, "gpt2")] == ["params <= 9B"]


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("limit: [params <= 8B]", ["limit is not a key"], "did you mean limits?"),
        ("limits: params <= 8B", ["limits is", "expected a list"], "params <= 8.1B"),
        ("limits: [8]", ["limits[0] is 8"], "params <= 8.1B"),
        ("limits: [params]", ["limits[0]", "params"], "params <= 8.1B"),
        ("limits: [params =< 8B]", ["limits[0]"], "params <= 8.1B"),
        ("limits: [params <= 8B, param <= 8B]", ["limits[1]: param is not a figure"], "did you mean params?"),
        ("limits: [kv_cache <= 8GiB]", ["kv_cache.total_bytes depends on the length"], "at 32k"),
        ("limits: [kv_cache at 32q <= 8GiB]", ["'32q' is not a length"], "32k"),
        ("limits: [kv_cache at 32k batch 0 <= 8GiB]", ["'0' is out of range"], "1, 2, 3"),
        ("limits: [params at 32k <= 8B]", ["params.total depends on no length"], "params <= 8.1B"),
        ("models: [params <= 8B]", ["models is", "expected an object"], "llama3-8b"),
        ("models: {gpt2: params <= 8B}", ["models.gpt2 is"], "params <= 8.1B"),
        ("{}", ["holds no limit"], "params <= 8.1B"),
        ("models: {gpt2: []}", ["holds no limit"], "params <= 8.1B"),
        ("limits: [params <= 8B", ["is not YAML"], ""),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path: Path, text: str, words: list[str], hint: str) -> None:
    with refused(*words, hint=hint):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "words", "hint"),
    [
        ("params.totl <= 8B", ["params.totl is not a figure of llama3-8b"], "did you mean params.total?"),
        ("params <= 8GiB", ["params <= 8GiB", "not a number"], "15T"),
        ("kv_cache.bytes_per_token <= 128", ["not an amount of memory"], "24GiB"),
        ("kv_cache at 8k <= lots", ["'lots' is not an amount of memory"], "24GiB"),
    ],
)
def test_a_limit_that_fits_no_figure_says_so(tmp_path: Path, line: str, words: list[str], hint: str) -> None:
    limits = read(tmp_path, f"limits:\n- {line}\n")
    with refused(*words, hint=hint):
        hold(LLAMA, limits.every, limits.path)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with refused("does not exist"):
        read_limits(str(tmp_path / "none.yaml"))
