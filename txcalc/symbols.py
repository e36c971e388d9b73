"""The one legend of letters in formulas. Letters are dimensions only; counts are words."""

from __future__ import annotations

from typing import Final

LEGEND: Final = {
    "B": "batch: sequences at once",
    "T": "query tokens",
    "S": "key/value tokens",
    "D": "hidden_size: width of the residual stream",
    "F": "intermediate_size: width inside the feed-forward",
    "V": "vocab_size",
    "N": "num_attention_heads: query heads",
    "K": "num_key_value_heads: key/value heads",
    "H": "head_dim: width of one head",
    "L": "num_hidden_layers, of this kind where layers differ",
    "E": "experts",
}
