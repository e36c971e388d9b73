"""Mamba 2 and what is built around it, Griffin, LFM2: names beside those of the first hybrids."""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.hybrids import mamba
from txcalc.reference.names.llama import ATTENTION, OUTSIDE
from txcalc.reference.names.mixtures import experts
from txcalc.reference.names.table import Table


def _mamba2(module: str, norm: str) -> str:
    ours = "layers.{i}.mamba2"
    return f"""
    {ours}                {module}
    {ours}.norm_in        {norm}
    {ours}.conv           {module}.conv1d    filter
    {ours}.D_skip         {module}.D
    {ours}.norm_weight    {module}.norm.weight
"""


_BACKBONE: Final = """
    embedding.tokens    backbone.embeddings
    final_norm          backbone.norm_f
    head.matrix         lm_head.weight
"""
_FALCON_MAMBA: Final = f"""
    {mamba("backbone.layers.{i}.mixer")}
    layers.{{i}}.mamba.norm_in    backbone.layers.{{i}}.norm
"""
_FEED_FORWARD: Final = """
    final_norm                  model.final_layernorm
    layers.{i}.mlp              model.layers.{i}.feed_forward
    layers.{i}.mlp.norm_in      model.layers.{i}.pre_ff_layernorm
"""
_GRANITE_SHARED: Final = "model.layers.{i}.shared_mlp"
_GRANITE: Final = f"""
    layers.{{i}}.mlp.norm_in               model.layers.{{i}}.post_attention_layernorm
    layers.{{i}}.mlp.gate_proj+up_proj     {_GRANITE_SHARED}.input_linear
    layers.{{i}}.mlp.down_proj             {_GRANITE_SHARED}.output_linear
    layers.{{i}}.moe.norm_in               model.layers.{{i}}.post_attention_layernorm
    layers.{{i}}.moe.router                model.layers.{{i}}.block_sparse_moe.router
    layers.{{i}}.moe.shared_expert.gate_proj+up_proj    {_GRANITE_SHARED}.input_linear
    layers.{{i}}.moe.shared_expert.down_proj            {_GRANITE_SHARED}.output_linear
    {experts("model.layers.{i}.block_sparse_moe")}
"""
_NEMOTRON: Final = "model.layers.{i}.mixer"
_NEMOTRON_H: Final = f"""
    embedding.tokens              model.embeddings
    final_norm                    model.norm_f
    head.matrix                   lm_head.weight
    {_mamba2(_NEMOTRON, "model.layers.{i}.norm")}
    layers.{{i}}.attn             {_NEMOTRON}
    layers.{{i}}.attn.norm_in     model.layers.{{i}}.norm
    layers.{{i}}.ffn              {_NEMOTRON}
    layers.{{i}}.ffn.norm_in      model.layers.{{i}}.norm
    layers.{{i}}.moe.norm_in      model.layers.{{i}}.norm
    layers.{{i}}.moe.router       {_NEMOTRON}.gate
    layers.{{i}}.moe.router.correction    {_NEMOTRON}.gate.e_score_correction_bias
    layers.{{i}}.moe.shared_expert        {_NEMOTRON}.shared_experts
    layers.{{i}}.moe.experts.up_proj      {_NEMOTRON}.experts.{{e}}.up_proj.weight    each
    layers.{{i}}.moe.experts.up_proj      {_NEMOTRON}.experts.up_proj
    layers.{{i}}.moe.experts.down_proj    {_NEMOTRON}.experts.{{e}}.down_proj.weight    each
    layers.{{i}}.moe.experts.down_proj    {_NEMOTRON}.experts.down_proj
"""
_GRIFFIN: Final = "model.layers.{i}.temporal_block"
_RECURRENT_GEMMA: Final = f"""
    final_norm                         model.final_norm
    layers.{{i}}.attn                  {_GRIFFIN}
    layers.{{i}}.attn.norm_in          model.layers.{{i}}.temporal_pre_norm
    layers.{{i}}.rglru.norm_in         model.layers.{{i}}.temporal_pre_norm
    layers.{{i}}.rglru.x_proj          {_GRIFFIN}.linear_x
    layers.{{i}}.rglru.y_proj          {_GRIFFIN}.linear_y
    layers.{{i}}.rglru.out_proj        {_GRIFFIN}.linear_out
    layers.{{i}}.rglru.conv            {_GRIFFIN}.conv_1d    filter
    layers.{{i}}.rglru.decay           {_GRIFFIN}.rg_lru.recurrent_param
    layers.{{i}}.rglru.input_gate.weight         {_GRIFFIN}.rg_lru.input_gate_weight
    layers.{{i}}.rglru.input_gate.bias           {_GRIFFIN}.rg_lru.input_gate_bias    head rows
    layers.{{i}}.rglru.recurrence_gate.weight    {_GRIFFIN}.rg_lru.recurrent_gate_weight
    layers.{{i}}.rglru.recurrence_gate.bias      {_GRIFFIN}.rg_lru.recurrent_gate_bias    head rows
    layers.{{i}}.mlp                   model.layers.{{i}}.mlp_block
    layers.{{i}}.mlp.norm_in           model.layers.{{i}}.channel_pre_norm
"""
_LFM2_MLP: Final = "model.layers.{i}.feed_forward"
LFM2: Final = f"""
    final_norm                   model.embedding_norm
    layers.{{i}}.conv            model.layers.{{i}}.conv
    layers.{{i}}.conv.norm_in    model.layers.{{i}}.operator_norm
    layers.{{i}}.conv.conv       model.layers.{{i}}.conv.conv    filter
    layers.{{i}}.attn            model.layers.{{i}}.self_attn
    layers.{{i}}.attn.norm_in    model.layers.{{i}}.operator_norm
    layers.{{i}}.attn.o_proj     model.layers.{{i}}.self_attn.out_proj
    layers.{{i}}.attn.q_norm     model.layers.{{i}}.self_attn.q_layernorm
    layers.{{i}}.attn.k_norm     model.layers.{{i}}.self_attn.k_layernorm
    layers.{{i}}.mlp.norm_in     model.layers.{{i}}.ffn_norm
    layers.{{i}}.mlp.gate_proj   {_LFM2_MLP}.w1
    layers.{{i}}.mlp.up_proj     {_LFM2_MLP}.w3
    layers.{{i}}.mlp.down_proj   {_LFM2_MLP}.w2
    layers.{{i}}.moe.norm_in     model.layers.{{i}}.ffn_norm
    layers.{{i}}.moe.router      {_LFM2_MLP}.gate
    layers.{{i}}.moe.router.correction    {_LFM2_MLP}.expert_bias
    {experts(_LFM2_MLP, gate="w1", up="w3", down="w2")}
"""


def _mixed(text: str) -> Table:
    """Llama's names with a Mamba 2 mixer beside or instead of the attention."""
    lines = OUTSIDE + ATTENTION + _mamba2("model.layers.{i}.mamba", "model.layers.{i}.input_layernorm")
    return Table.of(lines, base="model.").with_lines(text)


TABLES: Final = {
    "mamba2": Table.of(_BACKBONE + _mamba2("backbone.layers.{i}.mixer", "backbone.layers.{i}.norm"), base="backbone."),
    "falcon_mamba": Table.of(_BACKBONE + _FALCON_MAMBA, base="backbone."),
    "bamba": _mixed(_FEED_FORWARD),
    "falcon_h1": _mixed(_FEED_FORWARD),
    "granitemoehybrid": _mixed(_GRANITE),
    "nemotron_h": Table.of(_NEMOTRON_H, base="model.", older=(("backbone.", "model."),)),
    "recurrent_gemma": Table.of(OUTSIDE, base="model.").with_lines(_RECURRENT_GEMMA),
    "lfm2": Table.of(OUTSIDE, base="model.").with_lines(LFM2),
    "lfm2_moe": Table.of(OUTSIDE, base="model.").with_lines(LFM2),
}
