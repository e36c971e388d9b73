"""Llama's names, which most decoders have taken over, and the types that change a line or two of them."""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.table import Table

OUTSIDE: Final = """
    embedding.tokens    model.embed_tokens
    final_norm          model.norm
    head.matrix         lm_head.weight
    head.bias           lm_head.bias
"""
ATTENTION: Final = """
    layers.{i}.attn           model.layers.{i}.self_attn
    layers.{i}.attn.norm_in   model.layers.{i}.input_layernorm
"""
FEED_FORWARD: Final = """
    layers.{i}.mlp            model.layers.{i}.mlp
    layers.{i}.mlp.norm_in    model.layers.{i}.post_attention_layernorm
"""
DECODER: Final = OUTSIDE + ATTENTION + FEED_FORWARD
# Files written before rotary frequencies were computed from the config.
FREQUENCIES: Final = ("*.rotary_emb.inv_freq",)

SANDWICH: Final = f"""
    {OUTSIDE}
    layers.{{i}}.attn             model.layers.{{i}}.self_attn
    layers.{{i}}.attn.norm_in     model.layers.{{i}}.input_layernorm
    layers.{{i}}.attn.norm_out    model.layers.{{i}}.post_attention_layernorm
    layers.{{i}}.mlp              model.layers.{{i}}.mlp
    layers.{{i}}.mlp.norm_in      model.layers.{{i}}.pre_feedforward_layernorm
    layers.{{i}}.mlp.norm_out     model.layers.{{i}}.post_feedforward_layernorm
"""
_LLAMA: Final = Table.of(DECODER, base="model.", older=(("transformer.", "model."),), not_weights=FREQUENCIES)
_SANDWICH: Final = Table.of(SANDWICH, base="model.", not_weights=FREQUENCIES)

# Query and key norms of StableLM are stored a head at a time.
_STABLELM: Final = """
    layers.{i}.attn.q_norm.weight    model.layers.{i}.self_attn.q_layernorm.norms.{e}.weight    each
    layers.{i}.attn.k_norm.weight    model.layers.{i}.self_attn.k_layernorm.norms.{e}.weight    each
"""
_PHI3: Final = """
    layers.{i}.attn.q_proj+k_proj+v_proj    model.layers.{i}.self_attn.qkv_proj
    layers.{i}.mlp.gate_proj+up_proj        model.layers.{i}.mlp.gate_up_proj
"""
_STARCODER2: Final = """
    layers.{i}.ffn.up_proj      model.layers.{i}.mlp.c_fc
    layers.{i}.ffn.down_proj    model.layers.{i}.mlp.c_proj
    layers.{i}.ffn.norm_in      model.layers.{i}.post_attention_layernorm
"""

TABLES: Final = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "mimo", "qwen3", "gemma", "cohere"), _LLAMA),
    **dict.fromkeys(("gemma2", "gemma3_text", "olmo2"), _SANDWICH),
    "stablelm": Table.of(DECODER + _STABLELM, base="model.", not_weights=FREQUENCIES),
    "phi3": Table.of(DECODER + _PHI3, base="model.", not_weights=FREQUENCIES),
    "starcoder2": Table.of(OUTSIDE + ATTENTION + _STARCODER2, base="model.", not_weights=FREQUENCIES),
}
