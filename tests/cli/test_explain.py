"""``txcalc explain``: one quantity, the list of them, the claims."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cli.conftest import Ran
from txcalc.formulas.registry import QUANTITIES

Run = Callable[..., Ran]


def test_one_quantity(txcalc: Run) -> None:
    ran = txcalc("explain", "kv_cache.bytes_per_token")
    assert (ran.code, ran.err) == (0, "")
    for text in ("131,072", "L * 2 * K * H * bytes_per_element", "tests/formulas/test_kv_cache.py", "arXiv"):
        assert text in ran.out


def test_on_another_model(txcalc: Run) -> None:
    """GPT-2: 12 layers, 12 heads of 64, keys and values, in four bytes an element."""
    document = txcalc("explain", "kv_cache.bytes_per_token", "gpt2", "--json").json()
    assert document["result"]["value"] in (2 * 12 * 12 * 64 * width for width in (2, 4))
    assert document["quantity"]["unit"] == "bytes"


def test_the_list_is_the_registry(txcalc: Run) -> None:
    listed = txcalc("explain", "--json").json()["quantities"]
    assert [each["key"] for each in listed] == list(QUANTITIES)
    assert all(key in txcalc("explain").out for key in ("memory.total", "attention.scores", "flops.matmul"))


def test_letters(txcalc: Run) -> None:
    assert "num_attention_heads: query heads" in txcalc("explain", "N").out
    assert set(txcalc("explain", "letters", "--json").json()["letters"]) >= set("BTSDFVNKHLE")


@pytest.mark.parametrize("name", ["check.passed", "bench.error"])
def test_what_only_a_run_gives(txcalc: Run, name: str) -> None:
    ran = txcalc("explain", name)
    assert ran.code == 0
    assert f"txcalc {name.partition('.')[0]} MODEL gives its value" in ran.out


def test_devices_are_those_that_gpu_takes(txcalc: Run) -> None:
    """The H100's sheet: 80 GB, 989.4 dense bf16 TFLOP/s; a figure that no source gave is not guessed."""
    out = txcalc("explain", "devices").out
    lines = {line.split()[0]: line.split() for line in out.splitlines()[4:]}
    assert lines["h100-sxm"][-2] == "80"
    assert "not read" in out
    assert lines.keys() == {each["id"] for each in txcalc("explain", "devices", "--json").json()["devices"]}
    assert txcalc("memory", "gpt2", "--gpu", "RTX 4090", "--json").json()["fit"]["fits"]


def test_claims(txcalc: Run) -> None:
    found = txcalc("explain", "claims", "--json").json()["claims"]
    assert {each["verdict"] for each in found} == {"true", "true under a condition", "false"}
    assert "124,439,808" in txcalc("explain", "claims").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["memory.totl"], "memory.total"),
        (["claims", "gpt2"], "models of their own"),
        (["letters", "gpt2"], "the same for every model"),
        (["Q"], "no quantity"),
        (["devices", "gpt2"], "the same for every model"),
        (["kvcache"], "did you mean: kv_cache.total_bytes"),
        ([""], "txcalc explain lists them"),
        (["kv_cache.bytes_per_token", "no-such-model"], "no-such-model"),
    ],
)
def test_bad_input(txcalc: Run, arguments: list[str], says: str) -> None:
    ran = txcalc("explain", *arguments)
    assert ran.code not in (0, 3)
    assert says in ran.err
    assert ran.out == ""
