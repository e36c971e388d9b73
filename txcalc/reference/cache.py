"""What a decoder keeps between steps, so that a new token costs one token's work and not the whole sequence's.

Everything is allocated once and written in place. A cache of places holds one entry a token (keys and values, or one
latent): token p stands in place p % capacity, so that a layer with a window of W keeps W places and overwrites the
oldest. A state has a fixed size however long the sequence grows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from txcalc.errors import RequestError
from txcalc.reference.context import Context, Keys


@dataclass(frozen=True)
class CacheSpec:
    """How large a cache to make: rows, tokens a row, source tokens of cross-attention, element types."""

    batch: int
    ctx: int
    device: torch.device
    dtype: torch.dtype
    source: int = 0
    int8: bool = False


class Entry(Protocol):
    """What one sublayer keeps."""

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that is allocated."""

    def reset(self) -> None:
        """Forget everything; keep the memory."""


# ---- stores ---------------------------------------------------------------------------------------------------------


class Store:
    """One tensor of places, [B, K, capacity, width], in the dtype of the activations."""

    def __init__(self, spec: CacheSpec, heads: int, capacity: int, width: int) -> None:
        self.values = torch.zeros(spec.batch, heads, capacity, width, device=spec.device, dtype=spec.dtype)

    def write(self, place: int, x_BKTH: Tensor) -> None:
        """Write consecutive places of every row."""
        self.values.narrow(2, place, x_BKTH.shape[2]).copy_(x_BKTH)

    def write_pairs(self, rows_P: Tensor, places_P: Tensor, x_PKH: Tensor) -> None:
        """Write one place of one row for each pair."""
        self.values[rows_P, :, places_P] = x_PKH.to(self.values.dtype)

    def read(self, places: int) -> Tensor:
        """The first places, [B, K, places, width]: a view, no copy."""
        return self.values.narrow(2, 0, places)

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that is allocated."""
        yield self.values


class Int8Store(Store):
    """Places in int8, with one fp32 scale per token and head: |x| <= 127 * scale."""

    def __init__(self, spec: CacheSpec, heads: int, capacity: int, width: int) -> None:
        shape = (spec.batch, heads, capacity, width)
        self.values = torch.zeros(shape, device=spec.device, dtype=torch.int8)
        self.scales = torch.zeros((*shape[:3], 1), device=spec.device, dtype=torch.float32)
        self.dtype = spec.dtype

    def write(self, place: int, x_BKTH: Tensor) -> None:
        """Quantise, then write consecutive places of every row."""
        values, scales = quantise(x_BKTH)
        end = place + x_BKTH.shape[2]
        self.values[:, :, place:end], self.scales[:, :, place:end] = values, scales

    def write_pairs(self, rows_P: Tensor, places_P: Tensor, x_PKH: Tensor) -> None:
        """Quantise, then write one place of one row for each pair."""
        values, scales = quantise(x_PKH)
        self.values[rows_P, :, places_P], self.scales[rows_P, :, places_P] = values, scales

    def read(self, places: int) -> Tensor:
        """The first places, dequantised."""
        return (self.values[:, :, :places] * self.scales[:, :, :places]).to(self.dtype)

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that is allocated."""
        yield from (self.values, self.scales)


def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
    """(int8 values, fp32 scales [..., 1]) of the last axis, symmetric: scale = max |x| / 127."""
    scales = x.float().abs().amax(-1, keepdim=True) / 127
    return (x.float() / scales.clamp_min(1e-30)).round().to(torch.int8), scales


# ---- places ---------------------------------------------------------------------------------------------------------


class PlaceCache:
    """Places for the tokens of every row: one tensor a width, e.g. keys and values.

    ``window``: a ring of that many places. ``chunk``: places are reused as each chunk begins. Neither: all of ctx.
    """

    def __init__(
        self, spec: CacheSpec, widths: Sequence[tuple[int, int]], *, window: int | None = None, chunk: int | None = None
    ) -> None:
        limit = min(x for x in (window, chunk, spec.ctx) if x is not None)
        self.capacity, self.ctx, self.chunked = limit, spec.ctx, chunk == limit
        self.ring = limit < spec.ctx
        store = Int8Store if spec.int8 else Store
        self.stores = [store(spec, heads, self.capacity, width) for heads, width in widths]

    def extend(self, new: tuple[Tensor, ...], context: Context) -> Keys:
        """Keep the new tokens, each [B, K, T, width], and return all keys that the queries may look at.

        Raises:
            RequestError: more tokens than the cache was made for.
        """
        if context.starts_B is not None:
            return self._extend_in_place(new, context, context.starts_B)
        longest = max(start + count for start, count in zip(context.starts, context.counts, strict=True))
        if longest > self.ctx:
            raise RequestError(f"token {longest} does not fit a cache made for {self.ctx}", "make it with a larger ctx")
        fresh = max(context.starts) == 0 and context.tokens > 1
        if fresh:
            self._write(new, context)
            return Keys(new, lambda: context.positions_BT, fresh=True)
        if context.tokens > 1 and self.ring:
            keys = self._kept_and(new, context)
            self._write(new, context)
            return keys
        self._write(new, context)
        return self._kept(context)

    def _kept(self, context: Context) -> Keys:
        """Everything in the cache, the new tokens included: views."""
        together = context.start is not None and not context.padded
        newest = [start + count - 1 for start, count in zip(context.starts, context.counts, strict=True)]
        places = min(max(newest) + 1, self.capacity)
        complete = together and context.tokens == 1
        if complete and self.chunked:
            places = newest[0] % self.capacity + 1  # places behind it are the last chunk's
        layout = ("kept", self.capacity, places)

        def positions() -> Tensor:
            return context.once(layout, lambda: self._held(_column(newest, context), places))

        return Keys(self._read(places), positions, complete=complete, layout=layout)

    def _extend_in_place(self, new: tuple[Tensor, ...], context: Context, starts_B: Tensor) -> Keys:
        """One token a row at places that only the device knows; all places are returned, a mask tells which count."""
        places_B = starts_B % self.capacity
        rows_B = context.once("rows", lambda: torch.arange(len(places_B), device=context.device))
        for store, x_BK1H in zip(self.stores, new, strict=True):
            store.write_pairs(rows_B, places_B, x_BK1H[:, :, 0])
        layout = ("in place", self.capacity)

        def positions() -> Tensor:
            return context.once(layout, lambda: self._held(starts_B[:, None], self.capacity))

        return Keys(self._read(self.capacity), positions, layout=layout)

    def _kept_and(self, new: tuple[Tensor, ...], context: Context) -> Keys:
        """What a ring held before, then the new tokens, which may push each other out: a copy."""
        newest = [start - 1 for start in context.starts]
        places = min(max(newest) + 1, self.capacity)
        layout = ("kept and new", self.capacity, places)
        kept = self._read(places)
        both = tuple(torch.cat((old, x.to(old.dtype)), dim=2) for old, x in zip(kept, new, strict=True))

        def positions() -> Tensor:
            return context.once(layout, lambda: self._held_and_new(newest, places, context))

        return Keys(both, positions, layout=layout)

    def _read(self, places: int) -> tuple[Tensor, ...]:
        return tuple(store.read(places) for store in self.stores)

    def _held(self, newest_B1: Tensor, places: int) -> Tensor:
        """The position of the token in each place, [1 or B, places], -1 where there is none.

        With the newest token at p, place s holds the last position up to p that is s modulo the capacity:
        p - (p - s) mod capacity.
        """
        places_S = torch.arange(places, device=newest_B1.device)
        return (newest_B1 - (newest_B1 - places_S) % self.capacity).clamp_min(-1)

    def _held_and_new(self, newest: list[int], places: int, context: Context) -> Tensor:
        held, new = self._held(_column(newest, context), places), context.real_positions()
        rows = max(held.shape[0], new.shape[0])
        return torch.cat((held.expand(rows, -1), new.expand(rows, -1)), dim=1)

    def _write(self, new: tuple[Tensor, ...], context: Context) -> None:
        """Write the real tokens, of each row no more than the last ``capacity``."""
        if context.start is None or context.padded:
            self._write_pairs(new, context)
            return
        skipped = max(context.tokens - self.capacity, 0)
        first = (context.start + skipped) % self.capacity
        before_end = min(self.capacity - first, context.tokens - skipped)
        for store, x_BKTH in zip(self.stores, new, strict=True):
            if before_end == context.tokens:
                store.write(first, x_BKTH)
                continue
            store.write(first, x_BKTH[:, :, skipped : skipped + before_end])
            store.write(0, x_BKTH[:, :, skipped + before_end :])

    def _write_pairs(self, new: tuple[Tensor, ...], context: Context) -> None:
        rows_P, tokens_P, places_P = context.once(("pairs", self.capacity), lambda: self._pairs(context))
        for store, x_BKTH in zip(self.stores, new, strict=True):
            store.write_pairs(rows_P, places_P, x_BKTH[rows_P, :, tokens_P])

    def _pairs(self, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """(row, token, place) of every token that is written."""
        triples = [
            (row, token, (start + token) % self.capacity)
            for row, (start, count) in enumerate(zip(context.starts, context.counts, strict=True))
            for token in range(max(count - self.capacity, 0), count)
        ]
        rows_P, tokens_P, places_P = torch.tensor(triples, device=context.device, dtype=torch.long).view(-1, 3).T
        return rows_P, tokens_P, places_P

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that is allocated."""
        for store in self.stores:
            yield from store.tensors()

    def reset(self) -> None:
        """Forget everything: places are read only up to what was written."""


def _column(newest: list[int], context: Context) -> Tensor:
    """One number a row, [B, 1], or [1, 1] where all are the same."""
    same = len(set(newest)) == 1
    return torch.tensor(newest[:1] if same else newest, device=context.device)[:, None]


# ---- states and sources ---------------------------------------------------------------------------------------------


class StateCache:
    """Named tensors of fixed size: recurrent states and the last inputs of convolutions."""

    def __init__(self, **states: Tensor) -> None:
        self.states = states

    def __getitem__(self, name: str) -> Tensor:
        return self.states[name]

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.states[name].copy_(value)

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that is allocated."""
        yield from self.states.values()

    def reset(self) -> None:
        """Begin again from zero."""
        for state in self.states.values():
            state.zero_()


class SourceCache:
    """Keys and values of an encoder's output: computed at the first step, only read after it."""

    def __init__(self, spec: CacheSpec, widths: Sequence[tuple[int, int]]) -> None:
        make = Int8Store if spec.int8 else Store
        self.stores = [make(spec, heads, spec.source, width) for heads, width in widths]
        self.length = 0

    def once(self, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """The kept tensors [B, K, S, width]; ``compute`` makes them the first time.

        Raises:
            RequestError: the source is longer than the cache was made for.
        """
        if not self.length:
            computed = compute()
            self.length, places = computed[0].shape[2], self.stores[0].values.shape[2]
            if self.length > places:
                raise RequestError(f"a source of {self.length} tokens does not fit a cache made for {places}")
            for store, x in zip(self.stores, computed, strict=True):
                store.write(0, x)
        return tuple(store.read(self.length) for store in self.stores)

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that is allocated."""
        for store in self.stores:
            yield from store.tensors()

    def reset(self) -> None:
        """Compute again at the next step."""
        self.length = 0


# ---- the whole decoder ----------------------------------------------------------------------------------------------


@dataclass
class DecoderCache:
    """What every sublayer of every layer keeps, and how many tokens of each row are in it."""

    spec: CacheSpec
    layers: list[list[Entry | None]]
    lengths: list[int] = field(default_factory=list)
    constants: dict[Hashable, Tensor] = field(default_factory=dict)  # of the passes: rotary frequencies, slopes

    def __post_init__(self) -> None:
        self.lengths = self.lengths or [0] * self.spec.batch

    def entries(self) -> Iterator[Entry]:
        """Every entry, in order of execution."""
        for layer in self.layers:
            yield from (entry for entry in layer if entry is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of every tensor that is allocated."""
        return sum(tensor.nbytes for entry in self.entries() for tensor in entry.tensors())

    def advance(self, counts: Sequence[int]) -> None:
        """Count the tokens that a pass added."""
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]

    def reset(self) -> None:
        """Begin new sequences in the same memory."""
        self.lengths = [0] * self.spec.batch
        for entry in self.entries():
            entry.reset()
