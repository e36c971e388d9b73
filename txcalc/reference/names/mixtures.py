"""Decoders with mixtures of experts: Mixtral, Qwen, gpt-oss, DeepSeek, Llama 4.

Published files hold every expert on its own; transformers 5 stacks them, gate and up in one tensor. Both are read.
"""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.llama import ATTENTION, DECODER, FREQUENCIES, OUTSIDE
from txcalc.reference.names.table import Table


def experts(module: str, *, gate: str = "gate_proj", up: str = "up_proj", down: str = "down_proj") -> str:
    """Lines for the experts below ``module``, stacked or one by one."""
    ours, one = "layers.{i}.moe.experts", f"{module}.experts.{{e}}"
    return f"""
    {ours}.gate_proj+up_proj    {one}.{gate}.weight + {one}.{up}.weight    each
    {ours}.gate_proj+up_proj    {module}.experts.gate_up_proj    experts
    {ours}.down_proj    {one}.{down}.weight    each
    {ours}.down_proj    {module}.experts.down_proj
"""


_MLP: Final = "model.layers.{i}.mlp"
MIXTURE: Final = f"""
    {experts(_MLP)}
    layers.{{i}}.moe.norm_in             model.layers.{{i}}.post_attention_layernorm
    layers.{{i}}.moe.router              {_MLP}.gate
    layers.{{i}}.moe.router.correction    {_MLP}.gate.e_score_correction_bias
"""
_MIXTRAL: Final = f"""
    {experts(_MLP, gate="w1", up="w3", down="w2")}
    layers.{{i}}.moe.norm_in    model.layers.{{i}}.post_attention_layernorm
    layers.{{i}}.moe.router     {_MLP}.gate
"""
_GPT_OSS: Final = f"""
    layers.{{i}}.attn.sinks_N             model.layers.{{i}}.self_attn.sinks
    layers.{{i}}.moe.norm_in              model.layers.{{i}}.post_attention_layernorm
    layers.{{i}}.moe.router               {_MLP}.router
    layers.{{i}}.moe.experts.gate_proj+up_proj    {_MLP}.experts.gate_up_proj    alternating
    layers.{{i}}.moe.experts.gate_bias+up_bias    {_MLP}.experts.gate_up_proj_bias    alternating
    layers.{{i}}.moe.experts.down_proj    {_MLP}.experts.down_proj    transposed
    layers.{{i}}.moe.experts.down_bias    {_MLP}.experts.down_proj_bias
"""
_DEEPSEEK: Final = """
    layers.{i}.mla              model.layers.{i}.self_attn
    layers.{i}.mla.norm_in      model.layers.{i}.input_layernorm
    layers.{i}.mla.q_a_norm     model.layers.{i}.self_attn.q_a_layernorm
    layers.{i}.mla.kv_a_proj    model.layers.{i}.self_attn.kv_a_proj_with_mqa
    layers.{i}.mla.kv_a_norm    model.layers.{i}.self_attn.kv_a_layernorm
    layers.{i}.moe.shared_expert    model.layers.{i}.mlp.shared_experts
"""
_FEED_FORWARD: Final = "model.layers.{i}.feed_forward"
_LLAMA4: Final = f"""
    layers.{{i}}.mlp                  {_FEED_FORWARD}
    layers.{{i}}.mlp.norm_in          model.layers.{{i}}.post_attention_layernorm
    layers.{{i}}.moe.norm_in          model.layers.{{i}}.post_attention_layernorm
    layers.{{i}}.moe.router           {_FEED_FORWARD}.router
    layers.{{i}}.moe.experts.gate_proj+up_proj    {_FEED_FORWARD}.experts.gate_up_proj    experts transposed
    layers.{{i}}.moe.experts.down_proj    {_FEED_FORWARD}.experts.down_proj    transposed
    layers.{{i}}.moe.shared_expert    {_FEED_FORWARD}.shared_expert
"""
_ARIA: Final = f"""
    layers.{{i}}.moe.norm_in          model.layers.{{i}}.post_attention_layernorm
    layers.{{i}}.moe.router           {_MLP}.router
    layers.{{i}}.moe.experts.gate_proj+up_proj    {_MLP}.experts.gate_up_proj    experts transposed
    layers.{{i}}.moe.experts.down_proj    {_MLP}.experts.down_proj    transposed
    layers.{{i}}.moe.shared_expert    {_MLP}.shared_experts
"""

TABLES: Final = {
    "mixtral": Table.of(
        OUTSIDE + ATTENTION + _MIXTRAL,
        base="model.",
        older=((".block_sparse_moe.", ".mlp."),),
        not_weights=FREQUENCIES,
    ),
    "qwen3_moe": Table.of(DECODER + MIXTURE, base="model.", not_weights=FREQUENCIES),
    "aria_text": Table.of(OUTSIDE + ATTENTION + _ARIA, base="model.", not_weights=FREQUENCIES),
    "llama4_text": Table.of(OUTSIDE + ATTENTION + _LLAMA4, base="model.", not_weights=FREQUENCIES),
    "gpt_oss": Table.of(OUTSIDE + ATTENTION + _GPT_OSS, base="model."),
    **dict.fromkeys(
        ("deepseek_v2", "deepseek_v3"),
        Table.of(DECODER + MIXTURE + _DEEPSEEK, base="model.", not_weights=FREQUENCIES),
    ),
}
