"""The verdicts of ``txcalc check`` as an answer: a summary line, tables, and the document for machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from txcalc.cli.options import model_facts
from txcalc.measure.against_published import ROUNDED
from txcalc.measure.comparing import REFERENCE, VERDICTS, Comparison, Verdict
from txcalc.report import Answer, Row
from txcalc.report.document import Section
from txcalc.result import Node, leaf, total

if TYPE_CHECKING:
    from txcalc.measure.check_task import Task
    from txcalc.measure.limits import Held

_COLUMNS: Final = ("figure", "predicted", "measured", "verdict")
_FEW: Final = 3  # models whose every comparison is shown


def comparisons_answer(
    tasks: Sequence[Task], found: Sequence[Comparison], *, models_done: int, interrupted: bool
) -> Answer:
    """What agreed, what did not, and which links of the chain that proves."""
    by_model = _by_model(found)
    models = {verdict: sum(_verdict(each) == verdict for each in by_model.values()) for verdict in VERDICTS}
    several = len(tasks) > 1
    return Answer(
        command="check",
        title=_title(tasks, found, models, models_done, interrupted),
        model={} if several else model_facts(tasks[0].model),
        tree=_tree(by_model),
        facts={"models": models, "interrupted": interrupted, "comparisons": [_plain(each) for each in found]},
        sections=tuple(_sections(found, by_model)),
        notes=(*_links(found, len(by_model)), *_spared(tasks)),
        reasons=tuple(
            f"{task.model.name}: {reason}" if several else reason for task in tasks for reason in task.model.reasons
        ),
        exit_code=3 if models["failed"] else 0,
    )


def _by_model(found: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    by_model: dict[str, list[Comparison]] = {}
    for each in found:
        by_model.setdefault(each.model, []).append(each)
    return by_model


def _verdict(found: Iterable[Comparison]) -> Verdict:
    """A model's: failed by one comparison, skipped only where nothing was compared."""
    verdicts = {each.verdict for each in found}
    return "failed" if "failed" in verdicts else "passed" if "passed" in verdicts else "skipped"


def _count(found: Iterable[Comparison], verdict: Verdict) -> int:
    return sum(each.verdict == verdict for each in found)


def _title(
    tasks: Sequence[Task], found: Sequence[Comparison], models: dict[Verdict, int], models_done: int, interrupted: bool
) -> str:
    what = tasks[0].model.name if len(tasks) == 1 else f"{models_done:,} models"
    words = [
        f"{models[verdict]:,} {word}" for verdict, word in zip(VERDICTS, ("agree", "disagree", "skipped"), strict=True)
    ]
    parts = [f"{what} checked", f"{len(found):,} comparisons"]
    if len(tasks) > 1:
        parts.insert(1, ", ".join(words))
    else:
        parts.append(f"{_count(found, 'failed'):,} disagree")
    if interrupted:
        parts.append(f"interrupted: {len(tasks) - models_done:,} of {len(tasks):,} models were not checked")
    return " | ".join(parts)


def _tree(by_model: dict[str, list[Comparison]]) -> Node:
    """Comparisons by verdict, each verdict the sum of its models'."""
    return verdict_tree(
        {
            verdict: {model: count for model, found in by_model.items() if (count := _count(found, verdict))}
            for verdict in VERDICTS
        }
    )


def verdict_tree(counts: Mapping[Verdict, Mapping[str, int]]) -> Node:
    """How often each verdict was given, by what it was given to."""
    parts = [
        total(verdict, "", [leaf(name, "", count) for name, count in own.items()], key=f"check.{verdict}")
        for verdict, own in counts.items()
    ]
    return total("check", "", parts)


def _plain(found: Comparison) -> dict[str, Any]:
    return {name: getattr(found, name) for name in Comparison.__fields__} | {"difference": found.difference}


def _spared(tasks: Sequence[Task]) -> Iterator[str]:
    """What was not done for every model."""
    light, equal = sum(task.light for task in tasks), [task for task in tasks if task.equal]
    if light:
        yield f"{light:,} models made like one before them, sizes apart: FLOPs and activations at one depth, not two"
    if equal:
        pairs = ", ".join(f"{task.model.name} as {task.equal}" for task in equal)
        yield f"{len(equal):,} models of the same architecture as one before them, proved with it: {pairs}"


def _links(found: Sequence[Comparison], models: int) -> list[str]:
    """Which links of the chain from a config to a number were proved, and for how many models."""
    formula = {each.model for each in found if each.oracle == REFERENCE and each.verdict == "passed"}
    proofs = [each for each in found if each.oracle not in (REFERENCE, ROUNDED) and each.verdict == "passed"]
    adapter, oracles = {each.model for each in proofs}, sorted({each.oracle for each in proofs})
    lines = [f"architecture to formula: proved for {len(formula):,} of {models:,} by the reference model"]
    how = f" by {', '.join(oracles)}" if oracles else ""
    open_ = models - len(adapter)
    more = "; --against transformers, or a checkpoint, proves it" if open_ else ""
    return [*lines, f"config to architecture: parameters proved for {len(adapter):,} of {models:,}{how}{more}"]


# ---- tables ---------------------------------------------------------------------------------------------------------


def _sections(found: Sequence[Comparison], by_model: dict[str, list[Comparison]]) -> Iterable[Section]:
    compared = {model: [each for each in own if each.predicted is not None] for model, own in by_model.items()}
    if len(by_model) <= _FEW:
        for model, own in compared.items():
            yield Section(columns=_COLUMNS, rows=tuple(_rows(own)), heading=model if len(by_model) > 1 else "")
    else:
        yield _summary(found)
        failed = tuple(row for own in compared.values() for row in _failures(own))
        if failed:
            yield Section(columns=_COLUMNS, rows=failed, heading="disagreements")
    told = tuple(
        Row(cells=(f"{each.model} {each.quantity}", f"{each.verdict}: {each.note} ({each.oracle})"))
        for each in found
        if each.predicted is None
    )
    if told:
        yield Section(columns=("what", "why"), rows=told, heading="not compared", facts=True)


def _rows(found: Sequence[Comparison], depth: int = 0) -> Iterable[Row]:
    """Comparisons under the figure that they are of."""
    figure = ""
    for each in found:
        if each.figure != figure:
            figure = each.figure
            yield Row(cells=(figure, "", "", ""), depth=depth)
        yield Row(
            cells=(_where(each), f"{each.predicted:,}", f"{each.measured:,}", _told(each)),
            detail=each.note,
            depth=depth + 1,
            strong=each.verdict == "failed",
        )


def _failures(found: Sequence[Comparison]) -> Iterable[Row]:
    failed = [each for each in found if each.verdict == "failed"]
    if failed:
        yield Row(cells=(failed[0].model, "", "", ""))
        yield from _rows(failed, depth=1)


def _where(found: Comparison) -> str:
    if found.oracle == REFERENCE:
        return found.work
    return f"{found.oracle}{', ' if found.work else ''}{found.work}"


def _told(found: Comparison) -> str:
    """Verdict and difference in a word."""
    if found.verdict == "failed":
        return f"DIFFERS {found.difference:+,}"
    return f"agrees ({found.difference:+,})" if found.difference else "equal"


def _summary(found: Sequence[Comparison]) -> Section:
    """A line for each quantity and oracle."""
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for each in found:
        groups.setdefault((each.quantity, each.oracle), []).append(each)
    rows = tuple(
        Row(
            cells=(
                quantity,
                oracle,
                f"{len({each.model for each in own}):,}",
                *(f"{_count(own, verdict):,}" for verdict in VERDICTS),
            )
        )
        for (quantity, oracle), own in groups.items()
    )
    return Section(columns=("quantity", "oracle", "models", "agree", "disagree", "skipped"), rows=rows)


# ---- limits ---------------------------------------------------------------------------------------------------------


def limits_answer(path: str, held: Sequence[Held]) -> Answer:
    """Each limit, the figure beside it, and the verdict."""
    models = list(dict.fromkeys(each.model for each in held))
    over = sum(each.verdict == "failed" for each in held)
    counts = {verdict: {"limits": sum(each.verdict == verdict for each in held)} for verdict in VERDICTS}
    what = models[0] if len(models) == 1 else f"{len(models)} models"
    return Answer(
        command="check",
        title=f"{what} | {len(held)} limits of {path} | {over} not kept",
        model={},
        tree=verdict_tree(counts),
        facts={"limits": [_plain_limit(each) for each in held]},
        sections=(Section(columns=("limit", "value", "bound", "verdict"), rows=tuple(_limit_rows(held))),),
        exit_code=3 if over else 0,
    )


def _limit_rows(held: Sequence[Held]) -> Iterable[Row]:
    model = ""
    for each in held:
        if each.model != model:
            model = each.model
            yield Row(cells=(model, "", "", ""))
        yield Row(
            cells=(
                each.limit.text,
                f"{each.value:,}",
                f"{each.bound:,}",
                "OVER" if each.verdict == "failed" else "kept",
            ),
            depth=1,
            strong=each.verdict == "failed",
        )


def both(limits: Answer, proof: Answer) -> Answer:
    """Limits and proof as one answer, the limits first."""
    verdicts = [
        one.replace(children=(*one.children, *other.children))
        for one, other in zip(limits.tree.children, proof.tree.children, strict=True)
    ]
    return proof.replace(
        title=f"{limits.title} | {proof.title}",
        tree=total("check", "", verdicts),
        sections=(*limits.sections, *proof.sections),
        facts={**proof.facts, **limits.facts},
        exit_code=proof.exit_code or limits.exit_code,
    )


def _plain_limit(held: Held) -> dict[str, Any]:
    return {**held.all_fields(), "limit": held.limit.text, "figure": held.limit.figure}
