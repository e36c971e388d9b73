"""Run the reference model on this machine: memory, FLOPs and speed, each measured figure beside its prediction."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from txcalc.cli.bench_plan import backends, counts, lengths, plan_of, require_sense, seconds, weights_path
from txcalc.cli.options import (
    add_length,
    add_model,
    add_output,
    add_path,
    add_positive,
    changed,
    model_facts,
)
from txcalc.cli.torch_extra import BACKENDS, DTYPES, add_threads, require_torch
from txcalc.errors import RequestError
from txcalc.report import Answer

if TYPE_CHECKING:
    from txcalc.measure.bench import Bench, Ceiling
    from txcalc.measure.figures import Figure
    from txcalc.measure.plan import Plan
    from txcalc.measure.predictor import Calibration
    from txcalc.reference import Transformer
    from txcalc.reference.device import Device

EXAMPLES: Final = """\
  txcalc bench
  txcalc bench llama3-8b --layers 2 --ctx 256 --batch 1
  txcalc bench SmolLM2.gguf --ctx 512,2k --batch 1,4 --backend flash,math --new-tokens 128
  txcalc bench llama3-8b --dry-run --ctx 8k
  txcalc bench --train --seq 256 --batch 1 --recompute full
  txcalc bench --attention-only --backend flash,math
  txcalc bench --json --save result.json
"""

DEFAULT_SEQ: Final = 512  # tokens of a training step


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, what to run and how."""
    add_model(parser, optional=True, default="a Llama of 54 M parameters")
    group = parser.add_argument_group("what runs")
    group.add_argument("--ctx", type=lengths, metavar="LIST", help="prompt lengths (default 512), as 512,2k")
    group.add_argument("--batch", type=counts, metavar="LIST", help="sequences at once (default 1,4)")
    group.add_argument(
        "--backend",
        type=backends,
        metavar="LIST",
        help=f"of {','.join(BACKENDS)} (default: flash, and math at the smallest batch)",
    )
    add_positive(group, "--new-tokens", "tokens written after the prompt (default 32)", default=32)
    group.add_argument("--dtype", choices=DTYPES, help="default: bf16 where the processor multiplies it, else fp32")
    add_positive(group, "--layers", "only the first N layers; times of the whole model are then estimated")
    add_threads(group)
    group.add_argument(
        "--seconds", type=seconds("--seconds"), default=1.5, metavar="S", help="for each group of timings (1.5)"
    )
    group.add_argument(
        "--limit", type=seconds("--limit"), default=50.0, metavar="S", help="begin nothing new after so long (50)"
    )
    group.add_argument("--gpu", action="store_true", help="on the first CUDA device, timed by its own events")
    group.add_argument("--graphs", action="store_true", help="with --gpu: decoding as a CUDA graph, beside plain")
    group.add_argument("--compile", action="store_true", help="decoding through torch.compile, beside plain")
    group.add_argument("--dry-run", action="store_true", help="run nothing: sums, and peaks by fake tensors; any size")
    group.add_argument("--train", action="store_true", help="a training step with AdamW instead of text")
    add_length(group, "--seq", f"tokens of a training step (default {DEFAULT_SEQ})")
    group.add_argument("--recompute", choices=("none", "full"), default="none", help="of activations (default none)")
    group.add_argument("--attention-only", action="store_true", help="the attention product alone, by length and head")
    group.add_argument("--no-calibrate", action="store_true", help="predict no times where there is no calibration")
    add_path(group, "--save", "write the JSON document there too")
    add_output(parser)


def run(options: argparse.Namespace) -> Answer:
    """Everything measured until the end, or until somebody breaks it off."""
    started = time.perf_counter()
    require_torch("bench")
    from txcalc.measure import kept

    require_sense(options)
    if options.save:
        kept.writable(options.save, "--save")
    with kept.alone():
        answer = _answer(options, started + options.limit)
    if options.save:
        import json

        kept.write_whole(options.save, json.dumps(answer.to_dict(), indent=2) + "\n")
    return answer


def _answer(options: argparse.Namespace, end: float) -> Answer:
    import torch

    from txcalc.reference.device import device_named

    if options.threads:
        torch.set_num_threads(options.threads)
    device = _gpu() if options.gpu else device_named("cpu")
    plan, model = plan_of(options, device)
    state = _State(device)
    figures, code = _gathered(lambda: _measured(options, plan, device, model, end), state)
    return _told(plan, state.machine(), figures, code)


def _gpu() -> Device:
    from txcalc.reference.device import device_named

    try:
        return device_named("cuda")
    except RequestError as none:
        raise RequestError(f"--gpu: {none.message}", "leave out --gpu, or install a torch built for your GPU") from None


def _measured(
    options: argparse.Namespace, plan: Plan, device: Device, model: Transformer | None, end: float
) -> Iterator[Figure]:
    from txcalc.measure.bench import Bench, Unpredicted
    from txcalc.measure.predictor import Calibrated

    if options.attention_only:
        yield from _attention(plan, device)
        return
    if options.train:
        yield from _training(options, plan, device)
        return
    calibration = _calibration(options, plan, device)
    predictor = Calibrated(calibration) if calibration else Unpredicted()
    bench = Bench(plan, device, predictor, model, _ceilings(plan, device, calibration), end)
    if options.dry_run:
        yield from bench.dry()
    else:
        yield from _with_whole(bench, lambda each: _run(options, each, calibration))


def _run(options: argparse.Namespace, bench: Bench, calibration: Calibration | None) -> Iterator[Figure]:
    """Here, or on a GPU each part in a process of its own."""
    if bench.device.name == "cpu":
        yield from bench.figures()
        return
    from txcalc.measure.apart import Job, measured_apart

    def part(name: str) -> Iterator[Figure]:
        job = Job(
            plan=bench.plan,
            device=bench.device.name,
            part=name,
            seconds=bench.seconds,
            calibration=calibration,
            ceilings=tuple(bench.ceilings),
            weights_at="" if changed(options) or bench.plan.shrunk else weights_path(options.model),
        )
        return measured_apart(job)

    yield from bench.counts()
    yield from bench.in_time(part)


def _training(options: argparse.Namespace, plan: Plan, device: Device) -> Iterator[Figure]:
    from txcalc.measure import training
    from txcalc.measure.apart import Job, measured_apart

    seq: int = options.seq or DEFAULT_SEQ
    yield from training.training_work(plan, seq)
    if device.name == "cpu":
        yield from training.training_figures(plan, device, seq=seq, recompute=options.recompute)
        return
    for batch in plan.batches:
        yield from measured_apart(
            Job(
                plan=plan.replace(batches=(batch,)),
                device=device.name,
                part="train",
                seconds=plan.seconds,
                seq=seq,
                recompute=options.recompute,
            )
        )


def _with_whole(bench: Bench, run: Callable[[Bench], Iterator[Figure]]) -> Iterator[Figure]:
    """The figures; where fewer layers ran than there are, half of them run too and tell what one more takes."""
    from txcalc.measure.bench import Bench, Unpredicted
    from txcalc.measure.extrapolate import extrapolated
    from txcalc.measure.plan import with_layers

    plan, found = bench.plan, list[Any]()
    for figure in run(bench):
        found.append(figure)
        yield figure
    if plan.shrunk and plan.layers > 1:
        bench.model = None
        fewer = plan.layers // 2
        short = Bench(plan.replace(model=with_layers(plan.model, fewer)), bench.device, Unpredicted())
        yield from extrapolated(found, list(run(short)), layers=(plan.layers, fewer), whole=plan.whole_layers)


def _ceilings(plan: Plan, device: Device, calibration: Calibration | None) -> list[Ceiling]:
    """What was calibrated, and the datasheet's where the device's name is one that it lists."""
    from txcalc.measure.bench import Ceiling
    from txcalc.measure.calibrate import PRODUCT, READ, sheet_of

    found = []
    if calibration is not None:
        known = calibration.ceilings
        found.append(Ceiling("calibrated", known.get(PRODUCT), known.get(READ)))
    sheet = sheet_of(device, plan.dtype)
    return [*found, sheet] if sheet else found


def _attention(plan: Plan, device: Device) -> Iterator[Figure]:
    from txcalc.measure.attention_bench import attention_figures

    lengths = plan.ctxs if len(plan.ctxs) > 1 else (512, 1024, 2048)
    yield from attention_figures(
        device, lengths=lengths, backends=plan.backends, dtype=plan.torch_dtype, seconds=plan.seconds / 3
    )


def _calibration(options: argparse.Namespace, plan: Plan, device: Device) -> Calibration | None:
    """What is known of this machine, learnt now where nothing is and it is not forbidden."""
    from txcalc.measure import calibrate, timing

    found = calibrate.recall(calibrate.key_of(device, plan.dtype))
    if found is None and not options.no_calibrate and not options.dry_run:
        crowded = timing.crowded(
            timing.load(), timing.cores()
        )  # ceilings that others have lowered would spoil every later prediction
        told = f"not kept: {crowded}" if crowded else "kept for later"
        print(f"calibrating this machine first, under half a minute; {told}", file=sys.stderr)
        found = calibrate.calibrated(device, plan.dtype, seconds=min(calibrate.SECONDS, options.limit / 4))
        if not crowded:
            calibrate.keep(found)
        device.release()
    return found


# ---- running and telling --------------------------------------------------------------------------------------------


@contextmanager
def _terminable() -> Iterator[None]:
    """A request to end is an interruption, so that what was measured is told."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _gathered(figures: Callable[[], Iterator[Figure]], state: _State) -> tuple[list[Figure], int]:
    """The figures, and the exit code: 0, or 128 and the signal that ended it."""
    from txcalc.cli.bench_live import live

    found: list[Figure] = []
    with _terminable(), live() as table:
        try:
            for figure in figures():
                found.append(figure)
                state.look()
                if table is not None:
                    table.add(figure)
        except KeyboardInterrupt as stopped:
            return found, 128 + (stopped.args[0] if stopped.args else signal.SIGINT)
    return found, 3 if any(figure.disagrees for figure in found) else 0


class _State:
    """What a device was like while it was measured; a GPU is looked at after each figure."""

    def __init__(self, device: Device) -> None:
        self.device, self.slowed = device, set[str]()
        self.last: dict[str, Any] = {}

    def look(self) -> None:
        """Once more."""
        if self.device.name != "cpu":
            from txcalc.measure import nvml

            self.last = nvml.state(int(self.device.name.rpartition(":")[2] or 0))
            self.slowed |= set(self.last.get("slowed_by", ()))

    def machine(self) -> dict[str, Any]:
        """What a result must say about where it was measured."""
        from txcalc.cli import bench_report

        facts = bench_report.machine(self.device)
        return {**facts, **self.last, "slowed_by": sorted(self.slowed)} if self.last else facts


def _told(plan: Plan, machine: dict[str, Any], figures: list[Figure], code: int) -> Answer:
    from txcalc.cli import bench_report

    reasons = list(plan.model.reasons)
    if plan.shrunk:
        reasons.append(f"{plan.layers} of {plan.whole_layers} layers ran")
    return Answer(
        command="bench",
        title=f"{plan.model.name} | {plan.layers} layers | {plan.dtype} | {bench_report.machine_text(machine)}",
        model=model_facts(plan.model),
        tree=bench_report.tree(figures),
        sections=bench_report.sections(figures),
        facts={"inputs": _inputs(plan), "machine": machine, "bench": bench_report.document(figures)},
        warnings=tuple(bench_report.warnings(figures, machine, code)),
        reasons=tuple(reasons),
        exit_code=code,
    )


def _inputs(plan: Plan) -> dict[str, Any]:
    names = ("new_tokens", "dtype", "seconds", "limit", "layers", "whole_layers", "graphs", "compiled")
    plain = {name: getattr(plan, name) for name in names}
    return plain | {name: list(getattr(plan, name)) for name in ("ctxs", "batches", "backends")}
