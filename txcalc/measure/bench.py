"""The reference model run on this machine, figure by figure, each beside its prediction.

Figures come one at a time and in parts, so that what was measured stays when the rest is broken off, and a part can run
in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, Literal, NamedTuple, Protocol

from txcalc import architecture as arch
from txcalc.formulas.flops import flops
from txcalc.measure import counting
from txcalc.measure.cell import Cell, forced, foretold
from txcalc.measure.figures import Figure, timed_figure, where
from txcalc.measure.peaks import Runner
from txcalc.measure.plan import Plan, cache_bytes, weight_bytes
from txcalc.measure.timing import LATE, Spread, in_turns, spread_of
from txcalc.reference import Transformer, build
from txcalc.reference.backends import Backend
from txcalc.reference.backends import Name as BackendName
from txcalc.reference.device import Device
from txcalc.reference.generate import generate
from txcalc.result import Node

_TEXTS: Final = 3  # from whose tokens the two latencies are taken
_ALWAYS: Final = 2  # parts that run however late it is: a benchmark without them would say nothing
_GROUPS: Final = 3  # of timings in a part, each of which may take its share


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


class Ceiling(NamedTuple):
    """What a device does at most in a second: FLOPs of matrix products, bytes read; ``source``: who says so."""

    source: str
    product: float | None
    read: float | None


class Bench:
    """One plan on one device; ``figures`` runs it.

    ``model``: with weights of its own, where there are some. ``end``: the moment (``time.perf_counter``) after which
    nothing new is begun; the plan's limit from now, if it is not given.
    """

    def __init__(
        self,
        plan: Plan,
        device: Device,
        predictor: Predictor,
        model: Transformer | None = None,
        ceilings: Sequence[Ceiling] = (),
        end: float | None = None,
    ) -> None:
        self.plan, self.device, self.predictor = plan, device, predictor
        self.model, self.ceilings = model, ceilings
        self.end = time.perf_counter() + plan.limit if end is None else end
        self.seconds = plan.seconds  # for each group of timings of the part that runs

    def figures(self) -> Iterator[Figure]:
        """Every figure, as it is measured."""
        yield from self.counts()
        yield from self.in_time(self.part)

    def in_time(self, part: Callable[[str], Iterator[Figure]]) -> Iterator[Figure]:
        """The parts one after another, each with its share of the time that is left."""
        names = list(self.parts())
        for index, name in enumerate(names):
            left = self.end - time.perf_counter()
            if left <= 0 and index >= _ALWAYS:
                note = f"not begun: the limit of {self.plan.limit:g} s was reached (--limit)"
                yield Figure(name="left out", unit="seconds", what=name, note=note)
            else:
                self.seconds = min(self.plan.seconds, max(left, 0) / (len(names) - index) / _GROUPS)
                yield from part(name)

    def parts(self) -> dict[str, Callable[[], Iterator[Figure]]]:
        """What can run alone, by its name, the most telling first."""
        ctx = min(self.plan.ctxs)
        cells: dict[str, Callable[[], Iterator[Figure]]] = {
            where(batch=batch, ctx=each): Cell(self, each, batch).figures
            for each in self.plan.ctxs
            for batch in self.plan.batches
        }
        lengths = sorted({max(ctx // 4, 1), max(ctx // 2, 1), ctx})
        compared = {f"cache at {length}": partial(self.with_and_without_cache, length) for length in lengths}
        first = next(iter(cells))
        others = {name: part for name, part in cells.items() if name != first}
        latencies = partial(self.latencies, ctx)
        return {"weights": self.weights, first: cells[first], "latencies": latencies, **compared, **others}

    def part(self, name: str) -> Iterator[Figure]:
        """One of ``parts``."""
        return self.parts()[name]()

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
        for name, found in foretold(self.plan, ctx, batch).items():
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

    def forced(self, name: BackendName, step: Callable[[], object]) -> Callable[[], object]:
        """``step`` with that attention backend."""
        return forced(self.built().backend, name, step)

    # ---- counted, not timed -----------------------------------------------------------------------------------------

    def counts(self) -> Iterator[Figure]:
        """FLOPs of a prefill and of one decoding step, counted on the meta device."""
        meta, ctx = build(self.plan.model, device="meta", dtype=self.plan.torch_dtype), self.plan.ctxs[0]
        prefill = flops(self.plan.model, phase="prefill", ctx=ctx, scan="recurrent")
        yield _work("prefill", ctx, prefill, counting.prefill(meta, batch=1, ctx=ctx))
        decode = flops(self.plan.model, phase="decode", ctx=ctx, mask="exact", mla="absorbed")
        yield _work("decode", ctx, decode, counting.decode(meta, batch=1, ctx=ctx, source=None))

    def weights(self) -> Iterator[Figure]:
        """Bytes of every parameter."""
        predicted = weight_bytes(self.plan.model, self.plan.dtype)
        measured = sum(parameter.nbytes for parameter in self.built().parameters())
        yield Figure(name="weights", unit="bytes", predicted=predicted, measured=measured, exact=True)

    def shares(self, name: str, figure: Figure, amount: float, what: Literal["product", "read"]) -> Iterator[Figure]:
        """How much of each ceiling was reached: amount over time, over the ceiling."""
        for ceiling in self.ceilings:
            most = ceiling.product if what == "product" else ceiling.read
            if most and figure.measured:
                unit = "FLOP/s of matrix products" if what == "product" else "bytes/s read"
                own = name if ceiling is self.ceilings[0] else f"{name}, {ceiling.source}"
                share = amount / figure.measured / most
                note = f"of {most:,.0f} {unit}, {ceiling.source}"
                yield Figure(name=own, unit="ratio", what=figure.what, measured=share, note=note)

    # ---- as a user meets it -----------------------------------------------------------------------------------------

    def latencies(self, ctx: int) -> Iterator[Figure]:
        """Time to the first token and per token after it, from the reference's own loop, one sequence."""
        first, later = list[float](), list[float]()
        prompt = [0] * ctx
        self.built().backend.name = self.plan.backends[0]
        end = time.perf_counter() + 2 * self.seconds + LATE
        while not first or (len(first) < _TEXTS and time.perf_counter() < end):
            times = self.token_times(prompt)
            first.append(times[0])
            later += times[1:]
        what = where(batch=1, ctx=ctx)
        prefill = self.predictor.prefill(self.plan.model, batch=1, ctx=ctx, backend=self.plan.backends[0])
        yield timed_figure("first token", what, spread_of(first), prefill)
        if later:
            middle = ctx + len(later) // (2 * len(first))
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
        runner = Runner(self.built(), batch=1, ctx=length, more=self.plan.new_tokens, device=self.device.name)
        self.forced(name, runner.prefill)()
        steps = {"with": self.forced(name, runner.decode), "without": self.forced(name, runner.without_cache)}
        yield from self.compared(length, in_turns(self.device, steps, seconds=self.seconds / 2))

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
