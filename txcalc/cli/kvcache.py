"""How large the KV cache is at a context: what the model needs, what a full-length engine reserves, what fits."""

from __future__ import annotations

import argparse
from typing import Any, Final

from txcalc.architecture import Model
from txcalc.cli.options import (
    DEFAULT_MODEL,
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
    add_length(group, "--ctx", f"tokens in the cache, default {DEFAULT_CTX:,}", default=DEFAULT_CTX)
    add_length(group, "--source-ctx", "tokens of the encoder, where there is one")
    add_positive(group, "--batch", "sequences at once (default 1)", default=1)
    group.add_argument("--kv-dtype", metavar="DTYPE", help=f"default: the config's own, else bf16; {', '.join(DTYPES)}")
    group.add_argument("--state-dtype", metavar="DTYPE", default="fp32", help="of recurrent state (default fp32)")
    add_positive(group, "--block-size", "tokens in a block of a paged engine: adds blocks and rounding waste")
    add_memory(group, "--fit", "how many tokens and sequences fit in that much memory")
    add_output(parser)


def run(options: argparse.Namespace) -> Answer:
    """The cache tree of the model, and what was asked beside it."""
    model = load_model(options)
    question = {
        "batch": options.batch,
        "kv_dtype": options.kv_dtype,
        "source_ctx": options.source_ctx,
        "state_dtype": options.state_dtype,
    }
    tree = kv_cache(model, ctx=options.ctx, block_size=options.block_size, **question)
    variants = attention_variants(model, ctx=options.ctx, **question)
    fit = Fit(model, budget=options.fit, ctx=options.ctx, **{**question, "batch": 1}) if options.fit else None
    tree = tree.replace(children=(*tree.children, *variants, *(fit.nodes() if fit else ())))
    return Answer(
        command="kvcache",
        title=_title(model, options),
        model=model_facts(model),
        tree=tree,
        facts={"inputs": _inputs(model, options)},
        sections=_sections(tree, variants, options, fit),
        warnings=tuple(context_warnings(model, options.ctx)),
        notes=_notes(model, options, tree),
        reasons=model.reasons,
        exit_code=3 if fit is not None and fit.sequences == 0 else 0,
    )


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
    return (dtype_named(options.kv_dtype) if options.kv_dtype else config_dtype(model.dtype)).name


def _inputs(model: Model, options: argparse.Namespace) -> dict[str, Any]:
    inputs: dict[str, Any] = {"ctx": options.ctx, "batch": options.batch, "kv_dtype": _dtype(model, options)}
    optional = {"source_ctx": options.source_ctx, "block_size": options.block_size, "fit_bytes": options.fit}
    return inputs | {key: value for key, value in optional.items() if value is not None}


def _title(model: Model, options: argparse.Namespace) -> str:
    batch = f"batch {options.batch}"
    return title(model, f"KV cache at {options.ctx:,} tokens", batch, _dtype(model, options))


def _notes(model: Model, options: argparse.Namespace, tree: Node) -> tuple[str, ...]:
    notes = list(model.notes)
    if options.model is None:
        notes.append(f"no model named: the shape of {DEFAULT_MODEL}")
    groups = grouping(model)
    if groups is not None and groups[0] != groups[1]:
        queries, keys = groups
        notes.append(f"{keys} KV head{'s' if keys > 1 else ''}, each shared by {queries // keys} query heads")
    if not tree.find("kv_cache.bytes_per_token").value and not tree.find("kv_cache.state_bytes").value:
        notes.append("nothing is cached: every token sees every other at once")
    return tuple(notes)
