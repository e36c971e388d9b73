"""How much memory a model takes on one device: inference, training, adapters; which moment is the peak."""

from __future__ import annotations

import argparse
from typing import Any, Final

from txcalc.architecture import Model
from txcalc.cards.loading import model_of
from txcalc.cli.options import (
    add_length,
    add_memory,
    add_model,
    add_output,
    add_positive,
    changed,
    load_source,
    model_facts,
    title,
)
from txcalc.errors import RequestError, UsageError
from txcalc.formulas.dtypes import DTYPES, config_dtype
from txcalc.formulas.lora import parse_lora
from txcalc.formulas.memory import asked_pass, fallbacks, memory
from txcalc.formulas.model_states import OPTIMIZERS, RECIPES
from txcalc.formulas.tape.walk import BACKENDS
from txcalc.formulas.training import RECOMPUTES, Training, training_memory
from txcalc.formulas.weight_formats import FORMATS
from txcalc.formulas.workload import context_warnings
from txcalc.report import Answer
from txcalc.report.document import Section
from txcalc.report.memory_sections import (
    adapters_section,
    fit_section,
    inference_section,
    moments_section,
    states_section,
    training_section,
)
from txcalc.result import Node

EXAMPLES: Final = """\
  txcalc memory llama3-8b --ctx 32k --batch 4
  txcalc memory llama3-8b --ctx 128k --dtype q4_k --kv-dtype fp8 --batched-tokens 8k --fit 24GiB
  txcalc memory llama3-8b --train --seq 8k --batch 2 --grad-accum 4 --optimizer adamw --recompute full
  txcalc memory llama3-8b --train --seq 8k --lora r=16,q_proj,v_proj --quantized nf4
"""
DEFAULT_CTX: Final = 8192
_TRAIN_ONLY: Final = ("grad_accum", "precision", "optimizer", "recompute", "lora", "quantized", "fused")
_INFERENCE_ONLY: Final = ("kv_dtype", "group_size", "phase", "batched_tokens", "source_ctx", "dtype")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, the workload of inference or training, a budget, and the output options."""
    add_model(parser)
    add_length(parser, "--ctx", f"tokens of each sequence, default {DEFAULT_CTX:,} or what the model takes")
    add_length(parser, "--seq", "the same as --ctx")
    add_positive(parser, "--batch", "sequences at once (default 1)", default=1)
    parser.add_argument("--backend", choices=BACKENDS, default="flash", help="attention (default flash)")
    _add_inference(parser)
    _add_training(parser)
    add_memory(parser, "--fit", "whether it fits in that much memory, allowances included; exit code 3 if not")
    parser.add_argument("--gpu", metavar="NAME", help="whether it fits on that device (txcalc explain devices)")
    add_output(parser)


def _add_inference(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("inference")
    group.add_argument("--dtype", metavar="FORMAT", help=f"of the layers' matrices: {', '.join(FORMATS)}")
    add_positive(group, "--group-size", "elements that share a scale, for int4 and int8")
    group.add_argument(
        "--keep", action="append", default=[], metavar="MODULE=FORMAT", help="a module in another format; repeatable"
    )
    group.add_argument("--kv-dtype", metavar="DTYPE", help=f"of the cache: {', '.join(DTYPES)}")
    group.add_argument("--phase", choices=("prefill", "decode"), help="whose activations (default prefill)")
    add_length(group, "--batched-tokens", "tokens in one pass, as an engine batches them, instead of the whole prompt")
    add_length(group, "--source-ctx", "tokens of the encoder, where there is one")


def _add_training(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training on one device")
    group.add_argument("--train", action="store_true", help="a training step instead of inference")
    add_positive(group, "--grad-accum", "micro-batches before the optimizer's step (default 1)")
    group.add_argument("--precision", choices=tuple(RECIPES), help="copies and dtypes (default: the model's own dtype)")
    group.add_argument("--optimizer", choices=tuple(OPTIMIZERS), help="default: adamw")
    group.add_argument("--fused", action="store_true", default=None, help="the optimizer's step without temporaries")
    group.add_argument("--recompute", choices=RECOMPUTES, help="activations computed again (default none)")
    group.add_argument("--dropout", action="store_true", help="dropout is on")
    group.add_argument("--lora", metavar="r=N,NAMES", help="adapters, e.g. r=16,q_proj,v_proj; all else is frozen")
    group.add_argument("--quantized", metavar="FORMAT", help="of the frozen matrices, e.g. nf4 (QLoRA)")
    group.add_argument("--cuda", action="store_true", help="masks and statistics as CUDA keeps them; not measured")


def run(options: argparse.Namespace) -> Answer:
    """The memory tree of the model, for inference or for a training step."""
    _check(options)
    model, stored = _loaded(options)
    tree = _training(model, options) if options.train else _inference(model, options, stored)
    budget = _budget(options)
    needed = int(tree.find("memory.with_allowances").value)
    in_part = () if model.reasons else (*_estimated(tree), *_unlike_stored(model, options, stored))
    return Answer(
        command="memory",
        title=_title(model, options, in_part=bool(in_part), stored=stored is not None),
        model=model_facts(model),
        tree=tree,
        facts={"inputs": _inputs(model, options), **_fits(needed, budget)},
        sections=_sections(tree, options, needed, budget),
        warnings=tuple(context_warnings(model, _length(model, options))),
        notes=(*model.notes, *_notes(model, options, stored)),
        reasons=model.reasons,
        in_part=in_part,
        exit_code=3 if budget is not None and needed > budget else 0,
    )


def _check(options: argparse.Namespace) -> None:
    """Options that contradict each other."""
    if options.ctx is not None and options.seq is not None and options.ctx != options.seq:
        raise UsageError(f"--ctx is {options.ctx} and --seq is {options.seq}", "give one of them")
    wrong = _INFERENCE_ONLY if options.train else _TRAIN_ONLY
    for name in wrong:
        if getattr(options, name) is not None:
            flag = "--" + name.replace("_", "-")
            hint = "leave out --train" if options.train else "add --train"
            raise UsageError(f"{flag} says nothing about {'training' if options.train else 'inference'}", hint)
    if options.train and options.keep:
        raise UsageError("--keep says nothing about training", "leave out --train")
    if not options.train and (options.dropout or options.cuda):
        raise UsageError("--dropout and --cuda say nothing about inference", "add --train")
    if options.fit is not None and options.gpu is not None:
        raise UsageError("--fit and --gpu both name a budget", "give one of them")


def _length(model: Model, options: argparse.Namespace) -> int:
    """As asked for, else a default within the model's positions."""
    longest = min(DEFAULT_CTX, model.max_position_embeddings or DEFAULT_CTX)
    length: int = options.ctx or options.seq or longest
    return length


def _loaded(options: argparse.Namespace) -> tuple[Model, Node | None]:
    """The model, and its weights as files hold them where they are quantised and no other format is asked for."""
    model, source = load_source(options)
    model = model or model_of(source, options.model)  # which says that there is none
    asked = options.train or options.dtype or options.group_size or options.keep or changed(options)
    if asked or (not model.quantization and source.opened is None):
        return model, None
    from txcalc.stored.weights import stored_weights

    return model, stored_weights(model, source)


def _inference(model: Model, options: argparse.Namespace, stored: Node | None) -> Node:
    return memory(
        model,
        weights=stored,
        ctx=_length(model, options),
        batch=options.batch,
        dtype=options.dtype,
        kv_dtype=options.kv_dtype,
        group_size=options.group_size,
        keep=dict(_kept(text) for text in options.keep),
        backend=options.backend,
        phase=options.phase or "prefill",
        batched_tokens=options.batched_tokens,
        source_ctx=options.source_ctx,
    )


def _kept(text: str) -> tuple[str, str]:
    module, equals, name = text.partition("=")
    if not equals or not module.strip() or not name.strip():
        raise UsageError(f"--keep: {text!r} is not MODULE=FORMAT", "write it as --keep down_proj=bf16")
    return module.strip(), name.strip()


def _training(model: Model, options: argparse.Namespace) -> Node:
    asked = Training(
        seq=_length(model, options),
        batch=options.batch,
        grad_accum=options.grad_accum or 1,
        recipe=options.precision,
        optimizer=options.optimizer or "adamw",
        recompute=options.recompute or "none",
        backend=options.backend,
        dropout=options.dropout,
        lora=parse_lora(options.lora) if options.lora else None,
        quantized=options.quantized,
        foreach=not options.fused,
        cuda=options.cuda,
    )
    return training_memory(model, asked)


# ---- the budget -----------------------------------------------------------------------------------------------------


def _budget(options: argparse.Namespace) -> int | None:
    if options.gpu is None:
        budget: int | None = options.fit
        return budget
    from txcalc.hardware import device

    found = device(options.gpu)
    seen, label = found.figures.get("visible_GiB"), found.figures.get("memory_GB")
    if seen is None:
        if label is None:
            raise RequestError(f"the memory of {found.name} was not read in any source", "say it: --fit 24GiB")
        return int(label * 10**9)
    return int(min(seen if isinstance(seen, list) else [seen]) * 2**30)  # machines differ: the least that was seen


def _fits(needed: int, budget: int | None) -> dict[str, Any]:
    return {} if budget is None else {"fit": {"bytes": budget, "needed": needed, "fits": needed <= budget}}


# ---- the answer -----------------------------------------------------------------------------------------------------


def _sections(tree: Node, options: argparse.Namespace, needed: int, budget: int | None) -> tuple[Section, ...]:
    if options.train:
        sections = [training_section(tree), states_section(tree), moments_section(tree)]
        sections += [adapters_section(tree)] if options.lora else []
    else:
        sections = [inference_section(tree)]
    return (*sections, *([fit_section(needed, budget)] if budget is not None else []))


def _title(model: Model, options: argparse.Namespace, *, in_part: bool, stored: bool) -> str:
    length = f"{_length(model, options):,} tokens"
    if options.train:
        recipe = options.precision or config_dtype(model.dtype).name
        how = (f"training, {length}", f"batch {options.batch}", recipe, options.optimizer or "adamw")
        return title(model, *how, f"recompute {options.recompute or 'none'}", options.backend, in_part=in_part)
    weights = "weights as stored" if stored else options.dtype or config_dtype(model.dtype).name
    return title(model, f"inference, {length}", f"batch {options.batch}", weights, options.backend, in_part=in_part)


def _inputs(model: Model, options: argparse.Namespace) -> dict[str, Any]:
    names = ("batch", "backend", "keep", "dropout", *_TRAIN_ONLY, *_INFERENCE_ONLY)
    given = {name: getattr(options, name) for name in names}
    inputs = {"phase": "train" if options.train else options.phase or "prefill", "ctx": _length(model, options)}
    return {**{name: value for name, value in given.items() if value not in (None, False, [])}, **inputs}


def _estimated(tree: Node) -> tuple[str, ...]:
    """Why the peak of a training step, or the activations of a pass, are no exact figure."""
    whole, activations = tree.find("memory.total"), tree.find("memory.activations")
    if whole.basis == "estimated":
        return (whole.reason,)
    return (f"activations, which stand outside the total: {activations.reason}",) * (activations.basis == "estimated")


def _unlike_stored(model: Model, options: argparse.Namespace, stored: Node | None) -> tuple[str, ...]:
    """Why weights in the model's own dtype are no exact figure: its files pack them, in a way that is not told."""
    if stored is not None or not model.quantization or options.dtype or options.train:
        return ()
    own = config_dtype(model.dtype).name
    return (f"weights are taken as {own}; the config says {model.quantization} stores them: --dtype names a format",)


def _notes(model: Model, options: argparse.Namespace, stored: Node | None) -> list[str]:
    notes = []
    if options.train:
        notes.append("one device: sharding over devices is out of scope, nothing here is divided")
    asked = asked_pass(model, ctx=_length(model, options), batch=options.batch, backend=options.backend)
    notes += fallbacks(model, asked.replace(dropout=options.dropout, cuda=options.cuda))
    if any(stack.role in ("vision", "audio") and stack is not model.main for stack in model.stacks):
        how = "frozen, and no" if options.train else "no"
        notes.append(f"weights of towers are counted; {how} image or sound runs through them here")
    if stored is not None:
        notes.append(f"weights {stored.convention}; --dtype names another format")
    tokens = _length(model, options) * options.batch
    if not options.train and options.phase != "decode" and not options.batched_tokens and tokens > DEFAULT_CTX:
        notes.append(f"activations of one pass over {tokens:,} tokens; engines take fewer at once: --batched-tokens 8k")
    return notes
