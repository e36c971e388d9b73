"""What mixture-of-experts families share."""

from __future__ import annotations

from txcalc.architecture import FeedForward
from txcalc.architecture.feed_forward import Activation
from txcalc.configs.reader import Reader


def top_k(r: Reader, num_experts: int, name: str = "num_experts_per_tok") -> int:
    """How many experts a token is sent to.

    Raises:
        ModelError: more than there are.
    """
    chosen = r.integer(name)
    if chosen > num_experts:
        raise r.error(name, f"is {chosen}; there are {num_experts} experts", "choose at most that many")
    return chosen


def gated(hidden_size: int, intermediate_size: int, activation: Activation, *, bias: bool = False) -> FeedForward:
    """A gated feed-forward: an expert, or the dense layer beside them."""
    return FeedForward(
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        activation=activation,
        gated=True,
        up_bias=bias,
        down_bias=bias,
    )
