"""What a GPU changes, without one: the order of calls, parts in processes, the driver's word, the datasheet."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from tests.cli.conftest import Ran
from tests.cli.conftest import txcalc as txcalc
from tests.measure.test_bench import tiny as tiny
from tests.reference.test_device import FakeDevice
from txcalc import hardware
from txcalc.cards import load
from txcalc.errors import RequestError
from txcalc.measure import apart, nvml, timing
from txcalc.measure.apart import Job, measured_apart
from txcalc.measure.bench import Bench, Ceiling, Unpredicted
from txcalc.measure.calibrate import sheet_of
from txcalc.measure.figures import Figure
from txcalc.measure.peaks import pass_peak
from txcalc.measure.plan import Plan

Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


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


# ---- a process for each part ----------------------------------------------------------------------------------------


def job_of(tiny: str, part: str, **more: Any) -> Job:
    model = load(tiny).replace(dtype="float32")
    plan = Plan(model=model, whole_layers=4, ctxs=(16,), batches=(1, 2), new_tokens=3)
    return Job(plan=plan, device="cpu", part=part, seconds=0.001, **more)


def test_a_part_is_measured_in_a_process_of_its_own(tiny: str) -> None:
    (found,) = measured_apart(job_of(tiny, "weights"))
    assert (found.name, found.predicted, found.measured) == ("weights", 4 * 34_912, 4 * 34_912)


class Ended:
    """The reading end of a pipe."""

    def __init__(self, *items: Any) -> None:
        self.items = list(items)

    def recv(self) -> Any:
        if not self.items:
            raise EOFError
        return self.items.pop(0)


def test_a_process_that_dies_leaves_what_it_measured_and_a_row(tiny: str) -> None:
    figure = Figure(name="x", unit="bytes")
    assert list(apart.received(Ended(figure))) == [figure]
    with pytest.raises(RequestError, match="does not fit"):
        list(apart.received(Ended(figure, RequestError("does not fit"))))
    job = job_of(tiny, "batch 2, ctx 16")
    (row,) = apart.died(job, -6)
    assert (row.what, row.note) == ("batch 2, ctx 16", "its process ended early, by signal 6")
    assert list(apart.died(job, 0)) == list(apart.died(job, None)) == []


def test_every_part_of_a_gpus_benchmark_is_a_job(txcalc: Run, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the command line, with a GPU that is not there; Figures come from the jobs."""
    jobs: list[Job] = []

    def pretended(job: Job) -> Iterator[Figure]:
        jobs.append(job)
        yield Figure(name=job.part, unit="seconds", note=f"on {job.device}")

    monkeypatch.setattr(apart, "measured_apart", pretended)
    monkeypatch.setattr("txcalc.cli.bench._gpu", PretendedGpu)
    monkeypatch.setattr(nvml, "state", lambda index: {"slowed_by": ["its power limit"], "other_processes": 2})
    more = ("--gpu", "--no-calibrate", "--json")
    ran = txcalc("bench", tiny, "--graphs", "--ctx", "16", *more)
    assert ran.code == 0
    names = ["weights", "batch 1, ctx 16", "latencies", "cache at 4", "cache at 8", "cache at 16", "batch 4, ctx 16"]
    assert [job.part for job in jobs] == names
    assert {(job.device, job.plan.dtype, job.plan.graphs, job.ceilings[0].source) for job in jobs} == {
        ("cuda:0", "bf16", True, "datasheet of NVIDIA H100 SXM5 80GB")
    }
    assert "the GPU was slowed while it was measured, by its power limit" in ran.err
    assert "other processes on this GPU: 2" in ran.err
    assert ran.json()["machine"]["slowed_by"] == ["its power limit"]
    jobs.clear()
    assert txcalc("bench", tiny, "--train", "--seq", "8", *more).code == 0
    assert [(job.part, job.plan.batches, job.seq) for job in jobs] == [("train", (1,), 8), ("train", (4,), 8)]


class PretendedGpu(FakeGpu):
    """As an H100 calls itself."""

    def properties(self) -> dict[str, str | int]:
        return {"device": "NVIDIA H100 80GB HBM3", "torch": torch.__version__}

    def free_memory(self) -> int:
        return 80 * 10**9


# ---- ceilings -------------------------------------------------------------------------------------------------------


def test_the_datasheet_of_a_device_that_says_who_it_is() -> None:
    """An H100 SXM: 989 TFLOP/s dense in bf16, 3,350 GB/s. Another name, or a dtype without a rate: nothing is said."""
    sheet = sheet_of(PretendedGpu(), "bf16")
    assert sheet == Ceiling("datasheet of NVIDIA H100 SXM5 80GB", 989e12, 3350e9)
    assert sheet_of(PretendedGpu(), "fp32") == sheet._replace(product=None)
    assert sheet_of(FakeGpu(), "bf16") is None
    assert hardware.reported("NVIDIA H100") is None
    assert all(id in hardware.devices() for id in hardware.REPORTED.values())


def test_shares_of_every_ceiling(tiny: str) -> None:
    """30 FLOPs in 2 seconds: 15 a second, of 60 and of 150."""
    ceilings = (Ceiling("calibrated", 60.0, None), Ceiling("datasheet of X", 150.0, 10.0))
    bench = Bench(job_of(tiny, "").plan, FakeGpu(), Unpredicted(), ceilings=ceilings)
    found = list(bench.shares("MFU", Figure(name="x", unit="seconds", measured=2.0), 30.0, "product"))
    assert [(each.name, each.measured) for each in found] == [("MFU", 0.25), ("MFU, datasheet of X", 0.1)]
    (read,) = bench.shares("MBU", Figure(name="x", unit="seconds", measured=2.0), 10.0, "read")
    assert (read.name, read.measured) == ("MBU, datasheet of X", 0.5)


# ---- what the driver says -------------------------------------------------------------------------------------------


def driver(**more: Any) -> ModuleType:
    """A pynvml of one GPU that is slowed by its power limit while it is idle in name, and used by two processes."""
    fake = ModuleType("pynvml")
    answers: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: f"gpu {index}",
        "nvmlDeviceGetClockInfo": lambda handle, kind: {"sm": 1980, "mem": 2619}[kind],
        "nvmlDeviceGetMaxClockInfo": lambda handle, kind: 1980,
        "nvmlDeviceGetEnforcedPowerLimit": lambda handle: 700_000,
        "nvmlSystemGetDriverVersion": lambda: b"570.1",
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: 0x4 | 0x1,
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [
            SimpleNamespace(pid=os.getpid()),
            SimpleNamespace(pid=1),
        ],
        "NVML_CLOCK_SM": "sm",
        "NVML_CLOCK_MEM": "mem",
    }
    vars(fake).update(answers | more)
    return fake


def test_what_the_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows no temperature: that one is left out."""
    monkeypatch.setitem(sys.modules, "pynvml", driver())
    assert nvml.state() == {
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "max_sm_clock_mhz": 1980,
        "power_limit_watts": 700.0,
        "driver": "570.1",
        "slowed_by": ["its power limit"],
        "other_processes": 1,
    }


def test_no_driver_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise OSError("libnvidia-ml.so.1")

    monkeypatch.setitem(sys.modules, "pynvml", driver(nvmlInit=missing))
    assert nvml.state() == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.state() == {}


@pytest.mark.parametrize(("visible", "physical"), [(None, 1), ("3,5", 5), ("3", 1), ("GPU-abc,GPU-def", 1)])
def test_torchs_number_of_a_gpu_and_the_drivers(
    visible: str | None, physical: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert nvml.physical(1) == physical
