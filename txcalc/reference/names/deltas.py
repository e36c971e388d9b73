"""Delta networks and lightning attention between attention layers, LongCat's double layers, LFM3."""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.kin_moe import LATENT
from txcalc.reference.names.llama import DECODER, FREQUENCIES
from txcalc.reference.names.mixtures import MIXTURE, experts
from txcalc.reference.names.recurrences import LFM2
from txcalc.reference.names.table import Table


def _delta(module: str) -> str:
    """Lines that all delta networks below ``module`` have."""
    return f"""
    layers.{{i}}.delta            {module}
    layers.{{i}}.delta.norm_in    model.layers.{{i}}.input_layernorm
    layers.{{i}}.delta.conv       {module}.conv1d    filter
"""


def _pieces(module: str) -> str:
    """Projections of queries, keys and values one by one."""
    each = " + ".join(f"{module}.{name}_proj.weight" for name in "qkv")
    return f"""
    layers.{{i}}.delta.qkv_proj.weight    {each}    delta pieces
    layers.{{i}}.delta.beta_proj          {module}.b_proj
    layers.{{i}}.delta.norm_weight        {module}.o_norm.weight
"""


_LINEAR: Final = "model.layers.{i}.linear_attn"
_SELF: Final = "model.layers.{i}.self_attn"
_OLMO: Final = f"""
    {_delta(_LINEAR)}
    {_pieces(_LINEAR)}
    layers.{{i}}.delta.decay_proj    {_LINEAR}.a_proj
    layers.{{i}}.delta.gate_proj     {_LINEAR}.g_proj
    layers.{{i}}.attn.norm_out       model.layers.{{i}}.post_attention_layernorm
    layers.{{i}}.mlp.norm_out        model.layers.{{i}}.post_feedforward_layernorm
"""
_FORGET: Final = f"{_SELF}.forget_gate"
_LING: Final = f"""
    {_delta(_SELF)}
    {_pieces(_SELF)}
    layers.{{i}}.delta.dt_bias       {_FORGET}.dt_bias
    layers.{{i}}.delta.A_log         {_FORGET}.A_log
    layers.{{i}}.delta.decay_proj    {_FORGET}.f_proj
    layers.{{i}}.delta.gate_proj     {_SELF}.g_proj
    layers.{{i}}.mla.gate_proj       {_SELF}.g_proj
"""
_KIMI: Final = f"""
    layers.{{i}}.delta.A_log           {_FORGET}.A_log    one axis
    layers.{{i}}.delta.decay_proj.0    {_FORGET}.f_a_proj
    layers.{{i}}.delta.decay_proj.1    {_FORGET}.f_b_proj
    layers.{{i}}.delta.gate_proj.0     {_SELF}.g_a_proj
    layers.{{i}}.delta.gate_proj.1     {_SELF}.g_b_proj
"""
_QWEN3_5: Final = f"""
    {DECODER}
    {MIXTURE}
    {_delta(_LINEAR)}
    layers.{{i}}.moe.shared_expert         model.layers.{{i}}.mlp.shared_expert
    layers.{{i}}.moe.shared_expert_gate    model.layers.{{i}}.mlp.shared_expert_gate
    layers.{{i}}.attn.q_proj+gate_proj     {_SELF}.q_proj    by head
    layers.{{i}}.delta.qkv_proj            {_LINEAR}.in_proj_qkv
    layers.{{i}}.delta.gate_proj           {_LINEAR}.in_proj_z
    layers.{{i}}.delta.beta_proj           {_LINEAR}.in_proj_b
    layers.{{i}}.delta.decay_proj          {_LINEAR}.in_proj_a
    layers.{{i}}.delta.norm_weight         {_LINEAR}.norm.weight
    layers.{{i}}.delta.o_proj              {_LINEAR}.out_proj
"""
_MINIMAX: Final = f"""
    {DECODER}
    {MIXTURE}
    layers.{{i}}.stream.norm_after     model.layers.{{i}}.input_layernorm
    layers.{{i}}.stream2.norm_after    model.layers.{{i}}.post_attention_layernorm
    layers.{{i}}.linear                {_SELF}
    layers.{{i}}.linear.qkv_proj       {_SELF}.qkv_proj    qkv by head
    layers.{{i}}.linear.gate_proj      {_SELF}.output_gate
    layers.{{i}}.linear.o_proj         {_SELF}.out_proj
"""


def _half(number: int) -> str:
    """One half of LongCat's layer."""
    ours = "" if number == 0 else str(number + 1)
    layer = "model.layers.{i}"
    return f"""
    layers.{{i}}.mla{ours}              {layer}.self_attn.{number}
    layers.{{i}}.mla{ours}.norm_in      {layer}.input_layernorm.{number}
    layers.{{i}}.mla{ours}.q_a_norm     {layer}.self_attn.{number}.q_a_layernorm
    layers.{{i}}.mla{ours}.kv_a_proj    {layer}.self_attn.{number}.kv_a_proj_with_mqa
    layers.{{i}}.mla{ours}.kv_a_norm    {layer}.self_attn.{number}.kv_a_layernorm
    layers.{{i}}.mlp{ours}              {layer}.mlps.{number}
    layers.{{i}}.mlp{ours}.norm_in      {layer}.post_attention_layernorm.{number}
"""


_LONGCAT: Final = f"""
    {DECODER}
    {_half(0)}
    {_half(1)}
    {experts("model.layers.{i}.mlp")}
    layers.{{i}}.moe.router               model.layers.{{i}}.mlp.router.classifier
    layers.{{i}}.moe.router.correction    model.layers.{{i}}.mlp.router.e_score_correction_bias
"""
_LFM3: Final = """
    layers.{i}.attn.gate_proj    model.layers.{i}.self_attn.g_proj
    layers.{i}.attn.o_proj       model.layers.{i}.self_attn.o_proj
    layers.{i}.attn.q_norm       model.layers.{i}.self_attn.q_norm
    layers.{i}.attn.k_norm       model.layers.{i}.self_attn.k_norm
    layers.{i}.conv.norm_out     model.layers.{i}.post_operator_norm
    layers.{i}.attn.norm_out     model.layers.{i}.post_operator_norm
    layers.{i}.mlp.norm_out      model.layers.{i}.post_ffn_norm
"""
_RATES: Final = ("*.slope_rate", "*.query_decay", "*.key_decay", "*.diagonal_decay")
_WITH_TOWER: Final = (("model.language_model.", "model."),)  # as files with a tower spell the text's

TABLES: Final = {
    "olmo_hybrid": Table.of(DECODER, base="model.", not_weights=FREQUENCIES).with_lines(_OLMO),
    "bailing_hybrid": Table.of(DECODER + MIXTURE + LATENT, base="model.").with_lines(_LING),
    "kimi_linear": Table.of(DECODER + MIXTURE + LATENT, base="model.").with_lines(_LING).with_lines(_KIMI),
    **dict.fromkeys(("qwen3_5_text", "qwen3_5_moe_text"), Table.of(_QWEN3_5, base="model.", older=_WITH_TOWER)),
    "minimax": Table.of(DECODER, base="model.", not_weights=_RATES).with_lines(_MINIMAX),
    "longcat_flash": Table.of(DECODER, base="model.").with_lines(_LONGCAT),
    "lfm3": Table.of(DECODER, base="model.").with_lines(LFM2).with_lines(_LFM3),
}
