"""What decoder families beside Llama share: an ungated feed-forward, plain heads, learned positions."""

from __future__ import annotations

from txcalc.architecture import FeedForward, LearnedPositions, TokenEmbedding
from txcalc.configs.common import activation, head_dims
from txcalc.configs.reader import Reader


def mlp(r: Reader, size: int, *, act: str = "hidden_act", bias: bool = True) -> FeedForward:
    """Two matrices around a nonlinearity: [D, size], the activation that ``act`` names, [size, D]."""
    return FeedForward(
        hidden_size=r.integer("hidden_size"),
        intermediate_size=size,
        activation=activation(r, act),
        gated=False,
        up_bias=bias,
        down_bias=bias,
    )


def heads_fill_width(r: Reader) -> None:
    """For types whose module between heads and output is as wide as the stream: other heads cannot run, and say so."""
    hidden, heads, _, head_dim = head_dims(r)
    if heads * head_dim != hidden:
        r.reasons.append(f"{heads} heads of {head_dim} are not hidden_size = {hidden}: this type cannot run so")


def plain_head_dim(r: Reader) -> None:
    """For types whose head width is hidden_size / heads, whatever a ``head_dim`` says: another one is a reason."""
    r.unused("head_dim", None, r.integer("hidden_size") // r.integer("num_attention_heads"))


def plain_heads(r: Reader) -> None:
    """For types that know neither ``head_dim`` nor grouped heads; a config that asks for them gets a reason."""
    plain_head_dim(r)
    r.unused("num_key_value_heads", None, r.integer("num_attention_heads"))


def with_learned_positions(r: Reader) -> TokenEmbedding:
    """Token table and position table, [V, D] and [max_position_embeddings, D], added."""
    hidden = r.integer("hidden_size")
    return TokenEmbedding(
        vocab_size=r.integer("vocab_size"),
        embedding_size=hidden,
        positions=LearnedPositions(rows=r.integer("max_position_embeddings"), width=hidden),
    )


def flag_or_null(r: Reader, name: str) -> bool:
    """true or false; null is false, as for types that declare the flag optional."""
    return r.raw(name) is not None and r.flag(name)
