"""``txcalc flops``: figures, tables, formats, and command lines that contradict themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import Ran

Run = Callable[..., Ran]

FORWARD = 32_938_104_193_024


def figures(ran: Ran) -> dict[str, Any]:
    found: dict[str, Any] = ran.json()["flops"]
    return found


def test_forward(txcalc: Run) -> None:
    ran = txcalc("flops", "llama3-8b", "--seq", "2048")
    assert (ran.code, ran.err) == (0, "")
    assert f"{FORWARD:,}" in ran.out
    assert ran.out.splitlines()[0] == ("llama3-8b (llama) | forward | 2,048 tokens | batch 1 | mask full | exact")
    assert all(len(line) <= 80 for line in ran.out.splitlines())


def test_2048_tokens_are_the_default_within_the_models_positions(txcalc: Run) -> None:
    assert figures(txcalc("flops", "llama3-8b", "--json"))["matmul"] == FORWARD
    assert txcalc("flops", "gpt2", "--json").json()["inputs"]["seq"] == 1024


def test_main_figures_stand_at_the_top_level(txcalc: Run) -> None:
    document = txcalc("flops", "llama3-8b", "--seq", "2048", "--json").json()
    assert document["schema"] == "txcalc.flops/1"
    assert document["basis"] == "exact"
    assert set(document["flops"]) == {"matmul", "attention", "elementwise", "per_token"}
    assert document["flops"]["attention"] == 2_199_023_255_552
    assert document["result"]["children"][0]["key"] == "flops.matmul"


def test_decode(txcalc: Run) -> None:
    ran = txcalc("flops", "llama3-8b", "--phase", "decode", "--ctx", "32k", "--json")
    assert figures(ran)["matmul"] == 32_189_710_336
    assert "beyond the 8,192 positions" in ran.err


def test_ctx_is_seq_outside_of_decoding(txcalc: Run) -> None:
    assert figures(txcalc("flops", "llama3-8b", "--ctx", "2k", "--json"))["matmul"] == FORWARD


@pytest.mark.parametrize(
    ("options", "matmul"),
    [
        (["--mask", "half"], FORWARD - 2_199_023_255_552 // 2),
        (["--mask", "exact"], FORWARD - 2_199_023_255_552 + 2_199_023_255_552 * 2049 // 4096),
        (["--logits", "last"], FORWARD - 2047 * 2 * 4096 * 128_256),
        (["--phase", "prefill"], FORWARD - 2047 * 2 * 4096 * 128_256),
        (["--phase", "train"], 3 * FORWARD),
        (["--batch", "3"], 3 * FORWARD),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_counted(txcalc: Run, options: list[str], matmul: int) -> None:
    assert figures(txcalc("flops", "llama3-8b", "--seq", "2048", *options, "--json"))["matmul"] == matmul


def test_all_conventions(txcalc: Run) -> None:
    ran = txcalc("flops", "llama3-8b", "--seq", "2048", "--convention", "all")
    assert ran.code == 0
    lines = {line.split()[0]: line.split()[1:] for line in ran.out.splitlines() if "%" in line or "matmul-full" in line}
    assert {"palm", "kaplan", "megatron", "torchtitan", "hf-trainer", "narayanan-hw"} <= set(lines)
    assert "palm embedding +6.533%, norms +0.003%" in " ".join(ran.out.split())
    assert "narayanan-hw recompute +28.9%, projections +10.0%, feed forward -16.7%" in " ".join(ran.out.split())
    assert "norms: norms, biases and scales" in ran.out
    assert all(len(line) <= 80 for line in ran.out.splitlines() if not line.startswith("note"))
    document = txcalc("flops", "llama3-8b", "--seq", "2048", "--convention", "all", "--json").json()
    assert document["conventions"]["matmul-full"] == 3 * FORWARD
    assert document["conventions"]["palm"] == 105_272_919_982_080


def test_one_convention(txcalc: Run) -> None:
    ran = txcalc("flops", "llama3-8b", "--seq", "8k", "--convention", "PaLM")
    assert "500,256,517,128,192" in ran.out
    assert "embedding" in ran.out
    document = txcalc("flops", "llama3-8b", "--seq", "8k", "--convention", "palm", "--json").json()
    assert document["conventions"] == {"palm": 500_256_517_128_192}


def test_a_run_with_time_and_cost(txcalc: Run) -> None:
    arguments = ["--tokens", "15T", "--gpu", "h100-sxm", "--mfu", "0.4", "--price", "2.5"]
    ran = txcalc("flops", "llama3-8b", "--seq", "2048", *arguments)
    assert "723,737,640,960,000,000,000,000" in ran.out
    assert "40.00%" in ran.out
    document = txcalc("flops", "llama3-8b", "--seq", "2048", *arguments, "--json").json()
    assert document["flops"]["six_nd"] == 722_723_512_320_000_000_000_000
    assert document["train"]["gpu_hours"] == pytest.approx(508_185.6, rel=1e-6)
    assert document["train"]["cost"] == pytest.approx(1_270_464.1, rel=1e-6)
    assert document["inputs"]["tokens"] == 15 * 10**12


@pytest.mark.parametrize("style", ["table", "md", "csv", "json"])
def test_every_format(txcalc: Run, style: str) -> None:
    ran = txcalc("flops", "llama3-8b", "--seq", "2048", "--format", style)
    assert ran.code == 0
    assert str(FORWARD) in ran.out.replace(",", "")


def test_explain_opens_every_number(txcalc: Run) -> None:
    ran = txcalc("flops", "llama3-8b", "--seq", "2048", "--explain")
    assert "= 2 * B * N * T * S * H" in ran.out
    assert "[estimated: operations per element" in ran.out
    assert "N = num_attention_heads" in ran.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["llama3-8b", "--seq", "0"], 2, "--seq"),
        (["llama3-8b", "--seq", "2.5"], 2, "--seq"),
        (["llama3-8b", "--seq", "8", "--ctx", "8"], 1, "both given"),
        (["llama3-8b", "--phase", "decode", "--seq", "8"], 1, "seq is not for it"),
        (["llama3-8b", "--phase", "backward"], 2, "--phase"),
        (["llama3-8b", "--mask", "causal"], 2, "--mask"),
        (["llama3-8b", "--convention", "deepspeed"], 2, "'deepspeed' is not one"),
        (["llama3-8b", "--convention", "palm", "--phase", "decode"], 2, "--convention is about training"),
        (["llama3-8b", "--convention", "palm", "--mask", "half"], 2, "both given"),
        (["t5-small", "--convention", "palm"], 1, "two text stacks"),
        (["llama3-8b", "--tokens", "15T", "--phase", "forward"], 2, "--tokens is about training"),
        (["llama3-8b", "--tokens", "15X"], 2, "--tokens"),
        (["llama3-8b", "--gpu", "h100-sxm"], 2, "--gpu is about a whole run"),
        (["llama3-8b", "--tokens", "1T", "--mfu", "0.4"], 2, "--mfu needs a device"),
        (["llama3-8b", "--tokens", "1T", "--gpu", "h100", "--mfu", "0.4"], 1, "unknown device 'h100'"),
        (["llama3-8b", "--tokens", "1T", "--gpu", "h100-sxm"], 2, "--gpu names a peak rate"),
        (["llama3-8b", "--tokens", "1T", "--gpu", "h100-sxm", "--mfu", "40"], 2, "--mfu: '40' is not a number"),
        (["llama3-8b", "--tokens", "1T", "--gpu", "h100-sxm", "--price", "nan"], 2, "--price"),
        (["llama3-8b", "--images", "1"], 1, "no vision tower"),
        (["bert-base", "--phase", "decode", "--ctx", "8"], 1, "no decoder"),
    ],
)
def test_bad_command_lines(txcalc: Run, arguments: list[str], code: int, words: str) -> None:
    ran = txcalc("flops", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert ran.err.startswith("error: ")
    assert "hint: " in ran.err
