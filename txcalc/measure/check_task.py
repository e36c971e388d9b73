"""What is to be checked about one model, small enough to hand to another process, and the doing of it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Final

from txcalc.architecture import Model
from txcalc.cards import Published
from txcalc.measure.comparing import REFERENCE, Comparison, Quantity, skipped
from txcalc.record import Record

TRANSFORMERS: Final = "transformers"


class Task(Record):
    """One model, and against what: the reference model for ``quantities``, what was published, ``against``.

    ``light``: FLOPs and activations at one depth, not two. ``against``: ``transformers``, the path of a checkpoint, or
    nothing. ``path``: the file that the model was read from, where it is no card.
    """

    model: Model
    config: Mapping[str, Any]
    quantities: tuple[Quantity, ...]
    published: tuple[Published, ...] = ()
    against: str = ""
    full: bool = False
    light: bool = False
    path: str = ""


def perform(task: Task) -> list[Comparison]:
    """Every comparison of a task; loads torch."""
    from txcalc.measure.check import check_model

    return [*check_model(task.model, task.quantities, full=task.full, light=task.light), *_config_link(task)]


def perform_guarded(task: Task) -> list[Comparison]:
    """The same for one of many: a fault of ours with one model is a failed row of it, and the others go on."""
    try:
        return perform(task)
    except Exception as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        reason = f"a fault in txcalc: {what}; txcalc check {task.model.name} --debug shows where"
        return [skipped(task.model.name, task.quantities[0], reason, oracle=REFERENCE).replace(verdict="failed")]


def _config_link(task: Task) -> Iterator[Comparison]:
    if "params" in task.quantities and task.published:
        from txcalc.measure.against_published import against_published

        yield from against_published(task.model, task.published)
    if task.against == TRANSFORMERS:
        from txcalc.measure.against_transformers import against_transformers

        yield from against_transformers(task.model, task.config)
    elif task.against:
        from txcalc.measure.against_checkpoint import against_checkpoint

        yield from against_checkpoint(task.model, task.against)


def lightened(tasks: Sequence[Task]) -> list[Task]:
    """The tasks, light where a model is made like one before it, which is checked at both depths."""
    from txcalc.measure.shrink import outline

    seen, made = set[Hashable](), list[Task]()
    for task in tasks:
        kind = outline(task.model)
        made.append(task.replace(light=kind in seen and not task.full))
        seen.add(kind)
    return made
