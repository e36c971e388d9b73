"""The predictor's terms by hand, its fit on times that are known, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.conftest import Ran
from tests.cli.conftest import txcalc as txcalc
from tests.measure.test_bench import QUICK, TINY
from txcalc.cli.bench_report import warnings
from txcalc.measure import calibrate, cell, timing
from txcalc.measure.calibrate import calibrated, key_of, probe_model, recall
from txcalc.measure.figures import Figure
from txcalc.measure.predictor import Calibrated, Calibration, decode_terms, fit, predicted, prefill_terms
from txcalc.reference.device import Cpu

Run = Callable[..., Ran]
SHAPES = ((32, 48, 2, 4, 2, 61), (64, 96, 1, 4, 4, 101), (16, 32, 3, 2, 1, 31))
GOOD = Calibration(
    key="k",
    dtype="fp32",
    prefill=(1.0, 2.0, 3.0, 4.0, 5.0),
    decode=(1.0, 2.0, 3.0, 4.0, 5.0),
    ceilings={},
    errors={},
    seconds=0.0,
)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_terms_of_a_prefill_by_hand() -> None:
    """2 layers of 2 * 32*32 + 2 * 32*16 + 3 * 32*48 = 7,680 elements; 2 rows of 10 tokens: 2*20*15,360 FLOPs.

    Attention: 2 layers * 2 products * 2 rows * 4 heads * 2 * 8 * 100. Written: 20 * 15,360 / 32 elements of 4 bytes.
    The head: 61 * 32 elements.
    """
    found = prefill_terms(probe_model(SHAPES[0], "fp32"), batch=2, ctx=10, dtype="fp32")
    assert found == [2, 614_400, 51_200, 38_400, 7_808]


def test_terms_of_a_decode_by_hand() -> None:
    """Matrices: 15,360 + 1,952 = 17,312 elements; 3 rows. Attention over 11 keys: 2*2*3*4*2*8*11 FLOPs."""
    found = decode_terms(probe_model(SHAPES[0], "bf16"), batch=3, ctx=10, dtype="bf16")
    assert found == [2, 34_624, 2 * 2 * 17_312, 8_448, 2 * 3 * 17_312 / 32]


ROWS = [[1.0, 2.0, 0.5], [2.0, 1.0, 4.0], [0.5, 5.0, 1.0], [3.0, 3.0, 2.0]]


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.sampled_from([0.0, 1e-9, 0.3, 7.0])] * 3).filter(any))
def test_known_rates_are_found(rates: tuple[float, float, float]) -> None:
    found = fit(ROWS, [predicted(row, rates) for row in ROWS])
    assert found == pytest.approx(rates, rel=1e-6, abs=1e-6 * max(rates))


def test_no_rate_is_negative() -> None:
    """Negative control: plain least squares makes the second rate negative on these times."""
    rows, seconds = [[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]], [3.0, 2.0, 1.0]
    plain = torch.linalg.lstsq(torch.tensor(rows), torch.tensor(seconds)[:, None]).solution
    assert float(plain.min()) < 0
    found = fit(rows, seconds)
    assert min(found) >= 0
    assert max(found) > 0


def test_a_prediction_is_the_sum_of_its_terms() -> None:
    model = probe_model(SHAPES[0], "fp32")
    terms = prefill_terms(model, batch=1, ctx=10, dtype="fp32")
    expected = sum((i + 1) * term for i, term in enumerate(terms))
    assert Calibrated(GOOD).prefill(model, batch=1, ctx=10, backend="flash") == expected
    assert Calibrated(GOOD).prefill(model, batch=1, ctx=10, backend="math") is None
    assert Calibrated(GOOD).decode(model, batch=1, ctx=10) != Calibrated(GOOD).decode(model, batch=1, ctx=11)


# ---- calibrating ----------------------------------------------------------------------------------------------------


def test_a_calibration_is_kept_and_found_again() -> None:
    found = calibrated(Cpu(), "fp32", seconds=0.01, shapes=SHAPES, size=64)
    assert min(*found.prefill, *found.decode) >= 0
    assert max(found.prefill) > 0 < max(found.decode)
    assert len(found.errors["decode"]) == 3 * len(calibrate.DECODES)
    assert calibrate.keep(found.replace(key="other"))
    assert calibrate.keep(found)
    assert recall(key_of(Cpu(), "fp32")) == found
    assert recall("other") == found.replace(key="other")
    assert recall(key_of(Cpu(), "bf16")) is None


@pytest.mark.parametrize("text", ["", "[]", "{broken", '{"k": 3}', '{"k": {"key": "k"}}'])
def test_a_damaged_file_is_no_calibration(text: str) -> None:
    assert calibrate.keep(GOOD)
    assert recall("k") == GOOD
    Path(calibrate.path()).write_text(text)
    assert recall("k") is None


def test_another_number_of_terms_is_no_calibration() -> None:
    calibrate.keep(GOOD.replace(prefill=(1.0, 2.0)))
    assert recall("k") is None


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert calibrate.keep(GOOD) == ""


def test_the_command_tells_rates_with_their_meaning(txcalc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "SHAPES", SHAPES)
    monkeypatch.setattr(
        calibrate, "calibrated", lambda *given: calibrated(*given, seconds=0.01, shapes=SHAPES, size=64)
    )
    ran = txcalc("calibrate", "--dtype", "fp32")
    assert ran.code == 0
    for text in ("a prefill is the sum of", "read once a step", "matrix product", "left out of the fit", "kept in"):
        assert text in ran.out
    document = txcalc("calibrate", "--dtype", "fp32", "--json").json()
    assert document["schema"] == "txcalc.calibrate/1"
    assert len(document["calibration"]["prefill"]) == 5


# ---- on a machine that others use -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("load", "kept"), [(1e3, False), (0.0, True), (None, True)])
def test_ceilings_that_others_have_lowered_are_not_kept(
    load: float | None, kept: bool, txcalc: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY), encoding="utf-8")
    monkeypatch.setattr(timing, "load", lambda: load)
    monkeypatch.setattr(cell, "foretold", lambda *_: {})
    monkeypatch.setattr(calibrate, "calibrated", lambda *_, **__: GOOD)
    ran = txcalc("bench", str(path), *QUICK[: QUICK.index("--no-calibrate")], "--batch", "1", "--backend", "flash")
    assert ran.code == 0
    assert ("not kept: load 1000.0 on" in ran.err) is not kept
    assert (recall(GOOD.key) == GOOD) is kept


def test_a_calibration_on_a_crowded_machine_says_so(txcalc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "calibrated", lambda *_: GOOD)
    words = "calibrate again when they are gone"
    for load, said in ((1e3, True), (0.0, False)):
        monkeypatch.setattr(timing, "load", lambda load=load: load)
        assert (words in txcalc("calibrate", "--dtype", "fp32").out) is said


def test_a_ceiling_that_was_passed_is_said() -> None:
    machine = {"load": None, "cores": 1}
    for share, said in ((3.24, ["324% of a calibrated ceiling: it was low, others used this machine"]), (1.1, [])):
        figure = Figure(name="MFU of prefill", unit="ratio", measured=share, note="of 9 bytes/s read, calibrated")
        assert [each.split(";")[0] for each in warnings([figure], machine, 0)] == said


def test_calibrate_without_torch(txcalc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txcalc.cli.torch_extra.find_spec", lambda name: None)
    assert txcalc("calibrate").code == 1
