"""Times as a shared machine gives them: several runs, their median, p10 and p90, and what else the machine did.

What is compared runs in turns, so that whatever else the machine does falls on all alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import median, quantiles
from typing import Any, Final

from txcalc.record import Record
from txcalc.reference.device import Device, timed

NOISY: Final = 1.5  # p90 over p10; above it a median says little
_AGREE: Final = 1.1  # two windows of a warm-up that differ by less have settled
_WINDOW: Final = 2
_WINDOWS: Final = 5
LEAST_RUNS: Final = 5
LEAST_WHEN_LATE: Final = 3  # where a run takes so long that five would take minutes
LATE: Final = 1.0  # seconds beyond what was planned
VERY_LATE: Final = 4.0  # one run must do
MOST_RUNS: Final = 200


class Spread(Record):
    """Seconds of one run: median, p10 and p90 over ``runs``."""

    median: float
    p10: float
    p90: float
    runs: int

    @property
    def noisy(self) -> bool:
        """Whether the machine was too busy to say."""
        return self.p90 > NOISY * self.p10


def spread_of(seconds: list[float]) -> Spread:
    """Median and deciles of at least one run."""
    deciles = quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else seconds * 9
    return Spread(median=median(seconds), p10=deciles[0], p90=deciles[8], runs=len(seconds))


def in_turns(
    device: Device,
    steps: Mapping[str, Callable[[], Any]],
    *,
    seconds: float,
    least: int = LEAST_RUNS,
    warm: bool = False,
) -> dict[str, Spread]:
    """All steps in turns for about ``seconds``, each ``least`` times at the least; warmed up first, if not ``warm``."""
    for step in () if warm else steps.values():
        warm_up(device, step, seconds=seconds / 4)
    times: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + seconds
    while _goes_on(times, end, least):
        for name, step in steps.items():
            times[name] += timed(device, step, 1)
    return {name: spread_of(each) for name, each in times.items()}


def _goes_on(times: Mapping[str, list[float]], end: float, least: int) -> bool:
    runs, late = min(len(each) for each in times.values()), time.perf_counter() - end
    if late < 0:
        return runs < MOST_RUNS
    return runs < (least if late < LATE else LEAST_WHEN_LATE if late < VERY_LATE else 1)


def warm_up(device: Device, step: Callable[[], Any], *, seconds: float) -> None:
    """Run until two windows agree, but not for longer than ``seconds``, which one run may already take."""
    end, sums = time.perf_counter() + seconds, timed(device, step, 1)
    while time.perf_counter() < end and len(sums) < _WINDOWS and not _settled(sums):
        sums.append(sum(timed(device, step, _WINDOW)))


def _settled(sums: list[float]) -> bool:
    """Whether two windows in a row agree; the first entry is a single run."""
    return any(max(a, b) <= _AGREE * min(a, b) for a, b in pairwise(sums[1:]))


def load() -> float | None:
    """Processes that wanted a core in the last minute; None where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def crowded(wanted: float | None, have: int) -> str:
    """Says so where more processes want a core than there are; empty where none do, or the system does not say."""
    return f"load {wanted:.1f} on {have} cores: others use this machine" if (wanted or 0.0) > have else ""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()
