"""Decoders with names of their own: GPT-2 and its line, GPT-J, GPT-NeoX, OPT, BLOOM, MPT, Falcon, Phi."""

from __future__ import annotations

from typing import Final

from txcalc import architecture as arch
from txcalc.reference.names.llama import FREQUENCIES
from txcalc.reference.names.table import Table

_HEAD: Final = """
    head.matrix    lm_head.weight
    head.bias      lm_head.bias
"""
_GPT2: Final = """
    embedding.tokens       transformer.wte
    embedding.positions.table    transformer.wpe
    layers.{i}.attn.norm_in      transformer.h.{i}.ln_1
    layers.{i}.attn.q_proj+k_proj+v_proj    transformer.h.{i}.attn.c_attn    LINEAR
    layers.{i}.attn.o_proj       transformer.h.{i}.attn.c_proj    LINEAR
    layers.{i}.ffn.norm_in       transformer.h.{i}.ln_2
    layers.{i}.ffn.up_proj       transformer.h.{i}.mlp.c_fc       LINEAR
    layers.{i}.ffn.down_proj     transformer.h.{i}.mlp.c_proj     LINEAR
    final_norm                   transformer.ln_f
"""
_GPTJ: Final = """
    embedding.tokens           transformer.wte
    layers.{i}.attn.norm_in    transformer.h.{i}.ln_1
    layers.{i}.attn            transformer.h.{i}.attn
    layers.{i}.attn.o_proj     transformer.h.{i}.attn.out_proj
    layers.{i}.ffn.up_proj     transformer.h.{i}.mlp.fc_in
    layers.{i}.ffn.down_proj   transformer.h.{i}.mlp.fc_out
    final_norm                 transformer.ln_f
"""
_NEOX: Final = """
    embedding.tokens           gpt_neox.embed_in
    layers.{i}.attn.norm_in    gpt_neox.layers.{i}.input_layernorm
    layers.{i}.attn.q_proj+k_proj+v_proj    gpt_neox.layers.{i}.attention.query_key_value    grouped
    layers.{i}.attn.o_proj     gpt_neox.layers.{i}.attention.dense
    layers.{i}.ffn.norm_in     gpt_neox.layers.{i}.post_attention_layernorm
    layers.{i}.ffn.up_proj     gpt_neox.layers.{i}.mlp.dense_h_to_4h
    layers.{i}.ffn.down_proj   gpt_neox.layers.{i}.mlp.dense_4h_to_h
    final_norm                 gpt_neox.final_layer_norm
"""
_OPT: Final = """
    embedding.tokens                model.decoder.embed_tokens
    embedding.positions.table       model.decoder.embed_positions
    embedding.projection.linear     model.decoder.project_in
    layers.{i}.attn                 model.decoder.layers.{i}.self_attn
    layers.{i}.attn.o_proj          model.decoder.layers.{i}.self_attn.out_proj
    layers.{i}.attn.norm_in         model.decoder.layers.{i}.self_attn_layer_norm
    layers.{i}.attn.norm_after      model.decoder.layers.{i}.self_attn_layer_norm
    layers.{i}.ffn.up_proj          model.decoder.layers.{i}.fc1
    layers.{i}.ffn.down_proj        model.decoder.layers.{i}.fc2
    layers.{i}.ffn.norm_in          model.decoder.layers.{i}.final_layer_norm
    layers.{i}.ffn.norm_after       model.decoder.layers.{i}.final_layer_norm
    final_norm                      model.decoder.final_layer_norm
    out_projection.linear           model.decoder.project_out
"""
_BLOOM: Final = """
    embedding.tokens           transformer.word_embeddings
    embedding.norm             transformer.word_embeddings_layernorm
    layers.{i}.attn.norm_in    transformer.h.{i}.input_layernorm
    layers.{i}.stream.norm_after    transformer.h.{i}.input_layernorm
    layers.{i}.attn.norm_after    transformer.h.{i}.post_attention_layernorm
    layers.{i}.attn.q_proj+k_proj+v_proj    transformer.h.{i}.self_attention.query_key_value    grouped
    layers.{i}.attn.o_proj     transformer.h.{i}.self_attention.dense
    layers.{i}.ffn.norm_in     transformer.h.{i}.post_attention_layernorm
    layers.{i}.ffn.up_proj     transformer.h.{i}.mlp.dense_h_to_4h
    layers.{i}.ffn.down_proj   transformer.h.{i}.mlp.dense_4h_to_h
    final_norm                 transformer.ln_f
"""
_MPT: Final = """
    embedding.tokens           transformer.wte
    layers.{i}.attn.norm_in    transformer.blocks.{i}.norm_1
    layers.{i}.attn.q_proj+k_proj+v_proj    transformer.blocks.{i}.attn.Wqkv
    layers.{i}.attn            transformer.blocks.{i}.attn
    layers.{i}.attn.o_proj     transformer.blocks.{i}.attn.out_proj
    layers.{i}.ffn             transformer.blocks.{i}.ffn
    layers.{i}.ffn.norm_in     transformer.blocks.{i}.norm_2
    final_norm                 transformer.norm_f
"""
_PHI: Final = """
    embedding.tokens           model.embed_tokens
    layers.{i}.attn.norm_in    model.layers.{i}.input_layernorm
    layers.{i}.attn            model.layers.{i}.self_attn
    layers.{i}.attn.o_proj     model.layers.{i}.self_attn.dense
    layers.{i}.attn.q_norm     model.layers.{i}.self_attn.q_layernorm
    layers.{i}.attn.k_norm     model.layers.{i}.self_attn.k_layernorm
    layers.{i}.ffn.up_proj     model.layers.{i}.mlp.fc1
    layers.{i}.ffn.down_proj   model.layers.{i}.mlp.fc2
    final_norm                 model.final_layernorm
"""
# Causal masks and the number they were filled with, which older files carry as tensors.
_MASKS: Final = ("*.attn.bias", "*.attn.masked_bias", "*.attention.bias", "*.attention.masked_bias")


def _falcon(model: arch.Model) -> Table:
    """BLOOM's names; where the parallel branches have a norm each, these have names of their own."""
    each = any(
        branch.norm_in for layer in model.main.layers for step in layer.steps[:1] for branch in step.branches[1:]
    )
    text = _BLOOM
    if each:
        text = text.replace("input_layernorm", "ln_attn").replace("post_attention_layernorm", "ln_mlp")
    return Table.of(text + _HEAD, base="transformer.", not_weights=FREQUENCIES)


TABLES: Final = {
    **dict.fromkeys(
        ("gpt2", "gpt-sw3"),
        Table.of(_GPT2.replace("LINEAR", "conv1d") + _HEAD, base="transformer.", not_weights=_MASKS),
    ),
    "gpt_bigcode": Table.of(
        _GPT2.replace("c_attn    LINEAR", "c_attn    grouped").replace("LINEAR", "") + _HEAD,
        base="transformer.",
        not_weights=_MASKS,
    ),
    "gptj": Table.of(_GPTJ + _HEAD, base="transformer.", not_weights=_MASKS),
    "gpt_neox": Table.of(
        _NEOX + _HEAD, base="gpt_neox.", older=(("embed_out.", "lm_head."),), not_weights=(*_MASKS, *FREQUENCIES)
    ),
    "opt": Table.of(_OPT + _HEAD, base="model."),
    "bloom": Table.of(_BLOOM + _HEAD, base="transformer."),
    "falcon": _falcon,
    "mpt": Table.of(_MPT + _HEAD, base="transformer."),
    "phi": Table.of(_PHI + _HEAD, base="model.", not_weights=FREQUENCIES),
}
