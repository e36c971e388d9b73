"""One batch and one context of a benchmark: cache bytes, peaks, times, rates, and what share of the ceilings that is.

Memory is watched first, in passes of its own: they warm up what is timed after them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import torch

from txcalc.errors import RequestError
from txcalc.formulas.flops import flops
from txcalc.measure.figures import Figure, rate_figure, timed_figure, where
from txcalc.measure.peaks import Runner, fake_peaks, faked, pass_peak
from txcalc.measure.plan import Plan, cache_bytes, weight_bytes
from txcalc.measure.shrink import at_most
from txcalc.measure.timing import in_turns
from txcalc.reference.backends import Backend
from txcalc.reference.backends import Name as BackendName

if TYPE_CHECKING:
    from txcalc.measure.bench import Bench

_MAKING: Final = 3  # a compiler makes the step again when it sees what changes from run to run


class Cell:
    """``batch`` rows of ``ctx`` tokens, and the tokens that are written after them."""

    def __init__(self, bench: Bench, ctx: int, batch: int) -> None:
        self.bench, self.plan, self.device = bench, bench.plan, bench.device
        self.ctx, self.batch = ctx, batch
        self.backends = self.plan.backends_at(batch)

    def where(self, backend: str = "") -> str:
        """The cell as a figure names it."""
        return where(batch=self.batch, ctx=self.ctx, backend=backend)

    def figures(self) -> Iterator[Figure]:
        """All of them; out of memory is a figure that says so."""
        peaks = foretold(self.plan, self.ctx, self.batch)
        cache = cache_bytes(self.plan.model, batch=self.batch, ctx=self.ctx + self.plan.new_tokens)
        free, most = self.device.free_memory(), max((p for p, _ in peaks.values()), default=0)
        if free is not None and cache + most > free:
            note = f"does not fit: {cache + most:,} bytes of cache and activations, {free:,} free"
            yield Figure(name="prefill", unit="seconds", what=self.where(), note=note)
            return
        try:
            yield from self.run(cache, peaks)
        except (MemoryError, torch.OutOfMemoryError) as error:
            yield self.exhausted(error)
        except RuntimeError as error:
            if "memory" not in str(error).lower():
                raise
            yield self.exhausted(error)

    def exhausted(self, error: BaseException) -> Figure:
        """The row of a cell that did not fit."""
        gc.collect()
        text = " ".join(str(error).split())[:120]
        return Figure(name="prefill", unit="seconds", what=self.where(), note=f"out of memory: {text}".rstrip(": "))

    def run(self, cache: int, peaks: dict[str, tuple[int, int]]) -> Iterator[Figure]:
        """What is counted, then what is timed."""
        plan = self.plan
        runner = Runner(
            self.bench.built(), batch=self.batch, ctx=self.ctx, more=plan.new_tokens, device=self.device.name
        )
        what = where(batch=self.batch, ctx=self.ctx + plan.new_tokens)
        measured = runner.cache.nbytes
        yield Figure(name="cache", unit="bytes", what=what, predicted=cache, measured=measured, exact=True)
        yield from self.peaks(runner, peaks)
        yield from self.prefills(runner)
        yield from self.decodes(runner)

    # ---- counted ----------------------------------------------------------------------------------------------------

    def peaks(self, runner: Runner, foretold: dict[str, tuple[int, int]]) -> Iterator[Figure]:
        """Peak memory beside weights and cache."""
        backend = self.bench.built().backend
        for name in self.backends:
            for index, (phase, step) in enumerate((("prefill", runner.prefill), ("decode", runner.decode))):
                measured = pass_peak(self.device, runner, self.bench.forced(name, step))
                yield Figure(
                    name=f"{phase} peak",
                    unit="bytes",
                    what=self.where(name),
                    predicted=foretold[name][index] if name in foretold else None,
                    measured=measured,
                    exact=self.device.name == "cpu",
                    note=f"ran {', '.join(sorted(backend.ran))}",
                )

    # ---- timed ------------------------------------------------------------------------------------------------------

    def prefills(self, runner: Runner) -> Iterator[Figure]:
        """The backends in turns."""
        plan = self.plan
        steps: dict[str, Callable[[], object]] = {
            name: self.bench.forced(name, runner.prefill) for name in self.backends
        }
        work = flops(plan.model, phase="prefill", ctx=self.ctx, batch=self.batch, scan="recurrent").figures()
        for name, spread in in_turns(self.device, steps, seconds=self.bench.seconds, warm=self.warm).items():
            predicted = self.bench.predictor.prefill(plan.model, batch=self.batch, ctx=self.ctx, backend=name)
            figure = timed_figure("prefill", self.where(name), spread, predicted)
            yield figure
            yield rate_figure("prefill rate", figure.what, self.batch * self.ctx, figure)
            yield from self.bench.shares("MFU of prefill", figure, float(work["flops.matmul"]), "product")

    @property
    def warm(self) -> bool:
        """Whether watching the memory has warmed up all there is to warm: a GPU has clocks and caches of its own."""
        return self.device.name == "cpu"

    def decodes(self, runner: Runner) -> Iterator[Figure]:
        """One token a row after the prompt; the first backend, which at one token all share."""
        plan, name = self.plan, self.backends[0]
        self.bench.forced(name, runner.prefill)()
        steps = {"decode": self.bench.forced(name, runner.decode)}
        for label, wanted in (("decode, graph", plan.graphs), ("decode, compiled", plan.compiled)):
            if wanted:
                made = self.recorded(label, runner)
                if isinstance(made, Figure):
                    yield made
                else:
                    steps[label] = self.bench.forced(name, made)
        predicted = self.bench.predictor.decode(plan.model, batch=self.batch, ctx=self.ctx)
        read = weight_bytes(plan.model, plan.dtype) + cache_bytes(plan.model, batch=self.batch, ctx=self.ctx)
        for label, spread in in_turns(self.device, steps, seconds=self.bench.seconds, warm=self.warm).items():
            plain = label == "decode"
            figure = timed_figure(label, self.where(name), spread, predicted if plain else None)
            yield figure
            yield rate_figure(label.replace("decode", "decode rate"), figure.what, self.batch, figure)
            yield from self.bench.shares(f"MBU of {label}", figure, read, "read")

    def recorded(self, label: str, runner: Runner) -> Callable[[], object] | Figure:
        """The step made once and played again, warm; or the row that says why it cannot be."""
        try:
            step = runner.recorded(self.device, compiled="compiled" in label)
            for _ in range(_MAKING):
                step()
        except RequestError as refused:
            note = refused.message
        except Exception as error:  # compilers fail in many ways, and the plain step is there all the same
            note = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        else:
            return step
        return Figure(name=label, unit="seconds", what=self.where(self.backends[0]), note=note)


def foretold(plan: Plan, ctx: int, batch: int) -> dict[str, tuple[int, int]]:
    """Peaks of prefill and decode by backend, by fake tensors through two layers of each kind: more change no peak.

    Those backends are missing whose passes look at values (experts).
    """
    found: dict[str, tuple[int, int]] = {}
    small = at_most(plan.model, 2)
    for name in plan.backends_at(batch):
        try:
            with faked(small, dtype=plan.torch_dtype, backend=Backend(name)) as built:
                found[name] = fake_peaks(built, batch=batch, ctx=ctx, more=plan.new_tokens)
        except RequestError:
            raise
        except Exception:  # fake tensors refuse in many ways what depends on values
            continue
    return found


def forced(backend: Backend, name: BackendName, step: Callable[[], object]) -> Callable[[], object]:
    """``step`` with that attention backend."""

    def run() -> object:
        if backend.name != name:
            backend.name = name
            backend.ran.clear()
        return step()

    return run
