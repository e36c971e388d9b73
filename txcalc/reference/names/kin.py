"""Types whose checkpoints are spelled like Llama's, but for a line or two."""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.llama import ATTENTION, DECODER, FREQUENCIES, OUTSIDE, SANDWICH
from txcalc.reference.names.table import Table


def _table(text: str) -> Table:
    return Table.of(text, base="model.", not_weights=FREQUENCIES)


_PLAIN: Final = """
    layers.{i}.ffn            model.layers.{i}.mlp
    layers.{i}.ffn.norm_in    model.layers.{i}.post_attention_layernorm
"""
_BITNET: Final = """
    layers.{i}.attn.out_norm    model.layers.{i}.self_attn.attn_sub_norm
    layers.{i}.mlp.norm         model.layers.{i}.mlp.ffn_sub_norm
"""
_HUNYUAN: Final = """
    layers.{i}.attn.q_norm    model.layers.{i}.self_attn.query_layernorm
    layers.{i}.attn.k_norm    model.layers.{i}.self_attn.key_layernorm
"""

TABLES: Final = {
    **dict.fromkeys(
        "ministral ministral3 internlm3 iquestcoder seed_oss helium ernie4_5 smollm3 cwm".split(), _table(DECODER)
    ),
    "arcee": _table(OUTSIDE + ATTENTION + _PLAIN),
    "bitnet": _table(DECODER + _BITNET),
    "hunyuan_v1_dense": _table(DECODER + _HUNYUAN),
    "exaone4": _table(SANDWICH),
}
