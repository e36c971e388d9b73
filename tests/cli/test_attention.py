"""``txcalc attention``: figures, curves, files, and command lines that contradict themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Ran

Run = Callable[..., Ran]


def test_figures_stand_at_the_top_level(txcalc: Run) -> None:
    """32,768 tokens: 2**30 scores a head, 32 heads, 32 layers, two bytes each in bf16."""
    document = txcalc("attention", "llama3-8b", "--ctx", "32k", "--json").json()
    assert document["schema"] == "txcalc.attention/1"
    assert document["attention"]["scores_per_head"] == 2**30
    assert document["attention"]["scores"] == 2**40
    assert document["attention"]["score_bytes"] == 2**41
    assert document["attention"]["crossover_ctx"] == 21_504


def test_table(txcalc: Run) -> None:
    ran = txcalc("attention", "gpt2", "--ctx", "1024")
    assert (ran.code, ran.err) == (0, "")
    assert f"{1024**2:,}" in ran.out
    assert "recurrent (LSTM)" in ran.out
    assert all(len(line) <= 80 for line in ran.out.splitlines())


@pytest.mark.parametrize("backend", ["eager", "math", "flash"])
def test_backend_is_that_of_the_headline(txcalc: Run, backend: str) -> None:
    document = txcalc("attention", "gpt2", "--ctx", "512", "--backend", backend, "--json").json()
    rows = {row["name"]: row["value"] for row in document["result"]["children"]}
    assert document["attention"]["materialised"] == rows[f"{backend}: live at once in one layer"]


@pytest.mark.parametrize("what", ["memory", "flops"])
def test_plot(txcalc: Run, what: str) -> None:
    ran = txcalc("attention", "llama3-8b", "--ctx", "8k", "--plot", what)
    assert ran.code == 0
    assert f"llama3-8b: {what} against the context" in ran.out
    assert f"{what} against the context" not in txcalc("attention", "llama3-8b", "--ctx", "8k").out


@pytest.mark.parametrize(
    "arguments", [("llama3-8b", "--plot"), ("--plot", "llama3-8b"), ("llama3-8b", "--plot", "--ctx", "8k")]
)
def test_plot_alone_draws_memory(txcalc: Run, arguments: tuple[str, ...]) -> None:
    ran = txcalc("attention", *arguments)
    assert ran.code == 0
    assert "llama3-8b: memory against the context" in ran.out


def test_save_writes_an_svg(txcalc: Run, tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    ran = txcalc("attention", "llama3-8b", "--ctx", "8k", "--save", str(path))
    assert ran.code == 0
    assert str(path) in ran.err
    assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_curves_are_in_the_json(txcalc: Run) -> None:
    curves = txcalc("attention", "llama3-8b", "--ctx", "8k", "--plot", "memory", "--json").json()["curves"]
    assert curves["ctx"][-1] == 8192
    assert curves["KV cache, all layers"][-1] == 8192 * 131_072


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--save", "curves.png"], "is not an SVG file"),
        (["--save", "/nowhere/curves.svg"], "cannot write"),
        (["--backend", "triton"], "triton"),
        (["--ctx", "0"], "--ctx"),
        (["--plot", "flop"], "choose from"),
    ],
)
def test_bad_input(txcalc: Run, arguments: list[str], says: str) -> None:
    ran = txcalc("attention", "llama3-8b", *arguments)
    assert ran.code == 2
    assert says in ran.err
    assert ran.out == ""


def test_a_model_without_attention(txcalc: Run, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "mamba", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 50}')
    ran = txcalc("attention", str(path))
    assert ran.code != 0
    assert "has no attention" in ran.err
