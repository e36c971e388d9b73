"""The one door from what a user typed to a Model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from txcalc.architecture import Model
from txcalc.architecture.variants import with_kv_heads
from txcalc.cards.finding import Source, find_source, require_card
from txcalc.cards.overrides import with_overrides
from txcalc.configs import architecture_of
from txcalc.configs.reader import MAX_LAYERS
from txcalc.errors import ModelError, UsageError

if TYPE_CHECKING:
    from txcalc.cards.checkpoint import Checkpoint

_GQA_FORMS: Final = "--gqa takes a number of KV heads (1 is MQA) or mha"

_KV_NAMES: Final = {None: "as many KV heads as query heads", 1: "1 KV head"}


def load(
    name: str,
    *,
    overrides: Mapping[str, Any] | None = None,
    gqa: str | int | None = None,
    strict: bool = False,
) -> Model:
    """The Model of a card name, a config.json, its directory, a card of one's own, a GGUF file or a hub id.

    ``overrides`` change the config before it is read (see ``overrides``); ``gqa`` is a number of KV heads, or ``mha``
    for as many as query heads; ``strict`` makes an error of what would otherwise be an estimate. The model's name says
    what was changed.

    Raises:
        RequestError: no such model, a file or field that is wrong, or KV heads that the model cannot have.
        UsageError: an override or ``gqa`` that cannot be read.
    """
    return model_of(find_source(name), name, overrides=overrides, gqa=gqa, strict=strict)


def model_of(
    source: Source,
    name: str,
    *,
    overrides: Mapping[str, Any] | None = None,
    gqa: str | int | None = None,
    strict: bool = False,
) -> Model:
    """As ``load``, of what was found; ``name`` is what the user typed, for errors."""
    card = require_card(source, name)
    config, keys = with_overrides(card.config, overrides or {})
    try:
        model = architecture_of(config, name=card.name, strict=strict, must_read=keys)
    except ModelError as error:
        raise ModelError(f"{name}: {error.message}", error.hint) from None
    if source.opened is not None and not overrides:
        model = model.replace(reasons=(*model.reasons, *_unlike(source.opened, model)))
    if strict and model.reasons:
        raise ModelError(f"{name}: not understood: {model.reasons[0]}", "leave out --strict to get an estimate")
    if source.notes:
        model = model.replace(notes=(*source.notes, *model.notes))
    longest = model.max_position_embeddings
    if card.context_length and longest and longest < card.context_length and "max_position_embeddings" not in keys:
        model = model.replace(max_position_embeddings=card.context_length)  # what its makers say it takes
    changes = [f"{key}={_shortened(value)}" for key, value in (overrides or {}).items()]
    if gqa is not None:
        kv_heads = _kv_heads(gqa)
        grouped = with_kv_heads(model, kv_heads)
        _require_one_number(keys, overrides or {}, gqa, same=grouped == model)
        model = grouped
        changes.append(_KV_NAMES.get(kv_heads, f"{kv_heads} KV heads"))
    return model.replace(name=f"{card.name} with {', '.join(changes)}") if changes else model


# Tensors of a GGUF file that are no parameters: rotary factors, balancing biases, and blocks beside the model.
_NO_PARAMETERS: Final = re.compile(r"rope_(freqs|factors_\w+)\.weight|.*\.exp_probs_b\.bias|blk\.\d+\.nextn\..*")


def _unlike(opened: Checkpoint, model: Model) -> list[str]:
    """Why a GGUF file's own tensors do not bear out its metadata: their elements are not the model's parameters."""
    from txcalc.formulas.params import params  # here: finding a card needs no formulas

    layers = model.main.num_hidden_layers if model.extra else MAX_LAYERS
    held = sum(each.numel for name, each in opened.tensors.items() if not _apart(name, layers))
    total = int(params(model).figures()["params.total"])
    return [] if held == total else [f"its tensors have {held:,} elements, and its metadata describes {total:,}"]


def _apart(name: str, layers: int) -> bool:
    block = re.match(r"blk\.(\d{1,9})\.", name)
    return _NO_PARAMETERS.fullmatch(name) is not None or (block is not None and int(block[1]) >= layers)


_KV_KEYS: Final = ("num_key_value_heads", "num_kv_heads", "kv_n_heads", "multi_query")


def _require_one_number(keys: list[str], overrides: Mapping[str, Any], gqa: str | int, *, same: bool) -> None:
    """Two numbers of KV heads that differ are a question without an answer.

    Raises:
        UsageError: ``gqa`` and an override of the KV heads disagree.
    """
    for path, key in zip(keys, overrides, strict=True):
        if path.rpartition(".")[2] in _KV_KEYS and not same:
            raise UsageError(
                f"--gqa {gqa} and --set {key}={_shortened(overrides[key])} disagree", "leave out one of them"
            )


def _shortened(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _kv_heads(gqa: str | int) -> int | None:
    """None for ``mha``."""
    text = str(gqa).strip().lower()
    if text in ("mha", "mqa"):
        return None if text == "mha" else 1
    if not text.lstrip("-").isdecimal() or len(text) > 12:
        raise UsageError(f"--gqa {text[:40]} is not a number of KV heads", _GQA_FORMS)
    return int(text)
