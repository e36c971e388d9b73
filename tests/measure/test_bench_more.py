"""Dry runs, training steps, attention alone, whole models from fewer layers, and the order of calls on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.cli.conftest import Ran
from tests.cli.conftest import txcalc as txcalc
from tests.measure.test_bench import tiny as tiny
from tests.measure.test_bench import unforetold as unforetold
from txcalc.cards import load
from txcalc.cli.bench_live import Live, cells, live
from txcalc.measure import bench, cell, plan, timing, training
from txcalc.measure.attention_bench import attention_flops
from txcalc.measure.extrapolate import extrapolated
from txcalc.measure.figures import Figure
from txcalc.measure.peaks import Runner, pass_peak
from txcalc.reference import build
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


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_peaks_foretold_through_few_layers_are_those_of_all(tiny: str, layers: int) -> None:
    """A single layer holds less than the first of several: its input is nobody else's."""
    model = plan.with_layers(load(tiny).replace(dtype="float32"), layers)
    asked = plan.Plan(model=model, whole_layers=layers, backends=("flash",), new_tokens=2)
    device, runner = Cpu(), Runner(build(model, backend="flash"), batch=2, ctx=16, more=2)
    found = tuple(pass_peak(device, runner, step) for step in (runner.prefill, runner.decode))
    assert cell.foretold(asked, 16, 2) == {"flash": found}


def test_a_dry_run_of_a_model_that_fits_nowhere(txcalc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cpu, "free_memory", lambda self: 1000)
    layers = ("--set", "num_hidden_layers=2")
    ran = txcalc("bench", "llama3-70b", *layers, "--dry-run", "--ctx", "2k", *QUICK, "--backend", "flash")
    assert ran.code == 0
    assert "prefill peak, batch 2, ctx 2048, flash" in ran.out


def test_nothing_new_is_begun_after_the_limit(txcalc: Run, tiny: str) -> None:
    ran = txcalc("bench", tiny, *QUICK, "--ctx", "16", "--limit", "0.000001")
    assert ran.code == 0
    assert ran.out.count("not begun: the limit of 1e-06 s was reached (--limit)") == 4  # all but weights and one cell
    assert "weights" in ran.out
    assert "decode, batch 2, ctx 16, flash" in ran.out


# ---- training -------------------------------------------------------------------------------------------------------


def test_a_training_step(txcalc: Run, tiny: str) -> None:
    """AdamW keeps two numbers a parameter: 2 * 34,912 * 4 bytes. Recomputing keeps less: both peaks may not agree."""
    peaks = {}
    for recompute in ("none", "full"):
        ran = txcalc("bench", tiny, "--train", "--seq", "64", "--recompute", recompute, *QUICK, "--json")
        assert ran.code == 0
        found = ran.json()["bench"]
        measured = found["measured"]
        assert measured["optimizer.batch_2.ctx_64.flash"] == 2 * 34_912 * 4
        assert measured["backward_work.batch_1.ctx_64"] == 2 * measured["forward_work.batch_1.ctx_64"]
        exact = [each for each in found["figures"] if each.get("exact")]
        assert len(exact) == 4
        assert all(each["predicted"] == each["measured"] for each in exact)
        peaks[recompute] = measured["training_peak.batch_2.ctx_64.flash"]
    assert peaks["full"] < peaks["none"]


def test_a_step_that_does_not_fit_is_a_row(txcalc: Run, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([2**40, 1000])
    monkeypatch.setattr(Cpu, "free_memory", lambda self: next(free))
    ran = txcalc("bench", tiny, "--train", "--seq", "16", *QUICK)
    assert (ran.code, "does not fit" in ran.out) == (0, True)


def test_a_step_changes_the_weights(tiny: str) -> None:
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


@pytest.mark.usefixtures("unforetold")
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


# ---- other ways to decode, other shapes -----------------------------------------------------------------------------


@pytest.mark.usefixtures("unforetold")
def test_a_compiled_step_is_a_row_beside_the_plain_one(txcalc: Run, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler itself is torch's: here it gives back what it is given, once, and once it fails."""
    arguments = ("bench", tiny, *QUICK, "--batch", "1", "--ctx", "8", "--backend", "flash", "--compile", "--json")
    monkeypatch.setattr(torch, "compile", lambda step: step)
    measured = txcalc(*arguments).json()["bench"]["measured"]
    assert {"decode.batch_1.ctx_8.flash", "decode,_compiled.batch_1.ctx_8.flash"} <= measured.keys()

    def broken(step: Any) -> Any:
        raise RuntimeError("no compiler\nhere")

    monkeypatch.setattr(torch, "compile", broken)
    ran = txcalc(*arguments)
    assert ran.code == 0
    (row,) = [each for each in ran.json()["bench"]["figures"] if each["name"] == "decode, compiled"]
    assert row["note"] == "RuntimeError: no compiler here"


def test_graphs_are_for_a_gpu(txcalc: Run) -> None:
    ran = txcalc("bench", "--graphs")
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error: --graphs is for a GPU: a CPU plays nothing back")


def test_set_without_a_model_changes_the_default_shape(txcalc: Run) -> None:
    """54 M parameters, of which a layer has 2 * 512*512 + 2 * 512*256 + 3 * 512*1536 + 2 * 512 = 3,146,752."""
    arguments = ("--dry-run", "--ctx", "8", "--batch", "1", "--backend", "flash", "--dtype", "fp32", "--json")
    weights = [
        txcalc("bench", "--set", f"num_hidden_layers={layers}", *arguments).json()["bench"]["predicted"]["weights"]
        for layers in (1, 2)
    ]
    assert weights[1] - weights[0] == 4 * 3_146_752
    assert weights[0] == 4 * (3_146_752 + 32_000 * 512 + 512)


@pytest.mark.parametrize(
    ("has", "dtype"),
    [
        ({"avx2": True, "avx512_bf16": True}, "bf16"),
        ({"avx2": True, "amx_bf16": True}, "bf16"),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, "fp32"),  # it would emulate bf16
        ({"avx2": False}, "fp32"),
    ],
    ids=str,
)
def test_the_dtype_is_one_that_the_processor_multiplies(
    has: dict[str, bool], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert plan.default_dtype() == dtype


def test_time_that_is_left_is_shared_out(tiny: str) -> None:
    """9 seconds for 3 parts of 3 groups: 1 each; a part that takes 5 leaves 4 for two: 2/3 each, and the last none."""
    clock = [100.0]
    whole = plan.Plan(model=load(tiny), whole_layers=4, seconds=1.5, batches=(1,))
    made = bench.Bench(whole, Cpu(), bench.Unpredicted(), end=109.0)
    given = []

    def part(name: str) -> Iterator[Figure]:
        given.append((name, made.seconds))
        clock[0] += 5.0
        return iter(())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.Bench, "parts", lambda self: dict.fromkeys("abc"))
        patch.setattr("txcalc.measure.bench.time.perf_counter", lambda: clock[0])
        left_out = list(made.in_time(part))
    assert given == [("a", 1.0), ("b", pytest.approx(4 / 6))]
    assert [(each.name, each.what) for each in left_out] == [("left out", "c")]


# ---- the table that grows -------------------------------------------------------------------------------------------


def test_a_terminal_sees_figures_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    table = Live(SimpleNamespace(update=lambda made, refresh: drawn.append((made.row_count, refresh))))
    for number in range(14):
        table.add(Figure(name=f"figure {number}", unit="bytes", predicted=1, measured=1))
    assert drawn[0] == (1, True)
    assert drawn[-1] == (12, True)
    assert cells(Figure(name="x", unit="seconds", predicted=0.0011, measured=0.001)) == (
        "x", "1.10 ms", "1.00 ms", "+10.0%",
    )  # fmt: skip
    assert cells(Figure(name="x", unit="bytes", predicted=4, measured=4))[3] == "equal"
    with live() as nothing:  # stderr is no terminal here
        assert nothing is None
