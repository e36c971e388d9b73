"""Encoder-decoders that are BART or T5 but for some names, Whisper among them; and T5Gemma."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txcalc import architecture as arch
from txcalc.reference.names.seq2seq import bart, t5
from txcalc.reference.names.table import Table

Maker = Callable[[arch.Model], Table]


def _kin(text: str = "", base: str = "model.") -> Maker:
    return lambda model: bart(model, base, text)


_FSMT: Final = """
    head.matrix    BASEdecoder.output_projection.weight
"""
_TROCR: Final = """
    head.matrix    output_projection.weight
"""
_LED: Final = """
    encoder.layers.{i}.attn.q_proj    BASEencoder.layers.{i}.self_attn.longformer_self_attn.query
    encoder.layers.{i}.attn.k_proj    BASEencoder.layers.{i}.self_attn.longformer_self_attn.key
    encoder.layers.{i}.attn.v_proj    BASEencoder.layers.{i}.self_attn.longformer_self_attn.value
    encoder.layers.{i}.attn.o_proj    BASEencoder.layers.{i}.self_attn.output
    encoder.layers.{i}.attn.global_tokens.q_proj    BASEencoder.layers.{i}.self_attn.longformer_self_attn.query_global
    encoder.layers.{i}.attn.global_tokens.k_proj    BASEencoder.layers.{i}.self_attn.longformer_self_attn.key_global
    encoder.layers.{i}.attn.global_tokens.v_proj    BASEencoder.layers.{i}.self_attn.longformer_self_attn.value_global
"""
_NLLB_MOE: Final = "".join(
    f"""
    {stack}.layers.{{i}}.ffn.up_proj     BASE{stack}.layers.{{i}}.ffn.fc1
    {stack}.layers.{{i}}.ffn.down_proj   BASE{stack}.layers.{{i}}.ffn.fc2
    {stack}.layers.{{i}}.ffn.norm_in     BASE{stack}.layers.{{i}}.ff_layer_norm
    {stack}.layers.{{i}}.moe.norm_in     BASE{stack}.layers.{{i}}.ff_layer_norm
    {stack}.layers.{{i}}.moe.router      BASE{stack}.layers.{{i}}.ffn.router.classifier
    {stack}.layers.{{i}}.moe.experts.up_proj      BASE{stack}.layers.{{i}}.ffn.experts.expert_{{e}}.fc1.weight    each
    {stack}.layers.{{i}}.moe.experts.up_bias      BASE{stack}.layers.{{i}}.ffn.experts.expert_{{e}}.fc1.bias    each
    {stack}.layers.{{i}}.moe.experts.down_proj    BASE{stack}.layers.{{i}}.ffn.experts.expert_{{e}}.fc2.weight    each
    {stack}.layers.{{i}}.moe.experts.down_bias    BASE{stack}.layers.{{i}}.ffn.experts.expert_{{e}}.fc2.bias    each
    {stack}.layers.{{i}}.cross           BASE{stack}.layers.{{i}}.cross_attention
    {stack}.layers.{{i}}.cross.o_proj    BASE{stack}.layers.{{i}}.cross_attention.out_proj
    {stack}.layers.{{i}}.cross.norm_in   BASE{stack}.layers.{{i}}.cross_attention_layer_norm
"""
    for stack in ("encoder", "decoder")
)
_WHISPER: Final = """
    encoder.embedding.conv1    BASEencoder.conv1
    encoder.embedding.conv2    BASEencoder.conv2
    head.matrix                proj_out.weight
"""
_UMT5: Final = "".join(
    f"""
    {stack}.layers.{{i}}.attn.relative_bias.table    {stack}.block.{{i}}.layer.0.SelfAttention.relative_attention_bias
"""
    for stack in ("encoder", "decoder")
)
_SWITCH: Final = "".join(
    f"""
    {stack}.layers.{{i}}.ffn.up_proj      {block}.mlp.wi
    {stack}.layers.{{i}}.ffn.down_proj    {block}.mlp.wo
    {stack}.layers.{{i}}.moe.norm_in      {block}.layer_norm
    {stack}.layers.{{i}}.moe.router       {block}.mlp.router.classifier
    {stack}.layers.{{i}}.moe.experts.up_proj      {block}.mlp.experts.expert_{{e}}.wi.weight    each
    {stack}.layers.{{i}}.moe.experts.down_proj    {block}.mlp.experts.expert_{{e}}.wo.weight    each
"""
    for stack, block in (("encoder", "encoder.block.{i}.layer.1"), ("decoder", "decoder.block.{i}.layer.2"))
)
_OWN_TABLES: Final = """
    encoder.embedding.tokens       encoder.embed_tokens
    unused.shared token table_0    shared.weight
"""
_LOCAL: Final = (
    "".join(
        f"    encoder.layers.{{i}}.attn.{x}_proj    encoder.block.{{i}}.layer.0.LocalSelfAttention.{x}\n"
        for x in "qkvo"
    )
    + "    encoder.relative_bias.table    encoder.block.0.layer.0.LocalSelfAttention.relative_attention_bias"
)
_T5GEMMA: Final = "".join(
    f"""
    {stack}.embedding.tokens             model.{stack}.embed_tokens
    {stack}.layers.{{i}}.attn            model.{stack}.layers.{{i}}.self_attn
    {stack}.layers.{{i}}.attn.norm_in    model.{stack}.layers.{{i}}.pre_self_attn_layernorm
    {stack}.layers.{{i}}.attn.norm_out   model.{stack}.layers.{{i}}.post_self_attn_layernorm
    {stack}.layers.{{i}}.cross           model.{stack}.layers.{{i}}.cross_attn
    {stack}.layers.{{i}}.cross.norm_in   model.{stack}.layers.{{i}}.pre_cross_attn_layernorm
    {stack}.layers.{{i}}.cross.norm_out  model.{stack}.layers.{{i}}.post_cross_attn_layernorm
    {stack}.layers.{{i}}.mlp             model.{stack}.layers.{{i}}.mlp
    {stack}.layers.{{i}}.mlp.norm_in     model.{stack}.layers.{{i}}.pre_feedforward_layernorm
    {stack}.layers.{{i}}.mlp.norm_out    model.{stack}.layers.{{i}}.post_feedforward_layernorm
    {stack}.final_norm                   model.{stack}.norm
"""
    for stack in ("encoder", "decoder")
)
_T5GEMMA_HEAD: Final = """
    head.matrix    lm_head.out_proj.weight
"""
_T5GEMMA_CLASSIFIER: Final = """
    head.matrix    score.out_proj.weight
    head.bias      score.out_proj.bias
"""


def _switch(model: arch.Model) -> Table:
    table = t5(_SWITCH)
    apart = any(each.name == "shared token table" for each in model.unused)
    return table.with_lines(_OWN_TABLES) if apart else table


def _t5gemma(model: arch.Model) -> Table:
    lm = model.head is not None and model.head.kind == "lm"
    return Table.of(_T5GEMMA + (_T5GEMMA_HEAD if lm else _T5GEMMA_CLASSIFIER), base="model.")


TABLES: Final[dict[str, Maker | Table]] = {
    **dict.fromkeys("mbart plbart mvp pegasus blenderbot blenderbot-small m2m_100 marian".split(), _kin()),
    "fsmt": _kin(_FSMT),
    "trocr": _kin(_TROCR),
    "led": _kin(_LED, base="led."),
    "nllb-moe": _kin(_NLLB_MOE),
    "whisper": _kin(_WHISPER),
    "mt5": t5(),
    "umt5": t5(_UMT5),
    "longt5": t5(_LOCAL),
    "switch_transformers": _switch,
    "t5gemma": _t5gemma,
}
