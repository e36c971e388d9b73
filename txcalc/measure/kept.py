"""Where this user's measurements are kept, and the lock that lets one of them run at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from txcalc.errors import RequestError


def directory() -> str:
    """The user's cache directory for txcalc: ``XDG_CACHE_HOME``, else the system's own place."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    if not base:
        base = os.path.expanduser("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")
    return os.path.join(base, "txcalc")


@contextmanager
def alone() -> Iterator[None]:
    """Nobody else measures on this machine as this user; a directory that cannot be written is no reason to stop.

    Raises:
        RequestError: another measurement runs.
    """
    try:
        import fcntl

        os.makedirs(directory(), exist_ok=True)
        file = open(os.path.join(directory(), "measuring.lock"), "a+", encoding="ascii")  # noqa: SIM115 - closed below
    except (ImportError, OSError):
        yield
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            who = file.read(20).strip() or "unknown"
            raise RequestError(
                f"another txcalc measurement is running (process {who}): two would slow each other", "wait for it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def writable(path: str, option: str) -> None:
    """Refuse a file that could not be written later; what it holds now stays.

    Raises:
        RequestError: why.
    """
    there = os.path.lexists(path)
    try:
        with open(path, "a", encoding="utf-8"):
            pass
        if not there:
            os.remove(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        message = f"{option} {path} cannot be written: {reason}"
        raise RequestError(message, "name a file in a directory that exists and may be written") from None


def write_whole(path: str, text: str) -> None:
    """Put ``text`` there in one step: a reader sees the old file or the new one.

    Raises:
        RequestError: it cannot be written.
    """
    aside = f"{path}.{os.getpid()}.part"
    try:
        with open(aside, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(aside, path)
    except OSError as error:
        if os.path.exists(aside):
            os.remove(aside)
        raise RequestError(f"{path} cannot be written: {error.strerror}", "is the disk full?") from None
