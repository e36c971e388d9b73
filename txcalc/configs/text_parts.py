"""Text parts of models with towers: Cohere Compass, Emu3, Llama 3.2 Vision, Moshi."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import (
    Branch,
    CrossAttention,
    FeedForward,
    Layer,
    Model,
    Norm,
    Residual,
    Rotary,
    TokenEmbedding,
)
from txcalc.configs import moe, rope
from txcalc.configs.common import (
    activation,
    decoder_of,
    each_once,
    head_dims,
    layer_kinds,
    layer_norm,
    optional,
    parallel,
    pre_norm,
    rms_norm,
    self_attention,
    swiglu,
)
from txcalc.configs.dense import plain_head_dim
from txcalc.configs.heads import published, published_text
from txcalc.configs.llama import LLAMA_DEFAULTS
from txcalc.configs.llama_kin import head_norm
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

# ---- Cohere Compass -------------------------------------------------------------------------------------------------


def compass_layers(r: Reader) -> dict[str, Any]:
    """What ``decoder_stack`` takes: Command-R's parallel layers, whose kinds may differ in window and rotation."""
    r.ignore("sliding_window", "sliding_window_pattern", "pooling")
    plain_head_dim(r)
    num_layers, bias = r.layers(), r.flag("attention_bias")
    kinds = layer_kinds(r, num_layers, lambda: ["full_attention"] * num_layers)
    norm = layer_norm(r.integer("hidden_size"), r.number("layer_norm_eps"), bias=False)
    feed_forward = swiglu(r)

    def layer(kind: str) -> Layer:
        attention = self_attention(
            r,
            position=_compass_rotary(r, kind),
            qkv_bias=bias,
            o_bias=bias,
            window=optional(r, "sliding_window") if kind == "sliding_attention" else None,
        )
        return parallel(attention, feed_forward, norm=norm)

    return {"layers": each_once(kinds, layer), "final_norm": norm}


def compass_scale(r: Reader) -> float:
    """Of the logits; null is none."""
    scale = r.optional_number("logit_scale")
    return 1.0 if scale is None else scale


def _cohere_compass_text(r: Reader) -> Model:
    head = published_text(r, "CohereCompass", "TextForSequenceClassification")
    return decoder_of(r, **compass_layers(r), head={**head, "scale": compass_scale(r)})


def _compass_rotary(r: Reader, kind: str) -> Rotary | None:
    """An entry for each kind of layer, without which transformers builds none; null is no rotation."""
    given = r.mapping("rope_parameters")
    r.ignore("rope_scaling", "rope_theta", "partial_rotary_factor")
    if kind not in given:
        r.reasons.append(f"rope_parameters says nothing of {kind}: transformers does not build that")
        return rope.rotary(r, head_dims(r)[3], settings={})
    settings = given[kind]
    if settings is not None and not isinstance(settings, Mapping):
        raise r.error("rope_parameters", f"has {settings!r} for {kind}; expected an object or null")
    return None if settings is None else rope.rotary(r, head_dims(r)[3], settings=settings, whole=True)


# ---- Emu3 -----------------------------------------------------------------------------------------------------------


def emu3_layers(r: Reader) -> dict[str, Any]:
    """What ``decoder_stack`` takes: Llama, over a vocabulary of words and of an image's codes."""
    bias, norm = r.flag("attention_bias"), rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    position = rope.rotary(r, head_dims(r)[3], theta=1e6, whole=True)
    attention = self_attention(r, position=position, qkv_bias=bias, o_bias=bias)
    layer = pre_norm(attention, swiglu(r, bias=r.flag("mlp_bias")), norm=norm)
    return {"layers": [(layer, r.layers())], "final_norm": norm}


def _emu3_text_model(r: Reader) -> Model:
    return decoder_of(r, **emu3_layers(r), head=published_text(r, "Emu3"))


# ---- Llama 3.2 Vision -----------------------------------------------------------------------------------------------


def mllama_layers(r: Reader) -> dict[str, Any]:
    """What ``decoder_stack`` takes: Llama, where some layers look at images instead, behind gates of one number each.

    The token table has 8 rows that the head has not. Without an image those layers do not run.
    """
    plain_head_dim(r)
    hidden, num_layers = r.integer("hidden_size"), r.layers()
    norm, feed_forward = rms_norm(hidden, r.number("rms_norm_eps")), swiglu(r)
    attention = self_attention(r, position=rope.rotary(r, head_dims(r)[3], theta=5e5, whole=True))
    given = r.raw("cross_attention_layers")
    seeing = set(range(3, 40, 5)) if given is None else set(r.integers("cross_attention_layers"))
    layers = {False: pre_norm(attention, feed_forward, norm=norm), True: _seeing(r, norm, feed_forward)}
    return {
        "layers": [(layers[i in seeing], 1) for i in range(num_layers)],
        "final_norm": norm,
        "embedding": TokenEmbedding(vocab_size=r.integer("vocab_size") + 8, embedding_size=hidden),
    }


def _seeing(r: Reader, norm: Norm, feed_forward: FeedForward) -> Layer:
    hidden, heads, kv_heads, head_dim = head_dims(r)
    cross = CrossAttention(
        hidden_size=hidden,
        source_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        v_head_dim=head_dim,
        qk_norm=head_norm(r),
        optional=True,
    )
    branches = (Branch(sublayer=each, norm_in=norm, scalar_gate=True) for each in (cross, feed_forward))
    return Layer(steps=tuple(Residual(branches=(branch,)) for branch in branches))


def _mllama_text_model(r: Reader) -> Model:
    model = decoder_of(r, **mllama_layers(r), head=published_text(r, "Mllama"))
    return untied(r, model)


def untied(r: Reader, model: Model) -> Model:
    """For types whose head is never tied, whatever ``tie_word_embeddings`` says."""
    if model.head is None or not model.head.tied:
        return model
    r.notes.append("tie_word_embeddings: this type has a head of its own all the same")
    return model.replace(head=model.head.replace(tied=False))


# ---- Moshi ----------------------------------------------------------------------------------------------------------


def _moshi(r: Reader) -> Model:
    """The language model that speaks and writes: Llama with a window everywhere, one row more in the table.

    What turns its states into sound, a decoder in depth and a codec, belongs to the conditional class.
    """
    r.ignore("num_codebooks", "audio_vocab_size", "audio_encoder_config", "depth_decoder_config")
    hidden, wide = r.integer("hidden_size"), r.integer("ffn_dim", minimum=2)
    if wide % 2:
        raise r.error("ffn_dim", f"is {wide}; its halves are gate and value")
    if hidden % r.integer("num_attention_heads"):
        raise r.error("hidden_size", f"is {hidden}; it is not a multiple of {r.integer('num_attention_heads')} heads")
    r.notes.append("sliding_window: transformers' cache keeps it, its mask of a whole sequence leaves it out")
    norm = rms_norm(hidden, r.number("rms_norm_eps"))
    position = rope.rotary(r, head_dims(r)[3], whole=True)
    attention = self_attention(r, position=position, window=r.integer("sliding_window"))
    layer = pre_norm(attention, moe.gated(hidden, wide // 2, activation(r)), norm=norm)
    table = TokenEmbedding(vocab_size=r.integer("vocab_size") + 1, embedding_size=hidden)
    head = published("Moshi", "")
    return untied(r, decoder_of(r, [(layer, r.layers())], final_norm=norm, embedding=table, head=head))


COMPASS_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 256_000, "hidden_size": 8192, "intermediate_size": 22_528, "logit_scale": None,
    "num_hidden_layers": 40, "num_attention_heads": 64, "num_key_value_heads": None, "hidden_act": "silu",
    "max_position_embeddings": 8192, "layer_norm_eps": 1e-5, "tie_word_embeddings": True, "attention_bias": False,
    "sliding_window": 4096,
}  # fmt: skip
EMU3_DEFAULTS: Final[dict[str, Any]] = {
    **LLAMA_DEFAULTS, "vocab_size": 184_622, "intermediate_size": 14_336, "num_key_value_heads": 8,
    "max_position_embeddings": 9216, "rms_norm_eps": 1e-5,
}  # fmt: skip
MLLAMA_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 128_256, "hidden_size": 4096, "hidden_act": "silu", "num_hidden_layers": 40,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14_336, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131_072, "tie_word_embeddings": False, "cross_attention_layers": None,
}  # fmt: skip

TYPES: Final = {
    "cohere_compass_text": ModelType(
        build=_cohere_compass_text, defaults=COMPASS_DEFAULTS, origin="transformers 5.23 CohereCompassTextConfig"
    ),
    "emu3_text_model": ModelType(
        build=_emu3_text_model, defaults=EMU3_DEFAULTS, origin="transformers 5.23 Emu3TextConfig"
    ),
    "mllama_text_model": ModelType(
        build=_mllama_text_model, defaults=MLLAMA_DEFAULTS, origin="transformers 5.23 MllamaTextConfig"
    ),
    "moshi": ModelType(
        build=_moshi,
        defaults={
            "vocab_size": 32_000, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": None, "head_dim": None, "max_position_embeddings": 3000, "hidden_act": "silu",
            "sliding_window": 3000, "ffn_dim": 22_528, "rms_norm_eps": 1e-8, "tie_word_embeddings": False,
        },
        origin="transformers 5.23 MoshiConfig",
    ),
}  # fmt: skip
