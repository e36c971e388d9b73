"""CLIP's towers, and SigLIP's of images, by themselves.

Published files name the tower before each tensor, today's transformers does not.
"""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.table import Table
from txcalc.reference.names.towers import siglip

_LAYERS: Final = """
    layers.{i}.attn            TOWER.encoder.layers.{i}.self_attn
    layers.{i}.attn.o_proj     TOWER.encoder.layers.{i}.self_attn.out_proj
    layers.{i}.attn.norm_in    TOWER.encoder.layers.{i}.layer_norm1
    layers.{i}.ffn.up_proj     TOWER.encoder.layers.{i}.mlp.fc1
    layers.{i}.ffn.down_proj   TOWER.encoder.layers.{i}.mlp.fc2
    layers.{i}.ffn.norm_in     TOWER.encoder.layers.{i}.layer_norm2
    embedding.positions.table  TOWER.embeddings.position_embedding
"""
_TEXT: Final = """
    embedding.tokens           TOWER.embeddings.token_embedding
    final_norm                 TOWER.final_layer_norm
"""
_VISION: Final = """
    embedding.extra_tokens     TOWER.embeddings.class_embedding    without axis
    embedding.patches          TOWER.embeddings.patch_embedding
    embedding.norm             TOWER.pre_layrnorm
    final_norm                 TOWER.post_layernorm
"""


def _tower(text: str, name: str) -> Table:
    return Table.of((_LAYERS + text).replace("TOWER", name), base=f"{name}.", not_weights=("*position_ids",))


TABLES: Final = {
    "clip_text_model": _tower(_TEXT, "text_model"),
    "clip_vision_model": _tower(_VISION, "vision_model"),
    "siglip_vision_model": Table.of(siglip("vision_model"), base="vision_model.", not_weights=("*position_ids",)),
}
