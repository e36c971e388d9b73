"""Recurrences by the chunk equal those token by token, whatever the chunk, the padding and what came before."""

from __future__ import annotations

import pytest
import torch

from tests.reference.kinds import DELTA, LINEAR, MAMBA2, RECURRENT
from tests.reference.tiny import awake, decoder, feed_forward, layer, tokens
from txcalc.architecture import Sublayer
from txcalc.reference import Backend, Transformer, build
from txcalc.reference import chunks as module

T = 13
KINDS: dict[str, Sublayer] = {
    **{name: RECURRENT[name] for name in ("mamba-2", "mamba-2, norm first", "gated delta", "linear attention")},
    "performer": RECURRENT["performer"],
    "lightning": RECURRENT["lightning"],
    "delta that negates": DELTA.replace(beta_scale=2.0),
    "kimi delta": RECURRENT["kimi delta"],  # a decay a channel: it stays with the recurrence
}
# The sums of T tokens in another order, in fp32, read through two layers: seen up to 5e-6.
CLOSE = {"rtol": 1e-4, "atol": 5e-5}


def both(kind: Sublayer, chunk: int) -> tuple[Transformer, Transformer]:
    plain, chunked = (awake(build(decoder(layer(kind, feed_forward()), layer(kind)))) for _ in range(2))
    chunked.backend = Backend(chunk=chunk)
    return plain, chunked


@pytest.mark.parametrize("chunk", [2, 5, 64])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_chunks_change_nothing(kind: Sublayer, chunk: int) -> None:
    """A whole pass; then rows of unequal length in two pieces and single tokens through a cache."""
    plain, chunked = both(kind, chunk)
    ids = tokens(2, T)
    with torch.inference_mode():
        torch.testing.assert_close(chunked(ids).logits, plain(ids).logits, **CLOSE)
        results = []
        for built in (plain, chunked):
            cache = built.new_cache(batch=2, ctx=T + 8)
            pieces = [built(ids[:, :7], lengths=[4, 7], cache=cache).logits, built(ids[:, 7:12], cache=cache).logits]
            pieces += [built(ids[:, 12:], cache=cache).logits]
            pieces[0][0, 4:] = 0  # what stands on padding means nothing
            results.append(torch.cat(pieces, dim=1))
    torch.testing.assert_close(results[1], results[0], **CLOSE)


@pytest.mark.parametrize("kind", [MAMBA2, DELTA, LINEAR], ids=["mamba-2", "gated delta", "linear attention"])
def test_gradients_are_the_recurrences(kind: Sublayer) -> None:
    slopes = []
    for built in both(kind, 4):
        built(tokens(2, T)).logits.square().mean().backward()
        slopes.append([parameter.grad for parameter in built.parameters()])
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_a_decay_of_nothing_forgets_and_breaks_nothing() -> None:
    """A decay of 0 in the middle of a chunk: what follows reads only what follows."""
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, 6, 4, generator=g) for _ in range(3))
    decay, state = torch.tensor([[[0.9, 0.9, 0.0, 0.9, 0.9, 0.9]]]), torch.randn(1, 1, 4, 4, generator=g)
    whole, _ = module.one_chunk(state, q, k, v, decay, None)
    fresh, _ = module.one_chunk(torch.zeros_like(state), q[:, :, 2:], k[:, :, 2:], v[:, :, 2:], decay[:, :, 2:], None)
    torch.testing.assert_close(whole[:, :, 2:], fresh)


def test_the_comparison_notices_a_chunk_that_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a state that is not handed on to the next chunk."""
    plain, chunked = both(MAMBA2, 5)
    one = module.one_chunk
    monkeypatch.setattr(module, "one_chunk", lambda state, *rest: one(torch.zeros_like(state), *rest))
    assert (chunked(tokens(2, T)).logits - plain(tokens(2, T)).logits).abs().max() > 1e-3
