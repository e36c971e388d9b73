"""Tables drawn without rich, with rich itself as the oracle: the same characters, at every width that we draw at."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest

from txcalc.cli.app import command_parser
from txcalc.report.coloured import coloured
from txcalc.report.document import Answer, Row, Section
from txcalc.report.rich_table import print_rich
from txcalc.result import total

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def _by_rich(answer: Answer, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    print_rich(answer, out)
    return _plain(out.getvalue())


def _plain(drawn: str) -> str:
    """Without colours, and without the blank that rich leaves where it breaks a title."""
    return "\n".join(line.rstrip() for line in _ESCAPES.sub("", drawn).split("\n"))


def _table(*rows: tuple[str, ...], columns: tuple[str, ...] = ("part", "bytes"), **fields: str) -> Answer:
    lines = tuple(Row(cells=row, depth=index, strong=index == 1, detail="of it") for index, row in enumerate(rows))
    section = Section(columns=columns, rows=lines, **fields)  # type: ignore[arg-type]  # heading and detail
    return Answer(command="params", title="a title", model={}, tree=total("all", "", []), sections=(section,))


@pytest.mark.parametrize(
    "arguments",
    ["params deepseek-v3 --extra", "kvcache --ctx 32k --gqa 8", "flops gpt2 --seq 9 --convention all", "cards"],
)
@pytest.mark.parametrize("width", [70, 100, 240])
def test_the_same_characters_as_rich(arguments: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    name, *rest = arguments.split()
    from importlib import import_module

    answer = import_module(f"txcalc.cli.{name}").run(command_parser(name).parse_intermixed_args(rest))
    ours = coloured(answer, width, Terminal())
    assert ours is not None or width < 240
    assert ours is None or _plain(ours) == _by_rich(answer, width, monkeypatch)


def test_headings_details_and_strong_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = _table(("one", "12"), ("all of it", "1,234"), heading="a heading", detail="what")
    drawn = coloured(answer, 80, Terminal())
    assert drawn is not None
    assert _plain(drawn) == _by_rich(answer, 80, monkeypatch)
    assert "\x1b[1m  all of it   1,234   of it\x1b[0m\n" in drawn


def test_a_long_title_is_broken_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = _table(("one", "12"), heading="so many words of one heading").replace(title="a title of some words")
    drawn = coloured(answer, 17, Terminal())
    assert drawn is not None
    assert _plain(drawn) == _by_rich(answer, 17, monkeypatch)
    assert drawn.startswith("\x1b[1ma title of some\x1b[0m\n\x1b[1mwords\x1b[0m\n")


@pytest.mark.parametrize("cells", [("é", "1"), ("two\nlines", "1"), ("x" * 81, "1")])
def test_what_has_to_be_measured_or_folded_is_left_to_rich(cells: tuple[str, str]) -> None:
    assert coloured(_table(cells), 80, Terminal()) is None
    assert coloured(_table(("x", "1")), 80, Terminal()) is not None


def test_a_command_on_a_terminal_does_not_load_rich() -> None:
    program = (
        "import os, sys; os.environ['COLUMNS'], os.environ['TERM'] = '120', 'xterm'; os.environ.pop('NO_COLOR', None);"
        "sys.stdout = type('Terminal', (type(sys.stdout),), {'isatty': lambda self: True})(sys.stdout.buffer, 'utf-8');"
        "from txcalc.cli import main; code = main(['params', 'llama3-8b']);"
        "sys.exit(f'code {code}' if code or 'rich' in sys.modules else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b[1m" in done.stdout
