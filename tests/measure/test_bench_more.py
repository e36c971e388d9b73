"""Dry runs, training steps, attention alone, whole models from fewer layers, and the order of calls on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import Ran
from tests.cli.conftest import txcalc as txcalc
from tests.measure.test_bench import tiny as tiny
from tests.reference.test_device import FakeDevice
from txcalc.measure import timing, training
from txcalc.measure.attention_bench import attention_flops
from txcalc.measure.extrapolate import extrapolated
from txcalc.measure.figures import Figure
from txcalc.measure.peaks import pass_peak
from txcalc.reference.device import Cpu

Run = Callable[..., Ran]
QUICK = ("--batch", "2", "--seconds", "0.001", "--dtype", "fp32", "--no-calibrate")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# ---- dry run --------------------------------------------------------------------------------------------------------


def test_a_dry_run_foretells_what_a_run_measures(txcalc: Run, tiny: str) -> None:
    arguments = ("bench", tiny, *QUICK, "--ctx", "16", "--backend", "flash,math", "--new-tokens", "3", "--json")
    dry, wet = txcalc(*arguments, "--dry-run").json()["bench"], txcalc(*arguments).json()["bench"]
    assert dry["measured"] == {}
    peaks = {key: value for key, value in wet["measured"].items() if "peak" in key}
    assert len(peaks) == 4
    assert {key: dry["predicted"][key] for key in peaks} == peaks
    assert dry["predicted"]["weights"] == wet["measured"]["weights"]


def test_a_dry_run_of_a_model_that_fits_nowhere(txcalc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cpu, "free_memory", lambda self: 1000)
    layers = ("--set", "num_hidden_layers=2")
    ran = txcalc("bench", "llama3-70b", *layers, "--dry-run", "--ctx", "2k", *QUICK, "--backend", "flash")
    assert ran.code == 0
    assert "prefill peak, batch 2, ctx 2048, flash" in ran.out


def test_nothing_new_is_begun_after_the_limit(txcalc: Run, tiny: str) -> None:
    ran = txcalc("bench", tiny, *QUICK, "--ctx", "16", "--limit", "0.000001")
    assert ran.code == 0
    assert ran.out.count("not begun: the limit of 1e-06 s was reached (--limit)") == 5
    assert "weights" in ran.out


# ---- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_a_training_step(txcalc: Run, tiny: str, recompute: str) -> None:
    """AdamW keeps two numbers a parameter: 2 * 34,912 * 4 bytes."""
    ran = txcalc("bench", tiny, "--train", "--seq", "16", "--recompute", recompute, *QUICK, "--json")
    assert ran.code == 0
    found = ran.json()["bench"]
    assert found["measured"]["optimizer.batch_2.ctx_16.flash"] == 2 * 34_912 * 4
    assert found["measured"]["backward_work.batch_1.ctx_16"] == 2 * found["measured"]["forward_work.batch_1.ctx_16"]
    exact = [each for each in found["figures"] if each.get("exact")]
    assert len(exact) == 4
    assert all(each["predicted"] == each["measured"] for each in exact)


def test_recomputing_keeps_less(txcalc: Run, tiny: str) -> None:
    """Negative control of the peak: both ways may not give the same."""
    arguments = ("bench", tiny, "--train", "--seq", "64", *QUICK, "--json")
    key = "training_peak.batch_2.ctx_64.flash"
    none, full = (txcalc(*arguments, "--recompute", how).json()["bench"]["measured"][key] for how in ("none", "full"))
    assert full < none


def test_a_step_that_does_not_fit_is_a_row(txcalc: Run, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([2**40, 1000])
    monkeypatch.setattr(Cpu, "free_memory", lambda self: next(free))
    ran = txcalc("bench", tiny, "--train", "--seq", "16", *QUICK)
    assert (ran.code, "does not fit" in ran.out) == (0, True)


def test_a_step_changes_the_weights(tiny: str) -> None:
    from txcalc.cards import load
    from txcalc.reference import build

    trainer = training.Trainer(build(load(tiny)), batch=1, seq=8, recompute="none")
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


# ---- attention alone ------------------------------------------------------------------------------------------------


def test_attention_flops_as_the_papers_count() -> None:
    """4 * 512 * 512 * 64 * 32 heads * 4 rows; half of it under a causal mask."""
    shape: dict[str, Any] = {"batch": 4, "heads": 32, "length": 512, "head_dim": 64}
    assert attention_flops(**shape, causal=False) == 8_589_934_592
    assert attention_flops(**shape, causal=True) == 4_294_967_296


def test_attention_alone(txcalc: Run) -> None:
    arguments = ("--attention-only", "--ctx", "16,32", "--backend", "flash,cudnn", "--seconds", "0.001")
    ran = txcalc("bench", *arguments, "--dtype", "fp32", "--json")
    assert ran.code == 0
    figures = ran.json()["bench"]["figures"]
    assert sum("measured" in each for each in figures) == 2 * 2 * 2
    refused = [each["note"] for each in figures if "measured" not in each]
    assert len(refused) == 8
    assert "no cudnn kernel on cpu" in refused[0]


# ---- fewer layers ---------------------------------------------------------------------------------------------------


def seconds(value: float) -> list[Figure]:
    return [Figure(name="decode", unit="seconds", what="batch 1", measured=value)]


def test_a_whole_model_from_two_depths() -> None:
    """0.3 + 4 * 0.1 and 0.3 + 2 * 0.1: 0.3 + 32 * 0.1 = 3.5."""
    (found,) = extrapolated(seconds(0.7), seconds(0.5), layers=(4, 2), whole=32)
    assert found.measured == pytest.approx(3.5)
    assert found.estimated == "through 2 and 4 layers"


def test_noise_that_makes_a_layer_free_says_nothing() -> None:
    assert extrapolated(seconds(0.5), seconds(0.7), layers=(4, 2), whole=32) == []


def test_a_few_layers_stand_for_all(txcalc: Run, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000, 1, -1))

    def slower_at_first(device: Any, step: Callable[[], Any], runs: int) -> list[float]:
        step()
        return [float(next(clock)) for _ in range(runs)]

    monkeypatch.setattr(timing, "timed", slower_at_first)
    ran = txcalc("bench", tiny, "--layers", "2", "--ctx", "8", *QUICK, "--backend", "flash", "--json")
    document = ran.json()
    assert document["basis"] == "estimated"
    assert "2 of 4 layers ran" in ran.err
    whole = [each for each in document["bench"]["figures"] if "all 4 layers" in each["name"]]
    assert whole
    assert all(each["estimated"] == "through 1 and 2 layers" for each in whole)


# ---- the device -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_one_line_and_a_hint(txcalc: Run) -> None:
    ran = txcalc("bench", "--gpu")
    assert ran.code == 1
    assert ran.err.splitlines()[0] == "error: --gpu: device 'cuda': this torch sees no GPU"
    assert ran.err.splitlines()[1].startswith("hint: ")
    assert len(ran.err.splitlines()) == 2


class FakeGpu(FakeDevice):
    """A device that keeps figures of its memory: 100 bytes held, 700 at the peak of a step."""

    name = "cuda:0"

    def peak(self) -> dict[str, int]:
        self.log.append("peak")
        return {"requested": 700 if self.log[-3] == "step" else 100, "allocated": 1024, "reserved": 2 << 20}


def test_a_peak_begins_after_a_warm_up_and_leaves_out_what_was_held() -> None:
    device = FakeGpu()
    found = pass_peak(device, None, lambda: device.log.append("step"))  # type: ignore[arg-type]  # a GPU needs no runner
    assert device.log == [
        "step", "synchronize", "reset peak", "synchronize", "peak",
        "synchronize", "reset peak", "step", "synchronize", "peak",
    ]  # fmt: skip
    assert found == 600


def test_what_is_compared_runs_in_turns_after_both_are_warm() -> None:
    device = FakeGpu()
    steps = {name: (lambda name=name: device.log.append(name)) for name in ("a", "b")}
    found = timing.in_turns(device, steps, seconds=1e-9, least=2)
    order = [each for each in device.log if each in "ab"]
    assert order[-4:] == ["a", "b", "a", "b"]
    assert order.index("b") > order.index("a")
    assert {name: spread.runs for name, spread in found.items()} == {"a": 2, "b": 2}
