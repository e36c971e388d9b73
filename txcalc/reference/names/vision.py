"""Vision transformers: ViT and DINOv2, in the spelling of today's transformers and in that of published files."""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.table import Table

# Published files name projections and inner layers as BERT does.
_OLDER: Final = """
    layers.{i}.attn.q_proj       LAYER.attention.attention.query
    layers.{i}.attn.k_proj       LAYER.attention.attention.key
    layers.{i}.attn.v_proj       LAYER.attention.attention.value
    layers.{i}.attn.o_proj       LAYER.attention.output.dense
"""
_TODAY: Final = """
    layers.{i}.attn.q_proj       LAYER.attention.q_proj
    layers.{i}.attn.k_proj       LAYER.attention.k_proj
    layers.{i}.attn.v_proj       LAYER.attention.v_proj
    layers.{i}.attn.o_proj       LAYER.attention.o_proj
    layers.{i}.ffn.up_proj       LAYER.mlp.fc1
    layers.{i}.ffn.down_proj     LAYER.mlp.fc2
"""
_OUTSIDE: Final = """
    embedding.extra_tokens       BASE.embeddings.cls_token    leading axis
    embedding.mask_token         BASE.embeddings.mask_token
    embedding.patches            BASE.embeddings.patch_embeddings.projection
    embedding.positions.table.weight    BASE.embeddings.position_embeddings    leading axis
    final_norm                   BASE.layernorm
    pooler.dense                 BASE.pooler.dense
    head.matrix                  classifier.weight
    head.bias                    classifier.bias
"""
_VIT_OLDER: Final = """
    layers.{i}.ffn.up_proj       LAYER.intermediate.dense
    layers.{i}.ffn.down_proj     LAYER.output.dense
"""
_VIT: Final = """
    layers.{i}.attn.norm_in      LAYER.layernorm_before
    layers.{i}.ffn.norm_in       LAYER.layernorm_after
"""
_DINO: Final = """
    layers.{i}.attn.norm_in       LAYER.norm1
    layers.{i}.attn.layer_scale   LAYER.layer_scale1.lambda1
    layers.{i}.ffn.norm_in        LAYER.norm2
    layers.{i}.ffn.layer_scale    LAYER.layer_scale2.lambda1
    layers.{i}.mlp                LAYER.mlp
    layers.{i}.mlp.norm_in        LAYER.norm2
    layers.{i}.mlp.layer_scale    LAYER.layer_scale2.lambda1
"""


def _spelled(text: str, layer: str, base: str) -> str:
    return text.replace("LAYER", layer).replace("BASE", base)


_VIT_LINES: Final = _spelled(_OUTSIDE + _VIT + _TODAY, "vit.layers.{i}", "vit") + _spelled(
    _VIT + _OLDER + _VIT_OLDER, "vit.encoder.layer.{i}", "vit"
)
_DINO_LINES: Final = _spelled(_OUTSIDE + _DINO + _TODAY + _OLDER, "dinov2.encoder.layer.{i}", "dinov2")

TABLES: Final = {
    "vit": Table.of(_VIT_LINES, base="vit."),
    "dinov2": Table.of(_DINO_LINES, base="dinov2."),
}
