"""``txcalc check`` on many processes, an end before all is done, and what equal models are spared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Ran
from tests.cli.test_check import tiny as tiny
from tests.reference import published
from txcalc.configs import architecture_of
from txcalc.measure import check_pool
from txcalc.measure.check_task import Task, all_found, perform, spared

Run = Callable[..., Ran]


def test_processes_say_what_one_says(txcalc: Run, tiny: Callable[..., str]) -> None:
    paths = [tiny(kind) for kind in ("llama", "gpt2", "gemma", "opt")]
    alone = txcalc("check", *paths, "--quantity", "params,kv", "--jobs", "1", "--json").json()
    many = txcalc("check", *paths, "--quantity", "params,kv", "--jobs", "2", "--json").json()
    assert many["comparisons"] == alone["comparisons"]
    assert len({each["model"] for each in many["comparisons"]}) == 4


def test_what_was_done_is_printed_when_somebody_stops_it(
    txcalc: Run, tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    perform = check_pool.perform_guarded

    def until_opt(task: Any) -> Any:
        if task.model.model_type == "opt":
            raise KeyboardInterrupt
        return perform(task)

    monkeypatch.setattr(check_pool, "perform_guarded", until_opt)
    paths, out = [tiny(kind) for kind in ("llama", "gpt2", "opt", "gemma")], tmp_path / "out.xml"
    arguments = ("--quantity", "params", "--jobs", "1", "--junit", str(out), "--json")
    ran = txcalc("check", *paths, *arguments)
    assert ran.code == 130
    document = ran.json()
    assert document["interrupted"] is True
    assert {each["model"] for each in document["comparisons"]} == {"llama", "gpt2"}
    suite = ElementTree.parse(out).getroot().find("testsuite")
    assert suite is not None
    assert suite.get("tests") == "2"
    nothing = txcalc("check", paths[2], paths[3], *arguments)
    assert (nothing.code, nothing.err) == (130, "error: interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminated"])
def test_a_signal_ends_every_process_with_what_was_done(number: signal.Signals) -> None:
    """All cards on two processes, stopped as soon as something is done (its own group, as a terminal's job)."""
    command = [sys.executable, "-m", "txcalc", "check", "--quantity", "params", "--jobs", "2", "--json"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    _wait_for_children(running)
    if number == signal.SIGINT:
        os.killpg(running.pid, number)
    else:
        running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert b"Traceback" not in err
    if running.returncode == 0:  # a very fast machine was done before
        return
    assert running.returncode == 130
    if out:
        document = json.loads(out)
        assert document["interrupted"] is True
        assert document["check"]["failed"] == 0
    deadline = time.monotonic() + 10
    while _alive(running.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(running.pid)


def _wait_for_children(running: subprocess.Popen[bytes]) -> None:
    """Until its workers were started, however busy the machine is, and a moment more; three seconds without /proc."""
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    deadline = time.monotonic() + 60
    while children.exists() and not children.read_text().strip() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2 if children.exists() else 3)


def _alive(group: int) -> bool:
    """Whether a process of that group still runs."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_second_of_a_kind_is_light_and_an_equal_is_proved_once() -> None:
    """One depth instead of two: half the comparisons of FLOPs and activations, and all of the others."""
    sizes = {"first": 32, "second": 64, "twin": 32}
    models = [architecture_of(published.config("llama", hidden_size=size), name=name) for name, size in sizes.items()]
    tasks = [Task(model=model, config={}, quantities=("params", "flops", "activations")) for model in models]
    spare = spared(tasks)
    assert [(task.light, task.equal) for task in spare] == [(False, ""), (True, ""), (False, "first")]
    found = [perform(task) for task in spare]
    assert [len(each) for each in found] == [1 + 2 * 3 + 2 * 4, 1 + 3 + 4, 0]
    told = [*all_found(spare, {id(task): each for task, each in zip(spare, found, strict=True)})]
    assert {each.verdict for each in told} == {"passed"}
    assert [each.replace(model="first", note="") for each in told if each.model == "twin"] == found[0]
    assert {each.note for each in told if each.model == "twin"} == {"proved as first, its equal"}


def test_models_that_differ_in_a_number_are_not_equal() -> None:
    """Of the same shapes: neither an epsilon, a context nor a dtype may be taken for another."""
    models = [
        architecture_of(published.config("llama", **changes), name=name)
        for name, changes in {"a": {}, "b": {"rms_norm_eps": 1e-4}, "c": {"torch_dtype": "float16"}}.items()
    ]
    tasks = spared([Task(model=model, config={}, quantities=("params",)) for model in models])
    assert [task.equal for task in tasks] == ["", "", ""]
