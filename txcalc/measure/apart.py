"""Parts of a benchmark in processes of their own: one that is killed or runs out of memory takes only itself along.

On a GPU an aborted kernel poisons its whole process, and memory that was cached for one shape is missing to the next.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, Final, Protocol

from txcalc.errors import TxcalcError
from txcalc.measure.bench import Bench, Ceiling, Unpredicted
from txcalc.measure.figures import Figure
from txcalc.measure.plan import Plan
from txcalc.measure.predictor import Calibrated, Calibration
from txcalc.record import Record

_PATIENCE: Final = 10.0  # seconds that a process gets to end by itself


class Job(Record):
    """One part of a plan: what a process needs to know to measure it.

    ``part``: a name of ``Bench.parts``; ``train`` for training steps of ``seq`` tokens. ``weights_at``: the path of a
    checkpoint. ``seconds``: for each group of timings.
    """

    plan: Plan
    device: str
    part: str
    seconds: float
    calibration: Calibration | None = None
    ceilings: tuple[Ceiling, ...] = ()
    weights_at: str = ""
    seq: int = 0
    recompute: Any = "none"


def measured_apart(job: Job) -> Iterator[Figure]:
    """The figures of a job, as its process measures them; a process that dies leaves a row that says how."""
    context = multiprocessing.get_context("spawn")  # what a GPU's driver keeps does not survive a fork
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield from received(ours)
        process.join(_PATIENCE)
        yield from died(job, process.exitcode)
    finally:
        if process.is_alive():
            process.terminate()
            process.join(_PATIENCE)


class Receiver(Protocol):
    """The end of a pipe that is read."""

    def recv(self) -> Any:
        """The next object; EOFError at the end."""


def received(pipe: Receiver) -> Iterator[Figure]:
    """Figures until the other end is closed; a refusal is raised here as it was there."""
    while True:
        try:
            got = pipe.recv()
        except (EOFError, OSError):
            return
        if isinstance(got, Exception):
            raise got
        yield got


def died(job: Job, code: int | None) -> Iterator[Figure]:
    """A row about a process that did not end well."""
    if code:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        yield Figure(name="part", unit="seconds", what=job.part, note=f"its process ended early, by {how}")


def figures_of(job: Job) -> Iterator[Figure]:
    """Measure a job in this process."""
    from txcalc.reference.device import device_named

    device = device_named(job.device)
    if job.part == "train":
        from txcalc.measure.training import training_figures

        yield from training_figures(job.plan, device, seq=job.seq, recompute=job.recompute)
        return
    predictor = Calibrated(job.calibration) if job.calibration else Unpredicted()
    bench = Bench(job.plan, device, predictor, _loaded(job), job.ceilings)
    bench.seconds = job.seconds
    yield from bench.part(job.part)


def _loaded(job: Job) -> Any:
    if not job.weights_at:
        return None
    from txcalc.reference.pretrained import find, load

    plan = job.plan
    ctx = max(plan.ctxs) + plan.new_tokens
    return load(find(job.weights_at), device=job.device, dtype=plan.torch_dtype, ctx=ctx)


def _work(job: Job, pipe: Connection) -> None:
    """In the process: everything that is measured, and what refused it, through the pipe."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is answered by the one who waits
    try:
        for figure in figures_of(job):
            pipe.send(figure)
    except TxcalcError as refused:
        pipe.send(refused)
    finally:
        pipe.close()
