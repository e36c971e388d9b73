"""Print a completion script for a shell: eval "$(txcalc completion bash)" in its start-up file."""

from __future__ import annotations

import argparse
from typing import Any, Final

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
    """The script, made from every command's own parser; cards, quantities and devices complete by name."""
    try:
        import shtab
    except ImportError:
        raise MissingExtraError("completion needs the package shtab", "pip install shtab") from None
    script = shtab.complete(_whole_parser(), shell=options.shell)
    if options.shell == "bash":  # a MODEL is a path, too: files where no name begins so
        script = script.replace("complete -o bashdefault ", "complete -o bashdefault -o default ")
    print(script)
    return 0


def _whole_parser() -> argparse.ArgumentParser:
    from txcalc.cards import known_names
    from txcalc.cli.app import COMMANDS, command_parser
    from txcalc.formulas.registry import QUANTITIES
    from txcalc.hardware import devices

    words: dict[Any, list[str]] = {"MODEL": known_names(), "DEVICE": list(devices())}
    words["QUANTITY"] = [*QUANTITIES, "letters", "claims", "devices"]
    whole = argparse.ArgumentParser(prog="txcalc")
    commands = whole.add_subparsers()
    for name, text in COMMANDS.items():
        parser = command_parser(name)
        for action in parser._actions:
            meant = "DEVICE" if action.dest == "gpu" and action.nargs != 0 else action.metavar
            if meant in words and action.dest != "device":
                action.choices = words[meant]  # for completion only: a command takes paths as well
        commands.add_parser(name, help=text, parents=[parser], add_help=False, conflict_handler="resolve")
    return whole
