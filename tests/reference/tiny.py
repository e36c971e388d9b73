"""Small architectures for tests, one a mechanism: two or three layers, widths of a few dozen."""

from __future__ import annotations

from typing import Any

import torch

from txcalc.architecture import (
    Branch,
    FeedForward,
    Head,
    Layer,
    Model,
    Norm,
    Residual,
    Rotary,
    SelfAttention,
    Stack,
    Sublayer,
    TokenEmbedding,
    runs_of,
)

D, V = 32, 61
ROTARY = Rotary(theta=10_000.0, rotary_dim=8)
NORM = Norm(kind="rmsnorm", width=D, eps=1e-6)


def attention(**changes: Any) -> SelfAttention:
    """Four query heads of 8 over two key heads."""
    fields: dict[str, Any] = {
        "hidden_size": D,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "v_head_dim": 8,
        "position": ROTARY,
    }
    return SelfAttention(**{**fields, **changes})


def feed_forward(**changes: Any) -> FeedForward:
    fields: dict[str, Any] = {"hidden_size": D, "intermediate_size": 48, "activation": "silu", "gated": True}
    return FeedForward(**{**fields, **changes})


def layer(*sublayers: Sublayer) -> Layer:
    return Layer(steps=tuple(Residual(branches=(Branch(sublayer=each, norm_in=NORM),)) for each in sublayers))


def decoder(*layers: Layer, head: Head | None = None, **changes: Any) -> Model:
    """A pre-norm decoder of these layers, with a head of its own."""
    distinct, runs = runs_of((each, 1) for each in layers)
    fields: dict[str, Any] = {
        "role": "decoder",
        "hidden_size": D,
        "embedding": TokenEmbedding(vocab_size=V, embedding_size=D),
        "layers": distinct,
        "runs": runs,
        "final_norm": NORM,
    }
    stack = Stack(**{**fields, **changes})
    head = head or Head(kind="lm", input_size=D, output_size=V, tied=False)
    return Model(name="tiny", model_type="tiny", stacks=(stack,), head=head)


def tokens(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, V, (batch, length), generator=torch.Generator().manual_seed(seed))


def awake(model: torch.nn.Module, seed: int = 0) -> Any:
    """The model with parameters large enough that every part of it matters to the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model
