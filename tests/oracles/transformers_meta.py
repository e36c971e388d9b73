"""Hugging Face transformers as an oracle: the real model class on the meta device, its tensors counted by torch."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
import transformers

# The class for a config without `architectures`, by what its type is published as.
AUTO_CLASSES = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForMaskedLM", "AutoModel")


def build(config: dict[str, Any]) -> torch.nn.Module:
    """The transformers model of a config.json, on the meta device; ``architectures[0]`` names its class."""
    config = copy.deepcopy(config)
    made = transformers.AutoConfig.for_model(**config)
    names = config.get("architectures") or []
    with torch.device("meta"):
        model = getattr(transformers, names[0])(made) if names else _auto(made)
    model.tie_weights()
    return model


def _auto(made: Any) -> torch.nn.Module:
    for name in AUTO_CLASSES:
        try:
            return getattr(transformers, name).from_config(made)
        except ValueError:  # this task is not one of the type's
            continue
    raise LookupError(made.model_type)


def num_params(config: dict[str, Any]) -> int:
    """Elements of every distinct parameter; tied ones once, buffers never."""
    return count(build(config))


def count(model: torch.nn.Module) -> int:
    """Elements of a module's distinct parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


@cache
def default_config(model_type: str) -> dict[str, Any]:
    """What transformers' own config class writes for a type with no arguments."""
    return transformers.AutoConfig.for_model(model_type).to_dict()
