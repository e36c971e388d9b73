"""What torch really keeps and allocates for the reference model: saved tensors, live storages, allocator's events."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from txcalc.architecture import Model
from txcalc.measure.saved import saved_bytes
from txcalc.measure.tracker import Tracker
from txcalc.reference import Transformer, build
from txcalc.reference.context import Context


class Layer(NamedTuple):
    """What one layer does to memory: saved for backward, peaks of both passes."""

    saved: int
    forward: int
    backward: int


def built(model: Model, precision: str, backend: str, *, dropout: float = 0.0) -> Transformer:
    """The reference model in training mode; backend flash is auto's choice where nothing forbids it."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    name: Any = "auto" if backend == "flash" else backend
    return build(model, backend=name, dtype=dtype, dropout=dropout).train()


def autocast(precision: str) -> contextlib.AbstractContextManager[Any]:
    """bf16 autocast, or nothing."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if precision == "autocast" else contextlib.nullcontext()


def context_of(model: Transformer, batch: int, tokens: int) -> Context:
    """A fresh pass, its tables made."""
    context = Context(
        starts=(0,) * batch,
        counts=(tokens,) * batch,
        tokens=tokens,
        device=torch.device("cpu"),
        backend=model.backend,
        length=tokens,
        dropout=model.dropout,
    )
    context.tables = model.main.tables()
    return context


def tables_of(context: Context) -> list[Tensor]:
    """What the pass made once for all layers."""
    found = list(context.constants.values())
    for made in context.memo.values():
        found += [each for each in (made if isinstance(made, tuple) else (made,)) if isinstance(each, Tensor)]
    return found


def first_layer(
    model: Model, batch: int, tokens: int, *, precision: str, backend: str, recompute: bool = False
) -> Layer:
    """The first layer of the reference model, run forward and back on random input."""
    whole = built(model, precision, backend)
    layer, context = whole.main.layers[0], context_of(whole, batch, tokens)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    leaf = torch.randn(batch, tokens, model.main.hidden_size, dtype=dtype, requires_grad=True)
    x = leaf * 1  # hidden states are no leaves: autocast would keep one cast of a leaf for all that read it
    with torch.no_grad(), autocast(precision):
        layer(x, context)  # makes the tables

    def run() -> Tensor:
        with autocast(precision):
            out: Tensor = checkpoint(layer, x, context, use_reentrant=False) if recompute else layer(x, context)
        return out

    given = [*whole.parameters(), *tables_of(context)]
    saved = saved_bytes(run, given)
    with Tracker(given) as tracker:
        tracker.see(x)
        y = run()
        forward = tracker.peak
        gradient, edge = torch.ones_like(y), torch.autograd.graph.get_gradient_edge(y)
        del y
        tracker.reset()
        torch.autograd.backward([edge], [gradient])
    return Layer(saved, forward, tracker.peak)


def training_peaks(
    model: Model,
    batch: int,
    tokens: int,
    *,
    precision: str,
    backend: str,
    recompute: bool = False,
    accumulate: bool = False,
    dropout: float = 0.0,
) -> tuple[int, int]:
    """(peak of the forward pass and the loss, peak of the backward pass) as a dispatch mode sees them."""
    whole = built(model, precision, backend, dropout=dropout)
    if recompute:
        whole.checkpoint_layers()
    step = training_step(whole, batch, tokens, precision)
    if accumulate:
        for parameter in whole.parameters():
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in whole.parameters() if parameter.grad is not None]
    with Tracker([*whole.parameters(), *whole.buffers(), *gradients, *step.batch]) as tracker:
        loss = step.loss()
        forward = tracker.peak
        tracker.reset()
        loss.backward()
    return forward, tracker.peak


class StepRun(NamedTuple):
    """A step that can be run: the tensors of its batch, and the function that makes the loss."""

    batch: tuple[Tensor, Tensor]
    loss: Callable[[], Tensor]


def training_step(whole: Transformer, batch: int, tokens: int, precision: str) -> StepRun:
    """Mean cross-entropy in fp32 over every position of random tokens."""
    table = whole.table(whole.main.stack.role)
    inputs, targets = (torch.randint(0, table.shape[0], (batch, tokens)) for _ in range(2))

    def loss() -> Tensor:
        with autocast(precision):
            logits = whole(inputs).logits
            assert logits is not None
            wide = logits.float()
            del logits
            return torch.nn.functional.cross_entropy(wide.flatten(0, 1), targets.flatten())

    return StepRun((inputs, targets), loss)


def allocator_peak(run: Callable[[], object]) -> int:
    """The highest sum of the allocator's events, as the profiler records them: kernels' scratch included."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    results = profile.profiler.kineto_results  # type: ignore[union-attr]  # it is there after the with block
    events = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    live = peak = 0
    for _, size in events:
        live += size
        peak = max(peak, live)
    return peak


def prefill_peak(
    model: Model, batch: int, tokens: int, *, precision: str, backend: str, last: bool, cached: bool
) -> int:
    """Peak of a pass without gradients, beside parameters, cache and tokens."""
    whole = built(model, precision, backend).eval()
    inputs = torch.randint(0, whole.table(whole.main.stack.role).shape[0], (batch, tokens))
    cache = whole.new_cache(batch=batch, ctx=tokens) if cached else None
    kept = [tensor for entry in cache.entries() for tensor in entry.tensors()] if cache is not None else []
    with torch.no_grad(), Tracker([*whole.parameters(), *whole.buffers(), *kept, inputs]) as tracker:
        whole(inputs, cache=cache, last_only=last)
    return tracker.peak


def decode_peak(model: Model, batch: int, ctx: int, *, precision: str, backend: str) -> int:
    """Peak of the step that adds the last of ``ctx`` tokens to a cache, beside parameters and cache."""
    whole = built(model, precision, backend).eval()
    tokens = torch.randint(0, whole.table(whole.main.stack.role).shape[0], (batch, ctx))
    with torch.no_grad():
        cache = whole.new_cache(batch=batch, ctx=ctx)
        whole(tokens[:, :-1], cache=cache)
        newest = tokens[:, -1:].clone()
        kept = [*(tensor for entry in cache.entries() for tensor in entry.tensors()), *cache.constants.values()]
        with Tracker([*whole.parameters(), *whole.buffers(), *kept, newest]) as tracker:
            whole(newest, cache=cache, last_only=True)
    return tracker.peak
