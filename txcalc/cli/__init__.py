"""The command line. ``main`` is the one door: it returns the exit code and lets no traceback through.

0 fine; 1 the request cannot be answered; 2 the command line cannot be read; 3 the answer is no.
"""

from __future__ import annotations

import sys

from txcalc.errors import TxcalcError


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in arguments
    try:
        code = _run([argument for argument in arguments if argument != "--debug"])
        sys.stdout.flush()
        return code
    except TxcalcError as error:
        if debug:
            raise
        return _report(error.message, error.hint, error.exit_code)
    except KeyboardInterrupt:
        return _report("interrupted", "", 130)
    except BrokenPipeError:
        return _closed_pipe()
    except MemoryError:
        return _report("out of memory", "try a smaller model or batch", 1)
    except Exception as error:
        if debug:
            raise
        return _unexpected(error)


def _run(arguments: list[str]) -> int:
    if sys.stdout is None:
        raise TxcalcError("standard output is closed", "send it to a file or a pipe")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks
    from txcalc.cli.app import run

    try:
        return run(arguments)
    except SystemExit as stop:  # argparse's --help and --version
        return int(stop.code or 0)


def entry_point() -> None:
    """The console script."""
    try:
        code = main()
    except KeyboardInterrupt:  # between the lines of main itself
        code = 130
    sys.exit(code)


def _unexpected(error: Exception) -> int:
    if isinstance(error, OSError) and error.filename is None:  # a full disk behind standard output, a lost terminal
        _silence()
        return _report(f"the answer cannot be written: {error.strerror or error}", "check where the output goes", 1)
    first = f"{type(error).__name__}: {error}".splitlines()[0]
    return _report(f"unexpected {first}", "this is a fault in txcalc; --debug shows where", 1)


def _report(message: str, hint: str, code: int) -> int:
    from txcalc.report.write import remark

    for label, text in (("error", message), ("hint", hint)):
        if text:
            remark(label, text, sys.stderr)
    return code


def _closed_pipe() -> int:
    """The reader went away (``| head``): not an error of ours."""
    _silence()
    return 0


def _silence() -> None:
    """Let the interpreter's last flush go nowhere."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
