"""Falcon: one KV head and one norm (7B), grouped heads and two norms (40B, 180B), ALiBi in sequence (RW)."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import Alibi, Model, Position, SelfAttention
from txcalc.configs import rope
from txcalc.configs.common import (
    Arrangement,
    decoder_model,
    decoder_stack,
    foreign_spelling,
    layer_norm,
    parallel,
    parallel_own_norms,
    pre_norm,
)
from txcalc.configs.dense import flag_or_null, mlp, plain_head_dim
from txcalc.configs.heads import causal_head
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

FALCON_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 65_024,
    "hidden_size": 4544,
    "num_hidden_layers": 32,
    "num_attention_heads": 71,
    "num_ln_in_parallel_attn": None,
    "layer_norm_epsilon": 1e-5,
    "num_key_value_heads": None,
    "alibi": False,
    "new_decoder_architecture": False,
    "multi_query": True,
    "parallel_attn": True,
    "bias": False,
    "max_position_embeddings": 2048,
    "intermediate_size": None,
    "activation": "gelu",
    "tie_word_embeddings": True,
}


def _falcon(r: Reader) -> Model:
    plain_head_dim(r)
    foreign_spelling(r, "intermediate_size", "num_key_value_heads")
    r.unused("apply_residual_connection_post_layernorm", False)
    hidden, bias = r.integer("hidden_size"), flag_or_null(r, "bias")
    size = r.optional_integer("intermediate_size") or 4 * hidden
    r.unused("ff_factor", None, size / hidden)
    norm = layer_norm(hidden, r.number("layer_norm_epsilon"))
    feed_forward = mlp(r, size, act="activation", bias=bias)
    layer = _arrangement(r)(_attention(r, bias), feed_forward, norm=norm)
    stack = decoder_stack(r, [(layer, r.layers())], final_norm=norm)
    head = causal_head(r, input_size=hidden, vocab_size=r.integer("vocab_size"), prefix="Falcon")
    return decoder_model(r, stack, head)


def _arrangement(r: Reader) -> Arrangement:
    """Which norms there are: ``num_ln_in_parallel_attn`` counts only where the branches are parallel."""
    new, parallel_branches = flag_or_null(r, "new_decoder_architecture"), flag_or_null(r, "parallel_attn")
    norms = r.optional_integer("num_ln_in_parallel_attn") or (2 if new else 1)
    if new and not parallel_branches and norms == 1:
        r.reasons.append("parallel_attn = false with one norm and the new architecture: transformers cannot run it")
    if not new and not parallel_branches:
        return pre_norm
    return parallel if parallel_branches and norms != 2 else parallel_own_norms


def _attention(r: Reader, bias: bool) -> SelfAttention:
    hidden, heads = r.integer("hidden_size"), r.integer("num_attention_heads")
    if hidden % heads:
        raise r.error("hidden_size", f"is {hidden}; it is not a multiple of the {heads} heads")
    head_dim = hidden // heads
    return SelfAttention(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=_kv_heads(r, heads),
        head_dim=head_dim,
        v_head_dim=head_dim,
        q_bias=bias,
        k_bias=bias,
        v_bias=bias,
        o_bias=bias,
        position=_position(r, head_dim),
    )


def _kv_heads(r: Reader, heads: int) -> int:
    """``num_kv_heads`` counts in the new architecture alone; before it, ``multi_query`` decides between one and all."""
    given, multi_query = r.optional_integer("num_key_value_heads"), flag_or_null(r, "multi_query")
    if flag_or_null(r, "new_decoder_architecture"):
        kv_heads = given or heads
        if heads % kv_heads:
            raise r.error("num_key_value_heads", f"is {kv_heads}; it must divide the {heads} query heads")
        return kv_heads
    kv_heads = 1 if multi_query else heads
    if given not in (None, kv_heads, heads):
        r.reasons.append(f"num_kv_heads = {given} has no effect: without the new architecture there are {kv_heads}")
    return kv_heads


def _position(r: Reader, head_dim: int) -> Position:
    rotary = rope.rotary(r, head_dim, whole=True)
    return Alibi(before_scaling=True, rounded=True) if flag_or_null(r, "alibi") else rotary


TYPES: Final = {
    "falcon": ModelType(
        build=_falcon,
        defaults=FALCON_DEFAULTS,
        aliases={
            "hidden_size": "n_embed",
            "num_key_value_heads": "num_kv_heads",
            "intermediate_size": "ffn_hidden_size",
        },
        origin="transformers 5.23 FalconConfig",
    ),
}
