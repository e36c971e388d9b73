"""The most memory that a pass takes beside weights and cache: measured where it runs, and foretold by fake tensors.

On a CPU the storages themselves are counted; on a GPU its allocator keeps the figure. Nothing is timed here: each
operator costs more while it is watched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from txcalc.architecture import Model
from txcalc.measure.recall import RecalledFakes
from txcalc.measure.tracker import Tracker
from txcalc.reference import Transformer, build
from txcalc.reference.backends import Backend
from txcalc.reference.cache import DecoderCache
from txcalc.reference.device import Device, peak_of
from txcalc.reference.graph import StepGraph


class Runner:
    """A model with a cache of ``batch`` rows, and the passes that are measured."""

    def __init__(self, model: Transformer, *, batch: int, ctx: int, more: int, device: str = "cpu") -> None:
        self.model, self.batch, self.ctx = model, batch, ctx
        self.cache = model.new_cache(batch=batch, ctx=ctx + more)
        self.ids_BT = torch.zeros(batch, ctx, dtype=torch.long, device=device)
        self.token_B1 = torch.zeros(batch, 1, dtype=torch.long, device=device)

    def prefill(self) -> Tensor:
        """The whole prompt into an empty cache; logits of the last token."""
        self.cache.reset()
        return self._logits(self.ids_BT, self.cache)

    def decode(self) -> Tensor:
        """One more token a row, the likeliest next one chosen; from the prompt again where the cache is full."""
        if max(self.cache.lengths) >= self.cache.spec.ctx:
            self.cache.lengths = [self.ctx] * self.batch
        return self._logits(self.token_B1, self.cache).argmax(-1)

    def recorded(self, device: Device, *, compiled: bool) -> Callable[[], Tensor]:
        """``decode`` as a step that is made once, by a graph of the device or by torch.compile, and played again.

        Raises:
            RequestError: the model's step cannot be recorded.
        """
        with torch.no_grad():
            step = StepGraph(self.model, self.cache, Compiling(device) if compiled else device)

        def run() -> Tensor:
            if max(self.cache.lengths) >= self.cache.spec.ctx:
                self.cache.lengths = [self.ctx] * self.batch
            with torch.no_grad():
                return step(self.token_B1).argmax(-1)

        return run

    def without_cache(self) -> Tensor:
        """One more token by reading everything again."""
        return self._logits(self.ids_BT, None).argmax(-1)

    def _logits(self, tokens_BT: Tensor, cache: DecoderCache | None) -> Tensor:
        with torch.no_grad():  # inference mode would hide from the tracker what is inside compound operators
            logits: Tensor = self.model(tokens_BT, cache=cache, last_only=True).logits
        return logits

    def given(self) -> Iterator[Tensor]:
        """What was there before a pass."""
        yield from self.model.parameters()
        yield from self.model.buffers()
        yield from (tensor for entry in self.cache.entries() for tensor in entry.tensors())
        yield from self.cache.constants.values()
        yield from (self.ids_BT, self.token_B1)


class Compiling:
    """A device whose way to record a step is torch.compile."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def __getattr__(self, name: str) -> Any:
        """Everything else is the device's."""
        return getattr(self.device, name)

    def capture(self, step: Callable[[], Any]) -> Callable[[], Any]:
        """The step, compiled when it first runs."""
        compiled: Callable[[], Any] = torch.compile(step)
        return compiled


def pass_peak(device: Device | None, runner: Runner, step: Callable[[], Any]) -> int:
    """Bytes at the peak of one pass, beside what was there before it; no device: fake tensors, counted as a CPU's."""
    if device is not None and device.name != "cpu":
        return _allocator_peak(device, step)
    step()  # tables of the cache are made once
    with Tracker(runner.given()) as seen:
        step()
    return int(seen.peak)


def _allocator_peak(device: Device, step: Callable[[], Any]) -> int:
    """What was asked for at the peak, less what was held before."""
    step()
    before = peak_of(device, lambda: None)
    after = peak_of(device, step)
    assert before is not None
    assert after is not None
    return after["requested"] - before["requested"]


# ---- without running ------------------------------------------------------------------------------------------------


@contextmanager
def faked(model: Model, *, dtype: torch.dtype, backend: Backend) -> Iterator[Transformer]:
    """The model with tensors that have sizes and no memory; inside, its passes run without computing."""
    built = build(model, device="meta", dtype=dtype, backend=backend)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, RecalledFakes(mode):
        _materialise(built)
        yield built


def _materialise(module: nn.Module) -> None:
    """Parameters and buffers on the CPU, as fake as the mode makes them; shared parameters stay shared."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                if parameter not in made:
                    empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
                    made[parameter] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
                part._parameters[name] = made[parameter]
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_meta:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")


def fake_peaks(built: Transformer, *, batch: int, ctx: int, more: int) -> tuple[int, int]:
    """Bytes that prefill and one decoding step of a ``faked`` model would take at their peaks."""
    runner = Runner(built, batch=batch, ctx=ctx, more=more)
    prefill = pass_peak(None, runner, runner.prefill)
    return prefill, pass_peak(None, runner, runner.decode)
