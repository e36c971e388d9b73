"""GPT, GPT-Neo, CodeGen, GPT-NeoX Japanese, XGLM, BioGPT, CTRL: decoders with a spelling of their own each."""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.llama import FREQUENCIES
from txcalc.reference.names.table import Table

_HEAD: Final = """
    head.matrix    lm_head.weight
    head.bias      lm_head.bias
"""
_GPT: Final = """
    embedding.tokens             transformer.tokens_embed
    embedding.positions.table    transformer.positions_embed
    layers.{i}.attn.q_proj+k_proj+v_proj    transformer.h.{i}.attn.c_attn    conv1d
    layers.{i}.attn.o_proj       transformer.h.{i}.attn.c_proj    conv1d
    layers.{i}.attn.norm_after   transformer.h.{i}.ln_1
    layers.{i}.ffn.up_proj       transformer.h.{i}.mlp.c_fc       conv1d
    layers.{i}.ffn.down_proj     transformer.h.{i}.mlp.c_proj     conv1d
    layers.{i}.ffn.norm_after    transformer.h.{i}.ln_2
"""
_NEO: Final = """
    embedding.tokens             transformer.wte
    embedding.positions.table    transformer.wpe
    layers.{i}.attn.norm_in      transformer.h.{i}.ln_1
    layers.{i}.attn              transformer.h.{i}.attn.attention
    layers.{i}.attn.o_proj       transformer.h.{i}.attn.attention.out_proj
    layers.{i}.ffn.norm_in       transformer.h.{i}.ln_2
    layers.{i}.ffn.up_proj       transformer.h.{i}.mlp.c_fc
    layers.{i}.ffn.down_proj     transformer.h.{i}.mlp.c_proj
    final_norm                   transformer.ln_f
"""
_CODEGEN: Final = """
    embedding.tokens           transformer.wte
    layers.{i}.attn.norm_in    transformer.h.{i}.ln_1
    layers.{i}.attn.q_proj+v_proj+k_proj    transformer.h.{i}.attn.qkv_proj    in four blocks
    layers.{i}.attn.o_proj     transformer.h.{i}.attn.out_proj
    layers.{i}.ffn.up_proj     transformer.h.{i}.mlp.fc_in
    layers.{i}.ffn.down_proj   transformer.h.{i}.mlp.fc_out
    final_norm                 transformer.ln_f
"""
_JAPANESE: Final = """
    embedding.tokens           gpt_neox_japanese.embed_in
    layers.{i}.attn.norm_in    gpt_neox_japanese.layers.{i}.input_layernorm
    layers.{i}.attn.q_proj+k_proj+v_proj    gpt_neox_japanese.layers.{i}.attention.query_key_value    grouped
    layers.{i}.attn.o_proj     gpt_neox_japanese.layers.{i}.attention.dense
    layers.{i}.attn.o_proj.bias    gpt_neox_japanese.layers.{i}.attention.dense_bias
    layers.{i}.ffn.norm_in     gpt_neox_japanese.layers.{i}.post_attention_layernorm
    layers.{i}.ffn.up_proj     gpt_neox_japanese.layers.{i}.mlp.dense_h_to_4h
    layers.{i}.ffn.down_proj   gpt_neox_japanese.layers.{i}.mlp.dense_4h_to_h
    final_norm                 gpt_neox_japanese.final_layer_norm
    head.matrix                embed_out.weight
"""
# fairseq's words, which XGLM and BioGPT share.
_FAIRSEQ: Final = """
    embedding.tokens             BASE.embed_tokens
    embedding.positions.table    BASE.embed_positions
    layers.{i}.attn              BASE.layers.{i}.self_attn
    layers.{i}.attn.o_proj       BASE.layers.{i}.self_attn.out_proj
    layers.{i}.attn.norm_in      BASE.layers.{i}.self_attn_layer_norm
    layers.{i}.ffn.up_proj       BASE.layers.{i}.fc1
    layers.{i}.ffn.down_proj     BASE.layers.{i}.fc2
    layers.{i}.ffn.norm_in       BASE.layers.{i}.final_layer_norm
    final_norm                   BASE.layer_norm
"""
_CTRL: Final = """
    embedding.tokens           transformer.w
    layers.{i}.attn.norm_in    transformer.h.{i}.layernorm1
    layers.{i}.attn.q_proj     transformer.h.{i}.multi_head_attention.Wq
    layers.{i}.attn.k_proj     transformer.h.{i}.multi_head_attention.Wk
    layers.{i}.attn.v_proj     transformer.h.{i}.multi_head_attention.Wv
    layers.{i}.attn.o_proj     transformer.h.{i}.multi_head_attention.dense
    layers.{i}.ffn.norm_in     transformer.h.{i}.layernorm2
    layers.{i}.ffn.up_proj     transformer.h.{i}.ffn.0
    layers.{i}.ffn.down_proj   transformer.h.{i}.ffn.2
    final_norm                 transformer.layernorm
"""
_BIOGPT_HEAD: Final = """
    head.matrix    output_projection.weight
"""
_MASKS: Final = (
    "*.attn.bias",
    "*.attn.masked_bias",
    "*.attn.causal_mask",
    "*.attention.bias",
    "*.attention.masked_bias",
)

TABLES: Final = {
    "openai-gpt": Table.of(_GPT + _HEAD, base="transformer.", not_weights=(*_MASKS, "*position_ids")),
    "gpt_neo": Table.of(_NEO + _HEAD, base="transformer.", not_weights=_MASKS),
    "codegen": Table.of(_CODEGEN + _HEAD, base="transformer.", not_weights=_MASKS),
    "gpt_neox_japanese": Table.of(_JAPANESE, base="gpt_neox_japanese.", not_weights=(*_MASKS, *FREQUENCIES)),
    "xglm": Table.of(
        _FAIRSEQ.replace("BASE", "model") + _HEAD, base="model.", not_weights=("*.embed_positions.weights",)
    ),
    "biogpt": Table.of(_FAIRSEQ.replace("BASE", "biogpt") + _BIOGPT_HEAD, base="biogpt."),
    "ctrl": Table.of(_CTRL + _HEAD, base="transformer."),
}
