"""What every sublayer is: a module from [B, T, D] to [B, T, D] that may keep something between steps."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from txcalc.reference.cache import CacheSpec, Entry
from txcalc.reference.context import Context


class Sublayer(nn.Module):
    """Base of attention, feed-forward and recurrent sublayers."""

    def forward(self, x_BTD: Tensor, context: Context, kept: Any = None) -> Tensor:
        """[B, T, D] -> [B, T, D]; ``kept`` is what ``new_cache`` made, or None for a pass without a cache."""
        raise NotImplementedError

    def new_cache(self, spec: CacheSpec) -> Entry | None:
        """What this sublayer keeps between steps; None where it keeps nothing."""
        return None
