"""How well the predictor foretells shapes that it was not fitted on: prefill and decode, this machine.

    python -m tests.benchmarks.prediction [--dtype bf16] [--threads 1] [--rounds 6] [--cpu-time]

Probes and targets run in turns, so that a busy moment falls on both; the targets' own p10 to p90 stand beside the
error. Whatever it says, it prints. ``--cpu-time`` counts the seconds that this process really had a core, which shows
the predictor's own error on a machine that others use too.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import torch

from txcalc.measure.calibrate import DECODES, PREFILLS, SHAPES, Probe, built_quickly, probe_model, probes_of
from txcalc.measure.peaks import Runner
from txcalc.measure.plan import default_dtype
from txcalc.measure.predictor import decode_terms, fit, predicted, prefill_terms
from txcalc.measure.timing import Spread, spread_of
from txcalc.reference.device import Cpu, timed

# hidden, intermediate, layers, heads, KV heads, vocabulary: none of them a probe's
TARGETS = {
    "100M": (768, 2048, 12, 12, 4, 32_000),
    "350M": (1024, 2816, 24, 16, 8, 32_000),
    "wide": (2048, 5632, 3, 16, 4, 8_000),
    "deep": (448, 1216, 30, 7, 7, 16_000),
}
CELLS = [("prefill", 1, 256), ("prefill", 1, 512), ("decode", 1, 256), ("decode", 1, 768), ("decode", 2, 256)]


def targets(dtype: str) -> dict[str, tuple[Probe, Callable[[], Any]]]:
    """Every pass of every target, by a name for reading."""
    made = {}
    for index, (name, shape) in enumerate(TARGETS.items()):
        model = probe_model(shape, dtype)
        built = built_quickly(model, Cpu(), dtype)
        for phase, batch, ctx in CELLS:
            runner = Runner(built, batch=batch, ctx=ctx, more=8)
            runner.cache.lengths = [ctx] * batch
            terms = (prefill_terms if phase == "prefill" else decode_terms)(model, batch=batch, ctx=ctx, dtype=dtype)
            step = runner.prefill if phase == "prefill" else runner.decode
            probe = Probe(shape=100 + index, phase=phase, terms=tuple(terms), step=step)
            made[f"{name:<5} {phase:<7} batch {batch} ctx {ctx}"] = (probe, step)
    return made


def cpu_seconds(step: Callable[[], Any]) -> list[float]:
    """Seconds of processor that one run took, all threads together."""
    start = time.process_time()
    step()
    return [time.process_time() - start]


def interleaved(steps: list[Callable[[], Any]], rounds: int, *, cpu_time: bool) -> list[Spread]:
    """Times of all of them in turns, the first round thrown away."""
    times: list[list[float]] = [[] for _ in steps]
    for turn in range(rounds + 1):
        for step, found in zip(steps, times, strict=True):
            took = cpu_seconds(step) if cpu_time else timed(Cpu(), step, 1)
            found += took if turn else []
    return [spread_of(found) for found in times]


def report(phase: str, rows: list[tuple[str, float, Spread]]) -> None:
    """Each target's error, and the mean and the worst."""
    errors = []
    for name, foretold, spread in rows:
        error = foretold / spread.median - 1
        errors.append(abs(error))
        inside = "inside p10..p90" if spread.p10 <= foretold <= spread.p90 else ""
        times = f"predicted {foretold * 1e3:9.1f}  p10 {spread.p10 * 1e3:9.1f}  p50 {spread.median * 1e3:9.1f}"
        print(f"{name:<32} {times}  p90 {spread.p90 * 1e3:9.1f} ms  {error:+7.1%}  {inside}")
    print(f"{phase}: mean {sum(errors) / len(errors):.1%}, worst {max(errors):.1%}\n")


def main() -> None:
    """Fit on the probes, foretell the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=("bf16", "fp32"), default=default_dtype())
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--cpu-time", action="store_true", help="processor seconds instead of the clock's")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    probes = [each for index, shape in enumerate(SHAPES) for each in probes_of(index, shape, Cpu(), options.dtype)]
    asked = targets(options.dtype)
    print(f"{len(probes)} probes ({len(SHAPES)} shapes, prefill {PREFILLS}, decode {DECODES}), {options.dtype}")
    print(f"{options.threads} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}\n")
    steps = [*(probe.step for probe in probes), *(step for _, step in asked.values())]
    spreads = interleaved(steps, options.rounds, cpu_time=options.cpu_time)
    for phase in ("prefill", "decode"):
        pairs = [(p.terms, s.median) for p, s in zip(probes, spreads, strict=False) if p.phase == phase]
        rates = fit([terms for terms, _ in pairs], [seconds for _, seconds in pairs])
        found = zip(asked.items(), spreads[len(probes) :], strict=True)
        rows = [(name, predicted(p.terms, rates), spread) for (name, (p, _)), spread in found if p.phase == phase]
        report(phase, rows)


if __name__ == "__main__":
    main()
