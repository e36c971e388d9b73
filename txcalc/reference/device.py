"""Everything that differs from device to device, behind one small interface.

Timing, memory figures and graph capture go through a ``Device``, so that what measures a model is written once, and a
test can look at the order of its calls without a GPU.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any, Protocol

import torch

from txcalc.errors import RequestError


class Event(Protocol):
    """A point in the device's queue of work."""

    def record(self) -> None:
        """Put the point at the end of the queue."""

    def seconds_since(self, earlier: Any) -> float:
        """Time between two points; only after ``synchronize``."""


class Device(Protocol):
    """What a measurement needs of a device. Memory figures are None where the device keeps none."""

    name: str

    def synchronize(self) -> None:
        """Wait until all queued work is done."""

    def event(self) -> Event:
        """A new point in the queue."""

    def reset_peak(self) -> None:
        """Begin a new peak of memory."""

    def peak(self) -> dict[str, int] | None:
        """Bytes at the peak since ``reset_peak``: requested, allocated, reserved."""

    def free_memory(self) -> int | None:
        """Bytes that nobody uses."""

    def release(self) -> None:
        """Give back what is kept for later and held by nothing."""

    def capture(self, step: Callable[[], Any]) -> Callable[[], Any]:
        """Record ``step`` once, and return what plays it back without launching it anew."""

    def stream(self) -> AbstractContextManager[Any]:
        """A queue of its own for the work inside."""

    def properties(self) -> dict[str, str | int]:
        """What a result must say about where it was measured."""


# ---- CPU ------------------------------------------------------------------------------------------------------------


class CpuEvent:
    """A reading of the clock: work on a CPU is done when the call returns."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def record(self) -> None:
        """Read the clock."""
        self.seconds = time.perf_counter()

    def seconds_since(self, earlier: CpuEvent) -> float:
        """Seconds between two readings."""
        return self.seconds - earlier.seconds


class Cpu:
    """The processor: nothing is queued, and torch keeps no figures of its memory."""

    name = "cpu"

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def event(self) -> CpuEvent:
        """A reading of the clock, to be taken."""
        return CpuEvent()

    def reset_peak(self) -> None:
        """Nothing to reset."""

    def peak(self) -> None:
        """Torch has no allocator figures on CPU: none is better than a zero."""
        return

    def free_memory(self) -> int | None:
        """Bytes that the system could still give, where it says so (Linux); files it keeps in memory count as free."""
        try:
            with open("/proc/meminfo", encoding="ascii") as file:
                return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
        except (OSError, StopIteration):
            pass
        try:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (ValueError, OSError, AttributeError):
            return None

    def release(self) -> None:
        """The system's allocator does as it likes."""

    def capture(self, step: Callable[[], Any]) -> Callable[[], Any]:
        """There is no graph on CPU: the step itself."""
        return step

    def stream(self) -> AbstractContextManager[Any]:
        """One queue only."""
        return nullcontext()

    def properties(self) -> dict[str, str | int]:
        """Processor, threads, torch."""
        return {
            "device": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "torch": torch.__version__,
        }


# ---- CUDA -----------------------------------------------------------------------------------------------------------


class CudaEvent:
    """A CUDA event that keeps time."""

    def __init__(self, index: int) -> None:
        self.index, self.event = index, torch.cuda.Event(enable_timing=True)

    def record(self) -> None:
        """Put the event into the GPU's current stream."""
        self.event.record(torch.cuda.current_stream(self.index))

    def seconds_since(self, earlier: CudaEvent) -> float:
        """Seconds between two events, as the GPU measured them."""
        return float(earlier.event.elapsed_time(self.event)) / 1e3


class Cuda:
    """One NVIDIA (or ROCm) GPU, through torch.cuda."""

    def __init__(self, index: int = 0) -> None:
        self.index, self.name = index, f"cuda:{index}"

    def synchronize(self) -> None:
        """Wait for every stream of the GPU."""
        torch.cuda.synchronize(self.index)

    def event(self) -> CudaEvent:
        """A timing event."""
        return CudaEvent(self.index)

    def reset_peak(self) -> None:
        """Begin a new peak; cached blocks stay."""
        torch.cuda.reset_peak_memory_stats(self.index)

    def peak(self) -> dict[str, int]:
        """What was asked for, the blocks that hold it (512-byte steps), and the segments that hold those."""
        stats = torch.cuda.memory_stats(self.index)
        kinds = {"requested": "requested_bytes", "allocated": "allocated_bytes", "reserved": "reserved_bytes"}
        return {name: int(stats[f"{key}.all.peak"]) for name, key in kinds.items()}

    def free_memory(self) -> int:
        """Bytes that no process holds."""
        return int(torch.cuda.mem_get_info(self.index)[0])

    def release(self) -> None:
        """Cached blocks, which other processes could use."""
        torch.cuda.empty_cache()

    def capture(self, step: Callable[[], Any]) -> Callable[[], Any]:
        """A CUDA graph of ``step``: run three times aside first, as capture demands, then recorded once."""
        with torch.cuda.device(self.index):  # a graph records the current device's streams
            return self._captured(step)

    def _captured(self, step: Callable[[], Any]) -> Callable[[], Any]:
        side = torch.cuda.Stream(self.index)
        side.wait_stream(torch.cuda.current_stream(self.index))
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream(self.index).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = step()

        def replay() -> Any:
            graph.replay()
            return result

        return replay

    def stream(self) -> AbstractContextManager[Any]:
        """A stream of its own."""
        return torch.cuda.stream(torch.cuda.Stream(self.index))

    def properties(self) -> dict[str, str | int]:
        """GPU, capability, memory, driver, torch."""
        found = torch.cuda.get_device_properties(self.index)
        return {
            "device": found.name,
            "capability": f"{found.major}.{found.minor}",
            "memory_bytes": found.total_memory,
            "multiprocessors": found.multi_processor_count,
            "cuda": torch.version.cuda or "",
            "torch": torch.__version__,
        }


def device_named(name: str) -> Device:
    """The device of that name: ``cpu``, ``cuda``, ``cuda:1``.

    Raises:
        RequestError: no such device here.
    """
    kind, _, index = name.partition(":")
    if kind == "cpu":
        return Cpu()
    if kind != "cuda" or not (index or "0").isdigit():
        raise RequestError(f"device {name!r} is not known", "cpu, cuda or cuda:INDEX")
    if not torch.cuda.is_available():
        raise RequestError(f"device {name!r}: this torch sees no GPU", "use --device cpu")
    number = int(index or 0)
    if number >= torch.cuda.device_count():
        raise RequestError(f"device {name!r}: there are {torch.cuda.device_count()} GPUs", "count begins at 0")
    return Cuda(number)


def timed(device: Device, step: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each of ``repeats`` runs: an event before and after each, and one wait at the end."""
    device.synchronize()
    marks = [device.event()]
    marks[0].record()
    for _ in range(repeats):
        step()
        marks.append(device.event())
        marks[-1].record()
    device.synchronize()
    return [later.seconds_since(earlier) for earlier, later in pairwise(marks)]


def peak_of(device: Device, step: Callable[[], Any]) -> dict[str, int] | None:
    """Peak memory of one run of ``step``; None where the device keeps no figures."""
    device.synchronize()
    device.reset_peak()
    step()
    device.synchronize()
    return device.peak()
