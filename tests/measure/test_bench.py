"""``txcalc bench``: exact figures equal, documents whole, and what was measured kept whatever happens."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from tests.cli.conftest import Ran
from tests.cli.conftest import txcalc as txcalc
from txcalc.cli import main
from txcalc.errors import RequestError
from txcalc.measure import bench, cell, kept, plan, timing
from txcalc.measure.figures import Figure
from txcalc.measure.peaks import Runner, pass_peak
from txcalc.reference.device import Cpu

Run = Callable[..., Ran]
TINY: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "vocab_size": 61,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
PLAIN = ("--ctx", "16", "--new-tokens", "3", "--seconds", "0.001", "--dtype", "fp32", "--no-calibrate")
QUICK = (*PLAIN, "--batch", "1", "--backend", "flash")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("bench") / "tiny.json"
    path.write_text(json.dumps(TINY), encoding="utf-8")
    return str(path)


@pytest.fixture
def unforetold(monkeypatch: pytest.MonkeyPatch) -> None:
    """No fake tensors, which take longer than the rest of a tiny benchmark."""
    monkeypatch.setattr(cell, "foretold", lambda *_: {})


class Whole(NamedTuple):
    """One benchmark of two batches and two backends, and what watched while it was timed."""

    code: int
    document: dict[str, Any]
    watching: list[object]


@pytest.fixture(scope="module")
def whole(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    seen, real = list[object](), timing.timed

    def spied(device: Any, step: Callable[[], Any], repeats: int) -> list[float]:
        seen.append(_get_current_dispatch_mode())
        return real(device, step, repeats)

    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(timing, "timed", spied)
        code = main(["bench", tiny, *PLAIN, "--batch", "1,2", "--backend", "flash,math", "--json"])
    return Whole(code, json.loads(out.getvalue()), seen)


def test_what_can_be_equal_is_equal(whole: Whole) -> None:
    """By hand: 61 * 32 twice and 4 * (32*32*2 + 32*16*2 + 3*32*48 + 64) + 32 = 34,912 parameters, 4 bytes each.

    Cache: 2 * 4 layers * 2 heads * 8 * 4 bytes for each of 19 tokens. Decode of one token after 16: 2 * the matrices
    (3,904 - 1,952 + 4 * 7,680 elements) + 4 layers * 4 heads * 2 products * 2 * 8 * 17.
    """
    document = whole.document
    assert whole.code == 0
    assert document["schema"] == "txcalc.bench/1"
    found = document["bench"]
    assert found["measured"]["weights"] == 4 * 34_912
    assert found["measured"]["cache.batch_2.ctx_19"] == 2 * 19 * 2 * 4 * 2 * 8 * 4
    assert found["measured"]["decode_work.batch_1.ctx_16"] == 2 * (1952 + 4 * 7680) + 4 * 4 * 2 * 2 * 8 * 17
    exact = [each for each in found["figures"] if each.get("exact")]
    assert len(exact) == 2 + 1 + 2 * (1 + 4)
    assert all(each["predicted"] == each["measured"] for each in exact)
    names = {each["name"] for each in found["figures"]}
    assert names >= {"first token", "next token", "token with cache", "token without cache", "prefill rate"}


def test_times_carry_their_spread_and_the_machine(whole: Whole) -> None:
    document = whole.document
    timed = [each for each in document["bench"]["figures"] if each["unit"] == "seconds"]
    assert all(each["p10"] <= each["median"] <= each["p90"] and each["runs"] >= 3 for each in timed)
    assert {"threads", "load", "cores", "device", "torch"} <= document["machine"].keys()
    ran = [each["note"] for each in document["bench"]["figures"] if each["name"] == "prefill peak"]
    assert ran == ["ran flash", "ran math", "ran flash", "ran math"]


@pytest.mark.usefixtures("unforetold")
def test_a_broken_formula_is_an_answer_of_no(txcalc: Run, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of every equality of weights."""
    real = bench.weight_bytes
    monkeypatch.setattr(bench, "weight_bytes", lambda *given: real(*given) - 4)
    ran = txcalc("bench", tiny, *QUICK)
    assert ran.code == 3
    assert "weights : predicted 139,644, measured 139,648" in ran.err


def test_the_peak_notices_what_a_pass_keeps(tiny: str) -> None:
    """Negative control of every equality of peaks: one more tensor that lives through the pass."""
    from txcalc.cards import load
    from txcalc.reference import build

    runner = Runner(build(load(tiny)), batch=1, ctx=16, more=2)
    plain = pass_peak(Cpu(), runner, runner.prefill)

    def wasteful() -> None:
        kept = torch.ones(1000)
        runner.prefill()
        kept.sum()

    assert pass_peak(Cpu(), runner, wasteful) == plain + 4000


def test_nothing_watches_what_is_timed(whole: Whole) -> None:
    assert whole.watching
    assert set(whole.watching) == {None}


def test_noise_is_said() -> None:
    quiet, loud = timing.spread_of([1.0, 1.1, 1.2]), timing.spread_of([1.0, 1.1, 4.0])
    assert (quiet.noisy, loud.noisy) == (False, True)
    assert timing.spread_of([20.0, 0.0, 10.0]) == timing.Spread(median=10.0, p10=2.0, p90=18.0, runs=3)


def test_an_error_has_a_sign() -> None:
    assert Figure(name="x", unit="seconds", predicted=1.2, measured=1.0).error == pytest.approx(20)
    assert Figure(name="x", unit="seconds", predicted=None, measured=1.0).error is None


# ---- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unforetold")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_was_measured(
    txcalc: Run, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    real = cell.Cell.decodes

    def ended(self: cell.Cell, *given: Any) -> Iterator[Figure]:
        yield from real(self, *given)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(cell.Cell, "decodes", ended)
    saved = tmp_path / "saved.json"
    before = signal.getsignal(signal.SIGTERM)
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        ran = txcalc("bench", tiny, *QUICK, "--json", "--save", str(saved))
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert ran.code == code
    assert "broken off by a signal" in ran.err
    keys = ran.json()["bench"]["measured"]
    assert "decode.batch_1.ctx_16.flash" in keys
    assert "first_token.batch_1.ctx_16" not in keys
    assert json.loads(saved.read_text())["bench"]["measured"] == keys
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("unforetold")
def test_out_of_memory_at_one_batch_is_a_row(txcalc: Run, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Runner.prefill

    def small(self: Runner) -> torch.Tensor:
        if self.batch == 1 or isinstance(self.ids_BT, torch._subclasses.FakeTensor):
            return real(self)
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(Runner, "prefill", small)
    ran = txcalc("bench", tiny, *QUICK, "--batch", "1,2")
    assert ran.code == 0
    assert "out of memory: DefaultCPUAllocator" in ran.out
    assert "first token" in ran.out


@pytest.mark.usefixtures("unforetold")
def test_another_fault_is_not_called_memory(txcalc: Run, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: cell.Cell, *given: Any) -> Iterator[Figure]:
        raise RuntimeError("shapes differ")
        yield

    monkeypatch.setattr(cell.Cell, "run", broken)
    ran = txcalc("bench", tiny, *QUICK)
    assert (ran.code, "shapes differ" in ran.err) == (1, True)


@pytest.mark.usefixtures("unforetold")
def test_a_batch_that_cannot_fit_is_not_tried(txcalc: Run, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """65,536 rows of 19 tokens, 256 bytes each in a layer, 4 layers: 1.27 GB of cache."""
    monkeypatch.setattr(Cpu, "free_memory", lambda self: plan.SPARE + 1_000_000)
    ran = txcalc("bench", tiny, *QUICK, "--batch", "1,65536")
    assert ran.code == 0
    assert "does not fit" in ran.out


@pytest.mark.usefixtures("unforetold")
def test_a_model_that_does_not_fit_runs_with_fewer_layers(
    txcalc: Run, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer is 30,976 bytes of weights and 2,432 of cache at 19 tokens; around them 15,744 bytes: two fit."""
    monkeypatch.setattr(Cpu, "free_memory", lambda self: plan.SPARE + 15_744 + 2 * (30_976 + 2_432) + 100)
    monkeypatch.setattr(cell, "cache_bytes", lambda *_, **__: 0)
    ran = txcalc("bench", tiny, *QUICK, "--json")
    assert ran.json()["inputs"]["layers"] == 2
    assert ran.json()["basis"] == "estimated"
    assert "2 of 4 layers ran" in ran.err


@pytest.mark.parametrize("layers", [(), ("--layers", "3")])
def test_what_cannot_fit_is_refused_with_the_sum(
    txcalc: Run, tiny: str, monkeypatch: pytest.MonkeyPatch, layers: tuple[str, ...]
) -> None:
    monkeypatch.setattr(Cpu, "free_memory", lambda self: plan.SPARE + 20_000)
    monkeypatch.setattr(bench, "build", None)
    ran = txcalc("bench", tiny, *QUICK, *layers)
    assert (ran.code, ran.out) == (1, "")
    assert "together 0.25 GiB; 0.25 GiB are free" in ran.err
    assert "hint:" in ran.err


def test_more_layers_than_there_are(txcalc: Run, tiny: str) -> None:
    ran = txcalc("bench", tiny, "--layers", "5")
    assert (ran.code, "--layers 5: tiny has 4 layers" in ran.err) == (1, True)


@pytest.mark.parametrize("target", ["missing/file.json", "."])
def test_an_unwritable_file_is_refused_before_anything_runs(
    txcalc: Run, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(bench.Bench, "figures", None)
    ran = txcalc("bench", tiny, "--save", str(tmp_path / target))
    assert (ran.code, ran.out) == (1, "")
    assert "cannot be written" in ran.err


def test_a_file_that_was_there_is_kept_until_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.json"
    path.write_text("old")
    kept.writable(str(path), "--save")
    assert path.read_text() == "old"

    def full(*_: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RequestError, match="No space left"):
        kept.write_whole(str(path), "new")
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["old.json"]
    assert path.read_text() == "old"


def test_two_at_once(txcalc: Run, tiny: str) -> None:
    with kept.alone():
        ran = txcalc("bench", tiny, *QUICK)
    assert ran.code == 1
    assert f"another txcalc measurement is running (process {os.getpid()})" in ran.err
    with kept.alone():  # it is free again
        pass


def test_no_torch(txcalc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txcalc.cli.torch_extra.find_spec", lambda name: None)
    ran = txcalc("bench")
    assert (ran.code, ran.err.count("\n")) == (1, 2)
    assert "pip install 'txcalc[torch]'" in ran.err


def test_an_encoder_is_refused(txcalc: Run) -> None:
    ran = txcalc("bench", "bert-base-uncased")
    assert (ran.code, "runs decoders" in ran.err) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--ctx", "0"),
        ("--batch", "1,x"),
        ("--backend", "slow"),
        ("--seconds", "nan"),
        ("--limit", "0"),
        ("--save", ""),
        ("--threads", "99999999"),  # torch would end in a segmentation fault
        ("--ctx", "8", "--train"),
        ("--seq", "8"),
        ("--recompute", "full"),
    ],
)
def test_bad_options(txcalc: Run, arguments: tuple[str, ...]) -> None:
    ran = txcalc("bench", *arguments)
    assert ran.code == 2
    assert f"error: {arguments[0]}" in ran.err
