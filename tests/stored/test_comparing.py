"""A checkpoint beside its config: equal where it is, every difference named where it is not, elements accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.packaged import SMOLLM2, packaged
from tests.reference import published, published_hybrids, published_width
from tests.stored.files import gguf_parts, sharded, tensors, written
from txcalc.cards.checkpoint import open_checkpoint
from txcalc.cards.finding import find_source
from txcalc.cards.loading import load
from txcalc.configs import architecture_of
from txcalc.stored import comparing
from txcalc.stored.comparing import Accounting, compare

EVERY = {**published.every(), **published_width.every(), **published_hybrids.every()}
FEW = ("llama", "gpt2", "mixtral", "deepseek_v3", "qwen3_next", "gpt_oss", "bert", "t5", "gemma3", "bart", "falcon_h1")


def accounted(config: dict[str, Any], state: dict[str, torch.Tensor], directory: Path) -> Accounting:
    found = compare(open_checkpoint(written(directory, config, state)), architecture_of(config))
    assert found.total is not None
    assert found.total + sum(each.elements for each in found.differences) == found.checkpoint.numel
    assert sum(map(len, found.components.values())) == len(state)
    return found


def only(found: Accounting) -> comparing.Difference:
    (difference,) = found.differences
    return difference


@pytest.mark.parametrize("name", FEW)
def test_a_models_own_tensors_agree(name: str, tmp_path: Path) -> None:
    """Elements and bytes are torch's; buffers are the only difference there may be."""
    state = tensors(EVERY[name])
    found = accounted(EVERY[name], state, tmp_path)
    assert found.agrees
    assert {each.what for each in found.differences} <= {comparing.BUFFERS}
    assert found.checkpoint.numel == sum(tensor.numel() for tensor in state.values())
    assert found.checkpoint.nbytes == sum(tensor.nbytes for tensor in state.values())


def test_components_are_those_of_the_parameters(tmp_path: Path) -> None:
    """Mixtral's, from torch's own shapes."""
    state = tensors(EVERY["mixtral"])
    found = accounted(EVERY["mixtral"], state, tmp_path)
    sums = {kind: sum(state[name].numel() for name in names) for kind, names in found.components.items()}
    assert sums["experts"] == sum(t.numel() for n, t in state.items() if ".experts." in n)
    assert sums["attention"] == sum(t.numel() for n, t in state.items() if ".self_attn." in n)
    assert sums["router"] == sum(t.numel() for n, t in state.items() if ".gate." in n)
    assert sums["head"] == state["lm_head.weight"].numel()


def test_a_sharded_checkpoint_is_one(tmp_path: Path) -> None:
    config = EVERY["llama"]
    state = tensors(config)
    found = compare(open_checkpoint(sharded(tmp_path, config, state)), architecture_of(config))
    assert (found.agrees, found.checkpoint.files, found.checkpoint.numel) == (True, 3, 27_552)


def test_a_tied_head_stored_twice_is_named(tmp_path: Path) -> None:
    config = published.config("llama", tie_word_embeddings=True)
    state = tensors(config)
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    found = accounted(config, state, tmp_path)
    assert found.agrees
    assert (only(found).what, only(found).names) == (comparing.TIED, ("lm_head.weight",))
    assert only(found).elements == 67 * 32


def test_buffers_are_named(tmp_path: Path) -> None:
    """The published GPT-2 holds a mask a layer."""
    state = {**tensors(EVERY["gpt2"]), "transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64)}
    found = accounted(EVERY["gpt2"], state, tmp_path)
    assert found.agrees
    assert (only(found).what, only(found).elements, only(found).nbytes) == (comparing.BUFFERS, 4096, 4 * 4096)


def test_a_multi_token_block_is_named(tmp_path: Path) -> None:
    state = {**tensors(EVERY["qwen3_next"]), "mtp.fc.weight": torch.ones(32, 64), "mtp.norm.weight": torch.ones(32)}
    found = accounted(EVERY["qwen3_next"], state, tmp_path)
    assert found.agrees
    assert (only(found).what, only(found).elements) == (comparing.EXTRA, 32 * 64 + 32)


def test_missing_surplus_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    """Negative control: a file that is not its config's says so, and still every element is accounted for."""
    config = EVERY["llama"]
    state = tensors(config)
    del state["model.norm.weight"]
    state["model.extra.weight"] = torch.zeros(3)
    state["lm_head.weight"] = torch.zeros(67, 16)
    found = accounted(config, state, tmp_path)
    assert not found.agrees
    by_kind = {each.what: each for each in found.differences}
    assert by_kind[comparing.MISSING].names == ("model.norm.weight",)
    assert by_kind[comparing.LEFT].names == ("model.extra.weight",)
    assert by_kind[comparing.SHAPES_DIFFER].names == ("lm_head.weight is [67, 16], expected [67, 32]",)
    assert [each.elements for each in found.differences] == [3, -32, -67 * 16]


def test_one_expert_too_few_is_named(tmp_path: Path) -> None:
    state = tensors(EVERY["mixtral"])
    lost = state.pop("model.layers.1.mlp.experts.2.w1.weight")
    found = accounted(EVERY["mixtral"], state, tmp_path)
    assert (only(found).what, only(found).names) == (comparing.MISSING, ("model.layers.1.mlp.experts.2.w1.weight",))
    assert only(found).elements == -lost.numel()


def test_a_type_whose_names_are_not_known_is_compared_by_its_total(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = {"model_type": "nystromformer", **sizes, "vocab_size": 67}
    found = compare(open_checkpoint(written(tmp_path, config, {"w": torch.zeros(3)})), architecture_of(config))
    assert "not known" in found.uncompared
    assert not found.agrees
    assert found.total is not None
    assert found.total + only(found).elements == 3


# ---- GGUF -----------------------------------------------------------------------------------------------------------


def test_smollm2s_file_agrees_with_its_own_metadata() -> None:
    """134,515,008 parameters; bytes as the gguf package's reader has them (210 Q4_1, 1 Q8_0, 61 F32 tensors)."""
    path = packaged(*SMOLLM2)
    source = find_source(str(path))
    checkpoint = source.checkpoint()
    assert checkpoint is not None
    found = compare(checkpoint, load(str(path)))
    assert (found.agrees, found.differences, found.total) == (True, (), 134_515_008)
    blocks = 106_168_320 // 32 * 20 + 28_311_552 // 32 * 34 + 35_136 * 4
    assert (checkpoint.numel, checkpoint.nbytes) == (134_515_008, blocks)


@pytest.mark.parametrize("count", [1, 3])
def test_a_gguf_model_in_one_file_or_in_parts(count: int, tmp_path: Path) -> None:
    for path in gguf_parts(tmp_path, count):
        model = load(str(path))
        found = compare(open_checkpoint(str(path)), model)
        assert (found.agrees, found.total, found.checkpoint.files) == (True, 27_552, count)
