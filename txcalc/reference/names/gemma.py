"""Gemma 3n and 4: sandwich norms, and what runs beside the stream."""

from __future__ import annotations

from typing import Final

from txcalc import architecture as arch
from txcalc.reference.names.llama import FREQUENCIES, SANDWICH
from txcalc.reference.names.table import Table

_BESIDE: Final = """
    embedding.per_layer.tokens        model.embed_tokens_per_layer
    embedding.per_layer.projection    model.per_layer_model_projection
    embedding.per_layer.norm          model.per_layer_projection_norm
    layers.{i}.per_layer.gate_proj    model.layers.{i}.per_layer_input_gate
    layers.{i}.per_layer.up_proj      model.layers.{i}.per_layer_projection
    layers.{i}.per_layer.norm_out     model.layers.{i}.post_per_layer_input_norm
"""
_GEMMA4: Final = """
    layers.{i}.scalar               model.layers.{i}.layer_scalar
    layers.{i}.moe.experts.gate_proj+up_proj    model.layers.{i}.experts.gate_up_proj    experts
    layers.{i}.moe.experts.down_proj    model.layers.{i}.experts.down_proj
    layers.{i}.moe.expert_norm      model.layers.{i}.pre_feedforward_layernorm_2
    layers.{i}.moe.norm_out         model.layers.{i}.post_feedforward_layernorm_2
    layers.{i}.moe.router.weight    model.layers.{i}.router.proj.weight
    layers.{i}.moe.router.input_norm.weight    model.layers.{i}.router.scale
    layers.{i}.moe.router.expert_scale    model.layers.{i}.router.per_expert_scale
"""
# Beside experts the feed-forward has a norm of its own, and the layer's norm stands after their sum.
_BOTH: Final = """
    layers.{i}.mlp.norm_out         model.layers.{i}.post_feedforward_layernorm_1
    layers.{i}.mlp.step.norm_out    model.layers.{i}.post_feedforward_layernorm
"""
_GEMMA3N: Final = """
    streams.in_proj                 model.altup_projections
    streams.out_proj                model.altup_unembed_projections
    layers.{i}.altup.router         model.layers.{i}.altup.modality_router
    layers.{i}.altup.router_norm    model.layers.{i}.altup.router_norm
    layers.{i}.altup.prediction     model.layers.{i}.altup.prediction_coefs
    layers.{i}.altup.correction     model.layers.{i}.altup.correction_coefs
    layers.{i}.altup.scale_D        model.layers.{i}.altup.correct_output_scale
    layers.{i}.low_rank.down_proj    model.layers.{i}.laurel.linear_left
    layers.{i}.low_rank.up_proj     model.layers.{i}.laurel.linear_right
    layers.{i}.low_rank.norm        model.layers.{i}.laurel.post_laurel_norm
"""


def _table(text: str) -> Table:
    return Table.of(SANDWICH + _BESIDE + text, base="model.", not_weights=FREQUENCIES)


def _gemma4(model: arch.Model) -> Table:
    mixed = any(isinstance(each, arch.MixtureOfExperts) for layer in model.main.layers for each in layer.sublayers())
    table = _table(_GEMMA4)
    return table.with_lines(_BOTH) if mixed else table


TABLES: Final = {
    "gemma4_text": _gemma4,
    "gemma4_unified_text": _gemma4,
    "gemma3n_text": _table(_GEMMA3N),
}
