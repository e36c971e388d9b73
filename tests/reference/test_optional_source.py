"""Layers that look at an image, and are left out without one: logits equal transformers' either way."""

from __future__ import annotations

import torch

from tests.oracles import transformers_tiny
from tests.reference.published import V
from txcalc.configs import architecture_of
from txcalc.reference import build
from txcalc.reference.context import Source
from txcalc.reference.weights import load_state_dict_from

CONFIG = {
    "model_type": "mllama_text_model", "architectures": ["MllamaForCausalLM"], "hidden_size": 32,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 4, "intermediate_size": 48,
    "vocab_size": V, "pad_token_id": 0, "cross_attention_layers": [1, 3],
}  # fmt: skip
LIMIT = 1e-5  # of the largest logit, fp32: both sides do the same sums in another order


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_logits_equal_transformers_with_an_image_and_without() -> None:
    theirs, model = transformers_tiny.made(CONFIG, spread=0.3), architecture_of(CONFIG)
    ours = load_state_dict_from(build(model), model, theirs.state_dict())
    generator = torch.Generator().manual_seed(1)
    tokens_BT, image_BSD = torch.randint(3, V, (2, 9), generator=generator), torch.randn(2, 5, 32, generator=generator)
    source = Source(image_BSD, torch.arange(5)[None], padded=False)
    with torch.no_grad():
        text = theirs(input_ids=tokens_BT).logits
        seen = theirs(input_ids=tokens_BT, cross_attention_states=image_BSD).logits
        assert error(ours(tokens_BT).logits, text) < LIMIT
        assert error(ours(tokens_BT, encoded=source).logits, seen) < LIMIT
    assert error(text, seen) > 0.01, "the image is noticed"
