"""Print a completion script for a shell: eval "$(txcalc completion bash)" in its start-up file."""

from __future__ import annotations

import argparse
from typing import Final

from txcalc.errors import MissingExtraError

EXAMPLES: Final = """\
  eval "$(txcalc completion bash)"
  txcalc completion zsh > ~/.zfunc/_txcalc
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(options: argparse.Namespace) -> int:
    """The script, made from every command's own parser; card names complete as MODEL."""
    try:
        import shtab
    except ImportError:
        raise MissingExtraError("completion needs the package shtab", "pip install shtab") from None
    print(shtab.complete(_whole_parser(), shell=options.shell))
    return 0


def _whole_parser() -> argparse.ArgumentParser:
    from txcalc.cards import known_names
    from txcalc.cli.app import COMMANDS, command_parser

    names = known_names()
    whole = argparse.ArgumentParser(prog="txcalc")
    commands = whole.add_subparsers()
    for name, text in COMMANDS.items():
        parser = command_parser(name)
        for action in parser._actions:
            if action.dest == "model":
                action.choices = names  # for completion only: the command itself takes paths as well
        commands.add_parser(name, help=text, parents=[parser], add_help=False, conflict_handler="resolve")
    return whole
