"""Which query may look at which key, said in the cheapest way that a kernel understands."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from txcalc.reference.context import Context, Keys

Mask = Tensor | Literal["none", "causal"]  # a dense mask is boolean, [1 or B, 1, T, S], True where a key is seen


def visible(
    q_BT: Tensor,
    k_BS: Tensor,
    *,
    causal: bool,
    window: int | None = None,
    chunk: int | None = None,
    together_BT: Tensor | None = None,
) -> Tensor:
    """Boolean [1 or B, 1, T, S] from the positions of queries and keys; a key at -1 is seen by nobody.

    Causal: a token sees itself and what came before (Vaswani et al. 2017, section 3.2.3); with a window only the last
    ``window`` of these (Beltagy et al. 2020), with chunks only those of its own chunk. ``together_BT``: the numbers of
    blocks of the T = S tokens; those of one block also see what comes later in it.
    """
    q, k = q_BT[:, None, :, None], k_BS[:, None, None, :]
    seen = k >= 0
    if causal:
        # no name for the triangle: it would live until the end, T * S bytes
        seen = seen & (k <= q if together_BT is None else (k <= q) | _in_one_block(together_BT))
    if window is not None:  # positions are moved, not subtracted in pairs: a table of T * S integers takes 8 bytes each
        seen = seen & (k > q - window) if causal else seen & (k >= q - window // 2) & (k <= q + window // 2)
    if chunk is not None:
        seen = seen & (q // chunk == k // chunk)
    return seen


def _in_one_block(together_BT: Tensor) -> Tensor:
    """Boolean [B, 1, T, T]: whether two tokens have the same number, -1 being none."""
    q, k = together_BT[:, None, :, None], together_BT[:, None, None, :]
    return (q == k) & (q >= 0)


def blocks_of(marked_BT: Tensor) -> Tensor:
    """Numbers of the runs of marked tokens, 0 for the first of a row; -1 where a token is not marked: [B, T]."""
    first_BT = marked_BT & ~F.pad(marked_BT, (1, 0))[:, :-1]
    return torch.where(marked_BT, first_BT.cumsum(1) - 1, -1)


def mask_for(context: Context, keys: Keys, *, causal: bool, window: int | None, chunk: int | None) -> Mask:
    """The mask of an attention over ``keys``: none where every key is seen, a flag for a whole triangle, else dense."""
    if keys.complete:
        return "none"
    if keys.fresh and context.together_BT is None and _is_plain(context, causal, window, chunk):
        return "causal" if causal and context.tokens > 1 else "none"
    return dense_mask(context, keys, causal=causal, window=window, chunk=chunk)


def dense_mask(
    context: Context, keys: Keys, *, causal: bool, window: int | None = None, chunk: int | None = None
) -> Tensor:
    """The mask of an attention over ``keys`` as booleans, made once for all layers that see alike."""
    together_BT = context.together_BT if keys.fresh else None
    return context.once(
        ("mask", keys.layout, causal, window, chunk),
        lambda: visible(
            context.positions_BT, keys.positions_BS, causal=causal, window=window, chunk=chunk, together_BT=together_BT
        ),
    )


def _is_plain(context: Context, causal: bool, window: int | None, chunk: int | None) -> bool:
    """Whether window, chunk and padding take nothing away from T fresh tokens.

    Padding stands on the right: under a causal mask no real token looks at it.
    """
    T = context.tokens
    reach = None if window is None else window if causal else window // 2 + 1
    return (reach is None or reach >= T) and (chunk is None or chunk >= T) and (causal or not context.padded)
