"""How GGUF files name their tensors (ggml's docs/gguf.md, "Standardized tensor names")."""

from __future__ import annotations

from typing import Final

from txcalc import architecture as arch
from txcalc.errors import RequestError
from txcalc.reference.names.table import Table

_DECODER: Final = """
    embedding.tokens             token_embd
    final_norm                   output_norm
    head.matrix                  output.weight
    layers.{i}.attn.norm_in      blk.{i}.attn_norm
    layers.{i}.attn.q_proj       blk.{i}.attn_q
    layers.{i}.attn.k_proj       blk.{i}.attn_k
    layers.{i}.attn.v_proj       blk.{i}.attn_v
    layers.{i}.attn.o_proj       blk.{i}.attn_output
    layers.{i}.attn.q_norm       blk.{i}.attn_q_norm
    layers.{i}.attn.k_norm       blk.{i}.attn_k_norm
    layers.{i}.mlp.norm_in       blk.{i}.ffn_norm
    layers.{i}.mlp.gate_proj     blk.{i}.ffn_gate
    layers.{i}.mlp.up_proj       blk.{i}.ffn_up
    layers.{i}.mlp.down_proj     blk.{i}.ffn_down
    layers.{i}.moe.norm_in       blk.{i}.ffn_norm
    layers.{i}.moe.router        blk.{i}.ffn_gate_inp
    layers.{i}.moe.experts.gate_proj    blk.{i}.ffn_gate_exps.weight
    layers.{i}.moe.experts.up_proj      blk.{i}.ffn_up_exps.weight
    layers.{i}.moe.experts.down_proj    blk.{i}.ffn_down_exps.weight
"""
# Of the llama architecture alone: its rotary turns neighbouring rows, so queries and keys are stored reordered.
_REORDERED: Final = """
    layers.{i}.attn.q_proj    blk.{i}.attn_q    rotary q
    layers.{i}.attn.k_proj    blk.{i}.attn_k    rotary k
"""
# Llama 3's rotary factors, from which the config was made.
_FACTORS: Final = ("rope_freqs.weight",)

_PLAIN: Final = Table.of(_DECODER)
_LLAMA: Final = Table.of(_DECODER, not_weights=_FACTORS).with_lines(_REORDERED)
TABLES: Final = {
    "llama": _LLAMA,
    "mixtral": _LLAMA,
    "qwen2": _PLAIN,
    "qwen3": _PLAIN,
}


# More names, for comparing alone: how such files order rows or shift norms is not needed for that.
_MORE: Final = """
    embedding.positions.table    position_embd
    embedding.norm               token_embd_norm
    head.bias                    output.bias
    layers.{i}.attn.sinks_N      blk.{i}.attn_sinks.weight
    layers.{i}.attn.norm_out     blk.{i}.post_attention_norm
    layers.{i}.mlp.norm_out      blk.{i}.post_ffw_norm
    layers.{i}.moe.norm_out      blk.{i}.post_ffw_norm
    layers.{i}.moe.norm_in       blk.{i}.post_attention_norm
    layers.{i}.ffn.norm_in       blk.{i}.ffn_norm
    layers.{i}.ffn.up_proj       blk.{i}.ffn_up
    layers.{i}.ffn.down_proj     blk.{i}.ffn_down
    layers.{i}.moe.router.correction    blk.{i}.exp_probs_b.bias
    layers.{i}.moe.shared_expert.gate_proj    blk.{i}.ffn_gate_shexp
    layers.{i}.moe.shared_expert.up_proj      blk.{i}.ffn_up_shexp
    layers.{i}.moe.shared_expert.down_proj    blk.{i}.ffn_down_shexp
    layers.{i}.moe.shared_expert_gate         blk.{i}.ffn_gate_inp_shexp
    layers.{i}.moe.experts.gate_bias    blk.{i}.ffn_gate_exps.bias
    layers.{i}.moe.experts.up_bias      blk.{i}.ffn_up_exps.bias
    layers.{i}.moe.experts.down_bias    blk.{i}.ffn_down_exps.bias
"""
_QKV: Final = """
    layers.{i}.attn.q_proj+k_proj+v_proj    blk.{i}.attn_qkv
"""
_AFTER_ATTENTION: Final = """
    layers.{i}.mlp.norm_in    blk.{i}.post_attention_norm
"""
_GATE_UP: Final = """
    layers.{i}.mlp.gate_proj+up_proj    blk.{i}.ffn_up
"""
_COMPARED: Final = Table.of(_DECODER + _MORE, not_weights=("rope_freqs.weight", "rope_factors_*.weight"))
_JOINED: Final = {
    **dict.fromkeys(("gpt2", "gpt_neox", "bloom", "mpt", "falcon"), _COMPARED.with_lines(_QKV)),
    "phi3": _COMPARED.with_lines(_QKV + _GATE_UP),
    **dict.fromkeys(("seed_oss", "glm4_moe"), _COMPARED.with_lines(_AFTER_ATTENTION)),
}


def gguf_names_of(model: arch.Model) -> Table:
    """The names by which a GGUF file's tensors are compared with a model's, of any type.

    A tensor that no line names makes a Plan refuse it.
    """
    return TABLES.get(model.model_type) or _JOINED.get(model.model_type, _COMPARED)


def gguf_table_of(model: arch.Model) -> Table:
    """The names of a model's type in GGUF.

    Raises:
        RequestError: no table for this type.
    """
    if model.model_type not in TABLES:
        raise RequestError(
            f"how GGUF files of {model.model_type} name their tensors is not known", f"known: {', '.join(TABLES)}"
        )
    return TABLES[model.model_type]
