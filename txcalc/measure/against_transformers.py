"""Hugging Face transformers' own model of a config, on the meta device: the link from a config to an Architecture.

transformers reads the config with its own code and never sees an Architecture, so that an adapter that misreads a field
builds another model than it does.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from txcalc.architecture import Model
from txcalc.errors import RequestError
from txcalc.formulas.params import params
from txcalc.measure.comparing import Comparison, compared, skipped

_NATIVE: Final = "transformer"  # txcalc's own vocabulary for models without a config.json
_TIED_ALWAYS: Final = ("t5", "mt5", "umt5")


def against_transformers(model: Model, config: Mapping[str, Any]) -> Iterator[Comparison]:
    """Parameters of transformers' model beside ours; skipped, with the reason, where there is no such model."""
    import transformers

    version = f"transformers {transformers.__version__}"
    try:
        _require_comparable(model, version)
        measured = num_params(config)
    except RequestError as refused:
        yield skipped(model.name, "params", refused.message, oracle=version)
        return
    predicted = int(params(model).figures()["params.total"])
    yield compared(
        model.name, "params", "params.total", "every layer", predicted=predicted, measured=measured, oracle=version
    )


def num_params(config: Mapping[str, Any]) -> int:
    """Elements of every distinct parameter of transformers' model; tied ones once, buffers never.

    Raises:
        RequestError: there is no class for it, or the class refuses the config.
    """
    return sum(parameter.numel() for parameter in build(config).parameters())


def build(config: Mapping[str, Any]) -> Any:
    """transformers' model of a config on the meta device; no code of a model's own repository is ever run.

    Raises:
        RequestError: as ``num_params``.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a config is all there is; nothing is looked up
    import torch
    import transformers

    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        made = transformers.AutoConfig.for_model(**copy.deepcopy(dict(config)))
        with torch.device("meta"):
            model = _class_of(config, transformers)(made)
        model.tie_weights()
    except RequestError:
        raise
    except Exception as error:  # whatever its code makes of a config
        first = str(error).partition("\n")[0][:120]
        raise RequestError(f"transformers cannot build it: {type(error).__name__}: {first}") from None
    return model


def _class_of(config: Mapping[str, Any], transformers: Any) -> Any:
    """The class that ``architectures`` names, however it is capitalised."""
    names = config.get("architectures") or []
    if not names:
        raise RequestError("its config names no class (architectures)")
    for name in (names[0], *(each for each in dir(transformers) if each.lower() == names[0].lower())):
        if hasattr(transformers, name):
            return getattr(transformers, name)
    raise RequestError(f"transformers {transformers.__version__} has no {names[0]}")


def _require_comparable(model: Model, version: str) -> None:
    """Refuse what transformers has no model of, or one that is not the config's.

    Raises:
        RequestError: saying which.
    """
    if model.model_type == _NATIVE:
        raise RequestError("it is written in txcalc's own vocabulary, which transformers does not read")
    if model.model_type in _TIED_ALWAYS and model.head is not None and model.head.kind == "lm" and not model.head.tied:
        raise RequestError(f"{version} ties its head whatever the config says; checkpoints hold a matrix of its own")
