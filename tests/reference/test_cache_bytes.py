"""Bytes that a cache really allocates: by hand, and equal to the formulas for every kind."""

from __future__ import annotations

import pytest
import torch

from tests.reference.kinds import CACHING, DELTA, LATENT, MAMBA
from tests.reference.tiny import D, attention, decoder, layer
from txcalc.architecture import CrossAttention, Model, Sublayer
from txcalc.formulas.kv_cache import kv_cache
from txcalc.reference import build

CTX = 24


def nbytes(model: Model, *, batch: int = 1, ctx: int = CTX, source: int = 0, int8: bool = False) -> int:
    built = build(model, device="meta", dtype=torch.bfloat16)
    return built.new_cache(batch=batch, ctx=ctx, source=source, int8=int8).nbytes


def test_by_hand() -> None:
    """bf16, 2 rows, 24 tokens.

    Full attention: 2 rows * 24 tokens * 2 key heads * (8 + 8) * 2 bytes = 3,072. A window of 4: 2 * 4 * 2 * 16 * 2 =
    512. Latent: 2 * 24 * (16 + 4) * 2 = 1,920. Mamba: the state 2 * 24 * 5 in fp32 = 960, and 2 * 24 channels * 3
    inputs in bf16 = 288. Gated delta: 2 * 4 heads * 6 * 5 in fp32 = 960, and 2 * (2 * 2 * 6 + 4 * 5) * 3 in bf16 = 528.
    """
    each = {attention(): 3072, attention(window=4): 512, LATENT: 1920, MAMBA: 960 + 288, DELTA: 960 + 528}
    for sublayer, expected in each.items():
        assert nbytes(decoder(layer(sublayer)), batch=2) == expected
    everything = decoder(*(layer(sublayer) for sublayer in each))
    assert nbytes(everything, batch=2) == 3072 + 512 + 1920 + 1248 + 1488


@pytest.mark.parametrize("ctx", [3, CTX])
@pytest.mark.parametrize("kind", CACHING.values(), ids=CACHING)
def test_equal_to_the_formulas(kind: Sublayer, ctx: int) -> None:
    model = decoder(layer(kind), layer(kind)).replace(dtype="bfloat16")
    figures = kv_cache(model, ctx=ctx, batch=2).figures()
    expected = figures["kv_cache.total_bytes"] + 2 * figures["kv_cache.state_bytes"]
    assert nbytes(model, batch=2, ctx=ctx) == expected


def test_layers_that_share_keys_and_cross_attention() -> None:
    cross = CrossAttention(
        hidden_size=D, source_size=D, num_attention_heads=4, num_key_value_heads=2, head_dim=8, v_head_dim=8
    )
    model = decoder(layer(attention(), cross), layer(attention(kv_source=0))).replace(dtype="bfloat16")
    encoder = model.main.replace(role="encoder", layers=(layer(attention(causal=False)),), runs=((0, 1),))
    model = model.replace(stacks=(encoder, *model.stacks))
    figures = kv_cache(model, ctx=CTX, source_ctx=7).figures()
    assert nbytes(model, source=7) == figures["kv_cache.total_bytes"] == (24 + 7) * 2 * 16 * 2


def test_int8_is_half_and_a_scale() -> None:
    """One byte an element and four for the scale of each token and head: 24 * 2 heads * 2 tensors * (8 + 4)."""
    assert nbytes(decoder(layer(attention())), int8=True) == 24 * 2 * 2 * (8 + 4)
