"""What NVIDIA's driver says about a GPU while it is measured: clocks, power limit, who else uses it, what slows it.

Through ``nvidia-ml-py`` where it is installed; without it nothing is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

# Reasons in nvml.h for clocks below what was asked for; being idle and a limit that the user has set are no faults.
_SLOWED: Final = {
    0x4: "its power limit",
    0x8: "a hardware slowdown",
    0x20: "its temperature (software)",
    0x40: "its temperature (hardware)",
    0x80: "a power brake",
}


def state(index: int = 0) -> dict[str, Any]:
    """Clocks in MHz, power limit in watts, temperature, driver, throttling, other processes; empty if unknown."""
    try:
        nvml = import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # not installed, or no driver: each version has errors of its own
        return {}
    try:
        return dict(_read(nvml, nvml.nvmlDeviceGetHandleByIndex(physical(index))))
    except Exception:
        return {}
    finally:
        nvml.nvmlShutdown()


def physical(index: int) -> int:
    """The driver's number of torch's GPU ``index``: CUDA_VISIBLE_DEVICES hides and reorders."""
    visible = [each.strip() for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each.strip()]
    if index < len(visible) and visible[index].isdigit():
        return int(visible[index])
    return index


def _read(nvml: Any, handle: Any) -> Iterator[tuple[str, Any]]:
    """Every fact that this driver tells; one that it does not know is left out."""
    asked = {
        "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
        "max_sm_clock_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
        "power_limit_watts": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
        "temperature_celsius": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        "driver": lambda: _text(nvml.nvmlSystemGetDriverVersion()),
        "slowed_by": lambda: _reasons(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
        "other_processes": lambda: _others(nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
    }
    for name, ask in asked.items():
        try:
            yield name, ask()
        except Exception:
            continue


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _reasons(bits: int) -> list[str]:
    return [name for bit, name in _SLOWED.items() if bits & bit]


def _others(processes: Any) -> int:
    """How many processes use the GPU beside this one and those that it started."""
    own = {os.getpid(), *_children()}
    return sum(each.pid not in own for each in processes)


def _children() -> set[int]:
    import multiprocessing

    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}
