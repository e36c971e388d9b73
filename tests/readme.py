"""README's console blocks, run and compared; ``python -m tests.readme`` writes what the commands print today.

A block is fenced as ``console``: lines that begin with ``$ `` are run, what follows is their standard output. A line of
``...`` stands for any lines.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

README = Path(__file__).parent.parent / "README.md"
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


class Example(NamedTuple):
    """One command of the README and the output shown under it."""

    command: str
    output: str


def examples(text: str) -> list[Example]:
    """Every command of every console block."""
    found = []
    for block in _BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append(Example(command, output.strip("\n")))
    return found


def run(command: str) -> str:
    """Standard output of ``txcalc ...`` as on a pipe."""
    from txcalc.cli import main

    program, *arguments = shlex.split(command, comments=True)
    assert program == "txcalc", command
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        main(arguments)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def agrees(shown: str, real: str) -> bool:
    """Whether the shown output is the real one, ``...`` standing for any lines."""
    pattern = "".join("(?:.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in shown.splitlines())
    return re.fullmatch(pattern, real + "\n") is not None


def rewritten(text: str) -> str:
    """README with the output of every whole example replaced by today's; ones with ``...`` are left."""
    for example in examples(text):
        if "\n...\n" not in f"\n{example.output}\n":
            old = f"$ {example.command}\n{example.output}".rstrip("\n")
            text = text.replace(old, f"$ {example.command}\n{run(example.command)}")
    return text


def feature_list() -> str:
    """What the reference model refuses to build."""
    from txcalc.reference.support import features_not_built

    return fill("; ".join(features_not_built()) + ".", 120, break_long_words=False, break_on_hyphens=False)


def with_types(text: str) -> str:
    """README with today's lists between their marks: types, refused ones, what the reference model does not build."""
    from tests.type_table import refusals, table

    for mark, lines in (("types", table()), ("refused", refusals()), ("not built", feature_list())):
        text = between(text, mark, lines)
    return text


def between(text: str, mark: str, lines: str) -> str:
    """The text with other lines between ``<!-- mark -->`` and ``<!-- /mark -->``."""
    before, _, rest = text.partition(f"<!-- {mark} -->\n")
    _, _, after = rest.partition(f"<!-- /{mark} -->")
    return f"{before}<!-- {mark} -->\n{lines}\n<!-- /{mark} -->{after}"


if __name__ == "__main__":
    README.write_text(with_types(rewritten(README.read_text(encoding="utf-8"))), encoding="utf-8")
