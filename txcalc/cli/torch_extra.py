"""What the commands that run a model ask of the environment, and the options that they share."""

from __future__ import annotations

import argparse
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from txcalc import units
from txcalc.cli.options import Options, named
from txcalc.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    import torch

INSTALL: Final = "pip install 'txcalc[torch]'"
DTYPES: Final = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
THREADS_A_CORE: Final = 8
BACKENDS: Final = ("auto", "eager", "flash", "efficient", "cudnn", "math")


def require_torch(command: str) -> None:
    """Say what to install where torch is missing.

    Raises:
        MissingExtraError: torch, or what comes with it, is not installed.
    """
    missing = [name for name in ("torch", "numpy", "tokenizers") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"txcalc {command} runs the model and needs {', '.join(missing)}", INSTALL)


def require_package(command: str, *names: str) -> None:
    """Say what to install where a package is missing that a command needs.

    Raises:
        MissingExtraError: naming it.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        own = set(missing) <= {"torch", "numpy"}
        install = INSTALL if own else f"pip install {' '.join(missing)}"
        raise MissingExtraError(f"txcalc {command} needs {', '.join(missing)}", install)


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Where and how a model runs."""
    group = parser.add_argument_group("how the model runs")
    group.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, cuda or cuda:INDEX (default cpu)")
    group.add_argument("--dtype", choices=DTYPES, help="default: the checkpoint's own; fp32 for quantised files")
    group.add_argument("--backend", choices=BACKENDS, default="auto", help="attention (default auto)")


def add_threads(parser: Options) -> None:
    """How many threads torch takes: so many that none can be had would end the process, not raise."""

    def threads(text: str) -> int:
        value, most = units.positive(text), THREADS_A_CORE * (os.cpu_count() or 1)
        if value > most:
            raise UsageError(f"{text!r} is more than {THREADS_A_CORE} for each core", f"at most {most} here")
        return value

    parse = named("--threads", threads)
    parser.add_argument("--threads", type=parse, metavar="N", help="of torch (default: its own choice)")


def torch_dtype(name: str | None) -> torch.dtype | None:
    """torch's dtype of a name; None stays None."""
    if name is None:
        return None
    import torch

    found: torch.dtype = getattr(torch, DTYPES[name])
    return found


def finite(text: str) -> float:
    """A finite number from the command line.

    Raises:
        UsageError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{text[:40]!r} is not a number", "write it as 0.5") from None
    if value - value != 0:
        raise UsageError(f"{text} is not a finite number", "write it as 0.5")
    return value


def readable(text: str) -> str:
    """Text from the command line; bytes that are no UTF-8 become replacement characters."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
