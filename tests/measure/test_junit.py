"""JUnit XML that a parser reads back, and GitHub's commands with everything escaped."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cards.conftest import refused
from txcalc.measure.junit import Case, junit, on_github, require_writable, workflow_commands, write

CASES = [
    Case(group="gpt2", name="params.total", verdict="passed"),
    Case(group='a<b>&"c"\'\x00', name="kv\nnext", verdict="failed", message="predicted 1 < measured 2 & \x1b[31mred"),
    Case(group="bert", name="kv", verdict="skipped", message="no decoder"),
]


def test_a_parser_reads_back_what_was_written() -> None:
    suite = ElementTree.fromstring(junit(CASES, seconds=1.5)).find("testsuite")
    assert suite is not None
    expected = {"tests": "3", "failures": "1", "skipped": "1", "errors": "0", "time": "1.500", "name": "txcalc check"}
    assert suite.attrib == expected
    passed, failed, skipped = suite.findall("testcase")
    assert (passed.get("classname"), passed.get("name"), len(passed)) == ("gpt2", "params.total", 0)
    assert (failed.get("classname"), failed.get("name")) == ('a<b>&"c"\'?', "kv\nnext")
    failure = failed.find("failure")
    assert failure is not None
    assert failure.get("message") == failure.text == "predicted 1 < measured 2 & ?[31mred"
    reason = skipped.find("skipped")
    assert reason is not None
    assert reason.get("message") == "no decoder"


def test_nothing_at_all_is_a_document() -> None:
    suite = ElementTree.fromstring(junit([], seconds=0)).find("testsuite")
    assert suite is not None
    assert suite.get("tests") == "0"


def test_the_file_is_found_out_before_the_work(tmp_path: Path) -> None:
    with refused("cannot be written", hint="directory that exists"):
        require_writable(str(tmp_path / "none" / "out.xml"))
    with refused("cannot be written"):
        require_writable(str(tmp_path))
    write(str(tmp_path / "out.xml"), "<a/>")
    assert (tmp_path / "out.xml").read_text() == "<a/>"


def test_only_failures_become_annotations_and_nothing_breaks_out_of_them() -> None:
    case = Case(group="a:b,c", name="x", verdict="failed", message="100%\nover", path="models/a,b.json")
    (line,) = workflow_commands([CASES[0], case, CASES[2]])
    assert line == "::error file=models/a%2Cb.json,title=txcalc check%3A a%3Ab%2Cc::100%25%0Aover"


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("", False), ("false", False)])
def test_on_github_where_it_says_so(value: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", value)
    assert on_github() is expected
