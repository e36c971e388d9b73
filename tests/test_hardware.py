"""The device table: dense rates with sources, nulls kept, unknown names refused with the nearest."""

from __future__ import annotations

import subprocess
import sys

import pytest

from txcalc.errors import RequestError
from txcalc.hardware import DTYPES, device, devices


@pytest.mark.parametrize(
    ("name", "dtype", "tflops"),
    [
        ("h100-sxm", "bf16", 989),  # its datasheet's 1,979 is with sparsity
        ("h100-sxm", "fp8", 1979),
        ("a100-80-sxm", "bf16", 312),
        ("tpuv4", "bf16", 275),
        ("t4", "fp16", 65),
        ("rtx4090", "bf16", 165.2),  # half rate: FP32 accumulation
    ],
)
def test_rates_are_dense(name: str, dtype: str, tflops: float) -> None:
    assert device(name).peak(dtype).flops_per_second == tflops * 1e12
    assert not device(name).peak(dtype).derived


def test_every_device_has_a_source_and_names_what_was_not_read() -> None:
    for found in devices().values():
        assert found.source, found.id
        fields = [*DTYPES.values(), "memory_GB", "bandwidth_GBps", "link_GBps", "pcie", "tdp_W"]
        missing = [field for field in fields if found.figures[field] is None]
        assert sorted(found.figures.get("unread", [])) == sorted(missing), found.id


def test_a_derived_rate_says_so() -> None:
    """Half of the 1 PFLOP of sparse FP4 that its maker prints, then a quarter of that for bf16."""
    peak = device("gb10").peak("bf16")
    assert (peak.flops_per_second, peak.derived) == (125e12, True)


@pytest.mark.parametrize("name", ["H100-SXM", "h100_sxm", " h100 sxm "])
def test_names_are_forgiving(name: str) -> None:
    assert device(name).id == "h100-sxm"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("h100", "did you mean: h100-sxm, h100-pcie, h100-nvl"),
        ("rtx4099", "rtx4090"),
        ("abacus", "txcalc explain devices"),
    ],
)
def test_unknown_devices_are_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(RequestError, match="unknown device") as raised:
        device(name)
    assert hint in raised.value.hint


def test_a_rate_that_was_not_read_is_refused() -> None:
    with pytest.raises(RequestError, match="fp4 rate of NVIDIA H100") as raised:
        device("h100-sxm").peak("fp4")
    assert raised.value.hint == "known for it: bf16, fp16, fp8, int8"


def test_the_table_is_read_only_when_it_is_asked_for() -> None:
    program = "import sys, txcalc.hardware; print('yaml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
