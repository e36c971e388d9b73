"""KV cache of real models against recorded truth: transformers' own cache, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from txcalc.configs import architecture_of, known_types
from txcalc.formulas.kv_cache import kv_cache

ENTRIES = json.loads((Path(__file__).parent.parent / "data" / "oracle-open.json").read_text())["entries"]
KNOWN = [
    entry
    for entry in ENTRIES
    if entry["config"]["model_type"] in known_types() and "kv_elements_per_token_per_layer" in entry
]
CTX = 8192

# The recorded cache keeps these layers at full length, or holds no indexer keys; design: what the model needs.
KEPT_LONGER = {"gpt_neo"}
INDEXER_KEYS = {"glm_moe_dsa": 128, "deepseek_v32": 128}


def needed(entry: dict[str, Any]) -> tuple[int, int]:
    """(total bytes, reserved bytes) at 8,192 tokens in 2-byte elements, from the recorded rows."""
    total = reserved = 0
    layers = 0
    for row in entry["kv_elements_per_token_per_layer"]:
        per_token = row["n_layers"] * entry.get("kv_elements_per_token_per_layer_gqa", row["elements"]) * 2
        total += per_token * min(CTX, row["window"] or CTX)
        reserved += per_token * CTX
        layers += row["n_layers"]
    extra = INDEXER_KEYS.get(entry["config"]["model_type"], 0) * layers * 2 * CTX
    return total + extra, reserved + extra


@pytest.mark.parametrize(
    "entry", [e for e in KNOWN if e["config"]["model_type"] not in KEPT_LONGER], ids=lambda entry: str(entry["name"])
)
def test_cache_equals_the_recorded_one(entry: dict[str, Any]) -> None:
    model = architecture_of(entry["config"])
    source = CTX if model.stack("encoder") is not None else None  # recorded a source token; Whisper has 1,500 of them
    figures = kv_cache(model, ctx=CTX, source_ctx=source, kv_dtype="bf16").figures()
    total, reserved = needed(entry)
    assert figures["kv_cache.total_bytes"] == total
    assert figures["kv_cache.reserved_bytes"] == reserved


def test_the_oracle_notices_an_ignored_window() -> None:
    """Negative control: a Mistral whose window is dropped caches more than was recorded."""
    entry = next(entry for entry in KNOWN if entry["name"] == "mistral-7b-v0.1")
    blind = architecture_of({**entry["config"], "sliding_window": None})
    assert kv_cache(blind, ctx=CTX, kv_dtype="bf16").figures()["kv_cache.total_bytes"] != needed(entry)[0]
