"""txcalc inspect: tables, tokens, heat maps; random weights where there are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.dom.minidom import parse

import pytest

from tests.cli.conftest import Ran
from tests.reference.text import byte_level, directory, gguf_model

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return directory(tmp_path_factory.mktemp("models") / "tiny")


def test_real_weights_and_the_models_own_tokens(txcalc: Run, model: Path) -> None:
    ran = txcalc("inspect", str(model), "--text", "the cat", "--json")
    document = ran.json()
    assert (ran.code, ran.err) == (0, "")
    assert document["schema"] == "txcalc.inspect/1"
    assert document["weights"] == "real"
    assert [each["token"] for each in document["tokens"]] == byte_level().encode("the cat").ids
    assert "".join(each["text"] for each in document["tokens"]) == "the cat"
    count = len(document["tokens"])
    shapes = {(each["layer"], each["name"]): each["shape"] for each in document["tensors"]}
    assert shapes[1, "attn.weights"] == [1, 4, count, count]
    assert shapes[None, "logits"] == [1, count, 300]
    assert document["result"]["value"] == sum(product(each["shape"]) for each in document["tensors"])


def product(shape: list[int]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result


def test_the_table_closes_layers_that_are_alike(txcalc: Run, model: Path) -> None:
    closed = txcalc("inspect", str(model), "--text", "the cat").out
    opened = txcalc("inspect", str(model), "--text", "the cat", "--every").out
    assert "layer 1 (as layer 0)" in closed
    assert closed.count("mlp.up_proj") == 1
    assert opened.count("mlp.up_proj") == 2
    assert "k_proj (2 heads of 8, each for 2 query heads)" in closed
    assert "\x1b" not in closed
    assert max(map(len, closed.split("\nnote")[0].splitlines())) <= 80


def test_a_gguf_file_flows_like_its_directory(txcalc: Run, model: Path, tmp_path: Path) -> None:
    path = gguf_model(tmp_path / "tiny.gguf")
    ours = txcalc("inspect", str(path), "--text", "the cat", "--json").json()
    other = txcalc("inspect", str(model), "--text", "the cat", "--json").json()
    assert ours["tokens"] == other["tokens"]
    assert [each["rms"] for each in ours["tensors"]] == pytest.approx([each["rms"] for each in other["tensors"]])


def test_any_card_runs_with_random_weights_shrunk_where_it_must_be(txcalc: Run) -> None:
    document = txcalc("inspect", "llama3-8b", "--text", "abc", "--json").json()
    assert document["weights"] == "random"
    assert [each["text"] for each in document["tokens"]] == ["a", "b", "c"]
    notes = " ".join(document["notes"])
    assert "shrunk, 29.9 GiB of random weights are too many" in notes
    assert "of 32 layers, widths / " in notes


def test_a_card_shrinks_as_it_is_asked_to(txcalc: Run) -> None:
    document = txcalc("inspect", "llama3-8b", "--layers", "3", "--scale", "32", "--json").json()
    shapes = {(each["layer"], each["name"]): each["shape"] for each in document["tensors"]}
    assert {layer for layer, _ in shapes} == {0, 1, 2, None}
    assert shapes[2, ""][-1] == 4096 // 32
    assert "shrunk, as asked for: 3 of 32 layers, widths / 32" in " ".join(document["notes"])


def test_the_whole_shape_without_values(txcalc: Run) -> None:
    """Llama-3-405B: 126 layers of width 16,384, 128 heads over 8 of 128."""
    document = txcalc("inspect", "llama3.1-405b", "--full", "--text", "abcd", "--json").json()
    shapes = {(each["layer"], each["name"]): each["shape"] for each in document["tensors"]}
    assert shapes[125, "attn.q_proj"] == [1, 4, 16384]
    assert shapes[125, "attn.k_proj"] == [1, 4, 1024]
    assert shapes[125, "attn.weights"] == [1, 128, 4, 4]
    assert {each["rms"] for each in document["tensors"]} == {None}


def test_what_ifs_apply_to_random_weights(txcalc: Run) -> None:
    document = txcalc("inspect", "gpt2", "--set", "n_layer=2", "--set", "n_embd=96", "--json").json()
    shapes = {(each["layer"], each["name"]): each["shape"] for each in document["tensors"]}
    assert shapes[1, ""] == [1, 23, 96]


@pytest.mark.parametrize("card", ["t5-small", "bert-base", "qwen3-next-80b-a3b", "deepseek-v2-lite", "jamba-v0.1"])
def test_other_kinds_of_models_run(txcalc: Run, card: str) -> None:
    ran = txcalc("inspect", card, "--scale", "16", "--layers", "2")
    assert (ran.code, ran.err) == (0, "")


# ---- heat maps ------------------------------------------------------------------------------------------------------


def test_one_head_as_a_heat_map(txcalc: Run, model: Path) -> None:
    out = txcalc("inspect", str(model), "--text", "the cat", "--heads", "1:2").out
    drawn = out[out.index("layer 1, head 2") :].splitlines()
    count = len(byte_level().encode("the cat").ids)
    assert len(drawn) == 2 + count + 1
    assert drawn[2].split()[-1] == "██", "the first token looks at itself alone"
    assert "layer 1, head 3" not in out


def test_all_heads_of_a_layer_and_a_file(txcalc: Run, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "heads.svg"
    ran = txcalc("inspect", str(model), "--text", "the cat", "--heads", "0", "--save", str(path))
    assert [f"layer 0, head {n}" in ran.out for n in range(5)] == [True] * 4 + [False]
    assert ran.err == f"saved {path}\n"
    frames = [each for each in parse(str(path)).getElementsByTagName("rect") if each.getAttribute("fill") == "none"]
    assert len(frames) == 4


def test_weights_in_json_are_distributions(txcalc: Run, model: Path) -> None:
    document = txcalc("inspect", str(model), "--text", "the cat", "--heads", "1:0", "--json").json()
    (head,) = document["heads"]
    assert [sum(row) for row in head["weights"]] == pytest.approx([1.0] * len(head["weights"]))


def test_cross_attention(txcalc: Run) -> None:
    small = ("t5-small", "--scale", "8", "--layers", "2", "--text", "abc")
    assert "layer 1, head 0" in txcalc("inspect", *small, "--heads", "1:0", "--cross").out


# ---- what cannot be done --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "part", "code"),
    [
        (["--heads", "9"], "layer 9", 1),
        (["--heads", "0:9"], "head 9: layer 0 has heads 0 to 3", 1),
        (["--heads", "0", "--cross"], "no cross-attention weights", 1),
        (["--heads", "x"], "'x' is not LAYER", 2),
        (["--heads", "-1"], "--heads", 2),
        (["--save", "x.svg"], "--save is of heat maps", 2),
        (["--cross"], "--cross is of heat maps", 2),
        (["--layers", "99"], "--layers 99:", 1),
        (["--heads", "0", "--save", "x.png"], "SVG", 2),
        (["--heads", "0", "--save", "/nowhere/x.svg"], "cannot be written", 1),
        (["--full", "--heads", "0"], "--full", 2),
        (["--heads", "0", "--format", "md"], "draws in the table, not in md", 2),
        (["--text", ""], "no tokens", 1),
        (["--gqa", "1"], "weights of its own", 2),
        (["--layers", "0"], "--layers", 2),
        (["--scale", "x"], "--scale", 2),
    ],
)
def test_refusals(txcalc: Run, model: Path, arguments: list[str], part: str, code: int) -> None:
    ran = txcalc("inspect", str(model), *arguments)
    assert ran.code == code
    assert part in ran.err
    assert "error: " in ran.err


def test_more_tokens_than_positions_are_refused(txcalc: Run) -> None:
    ran = txcalc("inspect", "gpt2", "--layers", "1", "--scale", "8", "--text", "a" * 1025)
    assert ran.code == 1
    assert "1,025 tokens" in ran.err
    assert "1,024 positions" in ran.err


def test_a_shape_that_is_asked_for_and_does_not_fit_is_refused_with_the_sum(
    txcalc: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("txcalc.reference.device.Cpu.free_memory", lambda self: 2**30)
    ran = txcalc("inspect", "llama3-8b", "--layers", "32", "--scale", "1")
    assert ran.code == 1
    assert "29.92 GiB of weights" in ran.err


def test_without_torch_it_says_what_to_install(txcalc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txcalc.cli.torch_extra.find_spec", lambda name: None)
    ran = txcalc("inspect", "gpt2")
    assert ran.code == 1
    assert "hint: pip install 'txcalc[torch]'" in ran.err


def test_a_model_without_a_tokenizer_reads_bytes(txcalc: Run, tmp_path: Path) -> None:
    path = directory(tmp_path / "m")
    (path / "tokenizer.json").unlink()
    document = json.loads(txcalc("inspect", str(path), "--text", "ab", "--json").out)
    assert [each["token"] for each in document["tokens"]] == [97, 98]
    assert "byte by byte" in " ".join(document["notes"])


def test_text_that_is_no_utf8_is_read_all_the_same(txcalc: Run, model: Path) -> None:
    ran = txcalc("inspect", str(model), "--text", b"a\xff".decode("utf-8", "surrogateescape"))
    assert (ran.code, ran.err) == (0, "")
