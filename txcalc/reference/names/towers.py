"""Models with a vision tower beside the text decoder: Gemma 3."""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.llama import FREQUENCIES, SANDWICH
from txcalc.reference.names.table import Table


def siglip(tower: str) -> str:
    """Lines of a SigLIP vision encoder whose names begin with ``tower``."""
    layer, head = f"{tower}.encoder.layers.{{i}}", f"{tower}.head"
    ours, pooling = "vision.layers.{i}", "vision.attention_pooling"
    return f"""
    vision.embedding.patches            {tower}.embeddings.patch_embedding
    vision.embedding.positions.table    {tower}.embeddings.position_embedding
    {ours}.attn                         {layer}.self_attn
    {ours}.attn.o_proj                  {layer}.self_attn.out_proj
    {ours}.attn.norm_in                 {layer}.layer_norm1
    {ours}.ffn.up_proj                  {layer}.mlp.fc1
    {ours}.ffn.down_proj                {layer}.mlp.fc2
    {ours}.ffn.norm_in                  {layer}.layer_norm2
    vision.final_norm                   {tower}.post_layernorm
    {pooling}.probe                     {head}.probe    leading axis
    {pooling}.attention.q_proj.weight+k_proj.weight+v_proj.weight    {head}.attention.in_proj_weight
    {pooling}.attention.q_proj.bias+k_proj.bias+v_proj.bias    {head}.attention.in_proj_bias
    {pooling}.attention.o_proj          {head}.attention.out_proj
    {pooling}.norm                      {head}.layernorm
    {pooling}.feed_forward.up_proj      {head}.mlp.fc1
    {pooling}.feed_forward.down_proj    {head}.mlp.fc2
"""


_GEMMA3: Final = f"""
    {SANDWICH.replace("  model.", "  model.language_model.")}
    {siglip("model.vision_tower")}
    connectors.vision.norm                          model.multi_modal_projector.mm_soft_emb_norm
    connectors.vision.projections.0.linear.weight   model.multi_modal_projector.mm_input_projection_weight    transposed
"""
_OLDER: Final = (
    ("language_model.lm_head", "lm_head"),
    ("language_model.model.", "model.language_model."),
    ("vision_tower.vision_model.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
)

TABLES: Final = {
    "gemma3": Table.of(_GEMMA3, base="model.", older=_OLDER, not_weights=(*FREQUENCIES, "*.position_ids")),
}
