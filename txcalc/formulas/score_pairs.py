"""How many (query, key) pairs attention multiplies, by mask convention.

``full``: the whole square T * S, windows ignored, as torch's counter does. ``half``: half of it where attention is
causal. ``exact``: only the pairs that the causal, window and chunk masks keep.

In a decode step the cache of a windowed or chunked layer holds no more than its window, whatever the convention: the
new token meets S keys, or the window's.
"""

from __future__ import annotations

from txcalc.expression import Expression, maximum, minimum, symbol
from txcalc.formulas.flops_work import Work


def score_pairs(work: Work, *, causal: bool, window: int | None = None, chunk: int | None = None) -> Expression:
    """Pairs of one head of one sequence of self-attention; ``half`` is left to ``product_flops``, which divides last.

    A causal window of w: a token and the w - 1 before it; otherwise w // 2 to each side and itself.
    """
    if work.decoding:
        return work.T * _keys_of_newest(work, window, chunk)
    if work.mask != "exact":
        return work.T * work.S
    if not causal:
        return work.T * work.S if window is None else _two_sided(work.T, window // 2)
    if chunk is not None and chunk < int(work.T):
        return _chunked(work.T, symbol("chunk", chunk))
    if window is not None and window < int(work.T):
        return _one_sided(work.T, symbol("window", window))
    return _triangle(work.T)


def halved(work: Work, *, causal: bool) -> bool:
    """Whether the ``half`` convention applies: causal attention of a sequence over itself."""
    return work.mask == "half" and causal and not work.decoding


def _keys_of_newest(work: Work, window: int | None, chunk: int | None) -> Expression:
    """Keys that the newest token meets; with ``exact`` it sees its own chunk only, from the chunk's start."""
    if chunk is not None and work.mask == "exact":
        return (work.S - 1) % symbol("chunk", chunk) + 1
    limits = [limit for limit in (window, chunk) if limit is not None]
    return minimum(work.S, symbol("window", min(limits))) if limits else work.S


def _triangle(n: Expression) -> Expression:
    """derived: query i meets i keys: 1 + 2 + ... + n."""
    return n * (n + 1) // 2


def _one_sided(n: Expression, window: Expression) -> Expression:
    """derived: a triangle for the first ``window`` queries, then ``window`` keys each."""
    return window * (window + 1) // 2 + (n - window) * window


def _chunked(n: Expression, chunk: Expression) -> Expression:
    """derived: a triangle for each whole chunk and one for what is left."""
    rest = n % chunk
    return n // chunk * (chunk * (chunk + 1) // 2) + rest * (rest + 1) // 2


def _two_sided(n: Expression, reach: int) -> Expression:
    """derived: the square without its two corners, where keys are further away than ``reach``."""
    corner = maximum(n - 1 - symbol("reach", reach), 0)
    return n * n - corner * (corner + 1)
