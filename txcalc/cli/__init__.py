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
        from txcalc.cli.app import run

        return run([argument for argument in arguments if argument != "--debug"])
    except TxcalcError as error:
        if debug:
            raise
        return _report(error.message, error.hint, error.exit_code)
    except SystemExit as stop:  # argparse's --help and --version
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return _report("interrupted", "", 130)
    except BrokenPipeError:
        return _closed_pipe()
    except MemoryError:
        return _report("out of memory", "try a smaller model or batch", 1)
    except Exception as error:
        if debug:
            raise
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return _report(f"unexpected {text}", "this is a fault in txcalc; --debug shows where", 1)


def entry_point() -> None:
    """The console script."""
    sys.exit(main())


def _report(message: str, hint: str, code: int) -> int:
    line = " ".join(message.split())
    print(f"error: {_printable(line)}", file=sys.stderr)
    if hint:
        print(f"hint: {_printable(' '.join(hint.split()))}", file=sys.stderr)
    return code


def _printable(text: str) -> str:
    """Text that cannot move the cursor or break the line, whatever a file's name or content held."""
    encoding = sys.stderr.encoding or "ascii"
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _closed_pipe() -> int:
    """The reader went away (``| head``): not an error of ours; keep the interpreter's last flush quiet."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
