"""Options that several commands share, and what they mean for the answer."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from txcalc import units
from txcalc.architecture import Model
from txcalc.errors import ModelError, RequestError, UsageError
from txcalc.report.write import FORMATS

if TYPE_CHECKING:
    from txcalc.cards.finding import Source

T = TypeVar("T")
Options = argparse._ActionsContainer  # a parser or a group of its options

DEFAULT_MODEL = "llama3-8b"


def named(option: str, parse: Callable[[str], T]) -> Callable[[str], T]:
    """``parse`` with the option's name in its errors."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except UsageError as error:
            raise UsageError(f"{option}: {error.message}", error.hint) from None

    return parsed


def add_length(parser: Options, option: str, help_text: str, **fields: Any) -> None:
    """A length in tokens."""
    parse = named(option, units.length)
    parser.add_argument(option, type=parse, metavar="TOKENS", help=f"{help_text}: {units.LENGTH_FORMS}", **fields)


def add_positive(parser: Options, option: str, help_text: str, **fields: Any) -> None:
    """A positive whole number."""
    parser.add_argument(option, type=named(option, units.positive), metavar="N", help=help_text, **fields)


def add_path(parser: Options, option: str, help_text: str, *, metavar: str = "FILE", **fields: Any) -> None:
    """A path, or another word; an empty one is a variable of a shell that was never set, and no absence."""

    def given(text: str) -> str:
        if not text.strip():
            raise UsageError(f"{option}: {text!r} names no file", "name one, or leave the option out")
        return text

    parser.add_argument(option, type=given, metavar=metavar, help=help_text, **fields)


def add_memory(parser: Options, option: str, help_text: str) -> None:
    """An amount of memory."""
    parse = named(option, units.memory)
    parser.add_argument(option, type=parse, metavar="MEMORY", help=f"{help_text}: {units.MEMORY_FORMS}")


def add_dtype(parser: Options, option: str, help_text: str, **fields: Any) -> None:
    """The name of a storage format."""
    from txcalc.formulas.dtypes import dtype_named

    def known(text: str) -> str:
        try:
            return dtype_named(text).name
        except RequestError as error:
            raise UsageError(error.message, error.hint) from None

    parser.add_argument(option, type=named(option, known), metavar="DTYPE", help=help_text, **fields)


def add_model(
    parser: argparse.ArgumentParser, *, optional: bool = False, default: str = f"{DEFAULT_MODEL}'s shape"
) -> None:
    """MODEL and the what-ifs on it; ``default`` says what an optional one is when it is left out."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?" if optional else None,
        help="a card's name, a config.json or its directory, a card file, a .safetensors or .gguf file, - for standard "
        "input" + (f" (default: {default})" if optional else ""),
    )
    add_what_if(parser)


def add_what_if(parser: argparse.ArgumentParser) -> None:
    """Changes of the shape before it is looked at."""
    group = parser.add_argument_group("what-if on the shape")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a field of the config before it is read; dots reach nested ones; repeatable",
    )
    group.add_argument("--gqa", metavar="KV_HEADS", help="that many KV heads: 1 is MQA, mha is one for each query head")
    group.add_argument("--strict", action="store_true", help="refuse a config that is not understood in full")


def add_output(parser: argparse.ArgumentParser) -> None:
    """How the answer is written."""
    group = parser.add_argument_group("output")
    group.add_argument("--explain", action="store_true", help="open every number: formula, values, convention, source")
    style = group.add_mutually_exclusive_group()
    style.add_argument("--format", choices=FORMATS, default="table", help="default: table")
    style.add_argument("--json", action="store_true", help="short for --format json")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def load_model(options: argparse.Namespace) -> Model:
    """The model that MODEL, --set, --gqa and --strict describe."""
    from txcalc.cards import load

    return load(
        DEFAULT_MODEL if options.model is None else options.model,
        overrides=overrides(options),
        gqa=options.gqa,
        strict=options.strict,
    )


def load_source(options: argparse.Namespace) -> tuple[Model | None, Source]:
    """The same, with the weights beside it; no model where there are weights and nothing says of which model.

    Raises:
        ModelError: a shape was to be changed that is not known.
    """
    from txcalc.cards.finding import find_source
    from txcalc.cards.loading import model_of

    source = find_source(options.model)
    if source.card is None:
        if changed(options):
            raise ModelError(f"{options.model}: no config says which shape could be changed", "name a config.json")
        return None, source
    made = model_of(source, options.model, overrides=overrides(options), gqa=options.gqa, strict=options.strict)
    return made, source


def changed(options: argparse.Namespace) -> bool:
    """Whether the shape is a what-if."""
    return bool(options.set) or options.gqa is not None


def overrides(options: argparse.Namespace) -> dict[str, str]:
    """What --set asks for."""
    return dict(_override(text) for text in options.set)


def _override(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise UsageError(f"--set: {text!r} is not KEY=VALUE", "write it as --set num_hidden_layers=16")
    return key.strip(), value.strip()


def model_facts(model: Model) -> dict[str, Any]:
    """The model as the JSON document shows it."""
    return {
        "name": model.name,
        "model_type": model.model_type,
        "num_hidden_layers": model.main.num_hidden_layers,
        "dtype": model.dtype,
        "max_position_embeddings": model.max_position_embeddings,
        "quantization": model.quantization,
        "assumed": [{"key": key, "value": value, "from": origin} for key, value, origin in model.assumed],
    }


def title(model: Model, *parts: str, in_part: bool = False) -> str:
    """The first line of a table; ``in_part``: some figure is an estimate though the model is understood."""
    basis = "estimated" if model.reasons or in_part else "exact"
    return " | ".join([f"{model.name} ({model.model_type})", *parts, basis])
