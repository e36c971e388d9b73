"""The reference model run on this machine, figure by figure, each beside its prediction.

Figures come one at a time, so that what was measured stays when the rest is broken off. Memory is watched in passes of
its own, after the timed ones.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, Protocol

import torch

from txcalc import architecture as arch
from txcalc.errors import RequestError
from txcalc.formulas.flops import flops
from txcalc.measure import counting
from txcalc.measure.calibrate import PRODUCT, READ
from txcalc.measure.figures import Figure, rate_figure, timed_figure, where
from txcalc.measure.peaks import Runner, fake_peaks, faked, pass_peak
from txcalc.measure.plan import Plan, cache_bytes, weight_bytes
from txcalc.measure.timing import Spread, in_turns, spread_of
from txcalc.reference import Transformer, build
from txcalc.reference.backends import Backend
from txcalc.reference.backends import Name as BackendName
from txcalc.reference.device import Device
from txcalc.reference.generate import generate
from txcalc.result import Node

_GENERATED: Final = 3  # texts from whose tokens the two latencies are taken


class Predictor(Protocol):
    """Seconds of a pass, foretold for this machine."""

    def prefill(self, model: arch.Model, *, batch: int, ctx: int, backend: str) -> float | None:
        """Seconds of a prompt of ``ctx`` tokens a row."""

    def decode(self, model: arch.Model, *, batch: int, ctx: int) -> float | None:
        """Seconds of one token a row after ``ctx`` cached ones."""


class Unpredicted:
    """No calibration: nothing is foretold."""

    def prefill(self, model: arch.Model, *, batch: int, ctx: int, backend: str) -> float | None:
        """Unknown."""
        return None

    def decode(self, model: arch.Model, *, batch: int, ctx: int) -> float | None:
        """Unknown."""
        return None


class Bench:
    """One plan on one device; ``figures`` runs it."""

    def __init__(
        self,
        plan: Plan,
        device: Device,
        predictor: Predictor,
        model: Transformer | None = None,
        ceilings: Mapping[str, float] | None = None,
    ) -> None:
        self.plan, self.device, self.predictor = plan, device, predictor
        self.model, self.ceilings = model, ceilings or {}
        self.where = device.name

    def figures(self) -> Iterator[Figure]:
        """Every figure, as it is measured."""
        yield from self.counts()
        model = self.built()
        yield Figure(
            name="weights",
            unit="bytes",
            predicted=weight_bytes(self.plan.model, self.plan.dtype),
            measured=sum(parameter.nbytes for parameter in model.parameters()),
            exact=True,
        )
        end, ctx = time.perf_counter() + self.plan.limit, min(self.plan.ctxs)
        parts: dict[str, Callable[[], Iterator[Figure]]] = {
            where(batch=batch, ctx=each): partial(self.guarded, each, batch)
            for each in self.plan.ctxs
            for batch in self.plan.batches
        }
        parts["latencies"] = partial(self.latencies, ctx)
        for length in sorted({max(ctx // 4, 1), max(ctx // 2, 1), ctx}):
            parts[f"cache at {length}"] = partial(self.with_and_without_cache, length)
        for name, part in parts.items():
            if time.perf_counter() > end:
                note = f"not begun: the limit of {self.plan.limit:g} s was reached (--limit)"
                yield Figure(name="left out", unit="seconds", what=name, note=note)
            else:
                yield from part()

    def dry(self) -> Iterator[Figure]:
        """Everything that is known without running: sums, peaks of fake tensors, times where there are rates."""
        plan, model = self.plan, self.plan.model
        yield Figure(name="weights", unit="bytes", predicted=weight_bytes(model, plan.dtype))
        for ctx in plan.ctxs:
            for phase, mask in (("prefill", "full"), ("decode", "exact")):
                work = int(flops(model, phase=phase, ctx=ctx, mask=mask).figures()["flops.matmul"])  # type: ignore[arg-type]  # both are choices
                yield Figure(name=f"{phase} work", unit="FLOPs", what=where(batch=1, ctx=ctx), predicted=work)
            for batch in plan.batches:
                cache = cache_bytes(model, batch=batch, ctx=ctx + plan.new_tokens)
                what = where(batch=batch, ctx=ctx + plan.new_tokens)
                yield Figure(name="cache", unit="bytes", what=what, predicted=cache)
                yield from self.dry_cell(ctx, batch)

    def dry_cell(self, ctx: int, batch: int) -> Iterator[Figure]:
        """Peaks and times of one context and batch."""
        for name, found in self.foretold(ctx, batch).items():
            what = where(batch=batch, ctx=ctx, backend=name)
            times = (
                self.predictor.prefill(self.plan.model, batch=batch, ctx=ctx, backend=name),
                self.predictor.decode(self.plan.model, batch=batch, ctx=ctx),
            )
            for phase, peak, seconds in zip(("prefill", "decode"), found, times, strict=True):
                yield Figure(name=f"{phase} peak", unit="bytes", what=what, predicted=peak, note="by fake tensors")
                if seconds is not None:
                    yield Figure(name=phase, unit="seconds", what=what, predicted=seconds)

    def built(self) -> Transformer:
        """The model on the device, made when it is first asked for."""
        if self.model is None:
            backend = Backend(self.plan.backends[0])
            self.model = build(self.plan.model, device=self.device.name, dtype=self.plan.torch_dtype, backend=backend)
        return self.model

    # ---- counted, not timed -----------------------------------------------------------------------------------------

    def counts(self) -> Iterator[Figure]:
        """FLOPs of a prefill and of one decoding step, counted on the meta device."""
        meta, ctx = build(self.plan.model, device="meta", dtype=self.plan.torch_dtype), self.plan.ctxs[0]
        prefill = flops(self.plan.model, phase="prefill", ctx=ctx, scan="recurrent")
        yield _work("prefill", ctx, prefill, counting.prefill(meta, batch=1, ctx=ctx))
        decode = flops(self.plan.model, phase="decode", ctx=ctx, mask="exact", mla="absorbed")
        yield _work("decode", ctx, decode, counting.decode(meta, batch=1, ctx=ctx, source=None))

    # ---- one batch and context --------------------------------------------------------------------------------------

    def guarded(self, ctx: int, batch: int) -> Iterator[Figure]:
        """A cell; out of memory is a figure that says so, and the next cell goes on."""
        what = where(batch=batch, ctx=ctx)
        peaks = self.foretold(ctx, batch)
        cache = cache_bytes(self.plan.model, batch=batch, ctx=ctx + self.plan.new_tokens)
        free, most = self.device.free_memory(), max((p for p, _ in peaks.values()), default=0)
        if free is not None and cache + most > free:
            note = f"does not fit: {cache + most:,} bytes of cache and activations, {free:,} free"
            yield Figure(name="prefill", unit="seconds", what=what, note=note)
            return
        try:
            yield from self.cell(ctx, batch, cache, peaks)
        except (MemoryError, torch.OutOfMemoryError) as error:
            yield self.exhausted(what, error)
        except RuntimeError as error:
            if "memory" not in str(error).lower():
                raise
            yield self.exhausted(what, error)

    def exhausted(self, what: str, error: BaseException) -> Figure:
        """The row of a cell that did not fit."""
        gc.collect()
        text = " ".join(str(error).split())[:120]
        return Figure(name="prefill", unit="seconds", what=what, note=f"out of memory: {text}".rstrip(": "))

    def foretold(self, ctx: int, batch: int) -> dict[str, tuple[int, int]]:
        """Peaks of prefill and decode by backend; none where the passes look at values (experts)."""
        found: dict[str, tuple[int, int]] = {}
        for name in self.plan.backends_at(batch):
            try:
                with faked(self.plan.model, dtype=self.plan.torch_dtype, backend=Backend(name)) as built:
                    found[name] = fake_peaks(built, batch=batch, ctx=ctx, more=self.plan.new_tokens)
            except RequestError:
                raise
            except Exception:  # fake tensors refuse in many ways what depends on values
                continue
        return found

    def cell(self, ctx: int, batch: int, cache: int, peaks: dict[str, tuple[int, int]]) -> Iterator[Figure]:
        """Cache bytes, times, rates and peaks of one context and batch."""
        plan = self.plan
        runner = Runner(self.built(), batch=batch, ctx=ctx, more=plan.new_tokens, device=self.where)
        what = where(batch=batch, ctx=ctx + plan.new_tokens)
        measured = runner.cache.nbytes
        yield Figure(name="cache", unit="bytes", what=what, predicted=cache, measured=measured, exact=True)
        yield from self.prefills(runner, ctx, batch)
        yield from self.decodes(runner, ctx, batch)
        yield from self.peaks(runner, ctx, batch, peaks)

    def prefills(self, runner: Runner, ctx: int, batch: int) -> Iterator[Figure]:
        """The backends in turns."""
        steps: dict[str, Callable[[], object]] = {
            name: self.forced(name, runner.prefill) for name in self.plan.backends_at(batch)
        }
        for name, spread in in_turns(self.device, steps, seconds=self.plan.seconds).items():
            predicted = self.predictor.prefill(self.plan.model, batch=batch, ctx=ctx, backend=name)
            figure = timed_figure("prefill", where(batch=batch, ctx=ctx, backend=name), spread, predicted)
            yield figure
            yield rate_figure("prefill rate", figure.what, batch * ctx, figure)
            work = flops(self.plan.model, phase="prefill", ctx=ctx, batch=batch, scan="recurrent").figures()
            yield from self.share("MFU of prefill", figure, float(work["flops.matmul"]), PRODUCT)

    def decodes(self, runner: Runner, ctx: int, batch: int) -> Iterator[Figure]:
        """One token a row after the prompt; the first backend, which at one token all share."""
        name = self.plan.backends[0]
        self.forced(name, runner.prefill)()
        steps = {"decode": self.forced(name, runner.decode)}
        spread = in_turns(self.device, steps, seconds=self.plan.seconds)["decode"]
        predicted = self.predictor.decode(self.plan.model, batch=batch, ctx=ctx)
        figure = timed_figure("decode", where(batch=batch, ctx=ctx, backend=name), spread, predicted)
        yield figure
        yield rate_figure("decode rate", figure.what, batch, figure)
        read = weight_bytes(self.plan.model, self.plan.dtype) + cache_bytes(self.plan.model, batch=batch, ctx=ctx)
        yield from self.share("MBU of decode", figure, read, READ)

    def share(self, name: str, figure: Figure, amount: float, ceiling: str) -> Iterator[Figure]:
        """How much of a ceiling of this machine was reached: amount over time, over the ceiling."""
        if ceiling in self.ceilings and figure.measured:
            share = amount / figure.measured / self.ceilings[ceiling]
            note = f"of {self.ceilings[ceiling]:,.0f} ({ceiling}), calibrated"
            yield Figure(name=name, unit="ratio", what=figure.what, measured=share, note=note)

    def peaks(self, runner: Runner, ctx: int, batch: int, foretold: dict[str, tuple[int, int]]) -> Iterator[Figure]:
        """Peak memory beside weights and cache."""
        exact = self.device.name == "cpu"
        for name in self.plan.backends_at(batch):
            for index, (phase, step) in enumerate((("prefill", runner.prefill), ("decode", runner.decode))):
                measured = pass_peak(self.device, runner, self.forced(name, step))
                predicted = foretold[name][index] if name in foretold else None
                note = f"ran {', '.join(sorted(self.built().backend.ran))}"
                yield Figure(
                    name=f"{phase} peak",
                    unit="bytes",
                    what=where(batch=batch, ctx=ctx, backend=name),
                    predicted=predicted,
                    measured=measured,
                    exact=exact,
                    note=note,
                )

    def forced(self, name: BackendName, step: Callable[[], object]) -> Callable[[], object]:
        """``step`` with that attention backend."""
        backend = self.built().backend

        def run() -> object:
            if backend.name != name:
                backend.name = name
                backend.ran.clear()
            return step()

        return run

    # ---- as a user meets it -----------------------------------------------------------------------------------------

    def latencies(self, ctx: int) -> Iterator[Figure]:
        """Time to the first token and per token after it, from the reference's own loop, one sequence."""
        first, later = list[float](), list[float]()
        prompt = [0] * ctx
        self.built().backend.name = self.plan.backends[0]
        for _ in range(_GENERATED):
            times = self.token_times(prompt)
            first.append(times[0])
            later += times[1:]
        what = where(batch=1, ctx=ctx)
        prefill = self.predictor.prefill(self.plan.model, batch=1, ctx=ctx, backend=self.plan.backends[0])
        yield timed_figure("first token", what, spread_of(first), prefill)
        if later:
            middle = ctx + len(later) // (2 * _GENERATED)
            decode = self.predictor.decode(self.plan.model, batch=1, ctx=middle)
            yield timed_figure("next token", what, spread_of(later), decode)

    def token_times(self, prompt: list[int]) -> list[float]:
        """Seconds that each token of one text took."""
        times, last = list[float](), time.perf_counter()
        for _ in generate(self.built(), prompt, max_new_tokens=self.plan.new_tokens):
            self.device.synchronize()
            now = time.perf_counter()
            times.append(now - last)
            last = now
        return times

    def with_and_without_cache(self, length: int) -> Iterator[Figure]:
        """One token after ``length`` others: keys and values kept, or everything read again."""
        name = self.plan.backends[0]
        runner = Runner(self.built(), batch=1, ctx=length, more=self.plan.new_tokens, device=self.where)
        self.forced(name, runner.prefill)()
        steps = {"with": self.forced(name, runner.decode), "without": self.forced(name, runner.without_cache)}
        yield from self.compared(length, in_turns(self.device, steps, seconds=self.plan.seconds / 2))

    def compared(self, length: int, spreads: dict[str, Spread]) -> Iterator[Figure]:
        """Both ways at one length."""
        what, model = where(batch=1, ctx=length), self.plan.model
        again = self.predictor.prefill(model, batch=1, ctx=length, backend=self.plan.backends[0])
        yield timed_figure("token with cache", what, spreads["with"], self.predictor.decode(model, batch=1, ctx=length))
        yield timed_figure("token without cache", what, spreads["without"], again)


def _work(phase: str, ctx: int, tree: Node, measured: int) -> Figure:
    predicted = int(tree.figures()["flops.matmul"])
    what = where(batch=1, ctx=ctx)
    return Figure(name=f"{phase} work", unit="FLOPs", what=what, predicted=predicted, measured=measured, exact=True)
