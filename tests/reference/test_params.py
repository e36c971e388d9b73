"""Parameters that torch counts in the reference model equal recorded truth, for every type that has an adapter."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from txcalc.configs import architecture_of, known_types
from txcalc.errors import RequestError
from txcalc.reference import build
from txcalc.reference.support import not_built

ENTRIES = json.loads((Path(__file__).parent.parent / "data" / "oracle-open.json").read_text())["entries"]


def refused(config: dict[str, Any]) -> bool:
    """Whether the reference says that it does not build this yet: it names what, and the calculators know it."""
    try:
        not_built(architecture_of(config))
    except RequestError:
        return True
    return False


KNOWN = [e for e in ENTRIES if e["config"]["model_type"] in known_types() and not refused(e["config"])]


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


def test_most_of_what_is_recorded_is_built() -> None:
    """Negative control: what is refused is a handful of models with towers or parts of their own."""
    assert len({entry["config"]["model_type"] for entry in KNOWN}) > 50
