"""The device interface: the order of calls on a fake, the CPU's own answers, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from txcalc.errors import RequestError
from txcalc.reference.device import Cpu, device_named, peak_of, timed


class FakeEvent:
    def __init__(self, log: list[str], number: int) -> None:
        self.log, self.number = log, number

    def record(self) -> None:
        self.log.append(f"record {self.number}")

    def seconds_since(self, earlier: Any) -> float:
        self.log.append(f"elapsed {earlier.number} {self.number}")
        return float(self.number - earlier.number)


class FakeDevice:
    """Writes down what it is asked."""

    name = "fake"

    def __init__(self) -> None:
        self.log: list[str] = []
        self.events = 0

    def synchronize(self) -> None:
        self.log.append("synchronize")

    def event(self) -> FakeEvent:
        self.events += 1
        return FakeEvent(self.log, self.events - 1)

    def reset_peak(self) -> None:
        self.log.append("reset peak")

    def peak(self) -> dict[str, int]:
        self.log.append("peak")
        return {"requested": 1, "allocated": 512, "reserved": 2 << 20}

    def free_memory(self) -> int:
        return 0

    def release(self) -> None:
        self.log.append("release")

    def capture(self, step: Callable[[], Any]) -> Callable[[], Any]:
        return step

    def stream(self) -> Any:
        raise NotImplementedError

    def properties(self) -> dict[str, str | int]:
        return {}


def test_timing_waits_once_before_and_once_after() -> None:
    device = FakeDevice()
    seconds = timed(device, lambda: device.log.append("step"), repeats=2)
    assert device.log == [
        "synchronize", "record 0", "step", "record 1", "step", "record 2", "synchronize", "elapsed 0 1", "elapsed 1 2",
    ]  # fmt: skip
    assert seconds == [1.0, 1.0]


def test_a_peak_begins_after_earlier_work_is_done() -> None:
    device = FakeDevice()
    peak = peak_of(device, lambda: device.log.append("step"))
    assert device.log == ["synchronize", "reset peak", "step", "synchronize", "peak"]
    assert peak == {"requested": 1, "allocated": 512, "reserved": 2 << 20}


def test_the_cpu_reports_no_memory_rather_than_zero() -> None:
    assert peak_of(Cpu(), lambda: torch.zeros(1000)) is None


def test_the_cpu_keeps_time() -> None:
    seconds = timed(Cpu(), lambda: sum(range(20_000)), repeats=3)
    assert len(seconds) == 3
    assert all(0 < each < 1 for each in seconds)


def test_the_cpu_says_what_it_is() -> None:
    found = Cpu().properties()
    assert found["threads"] == torch.get_num_threads()
    assert found["torch"] == torch.__version__


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cpu0"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(RequestError, match="is not known"):
        device_named(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(RequestError, match="this torch sees no GPU"):
        device_named("cuda")
