"""A recorded step equals a plain one. On a CPU nothing is recorded, and the same code runs as it would in a graph."""

from __future__ import annotations

import pytest
import torch

from tests.reference.kinds import CACHING
from tests.reference.tiny import awake, decoder, feed_forward, layer, tokens
from txcalc.architecture import MixtureOfExperts, Router, Sublayer
from txcalc.errors import RequestError
from txcalc.reference import build
from txcalc.reference.device import Cpu, Cuda
from txcalc.reference.graph import StepGraph


@pytest.mark.parametrize("kind", CACHING.values(), ids=CACHING)
@pytest.mark.parametrize("lengths", [[6, 6], [3, 6]], ids=["equal", "unequal"])
def test_recorded_steps_equal_plain_steps(kind: Sublayer, lengths: list[int]) -> None:
    built, ids = awake(build(decoder(layer(kind, feed_forward())))), tokens(2, 12)
    with torch.inference_mode():
        results = []
        for recorded in (False, True):
            cache = built.new_cache(batch=2, ctx=12)
            built(ids[:, :6], lengths=lengths, cache=cache)
            step = StepGraph(built, cache, Cpu()) if recorded else lambda x, c=cache: built(x, cache=c).logits
            results.append(torch.cat([step(ids[:, t : t + 1]) for t in range(6, 12)], dim=1))
            assert cache.lengths == [length + 6 for length in lengths]
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=3e-5)


def test_a_full_cache_and_experts_are_refused() -> None:
    experts = MixtureOfExperts(
        hidden_size=32, num_experts=4, num_experts_per_tok=2, expert=feed_forward(), router=Router()
    )
    built = build(decoder(layer(CACHING["grouped"], experts)))
    with pytest.raises(RequestError, match="cannot be recorded"):
        StepGraph(built, built.new_cache(batch=1, ctx=4), Cpu())
    built = build(decoder(layer(CACHING["grouped"])))
    cache = built.new_cache(batch=1, ctx=4)
    built(tokens(1, 4), cache=cache)
    with pytest.raises(RequestError, match="token 5 does not fit"):
        StepGraph(built, cache, Cpu())(tokens(1, 1))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", CACHING.values(), ids=CACHING)
def test_cuda_graphs_equal_eager(kind: Sublayer) -> None:
    built, ids = awake(build(decoder(layer(kind, feed_forward())))).cuda(), tokens(2, 12).cuda()
    with torch.inference_mode():
        cache = built.new_cache(batch=2, ctx=12)
        built(ids[:, :6], cache=cache)
        plain = torch.cat([built(ids[:, t : t + 1], cache=cache).logits for t in range(6, 12)], dim=1)
        cache.reset()
        built(ids[:, :6], cache=cache)
        step = StepGraph(built, cache, Cuda())
        played = torch.cat([step(ids[:, t : t + 1]).clone() for t in range(6, 12)], dim=1)
    torch.testing.assert_close(played, plain, rtol=1e-3, atol=1e-3)
