"""Gemma 3n (Google 2025, model card): four streams a token, a low-rank residual, inputs of each layer's own.

The text model is counted in full. Its images pass a convolutional network that another library defines, which the
config does not describe; with it the result is an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from txcalc.architecture import (
    AltUp,
    Branch,
    FeedForward,
    Layer,
    LowRankResidual,
    Model,
    Norm,
    PerLayerInput,
    QKNorm,
    Residual,
    Rotary,
    SelfAttention,
    Stack,
    TokenEmbedding,
)
from txcalc.configs import moe, rope
from txcalc.configs.common import (
    activation,
    decoder_model,
    decoder_stack,
    dtype_of,
    each_once,
    head_dims,
    layer_kinds,
    optional,
    quantization_of,
    rms_norm,
    self_attention,
)
from txcalc.configs.heads import causal_head, task_of
from txcalc.configs.layer_sharing import kv_sources, per_layer_table
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

TEXT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 262_400,
    "hidden_size": 2048,
    "intermediate_size": 16_384,
    "num_hidden_layers": 35,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "sliding_window": 512,
    "final_logit_softcapping": 30.0,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
    "vocab_size_per_layer_input": 262_144,
    "hidden_size_per_layer_input": 256,
    "altup_active_idx": 0,
    "altup_correct_scale": True,
    "altup_num_inputs": 4,
    "num_kv_shared_layers": 15,
    "laurel_rank": 64,
    "activation_sparsity_pattern": None,
}
_KINDS: Final = ("full_attention", "sliding_attention")
_BASES: Final = {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"}
_CLASSIFIERS: Final = {"sequence_classification", "token_classification", "question_answering"}
_TOKENS: Final = (
    "boi_token_id", "eoi_token_id", "image_token_id", "boa_token_id", "eoa_token_id", "audio_token_id",
    "audio_soft_tokens_per_image", "vision_soft_tokens_per_image",
)  # fmt: skip


class _Key(NamedTuple):
    """What tells one layer from another."""

    kind: str
    source: int | None
    inner: int
    sparsity: float


def _decoder(r: Reader) -> Stack:
    r.ignore("hidden_act", "cache_implementation", "altup_coef_clip", "altup_lr_multiplier", "query_pre_attn_scalar")
    num_layers, hidden = r.layers(), r.integer("hidden_size")
    kinds = layer_kinds(r, num_layers, lambda: [_KINDS[(i + 1) % 5 != 0] for i in range(num_layers)], known=_KINDS)
    each = zip(kinds, kv_sources(r, kinds), _inner_sizes(r, num_layers), _sparsity(r, num_layers), strict=True)
    make = _Layers(r)
    layers = each_once((_Key(*key) for key in each), make)
    embedding = TokenEmbedding(
        vocab_size=r.integer("vocab_size"),
        embedding_size=hidden,
        scale=hidden**0.5,
        per_layer=per_layer_table(r, num_layers, make.width),
    )
    return decoder_stack(r, layers, final_norm=make.norm, embedding=embedding, altup_streams=make.altup.streams)


def _inner_sizes(r: Reader, num_layers: int) -> list[int]:
    """One feed-forward width for all layers, or one for each."""
    if isinstance(r.raw("intermediate_size"), list | tuple):
        return r.integers("intermediate_size", length=num_layers, minimum=1)
    return [r.integer("intermediate_size")] * num_layers


def _sparsity(r: Reader, num_layers: int) -> list[float]:
    """The share of the gate that is zeroed: of ten first layers 0.95 where nothing is said and there are more."""
    if r.raw("activation_sparsity_pattern") is None:
        first = 10 if num_layers > 10 else 0
        return [0.95] * first + [0.0] * (num_layers - first)
    return r.numbers("activation_sparsity_pattern", length=num_layers)


class _Layers:
    """Makes a layer of what tells it from another."""

    def __init__(self, r: Reader) -> None:
        self.r, self.hidden = r, r.integer("hidden_size")
        self.act, self.eps = activation(r, "hidden_activation"), r.number("rms_norm_eps")
        self.norm: Norm = rms_norm(self.hidden, self.eps)
        self.width = r.integer("hidden_size_per_layer_input")
        streams, active = r.integer("altup_num_inputs", minimum=2), r.integer("altup_active_idx", minimum=0)
        if active >= streams:
            raise r.error("altup_active_idx", f"is {active}; there are {streams} streams")
        self.altup = AltUp(
            hidden_size=self.hidden,
            streams=streams,
            active=active,
            scaled=r.flag("altup_correct_scale"),
            norm_eps=self.eps,
        )

    def __call__(self, key: _Key) -> Layer:
        """Attention and the low-rank residual read one normed stream; their sum with it is divided by sqrt(2)."""
        low_rank = LowRankResidual(hidden_size=self.hidden, rank=self.r.integer("laurel_rank"), norm_eps=self.eps)
        half = 2**-0.5
        attention = Branch(sublayer=self._attention(key), norm_out=self.norm, scale=half)
        inner: FeedForward = moe.gated(self.hidden, key.inner, self.act).replace(activation_sparsity=key.sparsity)
        own = PerLayerInput(hidden_size=self.hidden, width=self.width, activation=self.act)
        return Layer(
            steps=(
                Residual(
                    branches=(attention, Branch(sublayer=low_rank, scale=half)), norm_in=self.norm, skip_scale=half
                ),
                Residual(branches=(Branch(sublayer=inner, norm_in=self.norm, norm_out=self.norm),)),
                Residual(branches=(Branch(sublayer=own, norm_out=self.norm),), residual=False),
            ),
            altup=self.altup,
        )

    def _attention(self, key: _Key) -> SelfAttention:
        r = self.r
        r.ignore("sliding_window")
        bias, local = r.flag("attention_bias"), key.kind == "sliding_attention"
        return self_attention(
            r,
            position=_rotary(r, key.kind, head_dims(r)[3]),
            qkv_bias=bias,
            o_bias=bias,
            qk_norm=QKNorm(kind="rmsnorm", scope="head", eps=self.eps, v_norm=True),
            window=optional(r, "sliding_window") if local else None,
            scale=1.0,
            kv_source=key.source,
        )


def _rotary(r: Reader, kind: str, head_dim: int) -> Rotary:
    """Local layers have a base of their own, unscaled."""
    r.ignore("rope_theta", "rope_local_base_freq", "rope_scaling", "rope_parameters")
    found = r.mapping("rope_parameters").get(kind)
    settings: dict[str, Any] = dict(found) if isinstance(found, Mapping) else {}
    if kind == "full_attention":
        settings |= r.mapping("rope_scaling")
    settings.setdefault("rope_theta", r.number(_BASES[kind]))
    return rope.rotary(r, head_dim, settings=settings, whole=True)


# ---- the types ------------------------------------------------------------------------------------------------------


def _head(r: Reader, text: Reader, decoder: Stack, **fields: Any) -> Any:
    return causal_head(
        r,
        input_size=decoder.hidden_size,
        vocab_size=text.integer("vocab_size"),
        softcap=text.optional_number("final_logit_softcapping"),
        **{"without": _CLASSIFIERS, **fields},
    )


def _text(r: Reader) -> Model:
    decoder = _decoder(r)
    return decoder_model(r, decoder, _head(r, r, decoder, prefix="Gemma3n Gemma3nText"))


def _whole(r: Reader) -> Model:
    r.ignore(*_TOKENS, "vision_config", "audio_config", "tie_word_embeddings")
    text = r.nested("text_config", defaults=TEXT_DEFAULTS)
    text.origin = "transformers 5.23 Gemma3nTextConfig"
    text.ignore("tie_word_embeddings")
    if text.model_type not in ("", "gemma3n_text"):
        raise text.error("model_type", f"is {text.model_type!r}; this type's decoder is a gemma3n_text")
    decoder = _decoder(text)
    if task_of(r, "seq2seq_lm") != "causal_lm":
        r.reasons.append("the towers for images (a network of another library) and sound are not counted")
    return Model(
        name="",
        model_type=r.model_type,
        stacks=(decoder,),
        head=_head(r, text, decoder, default="seq2seq_lm", prefix="Gemma3n"),
        dtype=dtype_of(r) or dtype_of(text),
        max_position_embeddings=optional(text, "max_position_embeddings"),
        quantization=quantization_of(r),
    )


TYPES: Final = {
    "gemma3n_text": ModelType(build=_text, defaults=TEXT_DEFAULTS, origin="transformers 5.23 Gemma3nTextConfig"),
    "gemma3n": ModelType(
        build=_whole, defaults={"tie_word_embeddings": True}, origin="transformers 5.23 Gemma3nConfig"
    ),
}
