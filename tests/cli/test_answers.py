"""What the commands print: figures, formats, keys, exit codes."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ran

Run = Callable[..., Ran]
Config = Callable[..., str]


def test_params_by_name(txcalc: Run) -> None:
    ran = txcalc("params", "llama3-8b")
    assert ran.code == 0
    assert "8,030,261,248" in ran.out
    assert "exact" in ran.out.splitlines()[0]
    assert ran.err == ""


@pytest.mark.parametrize("name", ["Llama3-8B", "LLAMA3_8B", "llama-3-8b", "meta-llama/Meta-Llama-3-8B"])
def test_names_are_forgiving(txcalc: Run, name: str) -> None:
    assert txcalc("params", name, "--json").json()["params"]["total"] == 8_030_261_248


def test_main_figures_stand_at_the_top_level(txcalc: Run) -> None:
    document = txcalc("params", "llama3-8b", "--json").json()
    assert document["schema"] == "txcalc.params/1"
    assert document["params"] == {
        "total": 8_030_261_248,
        "embedding": 525_336_576,
        "head": 525_336_576,
        "non_embedding": 6_979_588_096,
        "active": 8_030_261_248,
        "active_without_embedding": 7_504_924_672,
    }
    assert (document["basis"], document["reasons"], document["warnings"]) == ("exact", [], [])


def nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(below for child in node.get("children", []) for below in nodes(child))]


@pytest.mark.parametrize(
    "arguments",
    [
        ("params", "llama3-8b"),
        ("params", "mixtral-8x7b"),
        ("params", "deepseek-v3"),
        ("kvcache", "gemma-3-27b", "--ctx", "128k", "--block-size", "64", "--fit", "24GiB"),
        ("kvcache", "t5-large"),
    ],
    ids=" ".join,
)
def test_every_row_adds_up_and_says_where_it_comes_from(txcalc: Run, arguments: tuple[str, ...]) -> None:
    """Parts sum to their whole (times the count), and every number has a formula and a source."""
    document = txcalc(*arguments, "--json").json()
    for node in nodes(document["result"]):
        assert isinstance(node["value"], int | float)
        assert node["basis"] == "exact"
        parts = [child["value"] for child in node.get("children", []) if not child.get("aside")]
        if parts:
            assert node["value"] == sum(parts) * node.get("count", 1)
        if node["unit"] in ("parameters", "bytes") and node["value"]:
            assert node["formula"]
            assert node["source"]


def test_the_issue_s_what_if(txcalc: Run) -> None:
    """16 layers and 4 KV heads: 16 * (2*4096^2 + 2*4096*512 + 3*4096*14336 + 2*4096) + 2*128256*4096 + 4096."""
    ran = txcalc("params", "llama3-8b", "--set", "num_hidden_layers=16", "--gqa", "4", "--json")
    layer = 2 * 4096**2 + 2 * 4096 * 512 + 3 * 4096 * 14336 + 2 * 4096
    assert ran.json()["params"]["total"] == 16 * layer + 2 * 128256 * 4096 + 4096


def test_kvcache_without_a_model_says_whose_shape_it_is(txcalc: Run) -> None:
    ran = txcalc("kvcache", "--ctx", "32k", "--gqa", "8", "--json")
    assert ran.json()["kv_cache"]["total_bytes"] == 4_294_967_296
    assert any("llama3-8b" in note for note in ran.json()["notes"])
    assert any("shared by 4 query heads" in note for note in ran.json()["notes"])
    assert ran.json()["inputs"] == {"ctx": 32768, "batch": 1, "kv_dtype": "bf16"}


def test_a_context_beyond_training_is_answered_with_a_warning(txcalc: Run) -> None:
    ran = txcalc("kvcache", "llama3-8b", "--ctx", "32k")
    assert ran.code == 0
    assert "warning: " in ran.err
    assert "8,192" in ran.err


def test_fit_exits_3_where_not_one_sequence_fits(txcalc: Run) -> None:
    assert txcalc("kvcache", "llama3-8b", "--ctx", "32k", "--fit", "4GiB").code == 0
    assert txcalc("kvcache", "llama3-8b", "--ctx", "32k", "--fit", "4.29GB").code == 3


def test_fit_counts_whole_blocks_and_the_batch(txcalc: Run) -> None:
    """1,000 tokens take 16 blocks of 64 tokens of 131,072 bytes: 134,217,728; one byte less has no room for one."""
    common = ("kvcache", "llama3-8b", "--ctx", "1000", "--block-size", "64", "--json", "--fit")
    assert txcalc(*common, "134217728B").json()["kv_cache"]["fit_sequences"] == 1
    less = txcalc(*common, "134217727B")
    assert (less.code, less.json()["kv_cache"]["fit_sequences"], less.json()["kv_cache"]["fit_tokens"]) == (3, 0, 960)
    assert txcalc("kvcache", "llama3-8b", "--ctx", "8k", "--batch", "8", "--fit", "2GiB").code == 3


def test_an_empty_model_name_is_refused(txcalc: Run) -> None:
    assert txcalc("params", "").code == 1
    assert txcalc("kvcache", "").code == 1


def test_the_default_context_is_no_longer_than_the_training_s(txcalc: Run) -> None:
    ran = txcalc("kvcache", "gpt2", "--json")
    assert ran.json()["inputs"]["ctx"] == 1024
    assert ran.err == ""


def test_the_python_api_says_estimated_too(config: Config) -> None:
    import txcalc

    model = txcalc.load(config(flux_capacitor=3))
    for tree in (txcalc.params(model), txcalc.kv_cache(model, ctx=8), txcalc.flops(model, seq=8)):
        assert tree.basis == "estimated"
        assert "flux_capacitor" in tree.reason


def test_a_full_disk_is_one_line() -> None:
    command = f"{sys.executable} -m txcalc params llama3-8b --json > /dev/full"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the answer cannot be written")


def test_a_closed_output_is_one_line() -> None:
    command = f"{sys.executable} -m txcalc params llama3-8b >&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output is closed")


def test_an_estimate_says_so_everywhere(txcalc: Run, config: Config) -> None:
    path = config(flux_capacitor=3)
    document = txcalc("params", path, "--json").json()
    assert document["basis"] == "estimated"
    assert document["reasons"] == ["flux_capacitor = 3: not a field that txcalc knows"]
    assert {node["basis"] for node in nodes(document["result"])} == {"estimated"}
    ran = txcalc("params", path)
    assert "estimated" in ran.out.splitlines()[0]
    assert "flux_capacitor" in ran.err


def test_explain_shows_formula_values_and_source(txcalc: Run) -> None:
    out = txcalc("params", "llama3-8b", "--explain").out
    assert "= D * K * H" in out
    assert "= 4,096 * 8 * 128" in out
    assert "source: Vaswani" in out
    assert "K = num_key_value_heads" in out


def test_tables_fit_80_columns(txcalc: Run) -> None:
    for arguments in (["params", "deepseek-v3"], ["kvcache", "deepseek-v3", "--ctx", "1M", "--batch", "64"]):
        ran = txcalc(*arguments)
        assert max(len(line) for line in ran.out.splitlines()[1:] if not line.startswith("note:")) <= 80, ran.out


def test_plain_output_has_no_escape_codes(txcalc: Run) -> None:
    assert "\x1b" not in txcalc("kvcache", "llama3-8b").out


def test_csv_is_one_line_a_node(txcalc: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(txcalc("params", "llama3-8b", "--format", "csv").out)))
    by_key = {row["key"]: int(row["value"]) for row in rows if row["key"]}
    assert by_key["params.total"] == 8_030_261_248


@pytest.mark.parametrize(
    "arguments",
    [
        ("params", "deepseek-v3"),
        ("kvcache", "gemma-3-27b"),
        ("flops", "deepseek-v3", "--phase", "train"),
        ("flops", "llama3-8b", "--convention", "all", "--tokens", "15T"),
        ("attention", "deepseek-v3"),
        ("memory", "deepseek-v3"),
        ("memory", "llama3-8b", "--train", "--recompute", "full", "--lora", "r=4,q_proj"),
    ],
    ids=" ".join,
)
def test_a_path_in_csv_is_one_node(txcalc: Run, arguments: tuple[str, ...]) -> None:
    """Siblings of one name are told apart, so that a path can be looked up."""
    rows = list(csv.DictReader(io.StringIO(txcalc(*arguments, "--format", "csv").out)))
    paths = [row["path"] for row in rows]
    assert len(rows) == len(nodes(txcalc(*arguments, "--json").json()["result"]))
    assert len(set(paths)) == len(paths)


def test_a_list_in_csv_has_its_lines(txcalc: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(txcalc("explain", "--format", "csv").out)))
    assert {"key", "unit", "means", "source", "oracle"} == set(rows[0])
    claims = list(csv.DictReader(io.StringIO(txcalc("explain", "claims", "--format", "csv").out)))
    assert any(row["verdict"] == "false" and "4 d^2" in row["claim"] for row in claims)
    cards = list(csv.DictReader(io.StringIO(txcalc("cards", "--family", "llama", "--format", "csv").out)))
    assert any(row["name"] == "llama3-8b" and row["context_length"] == "8192" for row in cards)


class Typed:
    """Standard input as a pipe gives it."""

    def __init__(self, text: str) -> None:
        self.buffer = io.BytesIO(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96}',
        "model_type: llama\nnum_hidden_layers: 2\nhidden_size: 64\nintermediate_size: 96\n",
        "config: {model_type: llama, num_hidden_layers: 2, hidden_size: 64, intermediate_size: 96}\n",
    ],
    ids=["json", "yaml", "card"],
)
def test_a_config_from_standard_input(txcalc: Run, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Llama's defaults: 32 heads of 2, 32,000 tokens, no tying: 2 (4 64^2 + 3 64 96 + 2 64) + 2 32,000 64 + 64."""
    monkeypatch.setattr(sys, "stdin", Typed(text))
    found = txcalc("params", "-", "--json").json()["params"]["total"]
    assert found == 2 * (4 * 64**2 + 3 * 64 * 96 + 2 * 64) + 2 * 32_000 * 64 + 64


@pytest.mark.parametrize(("text", "says"), [("", "is empty"), ("{", "is not JSON"), ("[]", "holds a list")])
def test_a_bad_standard_input(txcalc: Run, monkeypatch: pytest.MonkeyPatch, text: str, says: str) -> None:
    monkeypatch.setattr(sys, "stdin", Typed(text))
    ran = txcalc("params", "-")
    assert ran.code == 1
    assert ran.err.startswith("error: standard input")
    assert says in ran.err


def test_remarks_are_wrapped_to_the_terminal_s_width() -> None:
    """On a pipe a remark is one line; on a terminal of 40 columns no line is longer."""
    import os
    import pty

    command = [sys.executable, "-m", "txcalc", "flops", "llama3-8b", "--ctx", "9k"]
    piped = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    master, slave = pty.openpty()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=slave, env={**os.environ, "COLUMNS": "40"}, check=True)
    os.close(slave)
    shown = os.read(master, 65536).decode().replace("\r\n", "\n")
    os.close(master)
    assert len(piped.splitlines()) == 1
    assert max(map(len, shown.splitlines())) <= 40
    assert " ".join(shown.split()) == piped.strip()


def test_markdown_is_a_table(txcalc: Run) -> None:
    out = txcalc("params", "llama3-8b", "--format", "md").out
    assert re.search(r"^\| \*\*total\*\* \| 8,030,261,248 \|", out, re.MULTILINE)


def test_cards(txcalc: Run) -> None:
    assert txcalc("cards", "--family", "qwen").out.count("qwen") > 3
    assert "8,030,261,248" in txcalc("cards", "show", "llama3-8b").out
    assert txcalc("cards", "check").code == 0


def test_cards_check_fails_on_a_wrong_published_figure(txcalc: Run, tmp_path: Any, config: Config) -> None:
    """Negative control: a figure off by one, without an explanation, is found, with card and key."""
    import json
    from pathlib import Path

    fields = json.loads(Path(config()).read_text())
    entry = {"figure": "params.total", "value": 8_030_261_249, "source": "made up", "relation": "exact"}
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps({"name": "wrong", "config": fields, "published": [entry]}))
    ran = txcalc("cards", "check", str(path))
    assert ran.code == 3
    assert "params.total" in ran.out
    assert "8,030,261,249" in ran.out


@pytest.mark.parametrize("command", ["params", "kvcache", "cards", "completion"])
def test_help_has_examples(txcalc: Run, command: str) -> None:
    ran = txcalc(command, "--help")
    assert ran.code == 0
    assert "examples:" in ran.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_and_cards(txcalc: Run, shell: str) -> None:
    out = txcalc("completion", shell).out
    assert all(word in out for word in ("kvcache", "llama3-8b", "kv_cache.total_bytes", "h100-sxm"))


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_a_model_and_leaves_a_path_to_its_own_completion(txcalc: Run, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(txcalc("completion", "bash").out)
    ask = 'COMP_WORDS=(txcalc params "$1"); COMP_CWORD=2; _shtab_txcalc txcalc "$1"; echo "${COMPREPLY[*]}"'
    program = f"source {tmp_path}/script; {ask}; complete -p txcalc"

    def completed(word: str) -> list[str]:
        return subprocess.run(
            ["bash", "--norc", "-c", program, "bash", word], capture_output=True, text=True, check=True
        ).stdout.splitlines()

    assert completed("llama3-70")[0] == "llama3-70b"
    assert completed("./conf")[0] == ""
    assert "-o default" in completed("./conf")[1]


def test_version_and_bare_call(txcalc: Run) -> None:
    assert txcalc("--version").out.startswith("txcalc 0.")
    bare = txcalc()
    assert bare.code == 0
    assert "params" in bare.out


def test_as_a_module_and_through_a_closed_pipe() -> None:
    command = f"{sys.executable} -m txcalc params llama3-8b --explain | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("llama3-8b")
    assert done.stderr == ""
