"""Encoder and decoder together: cross-attention computed once, sources of unequal length, what is missing named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.reference.tiny import D, attention, awake, decoder, feed_forward, layer, tokens
from txcalc.architecture import CrossAttention
from txcalc.errors import RequestError
from txcalc.reference import Transformer, build

CROSS = CrossAttention(
    hidden_size=D, source_size=D, num_attention_heads=4, num_key_value_heads=2, head_dim=8, v_head_dim=8
)
CLOSE: dict[str, float] = {"rtol": 1e-4, "atol": 3e-5}


def model() -> Transformer:
    described = decoder(layer(attention(), CROSS, feed_forward()), layer(attention(), CROSS, feed_forward()))
    both = layer(attention(causal=False), feed_forward())
    encoder = described.main.replace(role="encoder", layers=(both,), runs=((0, 2),))
    built: Transformer = awake(build(described.replace(stacks=(encoder, *described.stacks))))
    return built


@pytest.fixture(autouse=True)
def _no_grad() -> Any:
    with torch.no_grad():
        yield


def test_cached_decoding_equals_the_full_pass_and_reads_the_source_once() -> None:
    built, ids, source = model(), tokens(2, 9), tokens(2, 7, seed=1)
    full = built(ids, source=source).logits
    encoded, cache = built.encode(source), built.new_cache(batch=2, ctx=9, source=7)
    calls: list[int] = []
    cross = built.main.layers[0].steps[1].branches[0].sublayer  # type: ignore[union-attr, index]  # as built above
    cross.k_proj.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr, operator]  # as above
    pieces = [built(ids[:, a:b], encoded=encoded, cache=cache).logits for a, b in ((0, 4), (4, 5), (5, 6), (6, 9))]
    torch.testing.assert_close(torch.cat(pieces, dim=1), full, **CLOSE)
    assert calls == [1]


def test_sources_of_unequal_length_equal_each_alone() -> None:
    built, ids, source = model(), tokens(2, 5), tokens(2, 7, seed=1)
    together = built(ids, source=source, source_lengths=[4, 7]).logits
    for row, length in enumerate((4, 7)):
        alone = built(ids[row : row + 1], source=source[row : row + 1, :length]).logits
        torch.testing.assert_close(together[row : row + 1], alone, **CLOSE)
    assert (built(ids, source=source).logits[0] - together[0]).abs().max() > 1e-3  # negative control


def test_a_decoder_that_reads_a_source_must_get_one() -> None:
    with pytest.raises(RequestError, match="tiny reads a source"):
        model()(tokens(1, 3))


def test_a_source_longer_than_its_cache_is_refused() -> None:
    built = model()
    cache = built.new_cache(batch=1, ctx=4, source=3)
    with pytest.raises(RequestError, match="a source of 7 tokens does not fit a cache made for 3"):
        built(tokens(1, 2), source=tokens(1, 7), cache=cache)
