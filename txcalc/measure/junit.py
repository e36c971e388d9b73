"""Verdicts for machines: JUnit's XML, which CI servers show, and GitHub's annotations."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from txcalc.errors import RequestError
from txcalc.measure.comparing import Verdict
from txcalc.record import Record

_NOT_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Case(Record):
    """One thing that passed, failed or was skipped: what it is about, its name, and one line on it.

    ``path``: the file that it is about, where there is one.
    """

    group: str
    name: str
    verdict: Verdict
    message: str = ""
    path: str = ""


def junit(cases: Sequence[Case], *, seconds: float) -> str:
    """The XML document: one suite, a case for each comparison."""
    failed, skipped = (sum(case.verdict == verdict for case in cases) for verdict in ("failed", "skipped"))
    suite = (
        f'<testsuite name="txcalc check" tests="{len(cases)}" failures="{failed}" errors="0" skipped="{skipped}" '
        f'time="{seconds:.3f}">'
    )
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<testsuites>", suite, *map(_case, cases)]
    return "\n".join([*lines, "</testsuite>", "</testsuites>", ""])


def _case(case: Case) -> str:
    name, group, message = (_attribute(text) for text in (case.name, case.group, case.message))
    inside = {
        "passed": "",
        "failed": f"<failure message={message}>{escape(_legal(case.message))}</failure>",
        "skipped": f"<skipped message={message}/>",
    }[case.verdict]
    return f"<testcase classname={group} name={name}>{inside}</testcase>"


def _attribute(text: str) -> str:
    return quoteattr(_legal(text), {"\n": "&#10;", "\t": "&#9;"})


def _legal(text: str) -> str:
    return _NOT_XML.sub("?", text)


def require_writable(path: str) -> None:
    """Find out before the work is done, not after.

    Raises:
        RequestError: the file cannot be written.
    """
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RequestError(
            f"--junit {path} cannot be written: {reason}", "name a file in a directory that exists"
        ) from None


def write(path: str, text: str) -> None:
    """The document to its file.

    Raises:
        RequestError: the file cannot be written.
    """
    require_writable(path)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


# ---- GitHub ---------------------------------------------------------------------------------------------------------


def on_github() -> bool:
    """Whether this runs in a GitHub Actions job."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def workflow_commands(cases: Sequence[Case]) -> list[str]:
    """A workflow command for each failure; GitHub shows it beside the run, and beside the file where one is named."""
    return [_annotation(case) for case in cases if case.verdict == "failed"]


def _annotation(case: Case) -> str:
    where = {"file": case.path, "title": f"txcalc check: {case.group}"}
    properties = ",".join(f"{key}={_property(value)}" for key, value in where.items() if value)
    return f"::error {properties}::{_data(case.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
