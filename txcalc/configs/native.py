"""txcalc's own vocabulary, ``model_type: transformer``: for shapes that no config.json was published for.

GPT-3, PaLM, the 2017 Transformer, or any that a reader thinks up. Keys are spelt as in a config.json where that has
such a key; null stands for the default. The vocabulary is closed: another key is an error, and so is a key that the
described shape has no use for.

The model
    kind                        decoder (default), encoder, encoder_decoder
    vocab_size                  tokens in the vocabulary; needed
    hidden_size                 width of the residual stream; needed
    num_hidden_layers           layers of each stack; needed unless the next two are given
    num_encoder_layers          of the encoder of an encoder_decoder; default num_hidden_layers
    num_decoder_layers          of its decoder; default num_hidden_layers
    max_position_embeddings     longest trained context; needed for learned positions
    dtype                       of the weights: bfloat16, float16, float32
Attention
    num_attention_heads         query heads; needed
    num_key_value_heads         key/value heads; default as many as query heads
    head_dim                    width of a head; default hidden_size / num_attention_heads
    qk_norm                     an RMSNorm of head_dim on queries and keys; default false
    sliding_window              a token sees itself and sliding_window - 1 before it; in an encoder, half to each side
    sliding_window_pattern      n: every n-th layer sees everything; default none of them does
Feed-forward
    intermediate_size           inner width; default 4 * hidden_size
    hidden_act                  gelu (default), gelu_new, relu, silu, ...
    gated                       a third matrix as gate: SwiGLU, GEGLU; default false
    num_experts                 experts of a mixture in its place; default none
    num_experts_per_tok         experts that a token is sent to; needed with num_experts
    moe_intermediate_size       inner width of an expert; default intermediate_size
    n_shared_experts            experts that every token passes, as one feed-forward; default 0
    moe_layer_freq              n: every n-th layer is a mixture; default 1
    first_k_dense_replace       layers at the start that are dense all the same; default 0
Norms
    norm                        layernorm (default), rmsnorm
    norm_eps                    default 1e-5
    norm_position               pre (default), post, sandwich
    parallel                    attention and feed-forward read one norm and are added together; default false
    final_norm                  a norm after the last layer; default true unless norm_position is post
    embedding_norm              a norm after the embedding; default false
Positions
    position                    rotary (default), learned, sinusoidal, alibi, none
    rope_theta                  base of the rotary frequencies; default 10,000
    partial_rotary_factor       share of head_dim that is rotated; default 1
    rope_scaling                as in a config.json; default none
Biases
    bias                        on everything below; default true
    attention_bias              on query, key and value projections; default bias
    attention_out_bias          on the output projection; default attention_bias
    mlp_bias                    on the feed-forward; default bias
    norm_bias                   on a LayerNorm; default bias
Tables and head
    tie_word_embeddings         the head's matrix is the token table; default true
    share_encoder_decoder_embeddings  one token table for both stacks; default true
    scale_embedding             token vectors times sqrt(hidden_size); default false
    type_vocab_size             token types; default 0
    head                        lm (default), none
    head_bias                   a bias on the logits; default false
    pooler                      BERT's, on an encoder; default false
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final

from txcalc.architecture import (
    Alibi,
    CrossAttention,
    FeedForward,
    Head,
    Layer,
    LearnedPositions,
    MixtureOfExperts,
    Model,
    Norm,
    Pooler,
    Position,
    QKNorm,
    Role,
    Router,
    Sinusoidal,
    Stack,
    Sublayer,
    TokenEmbedding,
    runs_of,
)
from txcalc.configs import rope
from txcalc.configs.common import (
    Arrangement,
    activation,
    dtype_of,
    each_once,
    head_dims,
    optional,
    parallel,
    post_norm,
    pre_norm,
    sandwich,
    self_attention,
)
from txcalc.configs.moe import top_k
from txcalc.configs.reader import MAX_LAYERS, Reader
from txcalc.configs.registry import ModelType
from txcalc.errors import ModelError

_NEEDED: Final = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
_DEFAULTS: Final[dict[str, Any]] = {
    "kind": "decoder",
    "num_encoder_layers": None,
    "num_decoder_layers": None,
    "max_position_embeddings": None,
    "dtype": None,
    "num_key_value_heads": None,
    "head_dim": None,
    "qk_norm": False,
    "sliding_window": None,
    "sliding_window_pattern": None,
    "intermediate_size": None,
    "hidden_act": "gelu",
    "gated": False,
    "num_experts": None,
    "num_experts_per_tok": None,
    "moe_intermediate_size": None,
    "n_shared_experts": 0,
    "moe_layer_freq": 1,
    "first_k_dense_replace": 0,
    "norm": "layernorm",
    "norm_eps": 1e-5,
    "norm_position": "pre",
    "parallel": False,
    "final_norm": None,
    "embedding_norm": False,
    "position": "rotary",
    **{key: value for key, value in rope.DEFAULTS.items() if key != "rope_parameters"},
    "bias": True,
    "attention_bias": None,
    "attention_out_bias": None,
    "mlp_bias": None,
    "norm_bias": None,
    "tie_word_embeddings": True,
    "share_encoder_decoder_embeddings": True,
    "scale_embedding": False,
    "type_vocab_size": 0,
    "head": "lm",
    "head_bias": False,
    "pooler": False,
}
KEYS: Final = frozenset({*_NEEDED, *_DEFAULTS})

_ARRANGEMENTS: Final[dict[str, Arrangement]] = {"pre": pre_norm, "post": post_norm, "sandwich": sandwich}
_ROLES: Final[dict[str, tuple[Role, ...]]] = {
    "decoder": ("decoder",),
    "encoder": ("encoder",),
    "encoder_decoder": ("encoder", "decoder"),
}


def _transformer(r: Reader) -> Model:
    _refuse_unknown(r)
    roles = _ROLES[r.choice("kind", list(_ROLES))]
    stacks = tuple(_stack(r, role, several=len(roles) > 1) for role in roles)
    head = _head(r, roles) if r.choice("head", ["lm", "none"]) == "lm" else None
    r.ignore("dtype")
    longest = optional(r, "max_position_embeddings")
    model = Model(
        name="",
        model_type=r.model_type,
        stacks=stacks,
        head=head,
        dtype=dtype_of(r),
        max_position_embeddings=longest,
    )
    _refuse_useless(r)
    return model


def _refuse_unknown(r: Reader) -> None:
    for key in r.config:
        if key not in KEYS:
            near = get_close_matches(str(key), KEYS, n=3, cutoff=0.6)
            hint = f"nearest keys: {', '.join(near)}" if near else "pydoc txcalc.configs.native lists the keys"
            raise ModelError(f"{key} is not a key of model_type transformer", hint)


def _refuse_useless(r: Reader) -> None:
    for key in r.unread():
        if r.config[key] is not None:
            raise r.error(key, "has no meaning in the shape that the other keys describe", f"remove {key}")
    r.ignore(*KEYS)


def _switch(r: Reader, name: str, otherwise: bool) -> bool:
    """A flag whose default is another flag's value."""
    return otherwise if r.raw(name) is None else r.flag(name)


# ---- parts ----------------------------------------------------------------------------------------------------------


def _norm(r: Reader, width: int) -> Norm:
    kind, bias = r.choice("norm", ["layernorm", "rmsnorm"]), r.flag("bias")
    if kind == "rmsnorm":
        return Norm(kind="rmsnorm", width=width, eps=r.number("norm_eps"))
    return Norm(kind="layernorm", width=width, eps=r.number("norm_eps"), bias=_switch(r, "norm_bias", bias))


def _attention(r: Reader, position: Position | None, *, causal: bool, window: int | None) -> Sublayer:
    bias = _switch(r, "attention_bias", r.flag("bias"))
    norm = QKNorm(kind="rmsnorm", scope="head", eps=r.number("norm_eps")) if r.flag("qk_norm") else None
    return self_attention(
        r,
        position=position,
        qkv_bias=bias,
        o_bias=_switch(r, "attention_out_bias", bias),
        qk_norm=norm,
        window=window,
        causal=causal,
    )


def _cross_attention(r: Reader) -> CrossAttention:
    hidden, heads, kv_heads, head_dim = head_dims(r)
    bias = _switch(r, "attention_bias", r.flag("bias"))
    return CrossAttention(
        hidden_size=hidden,
        source_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        v_head_dim=head_dim,
        q_bias=bias,
        k_bias=bias,
        v_bias=bias,
        o_bias=_switch(r, "attention_out_bias", bias),
    )


def _feed_forward(r: Reader, inner: int) -> FeedForward:
    bias = _switch(r, "mlp_bias", r.flag("bias"))
    return FeedForward(
        hidden_size=r.integer("hidden_size"),
        intermediate_size=inner,
        activation=activation(r),
        gated=r.flag("gated"),
        up_bias=bias,
        down_bias=bias,
    )


def _mixture(r: Reader, inner: int, num_experts: int) -> MixtureOfExperts:
    inner = optional(r, "moe_intermediate_size") or inner
    shared = r.integer("n_shared_experts", minimum=0)
    return MixtureOfExperts(
        hidden_size=r.integer("hidden_size"),
        num_experts=num_experts,
        num_experts_per_tok=top_k(r, num_experts),
        expert=_feed_forward(r, inner),
        router=Router(norm_topk_prob=True),
        shared_expert=_feed_forward(r, shared * inner) if shared else None,
    )


def _position(r: Reader) -> Position | None:
    """What acts inside attention; learned and sinusoidal positions are added to the embedding instead."""
    match r.choice("position", ["rotary", "learned", "sinusoidal", "alibi", "none"]):
        case "rotary":
            return rope.rotary(r, head_dims(r)[3])
        case "alibi":
            return Alibi()
    return None


def _added_positions(r: Reader, width: int) -> LearnedPositions | Sinusoidal | None:
    match r.text("position"):
        case "learned":
            if optional(r, "max_position_embeddings") is None:
                raise r.error("max_position_embeddings", "is missing; learned positions have a row for each")
            return LearnedPositions(rows=r.integer("max_position_embeddings"), width=width)
        case "sinusoidal":
            return Sinusoidal(rows=optional(r, "max_position_embeddings") or 0, width=width, interleaved=True)
    return None


def _embedding(r: Reader, width: int, *, shared: bool) -> TokenEmbedding:
    return TokenEmbedding(
        vocab_size=r.integer("vocab_size"),
        embedding_size=width,
        scale=width**0.5 if r.flag("scale_embedding") else 1.0,
        positions=_added_positions(r, width),
        token_types=r.integer("type_vocab_size", minimum=0),
        norm=_norm(r, width) if r.flag("embedding_norm") else None,
        shared_with="encoder" if shared else None,
    )


# ---- stacks ---------------------------------------------------------------------------------------------------------


def _depth(r: Reader, role: Role, *, several: bool) -> int:
    own = f"num_{role}_layers"
    return r.layers(own if several and r.raw(own) is not None else "num_hidden_layers")


def _kinds(r: Reader, depth: int) -> Iterator[tuple[bool, bool]]:
    """For every layer: does it see a window only, is it a mixture of experts."""
    windowed, mixed = optional(r, "sliding_window") is not None, optional(r, "num_experts") is not None
    pattern = optional(r, "sliding_window_pattern") if windowed else None
    every = r.integer("moe_layer_freq", maximum=MAX_LAYERS) if mixed else 1
    dense = r.integer("first_k_dense_replace", minimum=0) if mixed else 0
    for index in range(depth):
        full = pattern is not None and (index + 1) % pattern == 0
        yield windowed and not full, mixed and index >= dense and (index + 1) % every == 0


def _layer(r: Reader, role: Role, kind: tuple[bool, bool], position: Position | None, *, several: bool) -> Layer:
    windowed, mixed = kind
    window = r.integer("sliding_window") if windowed else None
    sublayers: list[Sublayer] = [_attention(r, position, causal=role == "decoder", window=window)]
    if several and role == "decoder":
        sublayers.append(_cross_attention(r))
    inner = optional(r, "intermediate_size") or 4 * r.integer("hidden_size")
    sublayers.append(_mixture(r, inner, r.integer("num_experts")) if mixed else _feed_forward(r, inner))
    return _arrangement(r)(*sublayers, norm=_norm(r, r.integer("hidden_size")))


def _arrangement(r: Reader) -> Arrangement:
    place = r.choice("norm_position", list(_ARRANGEMENTS))
    if not r.flag("parallel"):
        return _ARRANGEMENTS[place]
    if place != "pre":
        raise r.error(
            "parallel", f"is true and norm_position is {place!r}; parallel branches read one norm before them"
        )
    return parallel


def _stack(r: Reader, role: Role, *, several: bool) -> Stack:
    hidden, position = r.integer("hidden_size"), _position(r)
    shared = several and r.flag("share_encoder_decoder_embeddings") and role == "decoder"
    embedding = _embedding(r, hidden, shared=shared)
    kinds = _kinds(r, _depth(r, role, several=several))
    distinct, runs = runs_of(each_once(kinds, lambda kind: _layer(r, role, kind, position, several=several)))
    final = _switch(r, "final_norm", r.text("norm_position") != "post")
    pooled = role == "encoder" and not several and r.flag("pooler")
    return Stack(
        role=role,
        hidden_size=hidden,
        embedding=embedding,
        layers=distinct,
        runs=runs,
        final_norm=_norm(r, hidden) if final else None,
        pooler=Pooler(hidden_size=hidden) if pooled else None,
    )


def _head(r: Reader, roles: tuple[Role, ...]) -> Head:
    """A decoder's next-token head or an encoder's masked one: a plain matrix, tied to the table its stack reads."""
    shared = len(roles) > 1 and r.flag("share_encoder_decoder_embeddings")
    return Head(
        kind="masked_lm" if roles == ("encoder",) else "lm",
        input_size=r.integer("hidden_size"),
        output_size=r.integer("vocab_size"),
        tied=r.flag("tie_word_embeddings"),
        bias=r.flag("head_bias"),
        tied_to="encoder" if shared else roles[-1],
    )


TYPES: Final = {
    "transformer": ModelType(
        build=_transformer, defaults=_DEFAULTS, origin="txcalc's own vocabulary, configs/native.py"
    )
}
