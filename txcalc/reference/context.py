"""What one forward pass knows besides its activations: where its tokens stand, and what all layers share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from txcalc import architecture as arch
from txcalc.reference.backends import Backend
from txcalc.reference.rotary import Turns, depends_on_length, frequencies, turn_size, turns

Made = TypeVar("Made")


class Keys(NamedTuple):
    """What queries may look at: tensors [B, K, S, width] (keys and values, or one latent), and where they stand.

    ``positions`` makes ``positions_BS``, for those who need it. ``fresh``: the keys are the query tokens themselves
    and nothing came before, so the lower triangle is the whole mask. ``complete``: one query token, and every key is
    one that it may see. ``layout`` names the arrangement, so that a mask is made once for all layers.
    """

    tensors: tuple[Tensor, ...]
    positions: Callable[[], Tensor]
    fresh: bool = False
    complete: bool = False
    layout: Hashable = "fresh"

    @property
    def positions_BS(self) -> Tensor:
        """Where the keys stand, [1 or B, S]; -1 marks an empty or padded place."""
        return self.positions()


class Source(NamedTuple):
    """An encoder's output, [B, S, source_size], with positions [1 or B, S] that are -1 where it is padding."""

    states_BSD: Tensor
    positions_BS: Tensor
    padded: bool


@dataclass
class Context:
    """One forward pass of one stack over T new tokens a row.

    ``starts``: tokens of each row that came before; ``counts``: real tokens of each row among these T, the rest being
    padding on the right. Both are plain integers, so that no decision waits for a device. ``length``: how long the
    sequence may become (see ``rotary.turns``). ``weights`` collects attention weights where they are asked for.
    ``starts_B`` [B]: the same as ``starts`` on the device, for a step that is recorded once and played back (see
    ``graph``): then nothing may depend on the integers.
    """

    starts: tuple[int, ...]
    counts: tuple[int, ...]
    tokens: int
    device: torch.device
    backend: Backend
    length: int
    dropout: float = 0.0
    starts_B: Tensor | None = None
    global_BT: Tensor | None = None  # which tokens see everything and are seen by all (Longformer)
    together_BT: Tensor | None = None  # blocks of tokens that see each other, later ones too (see ``masks.visible``)
    source: Source | None = None
    weights: dict[tuple[int, str], Tensor] | None = None
    layer: int = 0
    chosen: Tensor | None = None  # the keys that the last indexer picked, boolean [B, 1, T, S]
    per_layer_BTLP: Tensor | None = None  # the embedding's vectors for each layer (Gemma 3n)
    kept_keys: dict[int, Keys] = field(default_factory=dict)  # of layers that later layers read (kv_source)
    tables: dict[str, Any] = field(default_factory=dict)  # of the stack: relative bias, disentangled positions
    memo: dict[Hashable, Any] = field(default_factory=dict)
    constants: dict[Hashable, Tensor] = field(default_factory=dict)  # a cache's: made once for all its passes

    @property
    def start(self) -> int | None:
        """Tokens that came before, where that is the same for all rows."""
        return self.starts[0] if len(set(self.starts)) == 1 else None

    @property
    def padded(self) -> bool:
        """Whether some row has fewer than T tokens."""
        return any(count != self.tokens for count in self.counts)

    @property
    def in_chunks(self) -> bool:
        """Whether recurrences take several tokens at once."""
        return self.backend.chunk > 0 and self.tokens > 1

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What ``make`` returns, made once in this pass."""
        if key not in self.memo:
            self.memo[key] = make()
        made: Made = self.memo[key]
        return made

    def constant(self, key: Hashable, make: Callable[[], Tensor | Sequence[float]]) -> Tensor:
        """Numbers that never change, as a tensor on the device, made once for all passes with one cache."""
        if key not in self.constants:
            self.constants[key] = torch.as_tensor(make(), device=self.device)
        return self.constants[key]

    @property
    def positions_BT(self) -> Tensor:
        """Where the query tokens stand, [1 or B, T]."""
        return self.once("positions", self._positions)

    def _positions(self) -> Tensor:
        steps_T = torch.arange(self.tokens, device=self.device)
        if self.starts_B is not None:
            return self.starts_B[:, None] + steps_T
        if self.start is not None:
            return (steps_T + self.start)[None]
        return torch.tensor(self.starts, device=self.device)[:, None] + steps_T

    def real_positions(self) -> Tensor:
        """As ``positions_BT``, with -1 where a token is padding."""
        if not self.padded:
            return self.positions_BT
        return torch.where(self.real_BT, self.positions_BT, -1)

    @property
    def real_BT(self) -> Tensor:
        """Which tokens are not padding, [B, T]."""
        counts_B = torch.tensor(self.counts, device=self.device)
        return torch.arange(self.tokens, device=self.device) < counts_B[:, None]

    def turns(self, rotary: arch.Rotary, dtype: torch.dtype) -> Turns:
        """Rotary cosines and sines of the query tokens, shared by all layers with the same setting."""
        # by identity first: a hash of the description walks all its fields, and every layer asks twice
        cos, sin = self.once(
            (id(rotary), dtype), lambda: self.once((rotary, dtype), lambda: self._turns(rotary, dtype))
        )
        return (cos, -sin) if rotary.reversed else (cos, sin)

    def _turns(self, rotary: arch.Rotary, dtype: torch.dtype) -> Turns:
        length = self.length if depends_on_length(rotary) else 0
        radians_R = self.constant((rotary, length), lambda: frequencies(rotary, length))
        return turns(self.positions_BT, radians_R, turn_size(rotary), dtype)
