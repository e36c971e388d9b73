"""Hold every formula against a model that is built and run: equal to the unit, or it says where not.

Without MODEL every card is checked. Parameters, cache, FLOPs forward, backward and decoding are counted in the
reference model on torch's meta device, which needs no memory for weights. Exit code 3 on any disagreement.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from txcalc.cli.check_report import both, comparisons_answer, limits_answer
from txcalc.cli.options import add_output, add_path, add_positive, add_what_if, overrides
from txcalc.cli.progress import Progress
from txcalc.cli.torch_extra import require_package
from txcalc.errors import RequestError, UsageError
from txcalc.measure.comparing import QUANTITIES, Comparison, Quantity
from txcalc.measure.junit import Case, junit, on_github, require_writable, workflow_commands, write
from txcalc.report import Answer

if TYPE_CHECKING:
    from txcalc.measure.check_task import Task

EXAMPLES: Final = """\
  txcalc check
  txcalc check llama3-8b ./config.json --quantity params,kv --junit out.xml
  txcalc check ./my-model --against transformers
  txcalc check ./my-model --against ./my-model/model.safetensors
  txcalc check --limits limits.yaml
"""

_LIMITS: Final = "a file of limits; --quantity adds the proof to it"
_INTERRUPTED: Final = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODELs, what to compare and with what, and where the verdicts go."""
    parser.add_argument(
        "model", metavar="MODEL", nargs="*", help="a card, a config.json or its directory; default: all"
    )
    group = parser.add_argument_group("what is compared")
    group.add_argument("--quantity", metavar="NAMES", help=f"some of {','.join(QUANTITIES)} (default: all)")
    group.add_argument(
        "--full", action="store_true", help="FLOPs over every layer, not each kind of layer at two depths"
    )
    add_path(group, "--against", "config to architecture: transformers, or a checkpoint's path", metavar="WHAT")
    add_path(group, "--limits", _LIMITS)
    add_what_if(parser)
    group = parser.add_argument_group("how it runs")
    add_positive(group, "--jobs", "processes (default: one a core)")
    add_path(group, "--junit", "write the verdicts as JUnit XML, too")
    add_output(parser)


def run(options: argparse.Namespace) -> Answer:
    """Limits where a file of them is given, else the proof of every quantity."""
    started = time.monotonic()
    quantities = _quantities(options.quantity)
    if options.junit:
        require_writable(options.junit)
    if options.limits:
        answer, cases = _limited(options)
        if options.quantity:
            proof, more = _proved(options, quantities, _limited_models(options))
            answer, cases = both(answer, proof), [*cases, *more]
    else:
        answer, cases = _proved(options, quantities, options.model)
    if options.junit:
        write(options.junit, junit(cases, seconds=time.monotonic() - started))
    if on_github():
        for line in workflow_commands(cases):
            print(line, file=sys.stderr)
    return answer


def _quantities(text: str | None) -> tuple[Quantity, ...]:
    """The quantities named, in the order in which they are checked.

    Raises:
        UsageError: a name that is not one.
    """
    if text is None:
        return QUANTITIES
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in QUANTITIES:
            raise UsageError(f"--quantity: {name[:40]!r} is not one", f"known: {', '.join(QUANTITIES)}")
    if not names:
        raise UsageError("--quantity names none", f"known: {', '.join(QUANTITIES)}")
    return tuple(each for each in QUANTITIES if each in names)


# ---- proof ----------------------------------------------------------------------------------------------------------


def _proved(
    options: argparse.Namespace, quantities: tuple[Quantity, ...], names: list[str]
) -> tuple[Answer, list[Case]]:
    from txcalc.measure.check_task import all_found, spared

    require_package("check", "torch", "numpy")
    if options.against == "transformers":
        require_package("check --against transformers", "transformers")
    tasks = [_task(options, quantities, name) for name in _names(options, names)]
    if not names and not options.full:
        tasks = spared(tasks)
    done, interrupted = _perform(tasks, options.jobs)
    found = [*all_found(tasks, done)]
    if not done:
        raise KeyboardInterrupt
    paths = {task.model.name: task.path for task in tasks}
    answer = comparisons_answer(tasks, found, models_done=len(done), interrupted=interrupted)
    if all(each.verdict == "skipped" for each in found):
        raise RequestError(f"nothing could be compared: {found[0].note}", "txcalc check --help says what can be")
    return answer.replace(exit_code=_INTERRUPTED) if interrupted else answer, [_case(each, paths) for each in found]


def _names(options: argparse.Namespace, names: list[str]) -> list[str]:
    """The models named, each once; every card where none is.

    Raises:
        UsageError: what only makes sense for named models.
    """
    if names:
        return list(dict.fromkeys(names))
    for option in ("set", "gqa"):
        if getattr(options, option):
            raise UsageError(f"--{option} changes a model, and none is named", "txcalc check llama3-8b --gqa 4")
    if options.against not in (None, "transformers"):
        raise UsageError("--against a checkpoint needs the model that it is of", "txcalc check MODEL --against PATH")
    from txcalc.cards import known_names

    return known_names()


def _task(options: argparse.Namespace, quantities: tuple[Quantity, ...], name: str) -> Task:
    from txcalc.cards import load
    from txcalc.cards.finding import find_model
    from txcalc.cards.overrides import with_overrides
    from txcalc.measure.check_task import Task

    changes = overrides(options)
    if options.gqa and options.against == "transformers":
        raise UsageError("--gqa changes the architecture, not the config", "use --set num_key_value_heads=N")
    card = find_model(name)
    changed = bool(changes or options.gqa)
    return Task(
        model=load(name, overrides=changes, gqa=options.gqa, strict=options.strict),
        config=with_overrides(card.config, changes)[0],
        quantities=quantities,
        published=() if changed else card.published,
        against=options.against or "",
        full=options.full,
        path=card.read_from if os.path.exists(card.read_from) else "",
    )


def _perform(tasks: list[Task], jobs: int | None) -> tuple[dict[int, list[Comparison]], bool]:
    """Comparisons by task, and whether somebody stopped before all were done."""
    from txcalc.measure.check_pool import run_all

    done: dict[int, list[Comparison]] = {}
    progress = Progress(len(tasks))
    try:
        with _stoppable():
            for task, found in run_all(tasks, jobs):
                done[id(task)] = found
                progress.step(task.model.name)
    except KeyboardInterrupt:
        return done, True
    finally:
        progress.clear()
    return done, False


@contextmanager
def _stoppable() -> Iterator[None]:
    """A polite end of the process (SIGTERM) is answered as Ctrl-C is: with what was done."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _case(found: Comparison, paths: dict[str, str]) -> Case:
    name = f"{found.figure}, {found.oracle}" + (f" ({found.work})" if found.work else "")
    return Case(
        group=found.model,
        name=name,
        verdict=found.verdict,
        message="" if found.verdict == "passed" else f"{found.model}: {found.sentence()}",
        path=paths.get(found.model, ""),
    )


# ---- limits ---------------------------------------------------------------------------------------------------------


def _limited(options: argparse.Namespace) -> tuple[Answer, list[Case]]:
    from txcalc.cards import load
    from txcalc.measure.limits import hold, of_model, read_limits

    limits = read_limits(options.limits)
    held = []
    for name in _limited_models(options):
        model = load(name, overrides=overrides(options), gqa=options.gqa, strict=options.strict)
        held += hold(model, of_model(limits, name), limits.path)
    if not held:
        raise RequestError(
            f"{limits.path} has no limit for {', '.join(options.model)}", "limits: holds for every model"
        )
    cases = [
        Case(group=each.model, name=each.limit.text, verdict=each.verdict, message=each.sentence(), path=limits.path)
        for each in held
    ]
    return limits_answer(limits.path, held), cases


def _limited_models(options: argparse.Namespace) -> list[str]:
    """The models named in the command, else in the file.

    Raises:
        UsageError: neither names one.
    """
    from txcalc.measure.limits import named_in, read_limits

    names = options.model or named_in(read_limits(options.limits))
    if not names:
        raise UsageError(
            f"{options.limits} names no model, and neither does the command", "txcalc check MODEL --limits FILE"
        )
    return list(dict.fromkeys(names))
