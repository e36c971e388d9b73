"""Which commands there are, and how one of them is parsed and run. Only the module of the named command is loaded."""

from __future__ import annotations

import argparse
import re
import sys
from importlib import import_module
from typing import Any, Final, NoReturn

from txcalc import __version__
from txcalc.errors import UsageError
from txcalc.report import Answer, render
from txcalc.report.write import columns, remark

COMMANDS: Final = {
    "params": "how many parameters, by component",
    "kvcache": "how large the KV cache is, and what fits",
    "flops": "how many FLOPs: forward, decode, training; every convention",
    "attention": "scores, what a backend holds of them, other ways to mix a sequence",
    "memory": "how much memory: inference, training, adapters",
    "generate": "text from a model with weights",
    "inspect": "what goes where: tensors, tokens, attention weights",
    "check": "hold every formula against a model that is built and run",
    "bench": "run a model here: memory, FLOPs and speed beside their predictions",
    "calibrate": "learn this machine's speeds, which bench predicts with",
    "explain": "any quantity: formula, unit, convention, source; claims of tutorials checked",
    "cards": "the models that txcalc knows: list, show, check",
    "completion": "a completion script for bash, zsh or tcsh",
}

MOST_REMARKS: Final = 10

_EXAMPLES: Final = """\
examples:
  txcalc params llama3-8b --explain
  txcalc params ./config.json --set num_hidden_layers=16
  txcalc kvcache --ctx 32k --gqa 8
  txcalc flops llama3-8b --seq 8k --convention all
  txcalc kvcache deepseek-v3 --ctx 128k --batch 8 --kv-dtype fp8 --json
  txcalc cards --family qwen

MODEL is a card's name, a config.json or its directory, a card of your own, a .safetensors or .gguf file, or a hub id
(org/name or org/name@revision).
txcalc COMMAND --help tells about one command.
"""


_NEGATIVE: Final = re.compile(r"-\.?[0-9]")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Descriptions as written; as wide as the terminal, which argparse would load half of ``shutil`` to ask."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=columns(1) - 2)


class Parser(argparse.ArgumentParser):
    """argparse, with errors raised as ours and examples kept as written."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", _Help)
        super().__init__(allow_abbrev=False, **options)
        self._negative_number_matcher = _NEGATIVE  # so that -1GiB is a bad value, and no option

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing and exiting."""
        raise UsageError(message, f"{self.prog} --help")


def top_parser() -> Parser:
    """The parser of what stands before a command."""
    commands = "\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items())
    parser = Parser(
        prog="txcalc",
        usage="txcalc COMMAND [MODEL] [options]",
        description="The shape and the cost of transformer models: exact or refused, shown, checked.",
        epilog=f"commands:\n{commands}\n\n{_EXAMPLES}",
    )
    parser.add_argument("--version", action="version", version=f"txcalc {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def command_parser(name: str) -> Parser:
    """The parser of one command."""
    module = _module(name)
    parser = Parser(
        prog=f"txcalc {name}",
        description=module.__doc__.strip() if module.__doc__ else "",
        epilog=f"examples:\n{module.EXAMPLES}",
    )
    module.add_arguments(parser)
    return parser


def run(arguments: list[str]) -> int:
    """Parse and run; the answer goes to stdout, everything else to stderr.

    Raises:
        UsageError: the command line cannot be read.
        TxcalcError: the request cannot be answered.
    """
    if not arguments:
        top_parser().print_help()
        return 0
    name, rest = arguments[0], arguments[1:]
    if name.startswith("-"):
        top_parser().parse_args(arguments)
        raise UsageError("no command given", "txcalc --help")
    if name not in COMMANDS:
        from difflib import get_close_matches

        near = [each for each in COMMANDS if each.startswith(name.lower())] or get_close_matches(name, COMMANDS, n=2)
        near = ["--help"] if name == "help" else near
        hint = f"did you mean: {', '.join(near)}" if near else f"commands: {', '.join(COMMANDS)}"
        raise UsageError(f"unknown command {name!r}", hint)
    module = _module(name)
    if hasattr(module, "prepared"):
        rest = module.prepared(rest)
    options = command_parser(name).parse_intermixed_args(rest)
    answer: Answer | int = module.run(options)
    return answer if isinstance(answer, int) else write(answer, options)


def write(answer: Answer, options: argparse.Namespace) -> int:
    """The answer in the format asked for; warnings to stderr. Returns the exit code."""
    style = "json" if options.json else options.format
    render(answer, style=style, explained=options.explain, out=sys.stdout)
    sys.stdout.flush()
    reasons = (*answer.reasons, *answer.in_part)
    remarks = [*answer.warnings, *(f"estimated: {reason}" for reason in reasons)]
    for text in remarks[:MOST_REMARKS]:
        remark("warning", text, sys.stderr)
    if len(remarks) > MOST_REMARKS:
        remark("warning", f"and {len(remarks) - MOST_REMARKS} more; --json lists them all", sys.stderr)
    return answer.exit_code


def _module(name: str) -> Any:
    return import_module(f"txcalc.cli.{name}")
