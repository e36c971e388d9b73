"""Every default of the dense decoder types is the one that transformers' config class declares."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import transformers

from tests.oracles.transformers_meta import default_config
from tests.strategies import attention_of, read
from txcalc.architecture import Rotary
from txcalc.configs.registry import type_of

TYPES = (
    "qwen2 qwen3 phi phi3 gpt2 gpt_bigcode gptj gpt_neox opt bloom mpt falcon starcoder2 stablelm cohere olmo2"
).split()
LEGACY_ROTARY = {
    "partial_rotary_factor": "partial_rotary_factor",
    "rotary_pct": "partial_rotary_factor",
    "rotary_emb_base": "rope_theta",
}
NOT_DECLARED = {("olmo2", "head_dim"): None}  # read where a config has it


def declared(model_type: str) -> dict[str, Any]:
    """Field -> default of the config class, before it derives one field from another."""
    return {field.name: field.default for field in fields(type(transformers.AutoConfig.for_model(model_type)))}


@pytest.mark.parametrize("model_type", TYPES)
def test_defaults(model_type: str) -> None:
    kind, theirs = type_of(model_type), declared(model_type)
    rotary = default_config(model_type).get("rope_parameters", {})
    for key, value in kind.defaults.items():
        own = kind.aliases.get(key, key)
        if (model_type, key) in NOT_DECLARED:
            assert value is NOT_DECLARED[model_type, key]
            assert key not in theirs
        elif key in LEGACY_ROTARY:
            assert value == rotary[LEGACY_ROTARY[key]]
        else:
            assert value == theirs[own if own in theirs else key], key


@pytest.mark.parametrize("model_type", TYPES)
def test_rotary_defaults(model_type: str) -> None:
    """The setting of a config that says nothing about it, where the type has rotary positions."""
    rotary = default_config(model_type).get("rope_parameters")
    attention = attention_of(read({"model_type": model_type}))
    position = attention.position
    if rotary is None:
        assert model_type == "gptj" or not isinstance(position, Rotary)
        return
    assert isinstance(position, Rotary)
    assert position.theta == rotary["rope_theta"]
    assert position.rotary_dim == int(attention.head_dim * rotary.get("partial_rotary_factor", 1.0))
