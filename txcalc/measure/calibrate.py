"""What this machine does in a second: a few small models run whole, and plain products and copies beside them.

The probes differ in width, depth, heads and vocabulary, are larger than the caches of a processor, and run in turns
over several rounds, so that a busy moment spoils no probe alone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

import torch

from txcalc import architecture as arch
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.measure import kept, timing
from txcalc.measure.bench import Ceiling
from txcalc.measure.peaks import Runner
from txcalc.measure.plan import DTYPES, WIDTHS, in_dtype
from txcalc.measure.predictor import Calibration, decode_terms, fit, predicted, prefill_terms
from txcalc.record import Record
from txcalc.reference import Transformer, build
from txcalc.reference.device import Device, timed

SECONDS: Final = 15.0  # of probes and ceilings; making the probes comes on top
_FIELDS: Final = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
)  # fmt: skip
SHAPES: Final = (
    (512, 1536, 6, 8, 4, 16_000),
    (1024, 2816, 3, 16, 8, 8_000),
    (384, 1024, 16, 6, 6, 8_000),
    (768, 2048, 4, 12, 4, 32_000),
    (1536, 4096, 2, 12, 12, 4_000),
    (256, 1024, 24, 4, 4, 8_000),
)
PRODUCT, READ, COPY = "matrix product, FLOP/s", "matrix read, bytes/s", "copy, bytes/s"
PREFILLS: Final = ((1, 128), (1, 512))  # batch, ctx
DECODES: Final = ((1, 128), (1, 1024), (4, 512))


class Probe(Record):
    """One pass of one small model: its phase, what it amounts to, and how to run it."""

    shape: int
    phase: str
    terms: tuple[float, ...]
    step: Callable[[], Any]


def key_of(device: Device, dtype: str) -> str:
    """The machine that a calibration holds for."""
    facts = device.properties()
    name = timing.processor() if device.name == "cpu" else facts.get("device", "")
    return f"{name}; {facts.get('threads', 1)} threads; torch {facts['torch']}; {dtype}"


def calibrated(
    device: Device,
    dtype: str,
    *,
    seconds: float = SECONDS,
    shapes: tuple[tuple[int, ...], ...] = SHAPES,
    size: int = 2048,
) -> Calibration:
    """Measure for about ``seconds`` and fit; ``size``: of the square matrices that show the ceilings.

    Raises:
        RequestError: fewer probes than terms.
    """
    start = time.perf_counter()
    ceilings = ceilings_of(device, dtype, seconds=seconds / 8, size=size)
    probes = [probe for index, shape in enumerate(shapes) for probe in probes_of(index, shape, device, dtype)]
    times = _in_rounds(device, probes, start + seconds)
    phases = {phase: _phase(probes, times, phase) for phase in ("prefill", "decode")}
    return Calibration(
        key=key_of(device, dtype),
        dtype=dtype,
        prefill=phases["prefill"][0],
        decode=phases["decode"][0],
        ceilings=ceilings,
        errors={phase: found[1] for phase, found in phases.items()},
        seconds=time.perf_counter() - start,
    )


def _in_rounds(device: Device, probes: list[Probe], end: float) -> list[float]:
    """Median seconds of each probe; every round runs them all until ``end``.

    Their first runs warm up, and count only where the machine is so busy that no time is left for another.
    """
    first = [timed(device, probe.step, 1) for probe in probes]
    times: list[list[float]] = [[] for _ in probes]
    while time.perf_counter() < end:
        for probe, found in zip(probes, times, strict=True):
            if time.perf_counter() < end:
                found += timed(device, probe.step, 2 if probe.phase == "prefill" else 4)
    return [median(found or warm) for found, warm in zip(times, first, strict=True)]


def _phase(probes: list[Probe], times: list[float], phase: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Coefficients, and the relative error of each probe under a fit without its model."""
    pairs = [(probe, each) for probe, each in zip(probes, times, strict=True) if probe.phase == phase]
    errors = []
    for shape in {probe.shape for probe, _ in pairs}:
        others = [(probe.terms, each) for probe, each in pairs if probe.shape != shape]
        if others:
            found = fit(*zip(*others, strict=True))
            errors += [predicted(probe.terms, found) / each - 1 for probe, each in pairs if probe.shape == shape]
    return tuple(fit([probe.terms for probe, _ in pairs], [each for _, each in pairs])), tuple(errors)


# ---- probes ---------------------------------------------------------------------------------------------------------


def probe_model(shape: tuple[int, ...], dtype: str) -> arch.Model:
    """A Llama of these widths."""
    config = {"model_type": "llama", "tie_word_embeddings": True, "max_position_embeddings": 4096}
    return in_dtype(architecture_of(config | dict(zip(_FIELDS, shape, strict=True)), name="probe"), dtype)


def built_quickly(model: arch.Model, device: Device, dtype: str) -> Transformer:
    """The model with one small number in every parameter: what they are costs no time in a product."""
    built = build(model, device="meta", dtype=getattr(torch, DTYPES[dtype]), backend="flash").to_empty(
        device=device.name
    )
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.fill_(0.01)
    return built


def probes_of(index: int, shape: tuple[int, ...], device: Device, dtype: str) -> list[Probe]:
    """The passes of one small model."""
    model = probe_model(shape, dtype)
    built, made = built_quickly(model, device, dtype), list[Probe]()
    for batch, ctx in PREFILLS:
        step = Runner(built, batch=batch, ctx=ctx, more=1, device=device.name).prefill
        terms = prefill_terms(model, batch=batch, ctx=ctx, dtype=dtype)
        made.append(Probe(shape=index, phase="prefill", terms=tuple(terms), step=step))
    for batch, ctx in DECODES:
        runner = Runner(built, batch=batch, ctx=ctx, more=8, device=device.name)
        runner.cache.lengths = [ctx] * batch
        terms = decode_terms(model, batch=batch, ctx=ctx, dtype=dtype)
        made.append(Probe(shape=index, phase="decode", terms=tuple(terms), step=runner.decode))
    return made


def ceilings_of(device: Device, dtype: str, *, seconds: float, size: int) -> dict[str, float]:
    """The fastest that plain operations ran, a second: FLOPs of a product, bytes of a matrix read and of a copy."""
    kind, width = getattr(torch, DTYPES[dtype]), WIDTHS[dtype]
    a, b = (torch.full((size, size), 0.01, dtype=kind, device=device.name) for _ in range(2))
    large = torch.full((8 * size, size), 0.01, dtype=kind, device=device.name)
    one, target = a[:1], torch.empty_like(large)
    steps: dict[str, tuple[float, Callable[[], Any]]] = {
        PRODUCT: (2 * size**3, lambda: torch.nn.functional.linear(a, b)),
        READ: (large.numel() * width, lambda: torch.nn.functional.linear(one, large)),
        COPY: (2 * large.numel() * width, lambda: target.copy_(large)),
    }
    with torch.no_grad():
        spreads = timing.in_turns(device, {name: step for name, (_, step) in steps.items()}, seconds=seconds)
    return {name: work / spreads[name].p10 for name, (work, _) in steps.items()}


def sheet_of(device: Device, dtype: str) -> Ceiling | None:
    """The datasheet's dense rate and bandwidth, where it lists a device of exactly that name."""
    from txcalc.hardware import reported

    found = reported(str(device.properties().get("device", "")))
    if found is None:
        return None
    try:
        product: float | None = found.peak(dtype).flops_per_second
    except RequestError:  # no such rate was read
        product = None
    bandwidth = found.figures.get("bandwidth_GBps")
    return Ceiling(f"datasheet of {found.name}", product, bandwidth and bandwidth * 1e9)


# ---- kept between runs ----------------------------------------------------------------------------------------------


def path() -> str:
    """The file that holds this user's calibrations."""
    return os.path.join(kept.directory(), "calibration.json")


def read_all() -> dict[str, Any]:
    """Every calibration by its key; nothing where the file is missing or unreadable."""
    try:
        with open(path(), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def recall(key: str) -> Calibration | None:
    """The calibration of that machine, where there is a good one."""
    try:
        return Calibration.of(read_all()[key])
    except (KeyError, TypeError, ValueError):
        return None


def keep(calibration: Calibration) -> str:
    """Write it beside those of other machines; returns the path, empty where it cannot be written."""
    try:
        os.makedirs(kept.directory(), exist_ok=True)
        kept.write_whole(path(), json.dumps(read_all() | {calibration.key: calibration.to_dict()}, indent=2) + "\n")
    except (OSError, RequestError):
        return ""
    return path()
