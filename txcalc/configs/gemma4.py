"""Gemma 4's decoder (Google 2026, model cards): local and global layers of unlike heads, shared keys, experts beside.

``gemma4_unified`` has the same decoder without experts and inputs of each layer's own. The towers stand in
``gemma4_towers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from txcalc.architecture import (
    Branch,
    FeedForward,
    Layer,
    MixtureOfExperts,
    Model,
    Norm,
    PerLayerInput,
    QKNorm,
    Residual,
    Rotary,
    Router,
    SelfAttention,
    Stack,
    TokenEmbedding,
)
from txcalc.configs import moe, rope
from txcalc.configs.common import (
    activation,
    decoder_model,
    decoder_stack,
    each_once,
    layer_kinds,
    rms_norm,
)
from txcalc.configs.heads import causal_head
from txcalc.configs.layer_sharing import kv_sources, per_layer_table
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType

KINDS: Final = ("full_attention", "sliding_attention")
_ROPE: Final[Mapping[str, Mapping[str, Any]]] = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0},
}
UNIFIED_TEXT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 262_144,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 30,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "global_head_dim": 512,
    "num_global_key_value_heads": None,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 262_144,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "sliding_window": 1024,
    "final_logit_softcapping": None,
    "use_bidirectional_attention": "vision",
    "attention_k_eq_v": False,
    "num_kv_shared_layers": 0,
    "use_double_wide_mlp": False,
}
TEXT_DEFAULTS: Final[dict[str, Any]] = {
    **UNIFIED_TEXT_DEFAULTS,
    "max_position_embeddings": 131_072,
    "sliding_window": 512,
    "use_bidirectional_attention": None,
    "vocab_size_per_layer_input": 262_144,
    "hidden_size_per_layer_input": 256,
    "enable_moe_block": False,
}
CLASSIFIERS: Final = {"sequence_classification", "token_classification", "question_answering"}


_LISTED: Final = ("head_dim", "num_key_value_heads")


class _Key(NamedTuple):
    """What tells one layer from another."""

    kind: str
    head_dim: int
    kv_heads: int
    source: int | None


def gemma4_decoder(r: Reader) -> Stack:
    """The decoder that a text config describes."""
    r.ignore("hidden_act", "cache_implementation", "expert_intermediate_size", "layer_types")
    num_layers, hidden = r.layers(), r.integer("hidden_size")
    kinds = _kinds(r, num_layers)
    heads = _heads(r, kinds)
    keys = [_Key(kind, *own, source) for kind, own, source in zip(kinds, heads, kv_sources(r, kinds), strict=True)]
    width = r.integer("hidden_size_per_layer_input", minimum=0) if _knows(r, "hidden_size_per_layer_input") else 0
    layers = each_once(keys, lambda key: _layer(r, key, width))
    embedding = TokenEmbedding(
        vocab_size=r.integer("vocab_size"),
        embedding_size=hidden,
        scale=hidden**0.5,
        per_layer=per_layer_table(r, num_layers, width),
    )
    return decoder_stack(r, layers, final_norm=rms_norm(hidden, r.number("rms_norm_eps")), embedding=embedding)


def _knows(r: Reader, name: str) -> bool:
    return name in r.defaults


def _kinds(r: Reader, num_layers: int) -> list[str]:
    """Five local layers, then a global one; the last is global whatever the list says."""

    def default() -> list[str]:
        return [KINDS[1] if (i + 1) % 6 else KINDS[0] for i in range(num_layers)]

    kinds = layer_kinds(r, num_layers, default, known=KINDS)
    if kinds[-1] != "full_attention":
        r.notes.append("the last layer is built with full attention, whatever layer_types says")
    return [*kinds[:-1], "full_attention"]


def _heads(r: Reader, kinds: list[str]) -> list[tuple[int, int]]:
    """(head_dim, KV heads) of every layer: from ``per_layer_config`` where a file has it, else by kind.

    Raises:
        ModelError: an entry that is none, or KV heads that do not divide the query heads.
    """
    r.ignore("global_head_dim", "num_global_key_value_heads", "per_layer_config")
    usual = (r.integer("head_dim"), r.integer("num_key_value_heads"))
    if "per_layer_config" in r.config:
        found = _listed(r, usual, len(kinds))
    else:
        wide = (r.integer("global_head_dim"), usual[1])
        if r.flag("attention_k_eq_v") and r.raw("num_global_key_value_heads") is not None:
            wide = (wide[0], r.integer("num_global_key_value_heads"))
        found = [wide if kind == "full_attention" else usual for kind in kinds]
    heads = r.integer("num_attention_heads")
    for kv_heads in sorted({each[1] for each in found}):
        if heads % kv_heads:
            raise r.error("num_key_value_heads", f"is {kv_heads} in some layer; it must divide the {heads} query heads")
    for kind in KINDS:
        if len({each for each, own in zip(found, kinds, strict=True) if own == kind}) > 1:
            raise r.error("per_layer_config", f"gives {kind} layers unlike heads; this type has one set for each kind")
    return found


def _listed(r: Reader, usual: tuple[int, int], num_layers: int) -> list[tuple[int, int]]:
    """Heads of every layer as a written config lists them: layer number -> what differs there."""
    found = [usual] * num_layers
    for key, entry in r.mapping("per_layer_config").items():
        if not str(key).isdigit() or int(key) >= num_layers or not isinstance(entry, Mapping):
            raise r.error("per_layer_config", f"has {shown(key)}: {shown(entry)}; there are {num_layers} layers")
        unknown = sorted(set(entry) - set(_LISTED))
        if unknown:
            r.reasons.append(f"per_layer_config has {unknown[0]} for layer {key}: not a field that txcalc knows there")
        values = [entry.get(name, default) for name, default in zip(_LISTED, usual, strict=True)]
        if not all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in values):
            raise r.error("per_layer_config", f"has {shown(dict(entry))} for layer {key}; expected whole numbers")
        found[int(key)] = (values[0], values[1])
    return found


# ---- layers ---------------------------------------------------------------------------------------------------------


def _layer(r: Reader, key: _Key, width: int) -> Layer:
    """Sandwich norms, experts beside the feed-forward where there are some, the layer's own input at the end."""
    hidden, act = r.integer("hidden_size"), activation(r, "hidden_activation")
    norm = rms_norm(hidden, r.number("rms_norm_eps"))
    wide = r.flag("use_double_wide_mlp") and key.source is not None
    inner = moe.gated(hidden, r.integer("intermediate_size") * (2 if wide else 1), act)
    steps = [
        Residual(branches=(Branch(sublayer=_attention(r, key), norm_in=norm, norm_out=norm),)),
        _inner_step(r, inner, norm),
    ]
    if width:
        sublayer = PerLayerInput(hidden_size=hidden, width=width, activation=act)
        steps.append(Residual(branches=(Branch(sublayer=sublayer, norm_out=norm),)))
    return Layer(steps=tuple(steps), scalar=True)


def _inner_step(r: Reader, inner: FeedForward, norm: Norm) -> Residual:
    r.ignore("num_experts", "top_k_experts", "moe_intermediate_size", "num_experts_per_tok")
    if not (_knows(r, "enable_moe_block") and r.flag("enable_moe_block")):
        return Residual(branches=(Branch(sublayer=inner, norm_in=norm, norm_out=norm),))
    dense = Branch(sublayer=inner, norm_in=norm, norm_out=norm)
    return Residual(branches=(dense, Branch(sublayer=_experts(r, norm), norm_out=norm)), norm_out=norm)


def _experts(r: Reader, norm: Norm) -> MixtureOfExperts:
    """The router and the experts read the stream through norms of their own."""
    experts = moe.mixture(
        r,
        size="moe_intermediate_size",
        num_experts="num_experts",
        chosen="top_k_experts",
        act=activation(r, "hidden_activation"),
        router=Router(norm_topk_prob=True, input_norm=norm, input_scale=norm.width**-0.5, expert_scale=True),
    )
    return experts.replace(expert_norm=norm)


def _attention(r: Reader, key: _Key) -> SelfAttention:
    """Normed queries, keys and values, unscaled scores; a global layer's values may be its keys before their norm."""
    r.ignore("sliding_window")
    bias, causal, window = r.flag("attention_bias"), _causal(r), r.optional_integer("sliding_window")
    if window and not causal:
        window = 2 * (window // 2 + 1)  # half of it and one more token to each side
    return SelfAttention(
        hidden_size=r.integer("hidden_size"),
        num_attention_heads=r.integer("num_attention_heads"),
        num_key_value_heads=key.kv_heads,
        head_dim=key.head_dim,
        v_head_dim=key.head_dim,
        causal=causal,
        q_bias=bias,
        k_bias=bias,
        v_bias=bias,
        o_bias=bias,
        qk_norm=QKNorm(kind="rmsnorm", scope="head", eps=r.number("rms_norm_eps"), v_norm=True),
        position=_rotary(r, key),
        scale=1.0,
        window=window if key.kind == "sliding_attention" else None,
        k_equals_v=r.flag("attention_k_eq_v") and key.kind == "full_attention",
        kv_source=key.source,
    )


def _causal(r: Reader) -> bool:
    """``vision`` lets tokens of one image see each other, which bears on no figure of text."""
    value = r.raw("use_bidirectional_attention")
    if value not in (None, "vision", "all"):
        raise r.error("use_bidirectional_attention", f"is {shown(value)}; expected null, vision or all")
    return bool(value != "all")


def _rotary(r: Reader, key: _Key) -> Rotary:
    """Each kind of layer has settings of its own."""
    r.ignore("rope_parameters", "rope_scaling", "rope_theta")
    found = r.mapping("rope_parameters").get(key.kind, _ROPE[key.kind])
    settings: dict[str, Any] = dict(found) if isinstance(found, Mapping) else dict(_ROPE[key.kind])
    return rope.proportional(r, key.head_dim, settings)


# ---- the types ------------------------------------------------------------------------------------------------------


def gemma4_head(r: Reader, text: Reader, decoder: Stack, **fields: Any) -> Any:
    """The output matrix over the decoder; ``r`` says which class it is and whether the table is tied."""
    return causal_head(
        r,
        input_size=decoder.hidden_size,
        vocab_size=text.integer("vocab_size"),
        softcap=text.optional_number("final_logit_softcapping"),
        **{"without": CLASSIFIERS, **fields},
    )


def _text(prefix: str) -> Any:
    def build(r: Reader) -> Model:
        decoder = gemma4_decoder(r)
        return decoder_model(r, decoder, gemma4_head(r, r, decoder, prefix=f"{prefix} {prefix}Text"))

    return build


TYPES: Final = {
    "gemma4_text": ModelType(
        build=_text("Gemma4"), defaults=TEXT_DEFAULTS, origin="transformers 5.23 Gemma4TextConfig"
    ),
    "gemma4_unified_text": ModelType(
        build=_text("Gemma4Unified"),
        defaults=UNIFIED_TEXT_DEFAULTS,
        origin="transformers 5.23 Gemma4UnifiedTextConfig",
    ),
}
