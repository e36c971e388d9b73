"""A shrunk model is still a model of its kind: every kind of layer is there, and it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from tests.reference.published import every
from txcalc.architecture import Model, SelfAttention, TokenEmbedding
from txcalc.architecture.shrinking import with_layers, with_scale
from txcalc.cards import all_cards
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.reference import build
from txcalc.reference.support import not_built

LLAMA: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
}  # fmt: skip


def test_by_hand() -> None:
    """Llama-3-8B's shape by 16: widths 4,096 to 256, 14,336 to 896; 8 key heads cannot be divided: 1, and 2 queries."""
    small = with_scale(architecture_of(LLAMA), 16)
    attention, mlp = small.main.layers[0].sublayers()
    assert isinstance(attention, SelfAttention)
    assert (attention.hidden_size, attention.num_attention_heads, attention.num_key_value_heads) == (256, 2, 1)
    assert attention.head_dim == 128
    assert (mlp.hidden_size, mlp.intermediate_size) == (256, 896)  # type: ignore[union-attr]  # a feed-forward
    assert isinstance(small.main.embedding, TokenEmbedding)
    assert small.main.embedding.vocab_size == 128256 // 16
    assert small.head is not None
    assert small.head.output_size == 128256 // 16
    assert with_scale(architecture_of(LLAMA), 4).main.layers[0].sublayers()[0].num_key_value_heads == 2  # type: ignore[union-attr]  # attention


def test_scale_one_changes_nothing() -> None:
    model = architecture_of(LLAMA)
    assert with_scale(model, 1) == model
    assert with_layers(model, 32) == model


@pytest.mark.parametrize("name", every())
def test_every_kind_of_layer_is_kept(name: str) -> None:
    model = architecture_of(every()[name])
    for stack, small in zip(model.stacks, with_layers(model, 2).stacks, strict=True):
        assert small.num_hidden_layers == min(2, stack.num_hidden_layers)
        if len(stack.layers) <= 2:
            assert set(small.layers) == set(stack.layers)


def test_the_earliest_layers_of_each_kind_are_taken_in_their_order() -> None:
    """Qwen3-Next: three recurrent layers, then one with attention. Two layers are the first and the fourth."""
    model = architecture_of(every()["qwen3_next"])
    kinds = [type(layer.sublayers()[0]).__name__ for layer in with_layers(model, 2).main.sequence()]
    assert kinds == ["GatedDeltaNet", "SelfAttention"]


def is_built_and_reads_tokens(config: Mapping[str, Any]) -> bool:
    try:
        not_built(architecture_of(config))
    except RequestError:
        return False
    return config["model_type"] not in {"dinov2", "vit", "whisper"}


CARDS = {card.name: card for card in all_cards()}
SOME = [name for name in sorted(CARDS)[::7] if is_built_and_reads_tokens(CARDS[name].config)]


def test_of_the_cards_most_are_tried() -> None:
    assert len(SOME) > len(CARDS) // 9


@pytest.mark.parametrize(("name", "scale"), [*((name, 3) for name in every()), *((name, 67) for name in SOME)])
def test_a_shrunk_model_runs(name: str, scale: int) -> None:
    config = every().get(name) or dict(CARDS[name].config)
    small = with_scale(with_layers(architecture_of(config), 2), scale)
    ours = build(small)
    assert sum(parameter.numel() for parameter in ours.parameters()) < 5e6
    with torch.no_grad():
        out = run(small, ours)
    assert out.isfinite().all()


def run(model: Model, ours: Any) -> torch.Tensor:
    tokens = torch.arange(3, 12)[None]
    both = model.stack("encoder") and model.stack("decoder")
    hidden: torch.Tensor = ours(tokens, source=tokens if both else None).hidden_BTD
    return hidden
