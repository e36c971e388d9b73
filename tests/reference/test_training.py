"""What training adds: the same gradients with and without recomputation, bf16 by autocast, dropout that drops."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.reference.kinds import DELTA, LATENT, LINEAR, MAMBA, MAMBA2
from tests.reference.tiny import D, attention, awake, decoder, feed_forward, layer, tokens
from txcalc.architecture import MixtureOfExperts, Router, Sublayer
from txcalc.reference import Transformer, build

EXPERTS = MixtureOfExperts(
    hidden_size=D, num_experts=4, num_experts_per_tok=2, expert=feed_forward(intermediate_size=16), router=Router()
)
KINDS: dict[str, tuple[Sublayer, ...]] = {
    "llama": (attention(), feed_forward()),
    "window, softcap": (attention(window=3, softcap=4.0), feed_forward(activation="gelu", gated=False)),
    "latent, experts": (LATENT, EXPERTS),
    "mamba": (MAMBA,),
    "mamba-2": (MAMBA2,),
    "gated delta": (DELTA,),
    "performer": (LINEAR.replace(feature_map="favor", features=16),),
}


def model(sublayers: tuple[Sublayer, ...], **options: Any) -> Transformer:
    built: Transformer = awake(build(decoder(layer(*sublayers), layer(*sublayers)), **options))
    return built.train()


def loss_of(built: Transformer, ids: torch.Tensor) -> torch.Tensor:
    logits = built(ids[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())


@pytest.mark.parametrize("sublayers", KINDS.values(), ids=KINDS)
def test_checkpointed_gradients_are_the_same(sublayers: tuple[Sublayer, ...]) -> None:
    """Recomputation runs the same operations on the same numbers: equal to the last bit."""
    grads = []
    for on in (False, True):
        built = model(sublayers)
        built.checkpoint_layers(on)
        loss_of(built, tokens(2, 9)).backward()
        grads.append({name: p.grad for name, p in built.named_parameters()})
    assert all(grad is not None for grad in grads[0].values())
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=0)


def test_checkpointing_keys_that_other_layers_read() -> None:
    grads = []
    for on in (False, True):
        built = awake(build(decoder(*(layer(attention(kv_source=source)) for source in (None, None, 0, 1))))).train()
        built.checkpoint_layers(on)
        loss_of(built, tokens(2, 9)).backward()
        grads.append({name: p.grad for name, p in built.named_parameters()})
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=0)


def test_checkpointing_keeps_less() -> None:
    kept = []
    for on in (False, True):
        built, sizes = model(KINDS["llama"]), []
        built.checkpoint_layers(on)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.nbytes) or x, lambda x: x):  # noqa: B023
            loss_of(built, tokens(2, 9))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize("sublayers", KINDS.values(), ids=KINDS)
def test_autocast_stays_near_fp32(sublayers: tuple[Sublayer, ...]) -> None:
    """bf16 keeps 8 bits: each product is off by up to 2^-9, and a handful of them in a row by a few per cent."""
    built, ids = model(sublayers), tokens(2, 9)
    full = loss_of(built, ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = loss_of(built, ids)
    low.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in built.parameters())
    torch.testing.assert_close(low, full, rtol=0.05, atol=0.05)


def test_gradient_accumulation_is_the_mean_of_its_parts() -> None:
    built, ids = model(KINDS["llama"]), tokens(4, 9)
    loss_of(built, ids).backward()
    whole = {name: p.grad.clone() for name, p in built.named_parameters()}
    built.zero_grad()
    for part in ids.chunk(2):
        (loss_of(built, part) / 2).backward()
    parts = {name: p.grad for name, p in built.named_parameters()}
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_dropout_drops_in_training_alone() -> None:
    built, ids = model(KINDS["llama"], dropout=0.5), tokens(2, 9)
    torch.manual_seed(0)
    one, other = built(ids).logits, built(ids).logits
    assert (one - other).abs().max() > 0.1
    built.eval()
    torch.testing.assert_close(built(ids).logits, built(ids).logits, rtol=0, atol=0)


@pytest.mark.parametrize("sublayers", KINDS.values(), ids=KINDS)
def test_models_start_finite_and_near_the_uniform_loss(sublayers: tuple[Sublayer, ...]) -> None:
    """Small random logits give every one of 61 tokens about the same chance: a loss of ln 61 = 4.11."""
    built = build(decoder(layer(*sublayers), layer(*sublayers)))
    assert abs(loss_of(built, tokens(8, 20)).item() - 4.11) < 0.1
