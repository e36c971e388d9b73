"""The link from a config to an Architecture: transformers' model, a checkpoint's tensors, a published count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.cards.conftest import refused
from tests.reference import published
from txcalc.architecture import Model
from txcalc.cards import Published, find
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.measure.against_checkpoint import against_checkpoint
from txcalc.measure.against_published import against_published
from txcalc.measure.against_transformers import against_transformers
from txcalc.measure.comparing import Comparison
from txcalc.reference import build
from txcalc.reference.weights import to_checkpoint

LINK = "config to architecture"


def model_of(config: dict[str, Any]) -> Model:
    return architecture_of(config, name="mine")


# ---- transformers ---------------------------------------------------------------------------------------------------


def transformers_on(model: Model, config: dict[str, Any]) -> Comparison:
    (found,) = against_transformers(model, config)
    assert found.link == LINK
    assert found.oracle.startswith("transformers ")
    return found


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "t5", "mixtral"])
def test_transformers_builds_the_same_number(model_type: str) -> None:
    config = published.config(model_type)
    found = transformers_on(model_of(config), config)
    assert (found.verdict, found.predicted) == ("passed", found.measured)


@pytest.mark.parametrize(
    "misread",
    [{"num_key_value_heads": 4}, {"attention_bias": True}, {"tie_word_embeddings": True}, {"head_dim": 16}],
    ids=lambda changes: next(iter(changes)),
)
def test_an_adapter_that_misreads_a_field_is_found(misread: dict[str, Any]) -> None:
    """Negative control: the Architecture of another config than transformers reads."""
    found = transformers_on(model_of(published.config("llama", **misread)), published.config("llama"))
    assert found.verdict == "failed"
    assert found.difference


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architectures": ["LlamaForTelepathy"]}, "has no LlamaForTelepathy"),
        ({"architectures": []}, "names no class"),
        ({"hidden_size": "wide"}, "transformers cannot build it"),
    ],
    ids=["class", "no class", "value"],
)
def test_what_transformers_cannot_build_is_skipped_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    found = transformers_on(model_of(published.config("llama")), {**published.config("llama"), **changes})
    assert found.verdict == "skipped"
    assert reason in found.note


def test_a_head_that_transformers_ties_against_the_config_is_skipped() -> None:
    """T5 v1.1 has an output matrix of its own; its config says so, and transformers 5 ties it all the same."""
    config = published.config("t5", tie_word_embeddings=False)
    found = transformers_on(model_of(config), config)
    assert (found.verdict, "ties its head" in found.note) == ("skipped", True)


def test_a_card_in_txcalcs_own_vocabulary_is_skipped() -> None:
    card = find("transformer-base")
    found = transformers_on(architecture_of(card.config, name=card.name), dict(card.config))
    assert (found.verdict, "own vocabulary" in found.note) == ("skipped", True)


def test_a_class_is_found_however_it_is_capitalised() -> None:
    """MPT's configs say MPTForCausalLM; transformers has MptForCausalLM."""
    config = published.config("mpt", architectures=["MPTForCausalLM"])
    assert transformers_on(model_of(config), config).verdict == "passed"


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def tensors(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    return to_checkpoint(build(model_of(config)))


def checkpoint_on(config: dict[str, Any], state: dict[str, torch.Tensor], directory: Path) -> Comparison:
    save_file(state, directory / "model.safetensors")
    (found,) = against_checkpoint(model_of(config), str(directory))
    assert found.link == LINK
    return found


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "t5", "deepseek_v3", "qwen3_next"])
def test_a_checkpoint_has_the_same_tensors(model_type: str, tmp_path: Path) -> None:
    config = published.config(model_type)
    found = checkpoint_on(config, tensors(config), tmp_path)
    assert (found.verdict, found.predicted, found.note) == ("passed", found.measured, "")


def test_a_tied_head_that_is_stored_twice_counts_once(tmp_path: Path) -> None:
    config = published.config("llama", tie_word_embeddings=True)
    state = tensors(config)
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    found = checkpoint_on(config, state, tmp_path)
    assert (found.verdict, found.predicted) == ("passed", found.measured)


def test_a_single_file_is_enough(tmp_path: Path) -> None:
    config = published.config("llama")
    save_file(tensors(config), tmp_path / "weights.safetensors")
    (found,) = against_checkpoint(model_of(config), str(tmp_path / "weights.safetensors"))
    assert found.verdict == "passed"
    assert "weights.safetensors" in found.oracle


def test_missing_surplus_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    config = published.config("llama")
    state = tensors(config)
    del state["model.norm.weight"]
    state["model.extra.weight"] = torch.zeros(3)
    state["lm_head.weight"] = torch.zeros(67, 16)
    found = checkpoint_on(config, state, tmp_path)
    assert found.verdict == "failed"
    assert "missing: model.norm.weight" in found.note
    assert "left over: model.extra.weight" in found.note
    assert "lm_head.weight is [67, 16], expected [67, 32]" in found.note


def test_the_count_is_the_checkpoints_own(tmp_path: Path) -> None:
    """Negative control by hand: a config of 4 KV heads for weights of 2 has 3 layers * 2 * 32 * 16 elements more."""
    config = published.config("llama")
    found = checkpoint_on(published.config("llama", num_key_value_heads=4), tensors(config), tmp_path)
    assert (found.verdict, found.difference) == ("failed", 3 * 2 * 32 * 16)


@pytest.mark.parametrize("path", ["none", "none.safetensors", "none.gguf"])
def test_a_path_without_weights_is_the_callers_fault(path: str, tmp_path: Path) -> None:
    with refused(path, "does not exist", hint="transformers", kind=ModelError):
        list(against_checkpoint(model_of(published.config("llama")), str(tmp_path / path)))


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\\xff" * 20)
    with refused("model.safetensors", kind=ModelError):
        list(against_checkpoint(model_of(published.config("llama")), str(path)))


# ---- published counts -----------------------------------------------------------------------------------------------


def entry(value: int, **fields: Any) -> Published:
    return Published(**{"figure": "params.total", "value": value, "source": "a table", "relation": "exact", **fields})


@pytest.mark.parametrize(
    ("published_", "verdict"),
    [
        (entry(27_552), "passed"),
        (entry(27_553), "failed"),
        (entry(28_000, relation="rounded", rounded_to=1000), "passed"),
        (entry(29_000, relation="rounded", rounded_to=1000), "failed"),
        (entry(27_600, relation="buffers among them", difference=48), "passed"),
        (entry(27_600, relation="buffers among them", difference=47), "failed"),
    ],
    ids=["equal", "off by one", "rounded", "rounded wrongly", "explained", "explained wrongly"],
)
def test_published_counts(published_: Published, verdict: str) -> None:
    """A tiny Llama has 27,552 parameters (by hand in ``test_check``)."""
    (found,) = against_published(model_of(published.config("llama")), [published_])
    assert (found.verdict, found.predicted, found.measured) == (verdict, 27_552, published_.value)
    assert found.link == LINK
    assert "a table" in found.note


def test_a_published_figure_of_another_kind_is_left_alone() -> None:
    assert list(against_published(model_of(published.config("llama")), [entry(1, figure="flops.per_token")])) == []


def test_a_config_is_not_changed_by_comparing() -> None:
    config = published.config("gemma3")
    before = json.dumps(config)
    list(against_transformers(model_of(config), config))
    assert json.dumps(config) == before
