"""CLIP's towers, and SigLIP's of images: hidden states of texts and vectors of images equal transformers'."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.oracles import transformers_tiny
from tests.reference.controls import unnoticed
from txcalc.configs import architecture_of
from txcalc.reference import Transformer, build
from txcalc.reference.weights import load_state_dict_from, to_checkpoint

_D: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
CASES: dict[str, dict[str, Any]] = {
    "texts": {"model_type": "clip_text_model", "architectures": ["CLIPTextModel"], **_D, "vocab_size": 67,
              "max_position_embeddings": 20, "pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 2},
    "images": {"model_type": "clip_vision_model", "architectures": ["CLIPVisionModel"], **_D, "image_size": 12,
               "patch_size": 4},
    "siglip images": {"model_type": "siglip_vision_model", "architectures": ["SiglipVisionModel"], **_D,
                      "image_size": 12, "patch_size": 4},
}  # fmt: skip


def inputs(name: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if name == "texts":
        return torch.randint(3, 67, (2, 13), generator=generator)
    return torch.randn(2, 3, 12, 12, generator=generator)


def ours(name: str, model: Transformer) -> Tensor:
    """Of an image its vector: the pooled one, or the class token's, as transformers norms no other."""
    out = model(inputs(name))
    if out.pooled_BD is not None:
        return out.pooled_BD[:, None]
    return out.hidden_BTD if name == "texts" else out.hidden_BTD[:, :1]


@pytest.mark.parametrize("name", CASES)
def test_a_tower_equals_transformers(name: str) -> None:
    """1e-5 of the largest value; negative control: each kind of tensor matters, but for a key's bias."""
    model, theirs = architecture_of(CASES[name]), transformers_tiny.made(CASES[name])
    built = load_state_dict_from(build(model), model, theirs.state_dict())
    with torch.no_grad():
        out = theirs(inputs(name))
        expected = out.last_hidden_state if name == "texts" else out.pooler_output[:, None]
        assert float((ours(name, built) - expected).abs().max() / expected.abs().max()) < 1e-5
    found = unnoticed(built, lambda: ours(name, built), 5e-5)
    assert [kind for kind in found if not kind.endswith("k_proj.bias")] == []


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_is_as_published(name: str) -> None:
    """Published files name the tower first (openai/clip-vit-base-patch32: text_model.*, vision_model.*)."""
    state = transformers_tiny.made(CASES[name]).state_dict()
    model = architecture_of(CASES[name])
    written = to_checkpoint(load_state_dict_from(build(model), model, state))
    tower = "text_model." if name == "texts" else "vision_model."
    assert written.keys() == {tower + key for key in state}
    assert all(torch.equal(tensor, state[key.removeprefix(tower)]) for key, tensor in written.items())
