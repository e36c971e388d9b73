"""Rows of unequal length in one batch. Inside the model padding always stands on the right.

So every row's first token is at position 0, a causal mask hides the padding from every real token, and a cache row is
filled from its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from txcalc.errors import RequestError


class Rows(NamedTuple):
    """Tokens [B, T] with their padding on the right, and how to turn results back as they came."""

    tokens_BT: Tensor
    counts: tuple[int, ...]
    left: bool = False

    @classmethod
    def of(cls, tokens_BT: Tensor, lengths: Sequence[int] | None, padding: Literal["left", "right"]) -> Rows:
        """Rows as they come from a tokenizer.

        Raises:
            RequestError: lengths that do not fit the tokens.
        """
        B, T = tokens_BT.shape
        counts = (T,) * B if lengths is None else tuple(lengths)
        if len(counts) != B or not all(0 <= count <= T for count in counts):
            raise RequestError(f"lengths {list(counts)} do not fit {B} rows of {T} tokens")
        rows = cls(tokens_BT, counts, padding == "left" and any(count != T for count in counts))
        return rows._replace(tokens_BT=rows.to_right(tokens_BT))

    def to_right(self, x_BT: Tensor) -> Tensor:
        """Move each row's padding from the left to the right."""
        return x_BT if not self.left else self._rolled(x_BT, [count - x_BT.shape[1] for count in self.counts])

    def from_right(self, x_BT: Tensor) -> Tensor:
        """Move each row's padding back to where it came from."""
        return x_BT if not self.left else self._rolled(x_BT, [x_BT.shape[1] - count for count in self.counts])

    def last(self, x_BTD: Tensor) -> Tensor:
        """Each row's last real token, [B, D]."""
        if len(set(self.counts)) == 1:
            return x_BTD[:, self.counts[0] - 1]
        last_B = torch.tensor(self.counts, device=x_BTD.device) - 1
        return x_BTD[torch.arange(x_BTD.shape[0], device=x_BTD.device), last_B]

    @staticmethod
    def _rolled(x_BT: Tensor, shifts: list[int]) -> Tensor:
        return torch.stack([row.roll(shift, dims=0) for row, shift in zip(x_BT, shifts, strict=True)])
