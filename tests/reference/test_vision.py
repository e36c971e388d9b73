"""Vision transformers alone: hidden states, pooled vectors and labels equal transformers' on tiny random models."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.oracles import transformers_tiny
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.reference import build
from txcalc.reference.weights import load_state_dict_from

_D: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
_VIT = {"model_type": "vit", **_D, "intermediate_size": 32, "image_size": [12, 8], "patch_size": 4}
_DINO = {"model_type": "dinov2", **_D, "image_size": 12, "patch_size": [4, 3], "mlp_ratio": 2}
CASES: dict[str, dict[str, Any]] = {
    "vit": {**_VIT, "architectures": ["ViTModel"], "qkv_bias": False, "pooler_output_size": 10, "pooler_act": "relu"},
    "vit labels": {**_VIT, "architectures": ["ViTForImageClassification"], "num_labels": 5},
    "dinov2": {**_DINO, "architectures": ["Dinov2Model"]},
    "dinov2 gated": {**_DINO, "architectures": ["Dinov2Model"], "use_swiglu_ffn": True, "use_mask_token": False},
}


def outputs(config: dict[str, Any], *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(ours, transformers') of two images: labels where there are some, else hidden states and the pooled vector."""
    model, theirs = architecture_of(config), transformers_tiny.made(config, seed)
    ours = load_state_dict_from(build(model), model, transformers_tiny.made(config).state_dict())
    height, width = config["image_size"] if isinstance(config["image_size"], list) else [config["image_size"]] * 2
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mine, expected = ours(images), theirs(pixel_values=images)
    if "logits" in expected:
        return mine.logits, expected.logits
    pooled = mine.hidden_BTD[:, 0] if mine.pooled_BD is None else mine.pooled_BD
    states = [each.flatten(1) for each in (mine.hidden_BTD, pooled)]
    return torch.cat(states, 1), torch.cat([expected[0].flatten(1), expected[1]], 1)


@pytest.mark.parametrize("name", CASES)
def test_outputs_equal_transformers(name: str) -> None:
    """1e-5 of the largest value: both sides do the same sums in another order."""
    ours, theirs = outputs(CASES[name])
    assert theirs.std() > 0.05
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5


def test_the_comparison_notices_other_weights() -> None:
    """Negative control."""
    ours, theirs = outputs(CASES["dinov2"], seed=1)
    assert float((ours - theirs).abs().max() / theirs.abs().max()) > 0.1


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "clip"}, "similarities of texts and images"),
        ({"model_type": "clip_text_model", "architectures": ["CLIPTextModelWithProjection"]}, "a projection of one"),
        ({**_VIT, "architectures": ["ViTForMaskedImageModeling"]}, "reads another vector"),
        ({**_DINO, "architectures": ["Dinov2ForImageClassification"]}, "reads another vector"),
    ],
)
def test_what_is_not_built_is_named(config: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        build(architecture_of(config), device="meta")
