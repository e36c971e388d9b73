"""Closed forms of kept pairs against masks that are written out and counted."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from txcalc.expression import symbol
from txcalc.formulas.flops_work import Mask, Work
from txcalc.formulas.score_pairs import halved, score_pairs

lengths = st.integers(1, 40)
limits = st.none() | st.integers(1, 50)
many = settings(max_examples=150, deadline=None)


def kept(n: int, *, causal: bool, window: int | None, chunk: int | None) -> np.ndarray:
    """The mask of a sequence over itself: [queries, keys]."""
    query, key = np.arange(n)[:, None], np.arange(n)[None, :]
    mask = key <= query if causal else np.ones((n, n), dtype=bool)
    if window is not None and causal:
        mask &= query - key < window
    elif window is not None:
        mask &= np.abs(query - key) <= window // 2
    if chunk is not None:
        mask &= query // chunk == key // chunk
    return mask


def work(n: int, *, mask: Mask, decoding: bool = False) -> Work:
    T, S = symbol("T", 1 if decoding else n), symbol("S", n)
    return Work(B=symbol("B", 1), T=T, S=S, rows=T, mask=mask, decoding=decoding)


@given(n=lengths, window=limits)
@many
def test_exact_causal_pairs_equal_the_counted_mask(n: int, window: int | None) -> None:
    expected = kept(n, causal=True, window=window, chunk=None).sum()
    assert score_pairs(work(n, mask="exact"), causal=True, window=window) == expected


@given(n=lengths, chunk=st.integers(1, 50))
@many
def test_exact_chunked_pairs_equal_the_counted_mask(n: int, chunk: int) -> None:
    expected = kept(n, causal=True, window=None, chunk=chunk).sum()
    assert score_pairs(work(n, mask="exact"), causal=True, chunk=chunk) == expected


@given(n=lengths, window=limits)
@many
def test_exact_two_sided_pairs_equal_the_counted_mask(n: int, window: int | None) -> None:
    expected = kept(n, causal=False, window=window, chunk=None).sum()
    assert score_pairs(work(n, mask="exact"), causal=False, window=window) == expected


@given(n=lengths, window=limits, chunk=st.none() | st.integers(1, 50))
@many
def test_a_decode_step_meets_the_keys_of_the_masks_last_row(n: int, window: int | None, chunk: int | None) -> None:
    window = None if chunk is not None else window
    expected = kept(n, causal=True, window=window, chunk=chunk)[-1].sum()
    assert score_pairs(work(n, mask="exact", decoding=True), causal=True, window=window, chunk=chunk) == expected


@given(n=lengths, limit=st.integers(1, 50))
@many
def test_a_decode_step_holds_no_more_than_the_window(n: int, limit: int) -> None:
    for fields in ({"window": limit}, {"chunk": limit}):
        assert score_pairs(work(n, mask="full", decoding=True), causal=True, **fields) == min(n, limit)


@given(n=lengths, window=limits, causal=st.booleans())
@many
def test_full_is_the_square_and_no_mask_keeps_more(n: int, window: int | None, causal: bool) -> None:
    full = score_pairs(work(n, mask="full"), causal=causal, window=window)
    assert full == n * n
    assert score_pairs(work(n, mask="exact"), causal=causal, window=window) <= full


def test_half_is_for_causal_attention_over_a_whole_sequence() -> None:
    assert halved(work(8, mask="half"), causal=True)
    assert not halved(work(8, mask="half"), causal=False)
    assert not halved(work(8, mask="half", decoding=True), causal=True)
    assert not halved(work(8, mask="full"), causal=True)


def test_the_property_notices_a_window_that_is_one_too_wide() -> None:
    """Negative control."""
    expected = kept(12, causal=True, window=4, chunk=None).sum()
    assert score_pairs(work(12, mask="exact"), causal=True, window=5) != expected
