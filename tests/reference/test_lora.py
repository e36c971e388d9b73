"""Adapters: nothing changes at first, only they are trained, and merging gives the same model."""

from __future__ import annotations

import pytest
import torch

from tests.reference.tiny import attention, awake, decoder, feed_forward, layer, tokens
from txcalc.errors import RequestError
from txcalc.reference import Transformer, build
from txcalc.reference.lora import add_lora, merge_lora


def model() -> Transformer:
    built: Transformer = awake(build(decoder(layer(attention(), feed_forward()), layer(attention(), feed_forward()))))
    return built


def test_trainable_parameters_are_layers_times_rank_times_in_plus_out() -> None:
    """Two layers, r = 3: q_proj is [32, 32], v_proj [32, 16]: 2 * 3 * ((32 + 32) + (32 + 16)) = 672."""
    built = model()
    names = add_lora(built, ["q_proj", "v_proj"], rank=3)
    assert len(names) == 4
    assert sum(p.numel() for p in built.parameters() if p.requires_grad) == 672


def test_a_new_adapter_changes_nothing_and_a_trained_one_merges() -> None:
    built, ids = model(), tokens(2, 6)
    before = built(ids).logits
    add_lora(built, ["q_proj", "down_proj"], rank=2, alpha=8)
    torch.testing.assert_close(built(ids).logits, before, rtol=0, atol=0)
    optimizer = torch.optim.SGD([p for p in built.parameters() if p.requires_grad], lr=1.0)
    built(ids).logits.square().mean().backward()
    optimizer.step()
    adapted = built(ids).logits
    assert (adapted - before).abs().max() > 1e-3
    assert all(p.grad is None for name, p in built.named_parameters() if "lora" not in name)
    merge_lora(built)
    torch.testing.assert_close(built(ids).logits, adapted, rtol=1e-5, atol=1e-5)
    assert not any("lora" in name for name, _ in built.named_parameters())


def test_mistakes_are_named() -> None:
    with pytest.raises(RequestError, match="no projection is named 'query'"):
        add_lora(model(), ["query"], rank=2)
    with pytest.raises(RequestError, match="rank is 0"):
        add_lora(model(), ["q_proj"], rank=0)
