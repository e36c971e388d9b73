"""Cold start as a user meets it: whole processes on a pseudo-terminal, interleaved with ``python -c pass``.

    python tests/benchmarks/cold_start.py [runs] [python]

Prints medians with p10 and p90, and the ratio to ``python -c pass`` taken pair by pair.
"""

from __future__ import annotations

import os
import pty
import statistics
import sys
import time

COMMANDS = {
    "pass": ["-c", "pass"],
    "params, table": ["-m", "txcalc", "params", "llama3-8b"],
    "params, --json": ["-m", "txcalc", "params", "llama3-8b", "--json"],
    "kvcache, table": ["-m", "txcalc", "kvcache", "--ctx", "32k", "--gqa", "8"],
    "flops, table": ["-m", "txcalc", "flops", "llama3-8b"],
    "attention, table": ["-m", "txcalc", "attention", "llama3-8b"],
    "memory, table": ["-m", "txcalc", "memory", "llama3-8b"],
    "training, table": ["-m", "txcalc", "memory", "llama3-8b", "--train"],
}
TARGETS = {name: 8 if "json" in name else 12 for name in COMMANDS if name != "pass"}


def wall_time(python: str, arguments: list[str]) -> float:
    """Seconds from fork to exit, with the terminal's output read to its end."""
    started = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(python, [python, *arguments])
    while True:
        try:
            if not os.read(terminal, 65536):
                break
        except OSError:  # the child closed the terminal
            break
    _, status = os.waitpid(pid, 0)
    elapsed = time.perf_counter() - started
    os.close(terminal)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{arguments} failed")
    return elapsed


def quantiles(values: list[float]) -> tuple[float, float, float]:
    """p10, median, p90."""
    tenths = statistics.quantiles(values, n=10)
    return tenths[0], statistics.median(values), tenths[8]


def main() -> None:
    """Interleave all commands and print a line each."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    python = sys.argv[2] if len(sys.argv) > 2 else sys.executable
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for arguments in COMMANDS.values():
        wall_time(python, arguments)  # warm the page cache and the compiled files
    for _ in range(runs):
        for name, arguments in COMMANDS.items():
            times[name].append(wall_time(python, arguments))
    for name, values in times.items():
        low, middle, high = quantiles(values)
        ratio = quantiles([value / base for value, base in zip(values, times["pass"], strict=True)])
        target = f"  (target {TARGETS[name]})" if name in TARGETS else ""
        print(
            f"{name:16} {1e3 * middle:6.1f} ms  [{1e3 * low:.1f} .. {1e3 * high:.1f}]"
            f"   {ratio[1]:5.2f} x pass  [{ratio[0]:.2f} .. {ratio[2]:.2f}]{target}"
        )


if __name__ == "__main__":
    main()
