"""DeepSeek-V4's attention: a window of single tokens, and behind it entries that each stand for many."""

from __future__ import annotations

from txcalc.architecture.positions import Rotary
from txcalc.record import Record


class CompressedIndexer(Record):
    """Picks ``top_k`` entries for each query, by entries of its own of ``head_dim`` channels made in the same way.

    Parameters: query [q_lora_rank, heads * head_dim], a weight per head [hidden_size, heads], and a compressor's.
    """

    num_heads: int
    head_dim: int
    top_k: int


class Compressor(Record):
    """Every ``rate`` tokens become one entry: a weighted sum of them, channel by channel (section 2.3).

    Parameters: values and weights [hidden_size, width], a table of biases [rate, width], a norm. ``overlapping``:
    width is twice the head's, because a token also adds to the entry after its own.
    """

    rate: int
    overlapping: bool
    indexer: CompressedIndexer | None = None


class CompressedAttention(Record):
    """One key head of ``head_dim`` channels that serves as the value too, for all query heads.

    Queries go through ``q_lora_rank``; heads are joined in ``o_groups`` groups, each through [heads / groups *
    head_dim, o_lora_rank], then [groups * o_lora_rank, hidden_size]. Sinks; the last channels are turned, and turned
    back in the output.
    """

    hidden_size: int
    num_attention_heads: int
    head_dim: int
    q_lora_rank: int
    o_groups: int
    o_lora_rank: int
    window: int
    norm_eps: float
    position: Rotary
    compressor: Compressor | None = None
    causal: bool = True
