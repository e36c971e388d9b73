"""Inkling's attention: biases by distance made of the token itself, keys and values mixed with those just before."""

from __future__ import annotations

from txcalc.record import Record


class RelativeAttention(Record):
    """Grouped heads; what is added to a score is mixed for each query from ``rel_dim`` profiles over distances.

    Parameters: relative states [hidden_size, heads * rel_dim], profiles [rel_dim, rel_extent], convolutions of
    ``conv_kernel`` taps over keys and values, norms of queries and keys [head_dim].

    The second Inkling: ``clipped`` - queries and relative states have a scale per head and channel, [heads, head_dim]
    and [heads, rel_dim], in place of norms; ``gated`` - a gate by channel, and sinks of every token, [hidden_size,
    heads]; ``dynamic`` - the taps of every KV head are made of the token, [hidden_size, kv heads * taps], beside fixed
    ones; ``own_norms`` - queries, keys and values each norm the input for themselves.
    """

    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rel_dim: int
    rel_extent: int
    conv_kernel: int
    window: int | None = None
    clipped: bool = False
    gated: bool = False
    dynamic: bool = False
    own_norms: bool = False
    causal: bool = True


class DepthAttention(Record):
    """A step reads a weighted sum of what came before in depth: blocks of layers summed up, and the current sum.

    ``queries`` learned vectors [hidden_size] attend over ``sources`` such sums of the same token (Inkling 2).
    """

    hidden_size: int
    queries: int
    sources: int
