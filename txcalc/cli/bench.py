"""Run the reference model on this machine: memory, FLOPs and speed, each measured figure beside its prediction."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from txcalc import units
from txcalc.cli.options import add_length, add_model, add_output, add_positive, load_model, model_facts, named
from txcalc.cli.torch_extra import BACKENDS, DTYPES, require_torch
from txcalc.errors import RequestError, UsageError
from txcalc.report import Answer

if TYPE_CHECKING:
    from txcalc.measure.bench import Bench
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, what to run and how."""
    add_model(parser, optional=True, default="a Llama of 54 M parameters")
    group = parser.add_argument_group("what runs")
    group.add_argument("--ctx", type=_lengths, metavar="LIST", help="prompt lengths (default 512), as 512,2k")
    group.add_argument("--batch", type=_counts, metavar="LIST", help="sequences at once (default 1,4)")
    group.add_argument(
        "--backend",
        type=_backends,
        metavar="LIST",
        help=f"of {','.join(BACKENDS)} (default: flash, and math at the smallest batch)",
    )
    add_positive(group, "--new-tokens", "tokens written after the prompt (default 32)", default=32)
    group.add_argument("--dtype", choices=DTYPES, help="default: bf16 where the processor multiplies it, else fp32")
    add_positive(group, "--layers", "only the first N layers; times of the whole model are then estimated")
    add_positive(group, "--threads", "of torch (default: its own choice)")
    group.add_argument("--seconds", type=_seconds, default=1.5, metavar="S", help="for each group of timings (1.5)")
    group.add_argument("--limit", type=_seconds, default=45.0, metavar="S", help="begin nothing new after so long (45)")
    group.add_argument("--gpu", action="store_true", help="on the first CUDA device, timed by its own events")
    group.add_argument("--dry-run", action="store_true", help="run nothing: sums, and peaks by fake tensors; any size")
    group.add_argument("--train", action="store_true", help="a training step with AdamW instead of text")
    add_length(group, "--seq", "tokens of a training step (default 512)", default=512)
    group.add_argument("--recompute", choices=("none", "full"), default="none", help="of activations (default none)")
    group.add_argument("--attention-only", action="store_true", help="the attention product alone, by length and head")
    group.add_argument("--no-calibrate", action="store_true", help="predict no times where there is no calibration")
    group.add_argument("--save", metavar="FILE", help="write the JSON document there too")
    add_output(parser)


def run(options: argparse.Namespace) -> Answer:
    """Everything measured until the end, or until somebody breaks it off."""
    require_torch("bench")
    from txcalc.measure import kept

    if options.save:
        kept.writable(options.save, "--save")
    with kept.alone():
        answer = _answer(options)
    if options.save:
        import json

        kept.write_whole(options.save, json.dumps(answer.to_dict(), indent=2) + "\n")
    return answer


def _answer(options: argparse.Namespace) -> Answer:
    import torch

    from txcalc.reference.device import device_named

    if options.threads:
        torch.set_num_threads(options.threads)
    device = _gpu() if options.gpu else device_named("cpu")
    plan, model = _plan(options, device)
    figures, code = _gathered(lambda: _measured(options, plan, device, model))
    return _told(options, plan, device, figures, code)


def _gpu() -> Device:
    from txcalc.reference.device import device_named

    try:
        return device_named("cuda")
    except RequestError as none:
        raise RequestError(f"--gpu: {none.message}", "leave out --gpu, or install a torch built for your GPU") from None


def _measured(options: argparse.Namespace, plan: Plan, device: Device, model: Transformer | None) -> Iterator[Figure]:
    from txcalc.measure.bench import Bench, Unpredicted
    from txcalc.measure.predictor import Calibrated

    if options.attention_only:
        yield from _attention(plan, device)
        return
    if options.train:
        from txcalc.measure.training import training_figures

        yield from training_figures(plan, device, seq=options.seq, recompute=options.recompute)
        return
    calibration = _calibration(options, plan, device)
    predictor = Calibrated(calibration) if calibration else Unpredicted()
    bench = Bench(plan, device, predictor, model, calibration.ceilings if calibration else None)
    yield from bench.dry() if options.dry_run else _with_whole(bench)


def _with_whole(bench: Bench) -> Iterator[Figure]:
    """The figures; where fewer layers ran than there are, half of them run too and tell what one more takes."""
    from txcalc.measure.bench import Bench, Unpredicted
    from txcalc.measure.extrapolate import extrapolated
    from txcalc.measure.plan import with_layers

    plan, found = bench.plan, list[Any]()
    for figure in bench.figures():
        found.append(figure)
        yield figure
    if plan.shrunk and plan.layers > 1:
        bench.model = None
        fewer = plan.layers // 2
        short = Bench(plan.replace(model=with_layers(plan.model, fewer)), bench.device, Unpredicted())
        yield from extrapolated(found, list(short.figures()), layers=(plan.layers, fewer), whole=plan.whole_layers)


def _attention(plan: Plan, device: Device) -> Iterator[Figure]:
    from txcalc.measure.attention_bench import attention_figures

    lengths = plan.ctxs if len(plan.ctxs) > 1 else (512, 1024, 2048)
    yield from attention_figures(
        device, lengths=lengths, backends=plan.backends, dtype=plan.torch_dtype, seconds=plan.seconds / 3
    )


def _calibration(options: argparse.Namespace, plan: Plan, device: Device) -> Calibration | None:
    """What is known of this machine, learnt now where nothing is and it is not forbidden."""
    from txcalc.measure import calibrate

    found = calibrate.recall(calibrate.key_of(device, plan.dtype))
    if found is None and not options.no_calibrate and not options.dry_run:
        print("calibrating this machine first, under half a minute; kept for later", file=sys.stderr)
        found = calibrate.calibrated(device, plan.dtype)
        calibrate.keep(found)
    return found


# ---- what to run ----------------------------------------------------------------------------------------------------


def _plan(options: argparse.Namespace, device: Device) -> tuple[Plan, Transformer | None]:
    """The plan, as large as fits; and the model with its weights, where the file has them."""
    from txcalc.measure import plan as plans

    dtype = options.dtype or plans.default_dtype()
    pretrained = _with_weights(options.model)
    model = pretrained.model if pretrained is not None else _model(options)
    plans.require_decoder(model)
    whole = model.main.num_hidden_layers
    model = plans.with_layers(plans.in_dtype(model, dtype), options.layers or whole)
    made = plans.Plan(model=model, whole_layers=whole, new_tokens=options.new_tokens, dtype=dtype)
    chosen = {"ctxs": options.ctx, "batches": options.batch, "backends": options.backend, "seconds": options.seconds}
    chosen["limit"] = options.limit
    chosen["compare_everywhere"] = bool(options.backend)
    made = made.replace(**{name: value for name, value in chosen.items() if value})
    if options.dry_run:
        return made, None
    made = plans.fitted(made, device.free_memory(), asked=bool(options.layers))
    if pretrained is None or made.shrunk:
        return made, None
    from txcalc.reference.pretrained import load

    return made, load(pretrained, dtype=made.torch_dtype, ctx=max(made.ctxs) + made.new_tokens)


def _model(options: argparse.Namespace) -> Any:
    if options.model or options.set or options.gqa:
        return load_model(options)
    from txcalc.configs import architecture_of
    from txcalc.measure.plan import DEFAULT_CONFIG

    return architecture_of(DEFAULT_CONFIG, name="default shape")


def _with_weights(name: str | None) -> Any:
    """What a path with weights holds; None for a card, a config, or a directory without weights."""
    if not name:
        return None
    directory = os.path.isdir(name) and any(each.endswith(".safetensors") for each in os.listdir(name))
    if not directory and not name.lower().endswith(".gguf"):
        return None
    from txcalc.reference.pretrained import find

    return find(name)


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


def _gathered(figures: Callable[[], Iterator[Figure]]) -> tuple[list[Figure], int]:
    """The figures, and the exit code: 0, or 128 and the signal that ended it."""
    found: list[Figure] = []
    with _terminable():
        try:
            for figure in figures():
                found.append(figure)
                _progress(f"{figure.name} {figure.what}")
        except KeyboardInterrupt as stopped:
            _progress("")
            return found, 128 + (stopped.args[0] if stopped.args else signal.SIGINT)
    _progress("")
    return found, 3 if any(figure.disagrees for figure in found) else 0


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:70]}", end="", file=sys.stderr, flush=True)


def _told(options: argparse.Namespace, plan: Plan, device: Device, figures: list[Figure], code: int) -> Answer:
    from txcalc.cli import bench_report

    reasons = list(plan.model.reasons)
    if plan.shrunk:
        reasons.append(f"{plan.layers} of {plan.whole_layers} layers ran")
    machine = _machine(device)
    return Answer(
        command="bench",
        title=f"{plan.model.name} | {plan.layers} layers | {plan.dtype} | {_text(machine)}",
        model=model_facts(plan.model),
        tree=bench_report.tree(figures),
        sections=bench_report.sections(figures),
        facts={"inputs": _inputs(plan), "machine": machine, "bench": bench_report.document(figures)},
        warnings=tuple(_warnings(figures, machine, code)),
        reasons=tuple(reasons),
        exit_code=code,
    )


def _warnings(figures: list[Figure], machine: dict[str, Any], code: int) -> Iterator[str]:
    if code > 128:
        yield f"broken off by a signal ({code - 128}): {len(figures)} figures were measured"
    noisy = [figure for figure in figures if figure.noisy]
    if noisy:
        timed = sum(figure.spread is not None for figure in figures)
        yield f"this machine is too noisy to say: p90 is over 1.5 times p10 in {len(noisy)} of {timed} timings"
    if (machine["load"] or 0) > machine["cores"]:
        others = f"load {machine['load']:.1f} on {machine['cores']} cores: others use this machine"
        yield f"{others}; --threads 1 suffers less from it"
    for figure in figures:
        if figure.disagrees:
            yield f"{figure.name} {figure.what}: predicted {figure.predicted:,.0f}, measured {figure.measured:,.0f}"


def _machine(device: Device) -> dict[str, Any]:
    from txcalc.measure import timing

    load = timing.load()
    facts: dict[str, Any] = {**device.properties(), "cores": timing.cores(), "load": load}
    return {**facts, "device": timing.processor()} if device.name == "cpu" else facts


def _text(machine: dict[str, Any]) -> str:
    threads = f"{machine.get('threads', 1)} threads"
    load = "" if machine["load"] is None else f", load {machine['load']:.1f}"
    return f"{machine['device']}, {threads}{load}, torch {machine['torch']}"


def _inputs(plan: Plan) -> dict[str, Any]:
    plain = {name: getattr(plan, name) for name in ("new_tokens", "dtype", "seconds", "layers", "whole_layers")}
    return plain | {name: list(getattr(plan, name)) for name in ("ctxs", "batches", "backends")}


# ---- option values --------------------------------------------------------------------------------------------------


def _lengths(text: str) -> tuple[int, ...]:
    return tuple(named("--ctx", units.length)(part) for part in text.split(","))


def _counts(text: str) -> tuple[int, ...]:
    return tuple(named("--batch", units.positive)(part) for part in text.split(","))


def _backends(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in BACKENDS:
            raise UsageError(f"--backend: {name!r} is not known", f"one or more of {', '.join(BACKENDS)}")
    return names


def _seconds(text: str) -> float:
    from txcalc.cli.torch_extra import finite

    value = named("--seconds, --limit", finite)(text)
    if not 0 < value <= 3600:
        raise UsageError(f"--seconds, --limit: {text} is out of range", "more than 0, at most 3600")
    return value
