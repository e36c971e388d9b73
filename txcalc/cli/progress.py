"""How far a long command is, on a terminal's stderr; nothing on a pipe, and nothing for what is done at once."""

from __future__ import annotations

import os
import sys
import time
from typing import Final

_PATIENCE: Final = 2.0  # seconds that pass before anything is shown


class Progress:
    """One line that is written over: ``12/171 llama3-8b``."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.shown = total, 0, False
        self.started = time.monotonic()
        self.wanted = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def step(self, name: str) -> None:
        """One more is done."""
        self.done += 1
        if self.wanted and time.monotonic() - self.started > _PATIENCE:
            self.shown = True
            print(f"\r\033[K{self.done}/{self.total} {name[:60]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self.shown = False
