"""How many parameters a model has: every distinct trainable tensor once, by component; and what its files hold."""

from __future__ import annotations

import argparse
import os
from typing import Any, Final

from txcalc.architecture import Model
from txcalc.cards.finding import Source
from txcalc.cli.options import add_model, add_output, changed, load_source, model_facts, title
from txcalc.errors import ModelError, RequestError
from txcalc.expression import symbol
from txcalc.formulas.params import params
from txcalc.report import Answer
from txcalc.report.components import extra_section, params_section
from txcalc.report.document import Section
from txcalc.result import Node, leaf, total
from txcalc.units import short_count

EXAMPLES: Final = """\
  txcalc params llama3-8b
  txcalc params llama3-8b --explain
  txcalc params ./some/config.json --json
  txcalc params deepseek-v3 --extra
  txcalc params ./model.safetensors --tensors
  txcalc params llama3-8b --set num_hidden_layers=16 --gqa 4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL and the output options."""
    add_model(parser)
    parser.add_argument(
        "--extra", action="store_true", help="open what stands beside the model: multi-token-prediction blocks"
    )
    group = parser.add_argument_group("files of weights")
    group.add_argument("--config-only", action="store_true", help="do not look at the weights beside a config")
    group.add_argument("--tensors", action="store_true", help="list every stored tensor: type, shape, bytes")
    add_output(parser)


def run(options: argparse.Namespace) -> Answer:
    """The parameter tree of the model, and what the weights beside it hold."""
    model, source = load_source(options)
    if model is None:
        return _file_alone(source, options)
    tree = _with_extra(params(model), options)
    answer = Answer(
        command="params",
        title=title(model, f"{short_count(int(tree.find('params.total').value))} parameters"),
        model=model_facts(model),
        tree=tree,
        sections=(params_section(tree), *filter(None, [extra_section(tree) if options.extra else None])),
        notes=model.notes,
        reasons=model.reasons,
    )
    if (not source.weights and source.hub is None) or options.config_only:
        return _told(answer, source, model, options)
    if changed(options):
        return answer.replace(notes=(*answer.notes, f"a what-if: {_base(source)} was not looked at"))
    return _with_file(answer, source, model, options)


def _with_extra(tree: Node, options: argparse.Namespace) -> Node:
    """The tree with ``params.with_extra``, where it is asked for and there is something to add.

    Raises:
        RequestError: there is nothing beside this model.
    """
    if not options.extra:
        return tree
    figures = tree.figures()
    if "params.extra" not in figures:
        raise RequestError(
            f"{options.model}: its config names no multi-token-prediction blocks whose shape is known",
            "leave out --extra, or name them: --set num_nextn_predict_layers=1",
        )
    both = symbol("total", int(figures["params.total"])) + symbol("extra", int(figures["params.extra"]))
    node = leaf("with_extra", "parameters", both, key="params.with_extra", aside=True)
    return tree.replace(children=(*tree.children, node))


def _base(source: Source) -> str:
    return source.hub.name if source.hub else os.path.basename(os.path.abspath(source.weights))


def _with_file(answer: Answer, source: Source, model: Model, options: argparse.Namespace) -> Answer:
    """The answer with what the weights hold, held against the config."""
    from txcalc.stored.comparing import compare

    try:
        checkpoint = source.checkpoint()
    except ModelError as error:
        if source.hub is None:
            raise
        return answer.replace(notes=(*answer.notes, f"its weights were not looked at: {error.message}"))
    assert checkpoint is not None
    return _stored(answer, compare(checkpoint, model, source.card.config if source.card else None), options)


def _told(answer: Answer, source: Source, model: Model, options: argparse.Namespace) -> Answer:
    """The answer with what a quantised config says that its files hold; as it is for a config that is not."""
    if not model.quantization or source.card is None or changed(options):
        return answer
    from txcalc.report.stored_sections import stored_sections
    from txcalc.stored import answer as stored
    from txcalc.stored.predicted import predicted

    try:
        accounting, reasons = predicted(model, source.card.config)
    except RequestError as error:
        return answer.replace(notes=(*answer.notes, f"stored bytes are not told: {error.message}"))
    nodes = [node.estimated(reasons) for node in stored.stored_nodes(accounting, stored.TOLD)]
    tree: Node = answer.tree.replace(children=(*answer.tree.children, *nodes))
    heading = f"as {model.quantization} stores it, told from the config{', estimated' if reasons else ''}"
    sections = stored_sections(tree, stored.types(accounting), heading)
    facts = {**answer.facts, "stored": {"method": model.quantization, "dtypes": stored.types(accounting)}}
    warnings = (*answer.warnings, *(f"stored bytes are an estimate: {reason}" for reason in reasons))
    return answer.replace(tree=tree, sections=(*answer.sections, *sections), facts=facts, warnings=warnings)


def _file_alone(source: Source, options: argparse.Namespace) -> Answer:
    from txcalc.stored.comparing import by_name

    checkpoint = source.checkpoint()
    assert checkpoint is not None
    name = _base(source)
    answer = Answer(
        command="params",
        title=f"{name} | {short_count(checkpoint.numel)} stored elements | exact",
        model={"name": name},
        tree=total("params", "parameters", []),
        sections=(),
    )
    return _stored(answer, by_name(checkpoint), options)


def _stored(answer: Answer, accounting: Any, options: argparse.Namespace) -> Answer:
    from txcalc.report.stored_sections import stored_sections, tensors_section
    from txcalc.stored import answer as stored

    tree: Node = answer.tree.replace(children=(*answer.tree.children, *stored.stored_nodes(accounting)))
    facts = stored.facts(accounting, tensors=options.tensors)
    files = f"{facts['files']} files" if facts["files"] != 1 else "1 file"
    heading = f"in {facts['file']}: {facts['format']}, {files}"
    sections: list[Section] = [*answer.sections, *stored_sections(tree, facts["dtypes"], heading)]
    if options.tensors:
        listed = (
            (name, kind, held.dtype, str(list(held.shape)), held.nbytes) for kind, name, held in stored.rows(accounting)
        )
        sections.append(tensors_section(listed))
    notes, warnings = stored.remarks(accounting)
    return answer.replace(
        tree=tree,
        sections=tuple(sections),
        facts={**answer.facts, "checkpoint": facts},
        notes=(*answer.notes, *notes),
        warnings=(*answer.warnings, *warnings),
    )
