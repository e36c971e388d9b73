"""Recurrent decoders and those that mix recurrent layers with attention: Mamba, Jamba, Qwen3-Next."""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.llama import ATTENTION, DECODER, FREQUENCIES
from txcalc.reference.names.mixtures import MIXTURE, experts
from txcalc.reference.names.table import Table


def mamba(module: str) -> str:
    """Lines of a Mamba mixer below ``module``."""
    ours = "layers.{i}.mamba"
    return f"""
    {ours}              {module}
    {ours}.conv         {module}.conv1d    filter
    {ours}.D_skip       {module}.D
    {ours}.norms.dt     {module}.dt_layernorm.weight
    {ours}.norms.B      {module}.b_layernorm.weight
    {ours}.norms.C      {module}.c_layernorm.weight
"""


_MAMBA: Final = f"""
    embedding.tokens            backbone.embeddings
    {mamba("backbone.layers.{i}.mixer")}
    layers.{{i}}.mamba.norm_in    backbone.layers.{{i}}.norm
    final_norm                  backbone.norm_f
    head.matrix                 lm_head.weight
"""
_JAMBA: Final = f"""
    embedding.tokens    model.embed_tokens
    final_norm          model.final_layernorm
    head.matrix         lm_head.weight
    {ATTENTION}
    {mamba("model.layers.{i}.mamba")}
    layers.{{i}}.mamba.norm_in    model.layers.{{i}}.input_layernorm
    layers.{{i}}.mlp              model.layers.{{i}}.feed_forward
    layers.{{i}}.mlp.norm_in      model.layers.{{i}}.pre_ff_layernorm
    layers.{{i}}.moe.router       model.layers.{{i}}.feed_forward.router
    layers.{{i}}.moe.norm_in      model.layers.{{i}}.pre_ff_layernorm
    {experts("model.layers.{i}.feed_forward")}
"""
_DELTA: Final = "model.layers.{i}.linear_attn"
_QWEN3_NEXT: Final = f"""
    {DECODER}
    {MIXTURE}
    layers.{{i}}.moe.shared_expert              model.layers.{{i}}.mlp.shared_expert
    layers.{{i}}.moe.shared_expert_gate         model.layers.{{i}}.mlp.shared_expert_gate
    layers.{{i}}.attn.q_proj+gate_proj          model.layers.{{i}}.self_attn.q_proj    by head
    layers.{{i}}.delta                          {_DELTA}
    layers.{{i}}.delta.norm_in                  model.layers.{{i}}.input_layernorm
    layers.{{i}}.delta.qkv_proj+gate_proj       {_DELTA}.in_proj_qkvz    delta
    layers.{{i}}.delta.beta_proj+decay_proj     {_DELTA}.in_proj_ba    by key head
    layers.{{i}}.delta.conv                     {_DELTA}.conv1d    filter
    layers.{{i}}.delta.norm_weight              {_DELTA}.norm.weight
    layers.{{i}}.delta.o_proj                   {_DELTA}.out_proj
"""

TABLES: Final = {
    "mamba": Table.of(_MAMBA, base="backbone.", older=(("backbone.embedding.", "backbone.embeddings."),)),
    "jamba": Table.of(_JAMBA, base="model."),
    "qwen3_next": Table.of(_QWEN3_NEXT, base="model.", not_weights=FREQUENCIES),
}
