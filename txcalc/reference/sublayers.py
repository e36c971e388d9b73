"""From the description of a sublayer to its module; a new kind is one case here."""

from __future__ import annotations

from txcalc import architecture as arch
from txcalc.reference.attention import CrossAttention, SelfAttention
from txcalc.reference.feed_forward import FeedForward
from txcalc.reference.sublayer import Sublayer


def make_sublayer(sublayer: arch.Sublayer) -> Sublayer:
    """The module that computes a sublayer.

    Raises:
        RequestError: something that is described and not built yet (see ``support``).
    """
    match sublayer:
        case arch.SelfAttention():
            return SelfAttention(sublayer)
        case arch.CrossAttention():
            return CrossAttention(sublayer)
        case arch.FeedForward():
            return FeedForward(sublayer)
        case _:
            raise NotImplementedError(type(sublayer).__name__)
