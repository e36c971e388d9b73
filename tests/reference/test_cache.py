"""Decoding through the cache equals the full pass, token by token, for every kind of layer.

The tolerance: the same sums in another order, fp32.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.reference.kinds import CACHING, LATENT
from tests.reference.tiny import V, attention, awake, decoder, feed_forward, layer, tokens
from txcalc.architecture import Head, Sublayer
from txcalc.errors import RequestError
from txcalc.reference import DecoderCache, Transformer, build
from txcalc.reference.cache import Int8Store

CTX = 13
CLOSE: dict[str, float] = {"rtol": 1e-4, "atol": 3e-5}


def model(*sublayers: Sublayer) -> Transformer:
    built: Transformer = awake(build(decoder(*[layer(each, feed_forward()) for each in sublayers])))
    return built


def decoded(built: Transformer, ids: torch.Tensor, cuts: list[int], cache: DecoderCache | None = None) -> torch.Tensor:
    """Logits of every token, fed in the pieces that ``cuts`` make."""
    cache = cache or built.new_cache(batch=ids.shape[0], ctx=ids.shape[1])
    pieces = zip([0, *cuts], [*cuts, ids.shape[1]], strict=True)
    return torch.cat([built(ids[:, a:b], cache=cache).logits for a, b in pieces], dim=1)


@pytest.fixture(autouse=True)
def _no_grad() -> Any:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("cuts", [list(range(1, CTX)), [8, 9, 10, 11, 12], [5, 6, 11]], ids=["each", "then", "chunks"])
@pytest.mark.parametrize("kind", CACHING.values(), ids=CACHING)
def test_cached_decoding_equals_the_full_pass(kind: Sublayer, cuts: list[int]) -> None:
    built, ids = model(kind, kind), tokens(2, CTX)
    torch.testing.assert_close(decoded(built, ids, cuts), built(ids).logits, **CLOSE)


@pytest.mark.parametrize("kind", CACHING.values(), ids=CACHING)
def test_rows_of_unequal_length_equal_each_row_alone(kind: Sublayer) -> None:
    """Two prompts of 5 and 8 tokens, padded on the right in one and on the left in the other, then five steps."""
    built, ids, lengths = model(kind, kind), tokens(2, CTX), [5, 8]
    alone = built(ids).logits
    for padding in ("right", "left"):
        cache = built.new_cache(batch=2, ctx=CTX)
        prompt = torch.full((2, 8), V - 1)
        for row, length in enumerate(lengths):
            real = slice(0, length) if padding == "right" else slice(8 - length, 8)
            prompt[row, real] = ids[row, :length]
        first = built(prompt, lengths=lengths, padding=padding, cache=cache).logits
        for row, length in enumerate(lengths):
            real = slice(0, length) if padding == "right" else slice(8 - length, 8)
            torch.testing.assert_close(first[row, real], alone[row, :length], **CLOSE)
        for step in range(5):
            column = torch.stack([ids[row, length + step] for row, length in enumerate(lengths)])[:, None]
            logits = built(column, cache=cache).logits
            for row, length in enumerate(lengths):
                torch.testing.assert_close(logits[row, 0], alone[row, length + step], **CLOSE)


@pytest.mark.parametrize("kind", CACHING.values(), ids=CACHING)
def test_a_second_piece_of_unequal_length(kind: Sublayer) -> None:
    """Rows of 5 and 8 tokens, then 4 and 2 more, then one each."""
    built, ids = model(kind), tokens(2, CTX)
    alone, cache = built(ids).logits, built.new_cache(batch=2, ctx=CTX)
    done = [0, 0]
    for counts in ([5, 8], [4, 2], [1, 1]):
        piece = torch.full((2, max(counts)), V - 1)
        for row, count in enumerate(counts):
            piece[row, :count] = ids[row, done[row] : done[row] + count]
        logits = built(piece, lengths=counts, cache=cache).logits
        for row, count in enumerate(counts):
            expected = alone[row, done[row] : done[row] + count]
            torch.testing.assert_close(logits[row, :count], expected, **CLOSE)
        done = [a + b for a, b in zip(done, counts, strict=True)]
    assert cache.lengths == done


def test_layers_that_read_the_keys_of_another_layer() -> None:
    built, ids = (
        model(attention(), attention(window=4), attention(kv_source=0), attention(kv_source=1, window=4)),
        tokens(2, CTX),
    )
    cache = built.new_cache(batch=2, ctx=CTX)
    assert [layer[0] is None for layer in cache.layers] == [False, False, True, True]
    torch.testing.assert_close(decoded(built, ids, [5, 6, 7, 11], cache), built(ids).logits, **CLOSE)


def test_the_comparison_notices_a_cache_that_forgets() -> None:
    """Negative control: a ring one place too small, and decoding no longer equals the full pass."""
    built, ids = model(attention(window=4)), tokens(2, CTX)
    forgetful = model(attention(window=3))
    forgetful.load_state_dict(built.state_dict())
    cache = forgetful.new_cache(batch=2, ctx=CTX)
    assert (decoded(built, ids, list(range(1, CTX)), cache) - built(ids).logits).abs().max() > 1e-3


def test_one_cache_serves_many_sequences() -> None:
    built, ids = model(attention(window=4), LATENT, *(CACHING[name] for name in ("mamba", "gated delta"))), tokens(2, 9)
    cache = built.new_cache(batch=2, ctx=9)
    first = decoded(built, ids, [3, 4], cache)
    pointers = [tensor.data_ptr() for entry in cache.entries() for tensor in entry.tensors()]
    cache.reset()
    torch.testing.assert_close(decoded(built, ids, [3, 4], cache), first, rtol=0, atol=0)
    assert [tensor.data_ptr() for entry in cache.entries() for tensor in entry.tensors()] == pointers


def test_absorbed_decoding_equals_expanded() -> None:
    built, ids = model(LATENT, LATENT), tokens(2, CTX)
    absorbed = decoded(built, ids, [8, 9, 10])
    built.backend.absorb = False
    torch.testing.assert_close(decoded(built, ids, [8, 9, 10]), absorbed, **CLOSE)


def test_int8_keeps_the_logits_within_its_rounding() -> None:
    """Each key and value is off by at most half a step, 1/254 of its largest channel: a few per mille of the logits."""
    built, ids = model(attention(), LATENT, attention(window=4)), tokens(2, CTX)
    cache = built.new_cache(batch=2, ctx=CTX, int8=True)
    full = built(ids).logits
    error = (decoded(built, ids, [5, 6, 7, 11], cache) - full).abs().max() / full.abs().max()
    assert 1e-5 < error < 2e-2
    stores = [store for entry in cache.entries() for store in entry.stores]  # type: ignore[attr-defined]  # all attend
    assert all(isinstance(store, Int8Store) and store.values.dtype == torch.int8 for store in stores)


def test_too_many_tokens_are_refused() -> None:
    built = model(attention())
    cache = built.new_cache(batch=1, ctx=4)
    built(tokens(1, 4), cache=cache)
    with pytest.raises(RequestError, match="token 5 does not fit a cache made for 4"):
        built(tokens(1, 1), cache=cache)


def test_a_batch_of_another_size_is_refused() -> None:
    built = model(attention())
    with pytest.raises(RequestError, match="3 rows of tokens and a cache of 2"):
        built(tokens(3, 4), cache=built.new_cache(batch=2, ctx=4))


def test_only_the_last_logits_of_each_row() -> None:
    built, ids = model(attention()), tokens(2, 6)
    full = built(ids, lengths=[4, 6]).logits
    last = built(ids, lengths=[4, 6], last_only=True).logits
    torch.testing.assert_close(last[:, 0], torch.stack([full[0, 3], full[1, 5]]))


def test_a_tied_head_shares_the_table() -> None:
    head = Head(kind="lm", input_size=32, output_size=V, tied=True)
    built = build(decoder(layer(attention(), feed_forward()), head=head))
    table = built.table("decoder")
    assert built.head is not None
    assert not list(built.head.parameters())
    hidden = built(tokens(1, 3)).hidden_BTD
    torch.testing.assert_close(built(tokens(1, 3)).logits, hidden @ table.T)
