"""XLM and FlauBERT: one list for each kind of module, numbered by layer."""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.table import Table

_XLM: Final = """
    embedding.tokens             transformer.embeddings
    embedding.positions.table    transformer.position_embeddings
    embedding.norm               transformer.layer_norm_emb
    layers.{i}.attn.q_proj       transformer.attentions.{i}.q_lin
    layers.{i}.attn.k_proj       transformer.attentions.{i}.k_lin
    layers.{i}.attn.v_proj       transformer.attentions.{i}.v_lin
    layers.{i}.attn.o_proj       transformer.attentions.{i}.out_lin
    layers.{i}.attn.norm_in      transformer.layer_norm1.{i}
    layers.{i}.attn.norm_after   transformer.layer_norm1.{i}
    layers.{i}.ffn.up_proj       transformer.ffns.{i}.lin1
    layers.{i}.ffn.down_proj     transformer.ffns.{i}.lin2
    layers.{i}.ffn.norm_in       transformer.layer_norm2.{i}
    layers.{i}.ffn.norm_after    transformer.layer_norm2.{i}
    head.matrix                  pred_layer.proj.weight
    head.bias                    pred_layer.proj.bias
"""

TABLES: Final = dict.fromkeys(("xlm", "flaubert"), Table.of(_XLM, base="transformer.", not_weights=("*position_ids",)))
