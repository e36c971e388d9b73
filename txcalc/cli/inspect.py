"""What goes where: every tensor of one forward pass, the tokens, and attention weights as heat maps."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from txcalc.cli.options import add_model, add_output, add_path, add_positive, load_model, model_facts
from txcalc.cli.torch_extra import readable, require_torch
from txcalc.errors import ModelError, RequestError, UsageError
from txcalc.report import Answer

if TYPE_CHECKING:
    from txcalc.reference.flow import Flow
    from txcalc.reference.specimen import Specimen
    from txcalc.report.heatmap import HeatMap

EXAMPLES: Final = """\
  txcalc inspect gpt2 --text "The cat sat on the mat."
  txcalc inspect ./SmolLM2-135M-Instruct.Q4_1.gguf --heads 5:3
  txcalc inspect llama3-8b --layers 4 --scale 16
  txcalc inspect deepseek-v3 --full
  txcalc inspect ./model --heads 0 --save heads.svg
"""


class Heads(NamedTuple):
    """Which attention weights to draw: one layer's, all its heads' or one's."""

    layer: int
    head: int | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, the text, how much is shown and how it is made to fit."""
    add_model(parser)
    parser.add_argument("--text", metavar="TEXT", help="what goes in (default: a short sentence)")
    parser.add_argument(
        "--every", action="store_true", help="open every layer, also those that are like the one before"
    )
    group = parser.add_argument_group("attention weights")
    group.add_argument("--heads", type=_heads, metavar="LAYER[:HEAD]", help="draw them as heat maps; counted from 0")
    group.add_argument("--cross", action="store_true", help="those of cross-attention")
    add_path(group, "--save", "write the heat maps there", metavar="FILE.svg")
    group = parser.add_argument_group("random weights")
    add_positive(group, "--layers", "so many layers, the first of every kind among them")
    add_positive(group, "--scale", "widths, heads, experts and vocabulary divided by this")
    group.add_argument("--full", action="store_true", help="the whole shape, without values")
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Run the model once and show what flowed. Returns the exit code."""
    require_torch("inspect")
    _require_fit(options)
    from txcalc.cli.app import write
    from txcalc.cli.inspect_tables import flow_tree, sections, tensor_facts
    from txcalc.reference.flow import flow

    specimen = _specimen(options)
    found = flow(specimen.model, specimen.inputs, source=specimen.source)
    maps = _maps(options.heads, specimen, found, cross=options.cross) if options.heads else []
    model = specimen.model.model
    answer = Answer(
        command="inspect",
        title=f"{model.name} ({model.model_type}) | {specimen.weights} weights | {_size(specimen)}",
        model=model_facts(model),
        tree=flow_tree(found.tensors),
        sections=sections(found.tensors, specimen.pieces, every=options.every),
        facts={"weights": specimen.weights, **tensor_facts(found.tensors, specimen.pieces), **_map_facts(maps)},
        notes=(*specimen.notes, *model.notes),
        reasons=model.reasons,
    )
    code = write(answer, options)
    if maps and not options.json and options.format == "table":
        _print(maps)
    if options.save:
        _save(maps, options.save, answer.title)
    return code


def _require_fit(options: argparse.Namespace) -> None:
    """Options that need each other, or exclude each other.

    Raises:
        UsageError: naming them.
        RequestError: heat maps could not be written where they are to go.
    """
    for option in ("save", "cross"):
        if getattr(options, option) and not options.heads:
            raise UsageError(f"--{option} is of heat maps, and needs --heads", "add --heads 0")
    if options.full and (options.layers or options.scale or options.heads):
        raise UsageError("--full shows the whole shape without values: no --layers, --scale or --heads with it")
    if options.heads and not options.save and options.format in ("md", "csv"):
        raise UsageError(f"--heads draws in the table, not in {options.format}", "add --save heads.svg, or take --json")
    if options.save and not options.save.lower().endswith(".svg"):
        raise UsageError(f"--save {options.save}: an SVG file is written", "name it something.svg")
    if options.save:
        from txcalc.measure.kept import writable

        writable(options.save, "--save")


def _specimen(options: argparse.Namespace) -> Specimen:
    from txcalc.reference import specimen

    text = specimen.TEXT if options.text is None else readable(options.text)
    if _has_weights(options.model) and not (options.layers or options.scale or options.full):
        from txcalc.reference.pretrained import find

        if options.set or options.gqa:
            raise UsageError("--set and --gqa change a shape; this model has weights of its own", "leave them out")
        return specimen.real(find(options.model), text)
    return specimen.random(_shape(options), text, layers=options.layers, scale=options.scale, full=options.full)


def _has_weights(name: str) -> bool:
    """Whether the path is a file of weights, or a directory that holds some."""
    path = os.path.expanduser(name)
    if not os.path.isdir(path):
        return path.lower().endswith((".gguf", ".safetensors"))
    try:
        return any(file.endswith(".safetensors") for file in os.listdir(path))
    except OSError:  # named when its config is read
        return False


def _shape(options: argparse.Namespace) -> Any:
    """The architecture alone, of a file with weights too."""
    if options.model.lower().endswith(".gguf"):
        from txcalc.reference.pretrained import find

        return find(options.model).model
    return load_model(options)


def _size(specimen: Specimen) -> str:
    count = sum(parameter.numel() for parameter in specimen.model.parameters())
    shape = " x ".join(str(size) for size in specimen.inputs.shape)
    return f"{count:,} parameters | input {shape}"


# ---- heat maps ------------------------------------------------------------------------------------------------------


def _heads(text: str) -> Heads:
    layer, colon, head = text.partition(":")
    if not layer.isdecimal() or (colon and not head.isdecimal()) or len(text) > 12:
        raise UsageError(f"--heads: {text[:40]!r} is not LAYER or LAYER:HEAD", "count from 0: --heads 5:3")
    return Heads(int(layer), int(head) if colon else None)


def _maps(heads: Heads, specimen: Specimen, found: Flow, *, cross: bool) -> list[HeatMap]:
    """The heat maps asked for.

    Raises:
        RequestError: no such layer, no attention in it, or no such head.
    """
    from txcalc.report.heatmap import HeatMap

    kind, weights = "cross" if cross else "self", found.output.weights
    depth, name = specimen.model.model.main.num_hidden_layers, specimen.model.model.name
    if heads.layer >= depth:
        raise RequestError(f"layer {heads.layer}: {name} has layers 0 to {depth - 1}", "choose one of them")
    if (heads.layer, kind) not in weights:
        having = sorted(layer for layer, each in weights if each == kind)
        hint = f"layers with {kind}-attention: {', '.join(map(str, having[:12]))}" if having else "it has none at all"
        raise RequestError(f"layer {heads.layer} of {name} has no {kind}-attention weights", hint)
    weights_NTS = weights[heads.layer, kind][0].float()
    if heads.head is not None and heads.head >= len(weights_NTS):
        raise RequestError(f"head {heads.head}: layer {heads.layer} has heads 0 to {len(weights_NTS) - 1}")
    chosen = range(len(weights_NTS)) if heads.head is None else [heads.head]
    texts = [text for _, text in specimen.pieces]
    rows, columns = (tuple(texts[:size] or map(str, range(size))) for size in weights_NTS.shape[1:])
    return [
        HeatMap(title=f"layer {heads.layer}, head {n}", weights=weights_NTS[n].tolist(), rows=rows, columns=columns)
        for n in chosen
    ]


def _map_facts(maps: list[HeatMap]) -> dict[str, Any]:
    return {"heads": [{"title": each.title, "weights": each.weights} for each in maps]} if maps else {}


def _print(maps: list[HeatMap]) -> None:
    from txcalc.report.heatmap import BLOCKS, PLAIN, draw
    from txcalc.report.write import terminal, text_width

    try:
        BLOCKS.encode(sys.stdout.encoding or "ascii")
        shades = BLOCKS
    except UnicodeEncodeError:
        shades = PLAIN
    for each in maps:
        lines = draw(each, width=text_width(), colour=terminal(sys.stdout), shades=shades)
        print("\n" + "\n".join(lines))


def _save(maps: list[HeatMap], path: str, title: str) -> None:
    """Write the maps to a file.

    Raises:
        ModelError: it cannot be written.
    """
    from txcalc.report.svg import svg

    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(svg(maps, title))
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror}", "check the path") from None
    print(f"saved {path}", file=sys.stderr)
