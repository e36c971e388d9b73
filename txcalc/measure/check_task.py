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

    ``light``: FLOPs and activations at one depth, not two. ``equal``: a model of the same architecture, which the
    reference model is not built again for. ``against``: ``transformers``, the path of a checkpoint, or nothing.
    ``path``: the file that the model was read from, where it is no card.
    """

    model: Model
    config: Mapping[str, Any]
    quantities: tuple[Quantity, ...]
    published: tuple[Published, ...] = ()
    against: str = ""
    full: bool = False
    light: bool = False
    equal: str = ""
    path: str = ""


def perform(task: Task) -> list[Comparison]:
    """Every comparison of a task, without those of an equal model; loads torch."""
    if task.equal:
        return [*_config_link(task)]
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


# ---- many tasks -----------------------------------------------------------------------------------------------------


def spared(tasks: Sequence[Task]) -> list[Task]:
    """The tasks without what others prove: nothing is built for a model that equals one before it.

    Light are models made like one before them, which is checked at both depths.
    """
    from txcalc.measure.shrink import outline

    known, seen, made = dict[Model, str](), set[Hashable](), list[Task]()
    for task in tasks:
        name, kind = known.setdefault(_anonymous(task.model), task.model.name), outline(task.model)
        equal = "" if name == task.model.name else name
        made.append(task.replace(equal=equal, light=not equal and kind in seen))
        seen.add(kind)
    return made


def _anonymous(model: Model) -> Model:
    """What formulas and reference are made from."""
    return model.replace(name="", model_type="", notes=(), reasons=(), assumed=())


def all_found(tasks: Sequence[Task], done: Mapping[int, Sequence[Comparison]]) -> Iterator[Comparison]:
    """The comparisons of all tasks in their order, those with the reference model told for its equals, too.

    ``done``: by the task's identity, those that were made.
    """
    by_name = {task.model.name: done.get(id(task), ()) for task in tasks}
    for task in tasks:
        for each in by_name[task.equal] if task.equal else ():
            if each.oracle == REFERENCE:
                note = f"proved as {task.equal}, its equal" + (f"; {each.note}" if each.note else "")
                yield each.replace(model=task.model.name, note=note)
        yield from done.get(id(task), ())
