"""How large the KV cache is at a context: what the model needs, what a full-length engine reserves, what fits."""

from __future__ import annotations

import argparse
from typing import Any, Final

from txcalc.architecture import Model
from txcalc.cli.options import (
    DEFAULT_MODEL,
    add_dtype,
    add_length,
    add_memory,
    add_model,
    add_output,
    add_positive,
    load_model,
    model_facts,
    title,
)
from txcalc.formulas.dtypes import DTYPES, config_dtype, dtype_named
from txcalc.formulas.kv_cache import Fit, kv_cache
from txcalc.formulas.kv_variants import attention_variants, grouping
from txcalc.formulas.workload import context_warnings
from txcalc.report import Answer
from txcalc.report.cache_sections import cache_section, fit_section, paging_section, variants_section
from txcalc.result import Node

EXAMPLES: Final = """\
  txcalc kvcache --ctx 32k --gqa 8
  txcalc kvcache deepseek-v3 --ctx 128k --batch 8 --kv-dtype fp8 --block-size 64
  txcalc kvcache gemma-3-27b --ctx 128k --fit 24GiB
  txcalc kvcache t5-large --ctx 512 --source-ctx 2k --explain
"""

DEFAULT_CTX: Final = 8192


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, the workload and the output options."""
    add_model(parser, optional=True)
    group = parser.add_argument_group("workload")
    add_length(group, "--ctx", f"tokens in the cache (default {DEFAULT_CTX:,}, or what it was trained on if less)")
    add_length(group, "--source-ctx", "tokens of the encoder, where there is one")
    add_positive(group, "--batch", "sequences at once (default 1)", default=1)
    add_dtype(group, "--kv-dtype", f"default: the config's own, else bf16; {', '.join(DTYPES)}")
    add_dtype(group, "--state-dtype", "of recurrent state (default fp32)", default="fp32")
    add_positive(group, "--block-size", "tokens in a block of a paged engine: adds blocks and rounding waste")
    add_memory(group, "--fit", "how many tokens and sequences the cache alone has room for in that much memory")
    add_output(parser)


def run(options: argparse.Namespace) -> Answer:
    """The cache tree of the model, and what was asked beside it."""
    model = load_model(options)
    options.ctx = options.ctx or min(DEFAULT_CTX, model.max_position_embeddings or DEFAULT_CTX)
    question = {
        "batch": options.batch,
        "kv_dtype": options.kv_dtype,
        "source_ctx": options.source_ctx,
        "state_dtype": options.state_dtype,
    }
    tree = kv_cache(model, ctx=options.ctx, block_size=options.block_size, **question)
    variants = attention_variants(model, ctx=options.ctx, **question)
    fit = _fit(model, options, question)
    tree = tree.replace(children=(*tree.children, *variants, *(fit.nodes() if fit else ())))
    return Answer(
        command="kvcache",
        title=_title(model, options),
        model=model_facts(model),
        tree=tree,
        facts={"inputs": _inputs(model, options)},
        sections=_sections(tree, variants, options, fit),
        warnings=tuple(context_warnings(model, options.ctx)),
        notes=_notes(model, options, tree, fit),
        reasons=model.reasons,
        exit_code=3 if _too_many(fit, options) else 0,
    )


def _fit(model: Model, options: argparse.Namespace, question: dict[str, Any]) -> Fit | None:
    if not options.fit:
        return None
    one = {**question, "batch": 1, "block_size": options.block_size}
    return Fit(model, budget=options.fit, ctx=options.ctx, **one)


def _too_many(fit: Fit | None, options: argparse.Namespace) -> bool:
    """Whether the batch asked about does not fit."""
    return fit is not None and fit.sequences is not None and fit.sequences < options.batch


def _sections(tree: Node, variants: list[Node], options: argparse.Namespace, fit: Fit | None) -> tuple[Any, ...]:
    sections = [cache_section(tree)]
    if variants:
        sections.append(variants_section(variants))
    if options.block_size:
        sections.append(paging_section(tree, options.block_size))
    if fit is not None:
        sections.append(fit_section(fit.nodes(), options.fit))
    return tuple(sections)


def _dtype(model: Model, options: argparse.Namespace) -> str:
    return (config_dtype(model.dtype) if options.kv_dtype is None else dtype_named(options.kv_dtype)).name


def _inputs(model: Model, options: argparse.Namespace) -> dict[str, Any]:
    inputs: dict[str, Any] = {"ctx": options.ctx, "batch": options.batch, "kv_dtype": _dtype(model, options)}
    optional = {"source_ctx": options.source_ctx, "block_size": options.block_size, "fit_bytes": options.fit}
    return inputs | {key: value for key, value in optional.items() if value is not None}


def _title(model: Model, options: argparse.Namespace) -> str:
    batch = f"batch {options.batch}"
    return title(model, f"KV cache at {options.ctx:,} tokens", batch, _dtype(model, options))


def _notes(model: Model, options: argparse.Namespace, tree: Node, fit: Fit | None) -> tuple[str, ...]:
    notes = list(model.notes)
    if options.model is None:
        notes.append(f"no model named: the shape of {DEFAULT_MODEL}")
    groups = grouping(model)
    if groups is not None and groups[0] != groups[1]:
        queries, keys = groups
        notes.append(f"{keys} KV head{'s' if keys > 1 else ''}, each shared by {queries // keys} query heads")
    if not tree.find("kv_cache.bytes_per_token").value and not tree.find("kv_cache.state_bytes").value:
        notes.append("nothing is cached: every token sees every other at once")
    if options.kv_dtype is None and config_dtype(model.dtype).name == "fp32":
        notes.append("fp32 is the config's own dtype; an engine that runs it in bf16 caches half: --kv-dtype bf16")
    if _too_many(fit, options):
        notes.append(f"{options.batch} sequence{'s' * (options.batch > 1)} of {options.ctx:,} tokens: no room for that")
    return tuple(notes)
