"""Encoder-decoders: T5 and BART. Both stacks are named, and share a token table."""

from __future__ import annotations

from typing import Final

from txcalc.reference.names.table import Table


def _t5_stack(stack: str, feed_forward: int) -> str:
    """One stack of T5; ``feed_forward``: where it stands among a block's layers."""
    block = f"{stack}.block.{{i}}.layer"
    ours = f"{stack}.layers.{{i}}"
    last = f"{block}.{feed_forward}"
    lines = [
        f"{ours}.attn.norm_in    {block}.0.layer_norm",
        *(f"{ours}.attn.{x}_proj    {block}.0.SelfAttention.{x}" for x in "qkvo"),
        f"{ours}.cross.norm_in    {block}.1.layer_norm",
        *(f"{ours}.cross.{x}_proj    {block}.1.EncDecAttention.{x}" for x in "qkvo"),
        f"{ours}.mlp.norm_in    {last}.layer_norm",
        f"{ours}.mlp.gate_proj    {last}.DenseReluDense.wi_0",
        f"{ours}.mlp.up_proj    {last}.DenseReluDense.wi_1",
        f"{ours}.mlp.down_proj    {last}.DenseReluDense.wo",
        f"{ours}.ffn.norm_in    {last}.layer_norm",
        f"{ours}.ffn.up_proj    {last}.DenseReluDense.wi",
        f"{ours}.ffn.down_proj    {last}.DenseReluDense.wo",
        f"{stack}.relative_bias.table    {stack}.block.0.layer.0.SelfAttention.relative_attention_bias",
        f"{stack}.final_norm    {stack}.final_layer_norm",
    ]
    return "\n".join(lines)


_T5: Final = f"""
    encoder.embedding.tokens    shared
    encoder.embedding.tokens    encoder.embed_tokens
    decoder.embedding.tokens    decoder.embed_tokens
    head.matrix                 lm_head.weight
    {_t5_stack("encoder", 1)}
    {_t5_stack("decoder", 2)}
"""
# The decoder's cross-attention once had a table of relative positions, which nothing ever read.
_T5_OLD: Final = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)


def _bart_stack(stack: str) -> str:
    ours, theirs = f"{stack}.layers.{{i}}", f"model.{stack}.layers.{{i}}"
    return f"""
    {stack}.embedding.positions.table    model.{stack}.embed_positions
    {stack}.embedding.norm     model.{stack}.layernorm_embedding
    {ours}.attn                {theirs}.self_attn
    {ours}.attn.o_proj         {theirs}.self_attn.out_proj
    {ours}.attn.norm_after     {theirs}.self_attn_layer_norm
    {ours}.cross               {theirs}.encoder_attn
    {ours}.cross.o_proj        {theirs}.encoder_attn.out_proj
    {ours}.cross.norm_after    {theirs}.encoder_attn_layer_norm
    {ours}.ffn.up_proj         {theirs}.fc1
    {ours}.ffn.down_proj       {theirs}.fc2
    {ours}.ffn.norm_after      {theirs}.final_layer_norm
"""


_BART: Final = f"""
    encoder.embedding.tokens    model.shared
    encoder.embedding.tokens    model.encoder.embed_tokens
    decoder.embedding.tokens    model.decoder.embed_tokens
    head.matrix                 lm_head.weight
    {_bart_stack("encoder")}
    {_bart_stack("decoder")}
"""

TABLES: Final = {
    "t5": Table.of(_T5, older=(("transformer.", ""),), not_weights=_T5_OLD),
    "bart": Table.of(_BART, base="model.", not_weights=("final_logits_bias",)),
}
