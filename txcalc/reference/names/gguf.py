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
