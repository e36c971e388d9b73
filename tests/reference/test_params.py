"""Parameters that torch counts in the reference model equal recorded truth, for every type that has an adapter."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from txcalc.configs import architecture_of, known_types
from txcalc.reference import build

ENTRIES = json.loads((Path(__file__).parent.parent / "data" / "oracle-open.json").read_text())["entries"]
# Types that the reference refuses: patches joined four by four.
NOT_BUILT = {"qwen3_5", "qwen3_5_moe", "llama4"}
KNOWN = [entry for entry in ENTRIES if entry["config"]["model_type"] in set(known_types()) - NOT_BUILT]


def numel(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def smallest_of_each_type() -> list[dict[str, Any]]:
    """One entry a model type: the one with the fewest parameters."""
    chosen: dict[str, dict[str, Any]] = {}
    for entry in sorted(KNOWN, key=lambda entry: entry["params_total"]):
        chosen.setdefault(entry["config"]["model_type"], entry)
    return list(chosen.values())


@pytest.mark.parametrize("entry", smallest_of_each_type(), ids=lambda entry: entry["name"])
def test_parameters_equal_the_recorded_truth(entry: dict[str, Any]) -> None:
    assert numel(build(architecture_of(entry["config"]), device="meta")) == entry["params_total"]


def test_405b_on_the_meta_device_in_seconds() -> None:
    entry = next(entry for entry in KNOWN if entry["name"] == "llama-3.1-405b")
    started = time.perf_counter()
    built = build(architecture_of(entry["config"]), device="meta", dtype=torch.bfloat16)
    assert time.perf_counter() - started < 10
    assert numel(built) == 405_853_388_800
    assert all(parameter.is_meta and parameter.dtype == torch.bfloat16 for parameter in built.parameters())
