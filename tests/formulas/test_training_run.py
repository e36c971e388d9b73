"""A whole run: FLOPs, steps, time and cost by hand; what cannot be answered."""

from __future__ import annotations

from typing import Any

import pytest

import txcalc
from txcalc.errors import RequestError
from txcalc.formulas.training_run import Machine, training_run
from txcalc.hardware import device

STEP = 3 * 32_938_104_193_024  # Llama-3-8B, 2,048 tokens
N = 8_030_261_248


def figures(**asked: Any) -> dict[str, int | float]:
    return training_run(txcalc.load("llama3-8b"), seq=2048, **asked).figures()


def test_run_by_hand() -> None:
    """15T tokens in steps of 4 * 2,048: each token STEP / 2048; 6ND beside it; 20 tokens a parameter."""
    found = figures(batch=4, tokens=15 * 10**12)
    assert found["flops.step"] == 4 * STEP
    assert found["train.steps"] == -(-15 * 10**12 // 8192)
    assert found["flops.run"] == STEP * 15 * 10**12 // 2048
    assert found["flops.six_nd"] == 6 * N * 15 * 10**12
    assert found["train.tokens_per_parameter"] == 15 * 10**12 / N
    assert found["train.chinchilla_tokens"] == 20 * N


def test_time_and_cost_by_hand() -> None:
    """FLOPs over 989e12 * 0.4 a second and device; 8 devices divide the days, not the GPU-hours or the cost."""
    seconds = STEP * 10**12 // 2048 / (989e12 * 0.4)
    machine = Machine(device=device("h100-sxm"), mfu=0.4, price=2.5, count=8)
    found = figures(tokens=10**12, machine=machine)
    assert found["train.gpu_hours"] == pytest.approx(seconds / 3600, rel=1e-12)  # floating-point division
    assert found["train.cost"] == pytest.approx(2.5 * seconds / 3600, rel=1e-12)
    assert found["train.days"] == pytest.approx(seconds / 8 / 86_400, rel=1e-12)
    assert found["train.mfu"] == 0.4


def test_utilisation_of_hardware_counts_what_runs() -> None:
    """Fused attention: half of the forward's products more. Full recomputation: the layers but the down projections."""
    machine = Machine(device=device("h100-sxm"), mfu=0.4)
    again, layers, down = 2_199_023_255_552 // 2, 30_786_325_577_728, 2 * 2048 * 4096 * 14_336 * 32
    plain = figures(tokens=10**12, machine=machine)["train.hfu"]
    full = figures(tokens=10**12, machine=machine, recompute="full")["train.hfu"]
    assert plain == pytest.approx(0.4 * (STEP + again) / STEP, rel=1e-12)
    assert full == pytest.approx(0.4 * (STEP + again + layers - down) / STEP, rel=1e-12)


def test_observed_throughput_gives_the_utilisation() -> None:
    """10,000 tokens a second and H100: 10,000 * STEP / 2048 over 989e12."""
    machine = Machine(device=device("h100-sxm"), count=2, tokens_per_second=20_000)
    found = figures(tokens=10**9, machine=machine)
    assert found["train.mfu"] == pytest.approx(10_000 * STEP / 2048 / 989e12, rel=1e-9)
    assert found["train.gpu_hours"] == pytest.approx(2 * 10**9 / 20_000 / 3600, rel=1e-12)


def test_the_convention_decides_the_utilisation() -> None:
    machine = Machine(device=device("h100-sxm"), tokens_per_second=10_000)
    shares = {
        name: figures(tokens=10**9, machine=machine, convention=name)["train.mfu"]
        for name in ("palm", "matmul-full", "megatron", "kaplan")
    }
    assert sorted(shares, key=lambda name: -shares[name]) == ["palm", "matmul-full", "megatron", "kaplan"]


def test_experts_take_active_parameters_for_6nd_and_all_for_chinchilla() -> None:
    model = txcalc.load("mixtral-8x7b")
    counts, found = txcalc.params(model).figures(), training_run(model, seq=64, tokens=1000).figures()
    assert found["flops.six_nd"] == 6 * counts["params.active"] * 1000
    assert found["train.chinchilla_tokens"] == 20 * counts["params.total"]


def test_time_is_an_estimate_and_flops_are_not() -> None:
    run = training_run(
        txcalc.load("llama3-8b"), seq=64, tokens=1000, machine=Machine(device=device("h100-sxm"), mfu=0.5)
    )
    assert run.find("train.gpu_hours").basis == "estimated"
    assert run.find("flops.run").basis == "exact"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tokens": 0}, "tokens is 0"),
        ({"tokens": 10, "batch": 0}, "batch is 0"),
        ({"tokens": 10, "convention": "guess"}, "unknown convention 'guess'"),
        ({"tokens": 10, "machine": Machine(device=device("h100-sxm"))}, "no utilisation"),
        ({"tokens": 10, "machine": Machine(device=device("t4"), mfu=0.4)}, "bf16 rate of NVIDIA T4 16GB was not read"),
        ({"tokens": 10, "machine": Machine(device=device("h100-sxm"), mfu=0.4, count=0)}, "gpus is 0"),
        ({"tokens": 10, "machine": Machine(device=device("h100-sxm"), mfu=0.4, dtype="fp64")}, "unknown dtype 'fp64'"),
    ],
)
def test_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        figures(**asked)
