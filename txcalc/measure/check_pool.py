"""Tasks on all cores: each in a process of its own kind of quiet, with one thread, and results as they come."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Final

from txcalc.errors import RequestError
from txcalc.measure.check_task import Task, perform, perform_guarded
from txcalc.measure.comparing import Comparison

MOST_PROCESSES: Final = 8  # each holds torch, about 300 MiB
_GARBAGE: Final = (50_000, 20, 20)  # objects between collections: modules come and go by the thousand
_WORTH_A_POOL: Final = 6  # starting processes takes longer than checking a few models


def run_all(tasks: Sequence[Task], jobs: int | None = None) -> Iterator[tuple[Task, list[Comparison]]]:
    """Each task with its comparisons, in the order in which they are done.

    ``jobs``: processes; None: as many as there are cores, or none beside this one for a few tasks.

    Raises:
        RequestError: a process was ended from outside, by the system's memory guard for example.
    """
    jobs = jobs or (1 if len(tasks) < _WORTH_A_POOL else min(cores(), MOST_PROCESSES))
    if jobs == 1:
        for task in tasks:
            yield task, (perform(task) if len(tasks) == 1 else perform_guarded(task))
        return
    with _pool(min(jobs, len(tasks))) as pool:
        waiting: dict[Future[list[Comparison]], Task] = {pool.submit(perform_guarded, task): task for task in tasks}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool:
            what = "a process that checked a model was ended from outside"
            raise RequestError(what, "--jobs 1 takes less memory") from None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this one, whatever way it ends."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(["txcalc.measure.check_server"])
        _serve()
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin)
    try:
        yield pool
    finally:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:  # those in the middle of a task would go on with it
            process.terminate()


def _serve() -> None:
    """Start the process that the others are forked from; it and they never see a Ctrl-C, which is ours to answer."""
    from multiprocessing import forkserver

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """One thread a process; Ctrl-C is the parent's to answer, and its end is ours."""
    import torch

    torch.set_num_threads(1)
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
