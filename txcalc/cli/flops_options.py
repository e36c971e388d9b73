"""Options of ``txcalc flops``: the workload, the convention, a whole training run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from txcalc import units
from txcalc.cli.options import add_length, add_positive, named
from txcalc.errors import UsageError
from txcalc.formulas.flops_work import CONVENTIONS, LATENTS, LOGITS, MASKS, PHASES, RECOMPUTES, ROUTINGS, SCANS
from txcalc.hardware import DTYPES

if TYPE_CHECKING:
    from txcalc.formulas.training_run import Machine

DEFAULT_SEQ: Final = 2048


def add_workload(parser: argparse.ArgumentParser) -> None:
    """Lengths, phase, and what counts."""
    add_length(parser, "--seq", f"tokens in each sequence, default {DEFAULT_SEQ:,}")
    add_length(parser, "--ctx", "the same; with --phase decode: tokens in the cache before the new one")
    add_length(parser, "--source-seq", "tokens of the encoder, where there is one")
    add_positive(parser, "--images", "images in each sequence, through the vision tower")
    add_positive(parser, "--batch", "sequences at once (default 1)", default=1)
    group = parser.add_argument_group("what is counted")
    group.add_argument("--phase", choices=PHASES, help="default: forward; train with --tokens or --convention")
    group.add_argument("--mask", choices=MASKS, default="full", help="which scores count (default: the whole square)")
    group.add_argument("--logits", choices=LOGITS, help="default: last for prefill and decode, else all")
    group.add_argument("--moe", choices=ROUTINGS, default="routed", help="experts that run (default: those visited)")
    group.add_argument("--scan", choices=SCANS, default="chunked", help="recurrent mixers (default: in chunks)")
    group.add_argument("--mla", choices=LATENTS, default="expanded", help="latent attention (default: expanded)")


def add_convention(parser: argparse.ArgumentParser) -> None:
    """Whose FLOPs."""
    group = parser.add_argument_group("conventions of training FLOPs")
    group.add_argument(
        "--convention", metavar="NAME", type=_convention, help=f"all, or one of {', '.join(CONVENTIONS)}"
    )
    group.add_argument(
        "--recompute", choices=RECOMPUTES, default="none", help="activations made again: counts in executed and HFU"
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """A whole run, and what it is done on."""
    group = parser.add_argument_group("a training run")
    group.add_argument(
        "--tokens", type=named("--tokens", units.count), metavar="TOKENS", help=f"of the run: {units.COUNT_FORMS}"
    )
    group.add_argument("--gpu", metavar="DEVICE", help="adds time: h100-sxm, tpuv5p ... (txcalc explain devices)")
    group.add_argument("--gpus", type=named("--gpus", units.positive), metavar="N", help="how many (default 1)")
    group.add_argument("--dtype", choices=tuple(DTYPES), default="bf16", help="of the peak rate (default bf16)")
    group.add_argument("--mfu", type=_number("--mfu", most=1.0), metavar="SHARE", help="assumed, such as 0.4")
    group.add_argument(
        "--tokens-per-second", type=_number("--tokens-per-second"), metavar="N", help="observed, instead of --mfu"
    )
    group.add_argument("--price", type=_number("--price"), metavar="PRICE", help="of one GPU-hour: adds the cost")


def machine_of(options: argparse.Namespace) -> Machine | None:
    """The machine that --gpu and what belongs to it describe."""
    if options.gpu is None:
        for option in ("gpus", "mfu", "price", "tokens_per_second"):
            if getattr(options, option) is not None:
                raise UsageError(f"--{option.replace('_', '-')} needs a device", "add --gpu, such as h100-sxm")
        return None
    if options.mfu is not None and options.tokens_per_second is not None:
        raise UsageError("--mfu and --tokens-per-second are both given", "the second gives the first: keep one")
    if options.tokens is not None and options.mfu is None and options.tokens_per_second is None:
        hint = "add --mfu 0.4, which assumes a share of it, or --tokens-per-second, which was observed"
        raise UsageError("--gpu names a peak rate, and nothing says how much of it is used", hint)
    from txcalc.formulas.training_run import Machine
    from txcalc.hardware import device

    return Machine(
        device=device(options.gpu),
        count=options.gpus or 1,
        dtype=options.dtype,
        mfu=options.mfu,
        tokens_per_second=options.tokens_per_second,
        price=options.price,
    )


def _convention(text: str) -> str:
    name = text.lower()
    if name != "all" and name not in CONVENTIONS:
        raise UsageError(f"--convention: {text!r} is not one", f"known: all, {', '.join(CONVENTIONS)}")
    return name


def _number(option: str, *, most: float = 1e30) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not 0 < value <= most:
            limit = f"above 0 and at most {most:g}" if most < 1e30 else "above 0"
            raise UsageError(
                f"{option}: {text!r} is not a number {limit}", f"write it as {option} {min(most, 2.5) * 0.4:g}"
            )
        return value

    return parse
