"""Types whose checkpoints are spelled like Llama's, but for a line or two."""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.llama import ATTENTION, DECODER, FEED_FORWARD, FREQUENCIES, OUTSIDE, SANDWICH
from txcalc.reference.names.mixtures import MIXTURE, experts
from txcalc.reference.names.table import Table


def _table(text: str) -> Table:
    return Table.of(text, base="model.", not_weights=FREQUENCIES)


_PLAIN: Final = """
    layers.{i}.ffn            model.layers.{i}.mlp
    layers.{i}.ffn.norm_in    model.layers.{i}.post_attention_layernorm
"""
_GRANITE_EXPERTS: Final = f"""
    {experts("model.layers.{i}.block_sparse_moe")}
    layers.{{i}}.moe.norm_in          model.layers.{{i}}.post_attention_layernorm
    layers.{{i}}.moe.router           model.layers.{{i}}.block_sparse_moe.router
    layers.{{i}}.moe.shared_expert.gate_proj+up_proj    model.layers.{{i}}.shared_mlp.input_linear
    layers.{{i}}.moe.shared_expert.down_proj    model.layers.{{i}}.shared_mlp.output_linear
    layers.{{i}}.attn.sinks_N         model.layers.{{i}}.self_attn.sinks
"""
_SINKS: Final = """
    layers.{i}.attn.sinks_N    model.layers.{i}.self_attn.sinks
"""
_POST_NORMS: Final = """
    layers.{i}.attn.norm_out    model.layers.{i}.post_norm1
    layers.{i}.mlp.norm_out     model.layers.{i}.post_norm2
"""
_FLEX: Final = """
    layers.{i}.attn.norm_out    model.layers.{i}.post_attention_layernorm
    layers.{i}.moe.norm_out     model.layers.{i}.post_feedforward_layernorm
"""
_SHARED: Final = """
    layers.{i}.moe.shared_expert    model.layers.{i}.mlp.shared_experts
"""
_BITNET: Final = """
    layers.{i}.attn.out_norm    model.layers.{i}.self_attn.attn_sub_norm
    layers.{i}.mlp.norm         model.layers.{i}.mlp.ffn_sub_norm
"""
_HUNYUAN: Final = """
    layers.{i}.attn.q_norm    model.layers.{i}.self_attn.query_layernorm
    layers.{i}.attn.k_norm    model.layers.{i}.self_attn.key_layernorm
"""
GLM: Final = """
    layers.{i}.mlp.gate_proj+up_proj    model.layers.{i}.mlp.gate_up_proj
"""
GLM4: Final = """
    layers.{i}.attn.norm_out    model.layers.{i}.post_self_attn_layernorm
    layers.{i}.mlp.norm_out     model.layers.{i}.post_mlp_layernorm
"""
_PERSIMMON: Final = """
    embedding.tokens           model.embed_tokens
    layers.{i}.attn.norm_in    model.layers.{i}.input_layernorm
    layers.{i}.attn.q_proj+k_proj+v_proj    model.layers.{i}.self_attn.query_key_value    grouped
    layers.{i}.attn.o_proj     model.layers.{i}.self_attn.dense
    layers.{i}.attn.q_norm     model.layers.{i}.self_attn.q_layernorm
    layers.{i}.attn.k_norm     model.layers.{i}.self_attn.k_layernorm
    layers.{i}.ffn.norm_in     model.layers.{i}.post_attention_layernorm
    layers.{i}.ffn.up_proj     model.layers.{i}.mlp.dense_h_to_4h
    layers.{i}.ffn.down_proj   model.layers.{i}.mlp.dense_4h_to_h
    final_norm                 model.final_layernorm
    head.matrix                lm_head.weight
"""
_NANOCHAT: Final = """
    layers.{i}.ffn.up_proj      model.layers.{i}.mlp.fc1
    layers.{i}.ffn.down_proj    model.layers.{i}.mlp.fc2
"""
_DIFFLLAMA: Final = """
    layers.{i}.attn.difference    model.layers.{i}.self_attn
"""
_APERTUS: Final = """
    layers.{i}.attn            model.layers.{i}.self_attn
    layers.{i}.attn.norm_in    model.layers.{i}.attention_layernorm
    layers.{i}.ffn             model.layers.{i}.mlp
    layers.{i}.ffn.xielu       model.layers.{i}.mlp.act_fn
    layers.{i}.ffn.norm_in     model.layers.{i}.feedforward_layernorm
"""
_VAULTGEMMA: Final = """
    layers.{i}.mlp.norm_in    model.layers.{i}.pre_feedforward_layernorm
"""

TABLES: Final = {
    **dict.fromkeys(
        (
            "ministral ministral3 internlm3 iquestcoder seed_oss helium ernie4_5 smollm3 cwm granite olmo cohere2"
        ).split(),
        _table(DECODER),
    ),
    **dict.fromkeys("arcee nemotron jais2".split(), _table(OUTSIDE + ATTENTION + _PLAIN)),
    "glm": _table(DECODER + GLM),
    "glm4": _table(DECODER + GLM + GLM4),
    "persimmon": _table(_PERSIMMON),
    "nanochat": _table(OUTSIDE + ATTENTION + _PLAIN + _NANOCHAT),
    "diffllama": _table(DECODER + _DIFFLLAMA),
    "apertus": Table.of(OUTSIDE + _APERTUS, base="model.", not_weights=(*FREQUENCIES, "*.act_fn.beta", "*.act_fn.eps")),
    "vaultgemma": _table(OUTSIDE + ATTENTION + FEED_FORWARD + _VAULTGEMMA),
    "bitnet": _table(DECODER + _BITNET),
    "hunyuan_v1_dense": _table(DECODER + _HUNYUAN),
    **dict.fromkeys("exaone4 olmo3".split(), _table(SANDWICH)),
    "hyperclovax": _table(DECODER + _POST_NORMS),
    **dict.fromkeys(
        "granitemoe granitemoeshared granitemoe_swa".split(), _table(OUTSIDE + ATTENTION + _GRANITE_EXPERTS)
    ),
    "granite_swa": _table(DECODER + _SINKS),
    "olmoe": _table(DECODER + MIXTURE),
    "flex_olmo": _table(DECODER + MIXTURE + _FLEX),
    "cohere2_moe": _table(DECODER + MIXTURE + _SHARED),
}
