"""Accelerators and their dense peak rates, read from ``hardware.yaml`` when one is asked for.

Every figure has its source there; one that was not read is null, and asking for it is refused, not guessed.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any, Final

from txcalc.errors import RequestError
from txcalc.record import Record

DTYPES: Final = {
    "bf16": "bf16_TFLOPS",
    "fp16": "fp16_TFLOPS",
    "fp8": "fp8_TFLOPS",
    "int8": "int8_TOPS",
    "fp4": "fp4_TFLOPS",
}
_FILE: Final = os.path.join(os.path.dirname(__file__), "hardware.yaml")

# What a driver calls them, to the letter: a name that is not here is another device, or one with other clocks.
REPORTED: Final = {
    "NVIDIA B200": "b200",
    "NVIDIA H200": "h200-sxm",
    "NVIDIA H200 NVL": "h200-nvl",
    "NVIDIA H100 80GB HBM3": "h100-sxm",
    "NVIDIA H100 PCIe": "h100-pcie",
    "NVIDIA H100 NVL": "h100-nvl",
    "NVIDIA H20": "h20",
    "NVIDIA A100-SXM4-80GB": "a100-80-sxm",
    "NVIDIA A100 80GB PCIe": "a100-80-pcie",
    "NVIDIA A100-SXM4-40GB": "a100-40-sxm",
    "NVIDIA A40": "a40",
    "NVIDIA RTX A6000": "a6000",
    "NVIDIA A30": "a30",
    "NVIDIA A10": "a10",
    "NVIDIA A10G": "a10g",
    "NVIDIA L4": "l4",
    "NVIDIA L40": "l40",
    "NVIDIA L40S": "l40s",
    "Tesla T4": "t4",
    "Tesla V100-SXM2-16GB": "v100-16-sxm",
    "Tesla V100-SXM2-32GB": "v100-32-sxm",
    "NVIDIA GeForce RTX 3090": "rtx3090",
    "NVIDIA GeForce RTX 4080": "rtx4080",
    "NVIDIA GeForce RTX 4090": "rtx4090",
    "NVIDIA GeForce RTX 5090": "rtx5090",
    "NVIDIA RTX 6000 Ada Generation": "rtx6000ada",
    "AMD Instinct MI300X": "mi300x",
}


class Peak(Record):
    """A dense peak rate in FLOPs a second; ``derived`` where it was computed from others and not read."""

    flops_per_second: float
    derived: bool


class Device(Record):
    """One accelerator as ``hardware.yaml`` has it; ``figures`` holds every field, null where nothing was read."""

    id: str
    name: str
    source: str
    doubt: str
    figures: dict[str, Any]

    def peak(self, dtype: str = "bf16") -> Peak:
        """The dense rate of matrix products in ``dtype``.

        Raises:
            RequestError: an unknown dtype, or a rate that was not read.
        """
        if dtype not in DTYPES:
            raise RequestError(f"unknown dtype {dtype!r} for a peak rate", f"known: {', '.join(DTYPES)}")
        field = DTYPES[dtype]
        read, derived = self.figures.get(field), self.figures.get("derived", {}).get(field)
        value = read if read is not None else derived
        if value is None:
            known = [name for name, each in DTYPES.items() if self.figures.get(each) is not None]
            hint = f"known for it: {', '.join(known)}" if known else "choose another device"
            raise RequestError(f"the dense {dtype} rate of {self.name} was not read in any source", hint)
        return Peak(flops_per_second=value * 1e12, derived=read is None)


@cache
def devices() -> dict[str, Device]:
    """Every known accelerator by id."""
    from txcalc.cards.yaml_subset import load

    with open(_FILE, encoding="utf-8") as file:
        document = load(file.read(), max_depth=6)
    return {entry["id"]: _device(entry) for entry in document["devices"]}


def device(name: str) -> Device:
    """The accelerator of that id, in any case.

    Raises:
        RequestError: none of that id; the nearest ones are named.
    """
    known, wanted = devices(), name.strip().lower().replace("_", "-").replace(" ", "-")
    if wanted in known:
        return known[wanted]
    bare = {each.replace("-", ""): each for each in known}  # "RTX 4090" is rtx4090
    if wanted.replace("-", "") in bare:
        return known[bare[wanted.replace("-", "")]]
    from difflib import get_close_matches

    near = [each for each in known if wanted and each.startswith(wanted)]
    near = near or get_close_matches(wanted, known, n=3, cutoff=0.5)
    hint = f"did you mean: {', '.join(near[:4])}" if near else "txcalc explain devices lists them"
    raise RequestError(f"unknown device {name!r}", hint)


def reported(name: str) -> Device | None:
    """The accelerator whose driver gives that name; None for any other."""
    found = REPORTED.get(name.strip())
    return devices().get(found) if found else None


def _device(entry: dict[str, Any]) -> Device:
    return Device(
        id=entry["id"], name=entry["name"], source=entry["source"], doubt=entry.get("doubt", ""), figures=entry
    )
