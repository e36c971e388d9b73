"""What ``txcalc bench`` is asked to run: the values of its options, and the plan that they and the machine allow."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from txcalc import units
from txcalc.cli.options import changed, load_model, named, overrides
from txcalc.cli.torch_extra import BACKENDS
from txcalc.errors import UsageError

if TYPE_CHECKING:
    from txcalc.measure.plan import Plan
    from txcalc.reference import Transformer
    from txcalc.reference.device import Device


def plan_of(options: argparse.Namespace, device: Device) -> tuple[Plan, Transformer | None]:
    """The plan, as large as fits; and the model with its weights, where the file has them."""
    from txcalc.measure import plan as plans

    dtype = options.dtype or (plans.default_dtype() if device.name == "cpu" else "bf16")
    pretrained = None if changed(options) else _with_weights(options.model)  # another shape has no weights
    model = pretrained.model if pretrained is not None else _model(options)
    plans.require_decoder(model)
    whole = model.main.num_hidden_layers
    model = plans.with_layers(plans.in_dtype(model, dtype), options.layers or whole)
    made = plans.Plan(model=model, whole_layers=whole, new_tokens=options.new_tokens, dtype=dtype)
    chosen = {"ctxs": options.ctx, "batches": options.batch, "backends": options.backend, "seconds": options.seconds}
    chosen["limit"] = options.limit
    chosen |= {"compare_everywhere": bool(options.backend), "graphs": options.graphs, "compiled": options.compile}
    made = made.replace(**{name: value for name, value in chosen.items() if value})
    if options.dry_run:
        return made, None
    made = plans.fitted(made, device.free_memory(), asked=bool(options.layers))
    if pretrained is None or made.shrunk or device.name != "cpu":
        return made, None
    from txcalc.reference.pretrained import load

    return made, load(pretrained, dtype=made.torch_dtype, ctx=max(made.ctxs) + made.new_tokens)


def require_sense(options: argparse.Namespace) -> None:
    """Refuse what would be read and then do nothing.

    Raises:
        UsageError: naming the option.
    """
    if options.graphs and not options.gpu:
        raise UsageError("--graphs is for a GPU: a CPU plays nothing back", "txcalc bench --gpu --graphs, or --compile")
    if options.train and options.ctx:
        raise UsageError("--ctx is of prompts, and --train has none", "name the tokens of a step: --seq 512")
    if options.train and options.attention_only:
        raise UsageError("--train and --attention-only are two measurements", "give one of them")
    if not options.train and (options.seq or options.recompute != "none"):
        raise UsageError(f"--{'seq' if options.seq else 'recompute'} is of a training step", "add --train")


def _model(options: argparse.Namespace) -> Any:
    """The model named, or the default shape; with what --set and --gqa change."""
    if options.model:
        return load_model(options)
    from txcalc.cards.card import Card
    from txcalc.cards.finding import Source
    from txcalc.cards.loading import model_of
    from txcalc.measure.plan import DEFAULT_CONFIG

    card = Card(name="default shape", config=DEFAULT_CONFIG)
    changes = {"overrides": overrides(options), "gqa": options.gqa, "strict": options.strict}
    return model_of(Source(card=card), card.name, **changes)


def weights_path(name: str | None) -> str:
    """The path with weights that MODEL is; nothing for a card, a config, or a directory without weights."""
    if not name:
        return ""
    directory = os.path.isdir(name) and any(each.endswith(".safetensors") for each in os.listdir(name))
    return name if directory or name.lower().endswith(".gguf") else ""


def _with_weights(name: str | None) -> Any:
    """What that path holds; None where there is none."""
    path = weights_path(name)
    if not path:
        return None
    from txcalc.reference.pretrained import find

    return find(path)


# ---- option values --------------------------------------------------------------------------------------------------


def lengths(text: str) -> tuple[int, ...]:
    """Of prompts, with commas between."""
    return tuple(named("--ctx", units.length)(part) for part in text.split(","))


def counts(text: str) -> tuple[int, ...]:
    """Of sequences, with commas between."""
    return tuple(named("--batch", units.positive)(part) for part in text.split(","))


def backends(text: str) -> tuple[str, ...]:
    """Names of attention backends, each once.

    Raises:
        UsageError: one that is not known.
    """
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in BACKENDS:
            raise UsageError(f"--backend: {name!r} is not known", f"one or more of {', '.join(BACKENDS)}")
    return names


def seconds(option: str) -> Callable[[str], float]:
    """A time that a person would wait: a number, above none at all and at most an hour."""
    from txcalc.cli.torch_extra import finite

    def parsed(text: str) -> float:
        value = finite(text)
        if not 0 < value <= 3600:
            raise UsageError(f"{text} is out of range", "more than 0, at most 3600")
        return value

    return named(option, parsed)
