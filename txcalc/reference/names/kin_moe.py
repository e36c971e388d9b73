"""Types with experts whose checkpoints are spelled like Mixtral's or DeepSeek's, but for a line or two."""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.llama import DECODER, FREQUENCIES
from txcalc.reference.names.mixtures import MIXTURE
from txcalc.reference.names.table import Table


def _table(text: str) -> Table:
    return Table.of(DECODER + MIXTURE + text, base="model.", not_weights=FREQUENCIES)


SHARED: Final = """
    layers.{i}.moe.shared_expert    model.layers.{i}.mlp.shared_experts
    layers.{i}.attn.sinks_N         model.layers.{i}.self_attn.sinks
"""
_CORRECTION: Final = """
    layers.{i}.moe.router.correction    model.layers.{i}.mlp.e_score_correction_bias
"""
_KOLIBRI: Final = """
    layers.{i}.attn.norm_out    model.layers.{i}.post_self_attn_layernorm
    layers.{i}.moe.norm_out     model.layers.{i}.post_mlp_layernorm
"""
_AFMOE: Final = """
    layers.{i}.moe.norm_in      model.layers.{i}.pre_mlp_layernorm
    layers.{i}.moe.norm_out     model.layers.{i}.post_mlp_layernorm
    layers.{i}.mlp.norm_in      model.layers.{i}.pre_mlp_layernorm
    layers.{i}.mlp.norm_out     model.layers.{i}.post_mlp_layernorm
    layers.{i}.attn.norm_out    model.layers.{i}.post_attention_layernorm
    layers.{i}.moe.router.weight        model.layers.{i}.mlp.router.gate.weight
    layers.{i}.moe.router.correction    model.layers.{i}.mlp.expert_bias
"""
_LAGUNA: Final = """
    layers.{i}.attn.gate_proj    model.layers.{i}.self_attn.g_proj
"""
_ERNIE: Final = """
    layers.{i}.moe.router.correction    model.layers.{i}.mlp.gate.moe_statics.e_score_correction_bias    leading axis
"""
_HUNYUAN_MOE: Final = """
    layers.{i}.attn.q_norm    model.layers.{i}.self_attn.query_layernorm
    layers.{i}.attn.k_norm    model.layers.{i}.self_attn.key_layernorm
    layers.{i}.moe.router           model.layers.{i}.mlp.gate.wg
    layers.{i}.moe.shared_expert    model.layers.{i}.mlp.shared_mlp
"""
_PHIMOE: Final = """
    layers.{i}.moe.router    model.layers.{i}.mlp.router
"""
_QWEN2_MOE: Final = """
    layers.{i}.moe.shared_expert         model.layers.{i}.mlp.shared_expert
    layers.{i}.moe.shared_expert_gate    model.layers.{i}.mlp.shared_expert_gate
"""
LATENT: Final = """
    layers.{i}.mla              model.layers.{i}.self_attn
    layers.{i}.mla.norm_in      model.layers.{i}.input_layernorm
    layers.{i}.mla.q_a_norm     model.layers.{i}.self_attn.q_a_layernorm
    layers.{i}.mla.kv_a_proj    model.layers.{i}.self_attn.kv_a_proj_with_mqa
    layers.{i}.mla.kv_a_norm    model.layers.{i}.self_attn.kv_a_layernorm
    layers.{i}.mla.indexer.q_proj          model.layers.{i}.self_attn.indexer.wq_b
    layers.{i}.mla.indexer.k_proj          model.layers.{i}.self_attn.indexer.wk
    layers.{i}.mla.indexer.k_norm          model.layers.{i}.self_attn.indexer.k_norm
    layers.{i}.mla.indexer.head_weights    model.layers.{i}.self_attn.indexer.weights_proj
    layers.{i}.moe.shared_expert    model.layers.{i}.mlp.shared_experts
    layers.{i}.moe.norm_out         model.layers.{i}.mlp.post_mlp_layernorm
"""
_DBRX: Final = """
    embedding.tokens           transformer.wte
    layers.{i}.attn.norm_in    transformer.blocks.{i}.norm_attn_norm.norm_1
    layers.{i}.attn.q_proj+k_proj+v_proj    transformer.blocks.{i}.norm_attn_norm.attn.Wqkv
    layers.{i}.attn.o_proj     transformer.blocks.{i}.norm_attn_norm.attn.out_proj
    layers.{i}.moe.norm_in     transformer.blocks.{i}.norm_attn_norm.norm_2
    layers.{i}.moe.router      transformer.blocks.{i}.ffn.router.layer
    layers.{i}.moe.experts.gate_proj    transformer.blocks.{i}.ffn.experts.mlp.w1    expert rows
    layers.{i}.moe.experts.up_proj      transformer.blocks.{i}.ffn.experts.mlp.v1    expert rows
    layers.{i}.moe.experts.down_proj    transformer.blocks.{i}.ffn.experts.mlp.w2    expert columns
    final_norm                 transformer.norm_f
    head.matrix                lm_head.weight
"""

TABLES: Final = {
    **dict.fromkeys("glm4_moe dots1 solar_open exaone_moe mimo_v2_flash mellum".split(), _table(SHARED)),
    **dict.fromkeys(
        "kimi_k2 deepseek_v32 glm_moe_dsa glm4_moe_lite axk1 mistral4 minicpm3 youtu".split(), _table(LATENT)
    ),
    "kolibri1": _table(SHARED + _KOLIBRI),
    "minimax_m2": _table(_CORRECTION),
    "hy_v3": _table(SHARED + _CORRECTION),
    "afmoe": _table(SHARED).with_lines(_AFMOE),
    "laguna": _table(SHARED + _LAGUNA),
    "phimoe": _table(_PHIMOE),
    "ernie4_5_moe": _table(SHARED + _ERNIE),
    "hunyuan_v1_moe": _table(_HUNYUAN_MOE),
    "qwen2_moe": _table(_QWEN2_MOE),
    "dbrx": Table.of(_DBRX, base="transformer."),
}
