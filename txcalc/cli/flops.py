"""How many FLOPs a forward pass, a prefill, a decode step or training takes, in any convention."""

from __future__ import annotations

import argparse
from typing import Any, Final

from txcalc.architecture import Model
from txcalc.cli.flops_options import DEFAULT_SEQ, add_convention, add_run, add_workload, machine_of
from txcalc.cli.options import add_model, add_output, load_model, model_facts, title
from txcalc.errors import UsageError
from txcalc.formulas.flops import flops
from txcalc.formulas.workload import context_warnings
from txcalc.report import Answer
from txcalc.report.document import Section
from txcalc.report.flops_sections import (
    conventions_section,
    flops_section,
    parts_section,
    run_section,
    term_notes,
    terms_section,
)
from txcalc.result import Node

EXAMPLES: Final = """\
  txcalc flops llama3-8b --seq 2048
  txcalc flops llama3-8b --phase decode --ctx 32k
  txcalc flops llama3-8b --seq 8k --convention all
  txcalc flops llama3-8b --phase train --tokens 15T --gpu h100-sxm --mfu 0.4 --price 2.5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, the workload, the convention, the run and the output options."""
    add_model(parser)
    add_workload(parser)
    add_convention(parser)
    add_run(parser)
    add_output(parser)


def run(options: argparse.Namespace) -> Answer:
    """The FLOPs tree of the model, and conventions or a whole run beside it."""
    _check(options)
    model = load_model(options)
    lengths = _lengths(model, options)
    tree = flops(
        model,
        **lengths,
        batch=options.batch,
        phase=_phase(options),
        mask=options.mask,
        logits=options.logits,
        source_seq=options.source_seq,
        images=options.images,
        moe=options.moe,
        mla=options.mla,
        scan=options.scan,
    )
    counted = _conventions(model, options, lengths)
    whole = _run(model, options, lengths)
    in_part = () if model.reasons else _reasons(tree.find("flops.matmul"))
    aside = [node.replace(aside=True) for node in counted] + ([whole] if whole is not None else [])
    return Answer(
        command="flops",
        title=_title(model, options, lengths, in_part=bool(in_part)),
        model=model_facts(model),
        tree=tree.replace(children=(*tree.children, *aside)),
        facts={"inputs": _inputs(options, lengths)},
        sections=_sections(tree, counted, whole, options, lengths),
        warnings=tuple(context_warnings(model, max(lengths.values(), default=1))),
        notes=(*model.notes, *(term_notes(counted) if options.convention == "all" else ())),
        reasons=model.reasons,
        in_part=in_part,
    )


def _check(options: argparse.Namespace) -> None:
    """Options that contradict each other."""
    if options.tokens is None:
        for option in ("gpu", "gpus", "mfu", "price", "tokens_per_second"):
            if getattr(options, option) is not None:
                raise UsageError(f"--{option.replace('_', '-')} is about a whole run", "add --tokens, such as 15T")
    trains = options.tokens is not None or options.convention is not None
    if trains and options.phase not in (None, "train"):
        what = "--tokens" if options.tokens is not None else "--convention"
        raise UsageError(f"{what} is about training, and --phase is {options.phase}", "leave out --phase")
    if options.convention is not None and options.mask != "full":
        raise UsageError(f"--convention and --mask {options.mask} are both given", "matmul-causal is the masked count")


def _phase(options: argparse.Namespace) -> Any:
    trains = options.tokens is not None or options.convention is not None
    return options.phase or ("train" if trains else "forward")


def _lengths(model: Model, options: argparse.Namespace) -> dict[str, int]:
    """seq or ctx as given, else a default within the model's positions; an input of one length keeps it."""
    given = {name: getattr(options, name) for name in ("seq", "ctx") if getattr(options, name) is not None}
    if given or model.main.fixed_length is not None:
        return given
    length = min(DEFAULT_SEQ, model.max_position_embeddings or DEFAULT_SEQ)
    return {"ctx" if _phase(options) == "decode" else "seq": length}


def _seq(model_lengths: dict[str, int]) -> int | None:
    return model_lengths.get("seq") or model_lengths.get("ctx")


def _conventions(model: Model, options: argparse.Namespace, lengths: dict[str, int]) -> list[Node]:
    if options.convention is None:
        return []
    from txcalc.formulas.flop_conventions import conventions

    names = None if options.convention == "all" else [options.convention]
    return conventions(
        model,
        seq=_seq(lengths),
        batch=options.batch,
        names=names,
        source_seq=options.source_seq,
        recompute=options.recompute,
    )


def _run(model: Model, options: argparse.Namespace, lengths: dict[str, int]) -> Node | None:
    if options.tokens is None:
        return None
    from txcalc.formulas.training_run import training_run

    convention = options.convention if options.convention not in (None, "all") else "matmul-full"
    return training_run(
        model,
        seq=_seq(lengths),
        batch=options.batch,
        tokens=options.tokens,
        source_seq=options.source_seq,
        convention=convention,
        recompute=options.recompute,
        machine=machine_of(options),
    )


def _sections(
    tree: Node, counted: list[Node], whole: Node | None, options: argparse.Namespace, lengths: dict[str, int]
) -> tuple[Section, ...]:
    sections: list[Section] = []
    if options.convention == "all":
        tokens = int(tree.find("flops.per_token").symbols().get("T", _seq(lengths) or 1))
        sections += [conventions_section(counted, batch=options.batch, tokens=tokens), terms_section(counted)]
    elif counted:
        sections.append(parts_section(counted[0]))
    else:
        sections.append(flops_section(tree))
    if whole is not None:
        sections.append(run_section(whole, tokens=options.tokens))
    return tuple(sections)


def _reasons(matmul: Node) -> tuple[str, ...]:
    """Why a count of products is an estimate, where one is."""
    found = [node.reason for _, node in matmul.walk() if node.basis == "estimated" and node.reason]
    return tuple(dict.fromkeys(found))


def _inputs(options: argparse.Namespace, lengths: dict[str, int]) -> dict[str, Any]:
    inputs: dict[str, Any] = {**lengths, "batch": options.batch, "phase": _phase(options), "mask": options.mask}
    optional = ("source_seq", "images", "logits", "convention", "tokens", "gpu", "gpus", "mfu", "price")
    chosen = {name: getattr(options, name) for name in optional if getattr(options, name) is not None}
    return {
        **inputs,
        "moe": options.moe,
        "mla": options.mla,
        "scan": options.scan,
        "recompute": options.recompute,
        **chosen,
    }


def _title(model: Model, options: argparse.Namespace, lengths: dict[str, int], *, in_part: bool) -> str:
    phase = _phase(options)
    length = _seq(lengths) or model.main.fixed_length or 0
    words = f"one token after {length:,}" if phase == "decode" else f"{length:,} tokens"
    asked = [phase, words, f"batch {options.batch}"]
    return title(model, *asked, *([] if options.convention else [f"mask {options.mask}"]), in_part=in_part)
