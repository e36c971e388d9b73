"""One training step: forward, loss, backward, AdamW; its FLOPs, its peak of memory and its time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from txcalc.formulas.flops import flops
from txcalc.measure import counting
from txcalc.measure.figures import Figure, rate_figure, timed_figure, where
from txcalc.measure.peaks import faked
from txcalc.measure.plan import Plan, weight_bytes
from txcalc.measure.timing import in_turns
from txcalc.measure.tracker import Tracker
from txcalc.reference import Transformer, build
from txcalc.reference.backends import Backend
from txcalc.reference.device import Device, peak_of

Recompute = Literal["none", "full"]
STATES: Final = 2  # AdamW keeps two numbers a parameter, in the parameter's dtype


class Trainer:
    """A model, its optimizer and one batch of tokens."""

    def __init__(self, model: Transformer, *, batch: int, seq: int, recompute: Recompute, device: str = "cpu") -> None:
        self.model = model.train()
        self.model.main.gradient_checkpointing = recompute == "full"
        self.tokens_BT = torch.zeros(batch, seq, dtype=torch.long, device=device)
        self.optimizer = torch.optim.AdamW(model.parameters(), foreach=False)

    def loss(self) -> Tensor:
        """Cross-entropy of every token, in the logits' dtype."""
        logits_BTV = self.model(self.tokens_BT).logits
        return cross_entropy(logits_BTV.flatten(0, 1), self.tokens_BT.flatten())

    def gradients(self) -> None:
        """Forward and backward; gradients are new."""
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.loss())

    def step(self) -> None:
        """The whole step."""
        self.gradients()
        self.optimizer.step()

    def state_bytes(self) -> int:
        """Bytes that the optimizer keeps for each element; its step counters apart."""
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        return sum(each.nbytes for each in states if each.dim())

    def peak(self) -> int:
        """Bytes at the peak of forward and backward: what is kept, gradients of activations and of parameters."""
        self.optimizer.zero_grad(set_to_none=True)
        with Tracker([*self.model.parameters(), self.tokens_BT]) as seen:
            torch.autograd.backward(self.loss())
        self.optimizer.zero_grad(set_to_none=True)
        return int(seen.peak)


def training_figures(plan: Plan, device: Device, *, seq: int, recompute: Recompute) -> Iterator[Figure]:
    """Memory and time of a step at every batch of the plan; one that does not fit is a row that says so."""
    weights, backend = weight_bytes(plan.model, plan.dtype), plan.backends[0]
    for batch in plan.batches:
        what = where(batch=batch, ctx=seq, backend=backend)
        with faked(plan.model, dtype=plan.torch_dtype, backend=Backend(backend)) as fake:
            foretold = Trainer(fake, batch=batch, seq=seq, recompute=recompute).peak()
        free, whole = device.free_memory(), (1 + STATES) * weights + foretold
        if free is not None and whole > free:
            note = f"does not fit: {whole:,} bytes, {free:,} free"
            yield Figure(name="training step", unit="seconds", what=what, note=note)
            continue
        built = build(plan.model, device=device.name, dtype=plan.torch_dtype, backend=backend)
        trainer = Trainer(built, batch=batch, seq=seq, recompute=recompute, device=device.name)
        yield from _cell(plan, device, trainer, what, (foretold, weights))


def _cell(plan: Plan, device: Device, trainer: Trainer, what: str, predicted: tuple[int, int]) -> Iterator[Figure]:
    """Time, peak and optimizer states of one batch; ``predicted``: bytes of the peak and of the weights."""
    step = in_turns(device, {"step": trainer.step}, seconds=plan.seconds, least=3)["step"]
    figure = timed_figure("training step", what, step, None)
    yield figure
    yield rate_figure("training rate", what, trainer.tokens_BT.numel(), figure)
    peak = Figure(name="training peak", unit="bytes", what=what, predicted=predicted[0], note="forward and backward")
    if device.name == "cpu":
        yield peak.replace(measured=trainer.peak(), exact=True)
    else:
        held = peak_of(device, lambda: None)
        most = peak_of(device, trainer.gradients)
        if held is not None and most is not None:
            yield peak.replace(measured=most["requested"] - held["requested"])
    states = STATES * predicted[1]
    measured = trainer.state_bytes()
    yield Figure(name="optimizer", unit="bytes", what=what, predicted=states, measured=measured, exact=True)


def training_work(plan: Plan, seq: int) -> Iterator[Figure]:
    """FLOPs of forward and backward, counted on the meta device."""
    figures = flops(plan.model, phase="train", seq=seq, scan="recurrent").figures()
    meta = build(plan.model, device="meta", dtype=plan.torch_dtype)
    counted = counting.forward_and_backward(meta, counting.Work(1, seq))
    for name, measured in zip(("forward", "backward"), counted, strict=True):
        predicted = int(figures[f"flops.{name}"])
        what = where(batch=1, ctx=seq)
        yield Figure(name=f"{name} work", unit="FLOPs", what=what, predicted=predicted, measured=measured, exact=True)
