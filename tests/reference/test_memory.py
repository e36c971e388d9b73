"""What a decoding step allocates: its own activations, whatever the cache holds."""

from __future__ import annotations

import gc
import resource
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.reference.kinds import CACHING
from tests.reference.tiny import attention, awake, decoder, feed_forward, layer, tokens
from txcalc.architecture import Sublayer
from txcalc.reference import Transformer, build

# Kinds whose step must look at every key one by one: a bias a key, or the score of an indexer; never a copy of keys.
PER_KEY = {"alibi": 4, "relative bias": 4, "latent, indexer": 8}
LONG, SHORT = 512, 256


class Allocations(TorchDispatchMode):
    """Bytes of every storage that an operator makes."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in before:
                self.sizes.append(x.untyped_storage().nbytes())
        return out


def step_bytes(built: Transformer, length: int, dtype: torch.dtype, batch: int = 2) -> int:
    """Bytes allocated by one decoding step after ``length`` tokens, all operators added up."""
    cache = built.new_cache(batch=batch, ctx=LONG + 8)
    with torch.inference_mode():
        cache.lengths = [length - 1] * batch  # what is in it does not matter
        built(tokens(batch, 1), cache=cache)
        with Allocations() as seen:
            built(tokens(batch, 1), cache=cache)
    return sum(seen.sizes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", CACHING.values(), ids=CACHING)
def test_a_step_allocates_the_same_after_many_tokens(
    kind: Sublayer, dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    """Eager attention has scores, one number a key and head: at most 5 of fp32 in a row for each of 4 heads, 2 rows."""
    built = build(decoder(layer(kind, feed_forward())), dtype=dtype)
    name = next(name for name, each in CACHING.items() if each is kind)
    growth = step_bytes(built, LONG, dtype) - step_bytes(built, SHORT, dtype)
    eager = "eager" in built.backend.ran
    scores = (LONG - SHORT) * 2 * 4 * 4 * 5 if eager or name in PER_KEY else 0
    copy_of_keys = (LONG - SHORT) * 2 * 2 * 8 * dtype.itemsize
    assert growth <= scores * PER_KEY.get(name, 1)
    if not eager and name not in PER_KEY:
        assert growth == 0 < copy_of_keys


def test_the_comparison_notices_a_copy() -> None:
    """Negative control: without folding, keys are repeated for every query head, and a step grows with the cache."""
    built = build(decoder(layer(attention(softcap=5.0), feed_forward())), dtype=torch.float32)
    built.backend.fold_groups = False
    growth = step_bytes(built, LONG, torch.float32) - step_bytes(built, SHORT, torch.float32)
    assert growth > (LONG - SHORT) * 2 * 4 * 8 * 4 * 2


def live_bytes() -> int:
    """Bytes of every tensor that Python can reach, each storage once."""
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in gc.get_objects() if is_tensor(x)}
    return sum(storages.values())


def is_tensor(x: object) -> bool:
    return issubclass(type(x), torch.Tensor)  # not isinstance: that asks lazy modules for their class, and loads them


def test_a_step_leaves_nothing_behind() -> None:
    """Live bytes before and after 50 more tokens are equal, rings, latents and states among the layers."""
    built = awake(build(decoder(*(layer(CACHING[name]) for name in ("window", "latent", "mamba", "gated delta")))))
    cache, token = built.new_cache(batch=1, ctx=100), tokens(1, 1)
    counts = []
    with torch.inference_mode():
        for _ in range(2):
            for _ in range(50):
                built(token, cache=cache)
            counts.append(live_bytes())
    assert counts[0] == counts[1]
    kept = built.main.tables()  # negative control: what one step makes is seen
    kept["kept"] = torch.zeros(1)
    assert live_bytes() == counts[1] + 4


def test_memory_is_flat_over_ten_thousand_tokens() -> None:
    """Resident memory at token 1,000 and at 10,000 differs by less than the cache would hold for 9,000 unwindowed.

    The tokens come twenty at a time, whose step does the same to the ring as twenty steps: what it kept, then the new.
    """
    built = awake(build(decoder(layer(attention(window=64)))))
    cache, twenty = built.new_cache(batch=1, ctx=10_000), tokens(1, 20)
    with torch.inference_mode():
        for _ in range(50):
            built(twenty, cache=cache, last_only=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(450):
            built(twenty, cache=cache, last_only=True)
    assert cache.lengths == [10_000]
    assert cache.nbytes == 64 * 2 * 16 * 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1024  # KiB
