"""Encoder-decoders: T5 and BART. Both stacks are named, and share a token table."""

from __future__ import annotations

from typing import Final

from txcalc import architecture as arch
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


def t5(text: str = "") -> Table:
    """T5's names, and those of its kin; ``text``: what is named in another way."""
    return Table.of(_T5, older=(("transformer.", ""),), not_weights=_T5_OLD).with_lines(text)


def _bart_stack(stack: str) -> str:
    """One stack of BART; a norm has one name, whether it stands before a sublayer (mBART) or after it."""
    ours, theirs = f"{stack}.layers.{{i}}", f"BASE{stack}.layers.{{i}}"
    norms = "".join(
        f"    {ours}.{label}.{place}    {theirs}.{name}\n"
        for label, name in (
            ("attn", "self_attn_layer_norm"),
            ("cross", "encoder_attn_layer_norm"),
            ("ffn", "final_layer_norm"),
        )
        for place in ("norm_in", "norm_after")
    )
    return f"""
    {stack}.embedding.positions.table    BASE{stack}.embed_positions
    {stack}.embedding.norm     BASE{stack}.layernorm_embedding
    {ours}.attn                {theirs}.self_attn
    {ours}.attn.o_proj         {theirs}.self_attn.out_proj
    {ours}.cross               {theirs}.encoder_attn
    {ours}.cross.o_proj        {theirs}.encoder_attn.out_proj
    {ours}.ffn.up_proj         {theirs}.fc1
    {ours}.ffn.down_proj       {theirs}.fc2
    {norms}
    {stack}.final_norm         BASE{stack}.layer_norm
"""


_BART: Final = f"""
    decoder.embedding.tokens    BASEdecoder.embed_tokens
    head.matrix                 lm_head.weight
    head.fixed_bias             final_logits_bias    leading axis
    {_bart_stack("encoder")}
    {_bart_stack("decoder")}
"""
_ONE_TABLE: Final = """
    encoder.embedding.tokens    BASEshared
    encoder.embedding.tokens    BASEencoder.embed_tokens
"""
_OWN_TABLES: Final = """
    encoder.embedding.tokens        BASEencoder.embed_tokens
    unused.shared token table_0     BASEshared.weight
"""


def bart(model: arch.Model, base: str = "model.", text: str = "") -> Table:
    """BART's names, and those of its kin, whose checkpoints say ``base``; ``text``: what is named in another way."""
    embedding = model.main.embedding
    own = isinstance(embedding, arch.TokenEmbedding) and embedding.shared_with is None
    lines = _BART + (_OWN_TABLES if own else _ONE_TABLE) + _idle(model)
    table = Table.of(lines.replace("BASE", base), base=base, not_weights=_SINES)._replace(optional=("head.fixed_bias",))
    return table.with_lines(text.replace("BASE", base))


def _idle(model: arch.Model) -> str:
    """The cross-attention of a decoder that is published without its encoder, layer by layer."""
    shapes = {(each.name, i): each.shape for each in model.unused for i in range(each.count)}
    return "".join(
        f"    unused.{name}_{i}    {' + '.join(_crossing(name, i, shape[0]))}    each\n"
        for (name, i), shape in shapes.items()
        if name.startswith("cross-attention")
    )


def _crossing(name: str, layer: int, count: int) -> list[str]:
    """The names of those ``count`` tensors of a layer's cross-attention."""
    at = f"BASEdecoder.layers.{layer}.encoder_attn"
    if name.endswith("norms"):
        return [f"{at}_layer_norm.weight", f"{at}_layer_norm.bias"]
    projections = {4: "qkvo", 3: "qvo", 2: "qo"}[count] if not name.endswith("values") else "kv"
    kind = "bias" if name.endswith("biases") else "weight"
    return [f"{at}.{'out' if each == 'o' else each}_proj.{kind}" for each in projections]


# They follow from the width.
_SINES: Final = ("*.embed_positions.weights",)

TABLES: Final = {
    "t5": t5(),
    "bart": bart,
}
