"""How many scores attention makes of a context, what a backend holds of them, and what other ways of mixing cost."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final

from txcalc.architecture import Model
from txcalc.cli.options import add_length, add_model, add_output, add_path, add_positive, load_model, model_facts, title
from txcalc.errors import UsageError
from txcalc.formulas.attention import attention
from txcalc.formulas.attention_curves import flops_curves, memory_curves
from txcalc.formulas.tape.walk import BACKENDS
from txcalc.formulas.workload import context_warnings
from txcalc.report import Answer
from txcalc.report.attention_sections import costs_section, crossing_section, held_section, scores_section
from txcalc.report.plot import Plot, draw, svg
from txcalc.report.write import text_width
from txcalc.result import Node

EXAMPLES: Final = """\
  txcalc attention llama3-8b --ctx 32k
  txcalc attention gpt2 --ctx 1024 --backend eager --explain
  txcalc attention llama3-8b --ctx 128k --plot
  txcalc attention llama3-8b --ctx 128k --plot flops --save curves.svg
"""
DEFAULT_CTX: Final = 4096
DEFAULT_PLOT: Final = "memory"
CURVES: Final = {"memory": (memory_curves, "B"), "flops": (flops_curves, "FLOP")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, the context, the backend, the curves and the output options."""
    add_model(parser)
    add_length(parser, "--ctx", f"tokens, default {DEFAULT_CTX:,} or what the model takes")
    add_length(parser, "--source-ctx", "tokens of the encoder, where there is one")
    add_positive(parser, "--batch", "sequences at once (default 1)", default=1)
    parser.add_argument("--backend", choices=BACKENDS, default="flash", help="of the headline figures (default flash)")
    add_length(parser, "--window", "of the sliding window in the table of ways to mix a sequence")
    parser.add_argument(
        "--plot",
        choices=tuple(CURVES),
        metavar="memory|flops",
        help=f"draw memory or FLOPs against the context; alone: {DEFAULT_PLOT}",
    )
    add_path(parser, "--save", "write that drawing to a file", metavar="FILE.svg")
    add_output(parser)


def prepared(arguments: list[str]) -> list[str]:
    """``--plot`` may stand alone, before a MODEL too: argparse's own optional value would take the MODEL for one."""
    found: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        found.append(argument)
        if argument == "--plot" and not _like_a_curve(following):
            found.append(DEFAULT_PLOT)
    return found


def _like_a_curve(text: str) -> bool:
    """A curve's name, or a slip of the pen that argparse should complain about."""
    from difflib import get_close_matches

    return bool(get_close_matches(text, CURVES, n=1, cutoff=0.75))


def run(options: argparse.Namespace) -> Answer:
    """The attention tree of the model, and curves where they are asked for."""
    if options.save and not options.save.lower().endswith(".svg"):
        raise UsageError(f"--save: {options.save!r} is not an SVG file", "write it as --save curves.svg")
    model = load_model(options)
    options.ctx = options.ctx or min(DEFAULT_CTX, model.max_position_embeddings or DEFAULT_CTX)
    tree = attention(
        model,
        ctx=options.ctx,
        batch=options.batch,
        backend=options.backend,
        window=options.window,
        source_ctx=options.source_ctx,
    )
    asked = (f"attention over {options.ctx:,} tokens", f"batch {options.batch}", options.backend)
    sections = (scores_section(tree), held_section(tree), crossing_section(tree), costs_section(tree))
    plot = _plot(model, options)
    return Answer(
        command="attention",
        title=title(model, *asked, in_part=bool(_estimated(tree))),
        model=model_facts(model),
        tree=tree,
        facts={"inputs": {"ctx": options.ctx, "batch": options.batch, "backend": options.backend}, **_curves(plot)},
        sections=tuple(section for section in sections if section is not None),
        warnings=tuple(context_warnings(model, options.ctx)),
        notes=(*model.notes, *_fallbacks(tree)),
        reasons=model.reasons,
        in_part=() if model.reasons else _estimated(tree),
        drawing=_drawn(plot, options),
    )


def _fallbacks(tree: Node) -> list[str]:
    """Backends that are not what runs, and why."""
    names: dict[str, list[str]] = {}
    for node in tree.children:
        if node.note.startswith("runs as"):
            names.setdefault(node.note, []).append(node.name.partition(":")[0])
    return [f"{' and '.join(dict.fromkeys(found))}: {note}" for note, found in names.items()]


def _estimated(tree: Node) -> tuple[str, ...]:
    """Why what the headline's backend holds or keeps is an estimate."""
    parts = (tree.find(f"attention.{name}") for name in ("materialised", "saved_for_backward"))
    return tuple(dict.fromkeys(f"{part.name}: {part.reason}" for part in parts if part.basis == "estimated"))


def _plot(model: Model, options: argparse.Namespace) -> Plot | None:
    if not options.plot and not options.save:
        return None
    name = options.plot or DEFAULT_PLOT
    make, unit = CURVES[name]
    contexts = _contexts(options.ctx)
    return Plot(title=f"{model.name}: {name} against the context", x=contexts, curves=make(model, contexts), unit=unit)


def _curves(plot: Plot | None) -> dict[str, Any]:
    return {} if plot is None else {"curves": {"ctx": list(plot.x), **{k: list(v) for k, v in plot.curves.items()}}}


def _drawn(plot: Plot | None, options: argparse.Namespace) -> tuple[str, ...]:
    """The curves as lines of text, and in a file where that is asked for."""
    if plot is None:
        return ()
    if options.save:
        _write(options.save, svg(plot))
    return tuple(draw(plot, width=text_width())) if options.plot else ()


def _contexts(most: int) -> tuple[int, ...]:
    """Powers of two up to the context, and the context."""
    powers = [2**k for k in range(7, 61) if 2**k < most]
    return (*powers[-12:], most)


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"--save: cannot write {path!r}: {error.strerror}", "choose another file") from None
    print(f"wrote {path}", file=sys.stderr)
