"""How long a pass takes on a machine that was calibrated: a sum of what its parts cost, each part with one rate.

A pass reads its matrices, multiplies, attends, writes activations and starts kernels; its time is taken as the sum of
these, each times a coefficient that is never negative (a roofline of weight bytes alone misses a quarter to a half of a
decoding step). What the parts amount to comes from the formulas, so that any architecture can be asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final

import torch

from txcalc import architecture as arch
from txcalc.formulas.flops import flops
from txcalc.measure.plan import WIDTHS
from txcalc.record import Record

PREFILL_TERMS: Final = {
    "layers": "seconds a layer: starting its kernels",
    "linear": "seconds a FLOP of the layers' matrices",
    "attention": "seconds a FLOP of score and value products (whole square)",
    "written": "seconds a byte that the matrices write: norms, activations, sums",
    "head": "seconds a byte of the head's matrix",
}
DECODE_TERMS: Final = {
    "layers": "seconds a layer: starting its kernels",
    "weights": "seconds a byte of the matrices, read once a step",
    "linear": "seconds a FLOP of the matrices, for rows beyond the first",
    "attention": "seconds a FLOP of score and value products: heads times positions",
    "written": "seconds a byte that the matrices write",
}
TERMS: Final = {"prefill": PREFILL_TERMS, "decode": DECODE_TERMS}


def prefill_terms(model: arch.Model, *, batch: int, ctx: int, dtype: str) -> list[float]:
    """What a prefill of ``ctx`` tokens a row amounts to, in the order of ``PREFILL_TERMS``."""
    figures = flops(model, phase="prefill", ctx=ctx, batch=batch, scan="recurrent").figures()
    matmul, attention, head = int(figures["flops.matmul"]), int(figures["flops.attention"]), _head_elements(model)
    linear = matmul - attention - 2 * batch * head
    width = WIDTHS[dtype]
    layers = sum(stack.num_hidden_layers for stack in model.stacks)
    return [layers, linear, attention, width * linear / (2 * model.main.hidden_size), width * head]


def decode_terms(model: arch.Model, *, batch: int, ctx: int, dtype: str) -> list[float]:
    """What one token a row after ``ctx`` others amounts to, in the order of ``DECODE_TERMS``.

    A matrix that is read once makes 2 FLOPs an element and row, which gives the bytes of the matrices.
    """
    figures = flops(model, phase="decode", ctx=ctx, batch=batch, mask="exact", mla="absorbed").figures()
    attention = int(figures["flops.attention"])
    linear = int(figures["flops.matmul"]) - attention
    width = WIDTHS[dtype]
    layers = sum(stack.num_hidden_layers for stack in model.stacks)
    weights = width * linear / (2 * batch)
    return [layers, weights, linear * (batch - 1) / batch, attention, width * linear / (2 * model.main.hidden_size)]


def _head_elements(model: arch.Model) -> int:
    return model.head.input_size * model.head.output_size if model.head else 0


# ---- the fit --------------------------------------------------------------------------------------------------------


def fit(rows: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """Coefficients, none negative, with the least sum of squared relative errors.

    Lawson and Hanson's problem (Solving Least Squares Problems, chapter 23); with so few terms every set of positive
    ones can be tried.
    """
    target = torch.tensor(seconds, dtype=torch.float64)
    weighted = torch.tensor(rows, dtype=torch.float64) / target[:, None]
    scale = weighted.norm(dim=0).clamp_min(1e-300)
    best, least = [0.0] * weighted.shape[1], float("inf")
    for size in range(1, weighted.shape[1] + 1):
        for chosen in combinations(range(weighted.shape[1]), size):
            part = (weighted / scale)[:, list(chosen)]
            found = torch.linalg.lstsq(part, torch.ones(len(target), 1, dtype=torch.float64), driver="gelsd").solution
            left = float((part @ found - 1).square().sum())
            if float(found.min()) >= 0 and left < least:
                least, best = left, [0.0] * weighted.shape[1]
                for index, value in zip(chosen, found.flatten().tolist(), strict=True):
                    best[index] = value / float(scale[index])
    return best


def predicted(terms: Sequence[float], coefficients: Sequence[float]) -> float:
    """The sum of the parts."""
    return sum(term * coefficient for term, coefficient in zip(terms, coefficients, strict=True))


class Calibration(Record):
    """What was learnt about a machine: coefficients of both phases, its ceilings, and how well they fit.

    ``errors``: by phase, the relative errors of each probe's times when the probe was left out of the fit.
    """

    key: str
    dtype: str
    prefill: tuple[float, ...]
    decode: tuple[float, ...]
    ceilings: dict[str, float]
    errors: dict[str, tuple[float, ...]]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {name: list(each) if isinstance(each, tuple) else each for name, each in self.all_fields().items()}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Calibration:
        """From plain data.

        Raises:
            TypeError, KeyError, ValueError: it is not what ``to_dict`` wrote.
        """
        errors = {name: tuple(each) for name, each in plain["errors"].items()}
        made = cls(**{**plain, "prefill": tuple(plain["prefill"]), "decode": tuple(plain["decode"]), "errors": errors})
        lengths = len(made.prefill), len(made.decode)
        if lengths != (len(PREFILL_TERMS), len(DECODE_TERMS)):
            raise ValueError(f"{lengths} coefficients")
        return made


class Calibrated:
    """Times of passes on the machine that was calibrated."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration

    def prefill(self, model: arch.Model, *, batch: int, ctx: int, backend: str) -> float | None:
        """Seconds of a prompt; only of the backend that was calibrated (flash, which auto takes)."""
        if backend not in ("auto", "flash"):
            return None
        terms = prefill_terms(model, batch=batch, ctx=ctx, dtype=self.calibration.dtype)
        return predicted(terms, self.calibration.prefill)

    def decode(self, model: arch.Model, *, batch: int, ctx: int) -> float | None:
        """Seconds of one token a row."""
        return predicted(
            decode_terms(model, batch=batch, ctx=ctx, dtype=self.calibration.dtype), self.calibration.decode
        )
