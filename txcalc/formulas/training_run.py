"""A whole training run: its FLOPs, 6ND beside them, and roughly the time and the cost on a device.

Model FLOPs utilisation (MFU) counts the FLOPs of a convention, hardware utilisation (HFU) what really runs,
recomputation included (Chowdhery et al. 2022, appendix B). Both are a share of the device's dense peak.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import Model
from txcalc.errors import RequestError
from txcalc.expression import ceil_div, symbol
from txcalc.formulas.flop_conventions import conventions
from txcalc.formulas.flops_work import Recompute
from txcalc.formulas.params import params
from txcalc.formulas.workload import require_positive
from txcalc.hardware import Device
from txcalc.record import Record
from txcalc.result import Node, Unit, leaf, total

_SCALING: Final = "GPT-3 (Brown et al. 2020, arXiv 2005.14165), appendix D"
_OPTIMUM: Final = "Chinchilla (Hoffmann et al. 2022, arXiv 2203.15556), table 3: about 20 tokens a parameter"
_ROUGH: Final = "time is taken from a peak rate and a utilisation, not measured"


class Machine(Record):
    """What a run is done on: ``mfu`` assumed, or ``tokens_per_second`` observed of all ``count`` devices together."""

    device: Device
    count: int = 1
    dtype: str = "bf16"
    mfu: float | None = None
    tokens_per_second: float | None = None
    price: float | None = None  # of one device for an hour


def training_run(
    model: Model,
    *,
    seq: int | None = None,
    batch: int = 1,
    tokens: int,
    source_seq: int | None = None,
    convention: str = "matmul-full",
    recompute: Recompute = "none",
    machine: Machine | None = None,
) -> Node:
    """FLOPs of a run over ``tokens`` tokens in steps of ``batch`` sequences; time and cost where a machine is given.

    Headline figures: ``flops.step``, ``flops.run``, ``flops.six_nd``, ``train.steps``, ``train.tokens_per_parameter``,
    ``train.chinchilla_tokens``; ``train.gpu_hours``, ``train.cost``, ``train.mfu``, ``train.hfu``.

    Raises:
        RequestError: a length or count below 1, an unknown convention, a device without that peak rate, no utilisation.
    """
    require_positive(tokens=tokens, batch=batch)
    names = [convention, "executed"]
    counted, executed = conventions(
        model, seq=seq, batch=batch, names=names, source_seq=source_seq, recompute=recompute
    )
    length = seq or model.main.fixed_length
    per_step = symbol("B", batch) * symbol("T", length or 1)
    step, num_tokens = symbol("step", int(counted.value)), symbol("num_tokens", tokens)
    run = step * num_tokens // per_step
    whole, active = (int(params(model).find(f"params.{key}").value) for key in ("total", "active"))
    six_nd = 6 * symbol("active_params" if active != whole else "params", active) * num_tokens
    rows = [
        leaf("step", "FLOPs", step, key="flops.step", convention=convention),
        leaf("steps", "", ceil_div(num_tokens, per_step), key="train.steps"),
        leaf("run", "FLOPs", run, key="flops.run", convention=convention),
        leaf("six_nd", "FLOPs", six_nd, key="flops.six_nd", source=_SCALING),
        _ratio("run_over_six_nd", int(run) / int(six_nd), "train.run_over_six_nd"),
        _ratio("tokens_per_parameter", tokens / whole, "train.tokens_per_parameter"),
        leaf(
            "chinchilla_tokens", "tokens", 20 * symbol("params", whole), key="train.chinchilla_tokens", source=_OPTIMUM
        ),
    ]
    if machine is not None:
        rows += _on(machine, tokens, int(run), int(executed.value) / int(counted.value))
    return total("training_run", "FLOPs", [row.replace(aside=True) for row in rows], aside=True)


def _on(machine: Machine, tokens: int, run: int, executed_share: float) -> list[Node]:
    """Time and cost; ``executed_share``: FLOPs that run over those of the convention."""
    require_positive(gpus=machine.count)
    peak = machine.device.peak(machine.dtype)
    per_device = peak.flops_per_second
    if machine.tokens_per_second is not None:
        seconds = tokens / machine.tokens_per_second
        mfu = run / seconds / (per_device * machine.count)
    elif machine.mfu is not None:
        mfu = machine.mfu
        seconds = run / (mfu * per_device * machine.count)
    else:
        raise RequestError("no utilisation is given", "mfu 0.4 assumes one; tokens per second observes one")
    hours = seconds * machine.count / 3600
    device = f"{machine.device.name}, dense {machine.dtype}: {per_device / 1e12:,g} TFLOPs a second"
    rate: dict[str, Any] = {"source": machine.device.source, "note": device + " (derived)" * peak.derived}
    rows = [
        _ratio("mfu", mfu, "train.mfu", **rate),
        _ratio("hfu", mfu * executed_share, "train.hfu", note="what runs, recomputation included"),
        _rough("gpu_hours", "GPU-hours", hours, "train.gpu_hours"),
        _rough("days", "days", seconds / 86_400, "train.days"),
    ]
    if machine.price is not None:
        rows.append(_rough("cost", "", hours * machine.price, "train.cost", note=f"at {machine.price:g} a GPU-hour"))
    return rows


def _ratio(name: str, value: float, key: str, **fields: Any) -> Node:
    return Node(name=name, unit="ratio", number=value, key=key, **fields)


def _rough(name: str, unit: Unit, value: float, key: str, **fields: Any) -> Node:
    return Node(name=name, unit=unit, number=value, key=key, basis="estimated", reason=_ROUGH, **fields)
