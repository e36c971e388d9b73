"""Types with gates, several streams, or keys chosen by content: DeepSeek's or Qwen's names but for those."""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.kin_moe import LATENT
from txcalc.reference.names.llama import DECODER, FREQUENCIES, SANDWICH
from txcalc.reference.names.mixtures import MIXTURE
from txcalc.reference.names.table import Table

_AXK2: Final = """
    layers.{i}.mla.q_b_proj.weight+gate_proj.weight    model.layers.{i}.self_attn.q_gate_proj.weight    by head
    layers.{i}.mla.norm_in              model.layers.{i}.input_layernorm.norm
    layers.{i}.mla.norm_in.gate_down    model.layers.{i}.input_layernorm.mlp.fc1
    layers.{i}.mla.norm_in.gate_up      model.layers.{i}.input_layernorm.mlp.fc2
    layers.{i}.moe.norm_in              model.layers.{i}.post_attention_layernorm.norm
    layers.{i}.moe.norm_in.gate_down    model.layers.{i}.post_attention_layernorm.mlp.fc1
    layers.{i}.moe.norm_in.gate_up      model.layers.{i}.post_attention_layernorm.mlp.fc2
"""


def _streams(ours: str, theirs: str) -> str:
    """Lines for the weights of the streams around a sublayer."""
    return f"""
    layers.{{i}}.{ours}.streams.matrix    model.layers.{{i}}.{theirs}.fn
    layers.{{i}}.{ours}.streams.biases    model.layers.{{i}}.{theirs}.base
    layers.{{i}}.{ours}.streams.scales    model.layers.{{i}}.{theirs}.scale
"""


STREAMS: Final = f"""
    {_streams("mlp", "ffn_hc")}
    {_streams("moe", "ffn_hc")}
    stream_head.matrix    model.hc_head.hc_fn
    stream_head.biases    model.hc_head.hc_base
    stream_head.scales    model.hc_head.hc_scale
"""
_HY_V4: Final = f"""
    {STREAMS}
    {_streams("mla", "attn_hc")}
    layers.{{i}}.mla.sinks_N    model.layers.{{i}}.self_attn.sinks
"""
_DOTS3: Final = """
    layers.{i}.mla.key_norm     model.layers.{i}.self_attn.k_rope_only_layernorm
    layers.{i}.mla.gate_proj    model.layers.{i}.self_attn.g_proj
"""
_DOGE: Final = """
    layers.{i}.attn.skip    model.layers.{i}.input_residual
    layers.{i}.mlp.skip     model.layers.{i}.post_attention_residual
    layers.{i}.attn.dynamic_mask    model.layers.{i}.self_attn
"""
_FLINT: Final = """
    layers.{i}.moe.shared_expert    model.layers.{i}.mlp.shared_expert
    layers.{i}.attn.sinks_N         model.layers.{i}.self_attn.sinks
"""
_BEAM: Final = """
    layers.{i}.attn.gate_biases_N    model.layers.{i}.self_attn.gate_bias
    layers.{i}.moe.norm_in     model.layers.{i}.pre_feedforward_layernorm
    layers.{i}.moe.norm_out    model.layers.{i}.post_feedforward_layernorm
"""
_MINIMAX_M3: Final = """
    layers.{i}.attn.chooser    model.layers.{i}.self_attn.indexer
    layers.{i}.mlp.gate_proj+up_proj    model.layers.{i}.mlp.gate_up_proj
    layers.{i}.moe.shared_expert    model.layers.{i}.mlp.shared_experts
    layers.{i}.moe.shared_expert.gate_proj+up_proj    model.layers.{i}.mlp.shared_experts.gate_up_proj
"""


_MLLAMA: Final = """
    layers.{i}.cross            model.layers.{i}.cross_attn
    layers.{i}.cross.norm_in    model.layers.{i}.input_layernorm
    layers.{i}.cross.scalar_gate    model.layers.{i}.cross_attn_attn_gate
    layers.{i}.mlp.scalar_gate      model.layers.{i}.cross_attn_mlp_gate
"""
_MOSHI: Final = """
    layers.{i}.attn.q_proj    model.layers.{i}.self_attn.q_proj.linear
    layers.{i}.attn.k_proj    model.layers.{i}.self_attn.k_proj.linear
    layers.{i}.attn.v_proj    model.layers.{i}.self_attn.v_proj.linear
    layers.{i}.attn.o_proj    model.layers.{i}.self_attn.o_proj.linear
    layers.{i}.mlp.gate_proj+up_proj    model.layers.{i}.mlp.fc1
    layers.{i}.mlp.down_proj            model.layers.{i}.mlp.fc2
"""
_PARALLEL: Final = """
    layers.{i}.mlp.norm_in    model.layers.{i}.input_layernorm
"""


def _table(text: str, *, decoder: str = DECODER) -> Table:
    return Table.of(decoder + MIXTURE, base="model.", not_weights=FREQUENCIES).with_lines(text)


TABLES: Final = {
    "axk2": _table(LATENT + _AXK2),
    "hy_v4": _table(LATENT + _HY_V4),
    "dots3_note_text": _table(LATENT + _DOTS3),
    "doge": _table(_DOGE),
    "flint": _table(_FLINT),
    "beam": _table(_BEAM, decoder=SANDWICH),
    "minimax_m3_vl_text": _table(_MINIMAX_M3),
    "cohere_compass_text": _table(_PARALLEL),
    "emu3_text_model": _table(""),
    "mllama_text_model": _table(_MLLAMA),
    "moshi": _table(_MOSHI),
}
