"""``txcalc memory``: inference, training, adapters, budgets, and command lines that contradict themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import Ran

Run = Callable[..., Ran]

PARAMS = 8_030_261_248


def figures(ran: Ran) -> dict[str, Any]:
    found: dict[str, Any] = ran.json()["memory"]
    return found


def test_inference(txcalc: Run) -> None:
    """Two bytes a parameter; 131,072 bytes of cache a token; the allowances outside the exact sum."""
    found = figures(txcalc("memory", "llama3-8b", "--ctx", "8k", "--json"))
    assert found["weights"] == 2 * PARAMS
    assert found["kv_cache"] == 8192 * 131_072
    assert found["total"] == found["weights"] + found["kv_cache"] + found["activations"]
    assert found["with_allowances"] == found["total"] + found["allowances"]


def test_table(txcalc: Run) -> None:
    ran = txcalc("memory", "llama3-8b", "--ctx", "8k")
    assert (ran.code, ran.err) == (0, "")
    assert f"{2 * PARAMS:,}" in ran.out
    assert all(len(line) <= 80 for line in ran.out.splitlines())


def test_training(txcalc: Run) -> None:
    """Plain bf16 and Adam: two bytes of parameters, two of gradients, four of moments, beside the step counters."""
    ran = txcalc("memory", "llama3-8b", "--train", "--seq", "2k", "--recompute", "full", "--json")
    found = figures(ran)
    assert found["parameters"] == found["gradients"] == 2 * PARAMS
    assert found["optimizer"] - 4 * PARAMS == 4 * 291
    assert found["total"] > found["parameters"] + found["gradients"] + found["optimizer"]


def test_recomputation_keeps_less(txcalc: Run) -> None:
    kept = [
        figures(txcalc("memory", "llama3-8b", "--train", "--recompute", how, "--json"))["activations"]
        for how in ("none", "selective", "full")
    ]
    assert kept[0] >= kept[1] > kept[2]


def test_lora(txcalc: Run) -> None:
    """Rank 16 on 32 layers: 16 * (4,096 + 4,096) of queries and 16 * (4,096 + 1,024) of values."""
    arguments = ["memory", "llama3-8b", "--train", "--seq", "2k", "--lora", "r=16,q_proj,v_proj"]
    document = txcalc(*arguments, "--json").json()
    assert document["lora"]["trainable"] == 32 * 16 * (8192 + 5120) == 6_815_744
    quantized = figures(txcalc(*arguments, "--quantized", "nf4", "--json"))
    assert quantized["parameters"] < document["memory"]["parameters"] / 2


@pytest.mark.parametrize(("budget", "code"), [("80GiB", 0), ("8GiB", 3)])
def test_fit(txcalc: Run, budget: str, code: int) -> None:
    ran = txcalc("memory", "llama3-8b", "--ctx", "8k", "--fit", budget, "--json")
    assert ran.code == code
    assert ran.json()["fit"]["fits"] is (code == 0)
    assert ran.json()["fit"]["needed"] == figures(ran)["with_allowances"]


def test_gpu_is_a_budget(txcalc: Run) -> None:
    assert txcalc("memory", "llama3-8b", "--ctx", "8k", "--gpu", "h100-sxm").code == 0
    assert txcalc("memory", "llama3-8b", "--train", "--ctx", "8k", "--gpu", "h100-sxm").code == 3


def test_gpu_takes_the_least_that_was_seen(txcalc: Run) -> None:
    """Two machines with an H100 gave 79.18 and 79.33 GiB; one L40S 44.42."""
    budgets = [
        txcalc("memory", "gpt2", "--gpu", name, "--json").json()["fit"]["bytes"] for name in ("h100-sxm", "l40s")
    ]
    assert budgets == [int(79.18 * 2**30), int(44.42 * 2**30)]


def test_weight_formats_and_what_is_kept(txcalc: Run) -> None:
    def weights(*options: str) -> int:
        return int(figures(txcalc("memory", "llama3-8b", *options, "--json"))["weights"])

    four = weights("--dtype", "int4", "--group-size", "128")
    kept = weights("--dtype", "int4", "--group-size", "128", "--keep", "down_proj=bf16")
    assert four < kept < weights()
    assert weights("--dtype", "q4_k") < weights("--dtype", "fp8") < 2 * PARAMS


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--train", "--kv-dtype", "fp8"], "--kv-dtype says nothing about training"),
        (["--train", "--keep", "down_proj=bf16"], "--keep says nothing about training"),
        (["--recompute", "full"], "--recompute says nothing about inference"),
        (["--dropout"], "say nothing about inference"),
        (["--ctx", "1k", "--seq", "2k"], "give one of them"),
        (["--fit", "24GiB", "--gpu", "h100-sxm"], "both name a budget"),
        (["--keep", "down_proj"], "is not MODULE=FORMAT"),
        (["--dtype", "int3"], "int3"),
        (["--train", "--lora", "q_proj"], "lora"),
        (["--gpu", "abacus"], "abacus"),
    ],
)
def test_bad_input(txcalc: Run, arguments: list[str], says: str) -> None:
    ran = txcalc("memory", "llama3-8b", *arguments)
    assert ran.code not in (0, 3)
    assert says in ran.err
    assert ran.out == ""


def test_a_guess_is_a_warning_and_outside_the_total(txcalc: Run) -> None:
    ran = txcalc("memory", "mixtral-8x7b", "--ctx", "1k", "--json")
    found = figures(ran)
    assert "activations, which stand outside the total" in ran.err
    assert ran.json()["basis"] == "estimated"
    assert ran.json()["reasons"] == [
        "activations, which stand outside the total: how many tokens an expert gets depends on the data; taken as even"
    ]
    basis = {node["name"]: node["basis"] for node in ran.json()["result"]["children"][0]["children"]}
    assert basis == {"weights": "exact", "kv_cache": "exact", "activations": "estimated"}
    assert found["total"] == found["weights"] + found["kv_cache"]
    assert found["with_allowances"] == found["total"] + found["allowances"] + found["activations"]


# ---- what is no exact figure ----------------------------------------------------------------------------------------


def test_weights_that_files_pack_in_an_unknown_way_are_estimated(txcalc: Run, config: Callable[..., str]) -> None:
    path = config(quantization_config={"quant_method": "tomorrow"}, num_hidden_layers=2)
    ran = txcalc("memory", path)
    assert "estimated" in ran.out.splitlines()[0]
    assert "weights are taken as bf16; the config says tomorrow stores them" in ran.err
    assert "| exact" in txcalc("memory", path, "--dtype", "int4").out.splitlines()[0]


@pytest.mark.parametrize(
    ("dtype", "basis"), [("float64", "estimated"), ("foo", "estimated"), ("float8_e4m3fn", "exact")]
)
def test_a_dtype_that_is_not_known_is_no_bf16(txcalc: Run, config: Callable[..., str], dtype: str, basis: str) -> None:
    ran = txcalc("kvcache", config(torch_dtype=dtype))
    assert ran.out.splitlines()[0].endswith(f"| bf16 | {basis}")
    assert (f'torch_dtype = "{dtype}"' in ran.err) == (basis == "estimated")


def test_short_names_of_dtypes_are_read(txcalc: Run, config: Callable[..., str]) -> None:
    assert txcalc("kvcache", config(torch_dtype="fp32")).out.splitlines()[0].endswith("| fp32 | exact")


def test_one_pass_over_many_prompts_says_that_engines_take_fewer(txcalc: Run) -> None:
    asked = ("memory", "llama3-8b", "--ctx", "8k")
    assert "engines take fewer" not in txcalc(*asked).out
    assert (
        "one pass over 65,536 tokens; engines take fewer at once: --batched-tokens"
        in txcalc(*asked, "--batch", "8").out
    )
    assert "engines take fewer" not in txcalc(*asked, "--batch", "8", "--batched-tokens", "8k").out
