"""Recorded truth for real models: parameters, embedding and head, to the unit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from txcalc.configs import architecture_of, known_types
from txcalc.formulas.params import params

ENTRIES = json.loads((Path(__file__).parent.parent / "data" / "oracle-open.json").read_text())["entries"]
KNOWN = [entry for entry in ENTRIES if entry["config"]["model_type"] in known_types()]
# The recorded groups go by names of tensors; where that puts one elsewhere than we do, what is added to our figures.
# ViT's pooler and CLIP's projections and scale stand with the towers here, in the record with the head. DeBERTa's
# relative positions are no input table (2 * position_buckets vectors); a table that head and input share is named after
# the head in XLM-R.
RECORDED_AS_EMBEDDING: dict[str, Callable[[dict[str, Any]], int]] = {
    "deberta-v2": lambda config: 2 * config["position_buckets"] * config["hidden_size"],
    "xlm-roberta": lambda config: -config["vocab_size"] * config["hidden_size"],
}
RECORDED_AS_HEAD: dict[str, Callable[[dict[str, Any]], int]] = {
    "vit": lambda config: config["hidden_size"] ** 2 + config["hidden_size"],
    "clip": lambda config: (
        (config["text_config"]["hidden_size"] + config["vision_config"]["hidden_size"]) * config["projection_dim"] + 1
    ),
    "xlm-roberta": lambda config: config["vocab_size"] * config["hidden_size"],
}


def moved(to: dict[str, Callable[[dict[str, Any]], int]], config: dict[str, Any]) -> int:
    """Parameters that the record counts in a group and we do not."""
    return to[config["model_type"]](config) if config["model_type"] in to else 0


@pytest.mark.parametrize("entry", KNOWN, ids=lambda entry: str(entry["name"]))
def test_params_equal_the_recorded_truth(entry: dict[str, Any]) -> None:
    config = entry["config"]
    model = architecture_of(config)
    figures = params(model).figures()
    assert model.reasons == ()
    assert figures["params.total"] == entry["params_total"]
    assert figures["params.embedding"] == entry["params_embedding"] - moved(RECORDED_AS_EMBEDDING, config)
    assert figures["params.head"] == entry["params_lm_head_separate"] - moved(RECORDED_AS_HEAD, config)


@pytest.mark.parametrize("entry", [e for e in KNOWN if "params_active" in e], ids=lambda entry: str(entry["name"]))
def test_active_params_equal_the_recorded_truth(entry: dict[str, Any]) -> None:
    figures = params(architecture_of(entry["config"])).figures()
    assert figures["params.active"] == entry["params_active"]
    also_head = entry["params_embedding"] if entry["tied"] else 0  # the record keeps a table that is the head too
    assert figures["params.active_without_embedding"] == entry["params_active_without_input_embedding"] - also_head


def test_the_oracle_notices_a_wrong_count() -> None:
    """Negative control: one KV head less, and the recorded total no longer agrees."""
    entry = next(entry for entry in KNOWN if entry["name"] == "llama-3-8b")
    broken = architecture_of({**entry["config"], "num_key_value_heads": 4})
    assert params(broken).figures()["params.total"] != entry["params_total"]
