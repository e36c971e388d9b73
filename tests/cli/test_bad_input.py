"""What a careless user meets: one line that says what was wrong with its value, a hint, exit 1 or 2."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ran

Run = Callable[..., Ran]
Config = Callable[..., str]


def refused(ran: Ran, code: int, *words: str) -> None:
    """Exactly one error line, holding ``words``; nothing on stdout."""
    assert ran.code == code, ran.err
    assert ran.out == ""
    lines = ran.err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[:1]
    assert all(line.startswith("hint: ") for line in lines[1:])
    assert "unexpected" not in lines[0]
    for word in words:
        assert word in ran.err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": "4096"}, ("hidden_size", '"4096"', "whole number")),
        ({"hidden_size": -1}, ("hidden_size", "-1")),
        ({"hidden_size": 0}, ("hidden_size", "0")),
        ({"hidden_size": 4096.0}, ("hidden_size", "4096.0")),
        ({"hidden_size": True}, ("hidden_size", "true")),
        ({"hidden_size": None}, ("hidden_size", "null")),
        ({"hidden_size": [4096]}, ("hidden_size", "[4096]")),
        ({"num_hidden_layers": 10**30}, ("num_hidden_layers", "100,000")),
        ({"vocab_size": 10**15}, ("vocab_size", str(10**15))),
        ({"num_key_value_heads": 5}, ("num_key_value_heads", "5", "32")),
        ({"num_attention_heads": 33, "num_key_value_heads": 33}, ("4096", "33")),
        ({"hidden_act": "nonsense"}, ("hidden_act", "'nonsense'", "silu")),
        ({"model_type": "lama"}, ("lama", "llama")),
        ({"model_type": "LLaMA"}, ('"LLaMA"', "nearest known types: llama")),
        ({"model_type": ...}, ("model_type", "which architecture")),
        ({"model_type": 7}, ("model_type", "7")),
        ({"architectures": "LlamaForCausalLM"}, ("architectures",)),
        ({"tie_word_embeddings": "yes"}, ("tie_word_embeddings", '"yes"')),
        ({"rope_scaling": "linear"}, ("rope_scaling",)),
        ({"rms_norm_eps": "tiny"}, ("rms_norm_eps", '"tiny"')),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bad_fields_of_a_config(txcalc: Run, config: Config, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(txcalc("params", config(**changes)), 1, *words)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--gqa", "5"], 1, ("5", "32", "1, 2, 4, 8, 16, 32")),
        (["--gqa", "0"], 1, ("0",)),
        (["--gqa", "64"], 1, ("64",)),
        (["--gqa", "many"], 2, ("many",)),
        (["--ctx", "0"], 2, ("--ctx", "'0'", "32k")),
        (["--ctx=-5"], 2, ("--ctx", "'-5'", "32k")),
        (["--ctx", "32q"], 2, ("--ctx", "'32q'", "32k")),
        (["--ctx", ""], 2, ("--ctx", "32k")),
        (["--ctx", "9" * 30], 2, ("--ctx", "out of range")),
        (["--fit", "-1GiB"], 2, ("--fit", "'-1GiB'", "24GiB")),
        (["--batch", "0"], 2, ("--batch", "'0'")),
        (["--batch", "1.5"], 2, ("--batch", "'1.5'")),
        (["--kv-dtype", "fp7"], 2, ("fp7", "bf16")),
        (["--state-dtype", "q8_0"], 1, ("q8_0",)),
        (["--fit", "24"], 2, ("--fit", "24GiB")),
        (["--block-size", "x"], 2, ("--block-size",)),
        (["--source-ctx", "8"], 1, ("no encoder",)),
        (["--set", "hidden_size=zero"], 1, ("hidden_size", "zero")),
        (["--set", "hidden_size"], 2, ("KEY=VALUE",)),
        (["--set", "hiden_size=8"], 1, ("hiden_size", "hidden_size")),
        (["--format", "xml"], 2, ("xml",)),
        (["--nonsense"], 2, ("--nonsense", "--help")),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_bad_options(txcalc: Run, config: Config, arguments: list[str], code: int, words: tuple[str, ...]) -> None:
    refused(txcalc("kvcache", config(), *arguments), code, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["parms", "x"], ("parms", "params")),
        (["kv", "x"], ("'kv'", "did you mean: kvcache")),
        (["help"], ("'help'", "--help")),
        (["attention", "gpt2", "--save", ""], ("--save: ''", "names no file")),
        (["check", "gpt2", "--against", " "], ("--against: ' '",)),
        (["flops", "gpt2", "--tokens", "1B", "--gpu", "h100-sxm"], ("--gpu", "--mfu 0.4")),
        (["params"], ("MODEL",)),
        (["--nonsense"], ("--nonsense",)),
        (["cards", "sing"], ("sing",)),
        (["cards", "show"], ("one card",)),
        (["completion", "powershell"], ("powershell",)),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_commands(txcalc: Run, arguments: list[str], words: tuple[str, ...]) -> None:
    refused(txcalc(*arguments), 2, *words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.json", b"", ("empty",)),
        ("cut.json", b'{"model_type":', ("cut.json",)),
        ("string.json", b'{"model_type', ("unterminated string starting at line 1, column 2",)),
        ("none.gguf", b"GGUF\3" + bytes(19), ("none.gguf: GGUF architecture null",)),
        ("list.json", b"[1, 2]", ("list.json",)),
        ("text.json", b'"llama"', ("text.json",)),
        ("binary.json", bytes(range(256)), ("binary.json",)),
        ("latin1.json", '{"model_type": "llámá"}'.encode("latin-1"), ("latin1.json",)),
        ("huge.json", b'{"model_type": "llama", "hidden_size": 1e400}', ("hidden_size",)),
        ("digits.json", b'{"model_type": "llama", "num_hidden_layers": 1' + b"0" * 5000 + b"}", ("digits.json",)),
        ("nan.json", b'{"model_type": "llama", "rms_norm_eps": NaN}', ("nan.json",)),
        ("twice.json", b'{"model_type": "llama", "model_type": "mistral"}', ("model_type",)),
        ("deep.json", b"[" * 100_000, ("deep.json",)),
        ("loop.yaml", b"a: &a [*a]", ("loop.yaml",)),
        ("bomb.yaml", b"a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]", ("bomb.yaml",)),
        ("card.yaml", b"name: x\nconfg: {model_type: llama}", ("confg", "config")),
        ("unknown.json", b'{"model_type": "no_such_type", "hidden_size": 8}', ("no_such_type",)),
        ("rwkv.json", b'{"model_type": "rwkv"}', ("rwkv", "not a transformer")),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_files(txcalc: Run, tmp_path: Path, name: str, content: bytes, words: tuple[str, ...]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    refused(txcalc("params", str(path)), 1, *words)


def test_a_directory_without_a_config(txcalc: Run, tmp_path: Path) -> None:
    refused(txcalc("params", str(tmp_path)), 1, "config.json")


def test_a_file_that_is_not_there(txcalc: Run, tmp_path: Path) -> None:
    refused(txcalc("params", str(tmp_path / "none.json")), 1, "none.json")


def test_a_link_that_leads_nowhere_is_not_asked_of_the_hub(
    txcalc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").symlink_to("moved")
    refused(txcalc("params", "models/mine"), 1, "models/mine does not exist")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_not_waited_for(txcalc: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    refused(txcalc("params", str(tmp_path / "pipe.json")), 1, "pipe.json")


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may read everything")
def test_no_permission(txcalc: Run, config: Config) -> None:
    path = config()
    os.chmod(path, 0)
    refused(txcalc("params", path), 1, "permission")


def test_an_unknown_model_suggests_the_nearest(txcalc: Run) -> None:
    refused(txcalc("params", "llama3-8bb"), 1, "llama3-8b")


def test_a_closed_model_is_refused_with_its_reason(txcalc: Run) -> None:
    refused(txcalc("params", "gpt-4"), 1, "never published")


def test_strict_refuses_what_is_not_understood(txcalc: Run, config: Config) -> None:
    refused(txcalc("params", config(flux_capacitor=3), "--strict"), 1, "flux_capacitor")


def test_control_characters_of_a_file_do_not_reach_the_terminal(txcalc: Run, config: Config) -> None:
    ran = txcalc("params", config(hidden_act="\x1b[31mred\nline"))
    refused(ran, 1, "hidden_act")
    assert "\x1b" not in ran.err


def test_a_fault_of_ours_is_one_line(txcalc: Run, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("txcalc.cli.params.params", fail)
    ran = txcalc("params", config())
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: unexpected ZeroDivisionError: planted\nhint: ")


def test_debug_shows_the_traceback(config: Config) -> None:
    from txcalc.cli import main
    from txcalc.errors import TxcalcError

    with pytest.raises(TxcalcError):
        main(["params", config(hidden_size=-1), "--debug"])


def test_interrupting_is_quiet(txcalc: Run, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("txcalc.cli.params.params", interrupt)
    assert txcalc("params", config()) == (130, "", "error: interrupted\n")
