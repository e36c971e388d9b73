"""gpt-oss: experts, biases, sinks and a window in every second layer (OpenAI 2025, arXiv 2508.10925)."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import FeedForward, Layer, MixtureOfExperts, Model, Rotary, Router
from txcalc.configs import moe, rope
from txcalc.configs.common import (
    decoder_of,
    each_once,
    head_dims,
    older_name,
    pre_norm,
    rms_norm,
    self_attention,
    windows,
)
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

GPT_OSS_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 201_088,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 36,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "sliding_window": 128,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "num_local_experts": 128,
    "num_experts_per_tok": 4,
    "swiglu_alpha": 1.702,
    "swiglu_limit": 7.0,
    "attention_bias": True,
}
_YARN: Final = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


def _gpt_oss(r: Reader) -> Model:
    r.ignore("hidden_act", "initial_context_length")  # the nonlinearity is fixed; a length that rope_scaling repeats
    num_layers, hidden, bias = r.layers(), r.integer("hidden_size"), r.flag("attention_bias")
    norm = rms_norm(hidden, r.number("rms_norm_eps"))
    position, experts = _rotary(r), _experts(r, hidden)

    def layer(window: int | None) -> Layer:
        attention = self_attention(r, position=position, qkv_bias=bias, o_bias=bias, window=window, sinks=True)
        return pre_norm(attention, experts, norm=norm)

    default = ["full_attention" if i % 2 else "sliding_attention" for i in range(num_layers)]
    layers = each_once(windows(r, num_layers, default=default), layer)
    return decoder_of(r, layers, final_norm=norm, head={"prefix": "GptOss", "without": {"question_answering"}})


def _rotary(r: Reader) -> Rotary:
    """YaRN unless the config says otherwise; an empty object says otherwise, null does not."""
    unsaid = not r.config.get("rope_scaling") and r.config.get("rope_parameters") is None
    settings = rope.parameters(r)
    return rope.rotary(r, head_dims(r)[3], theta=150_000.0, settings=_YARN if unsaid else settings)


def _experts(r: Reader, hidden: int) -> MixtureOfExperts:
    experts = r.integer("num_experts")
    chosen = moe.top_k(r, experts)
    older_name(r, "experts_per_token", "num_experts_per_tok", chosen)
    expert = FeedForward(
        hidden_size=hidden,
        intermediate_size=r.integer("intermediate_size"),
        activation="swiglu_oai",
        gated=True,
        up_bias=True,
        down_bias=True,
        limit=r.number("swiglu_limit"),
        alpha=r.number("swiglu_alpha"),
    )
    return MixtureOfExperts(
        hidden_size=hidden,
        num_experts=experts,
        num_experts_per_tok=chosen,
        expert=expert,
        router=Router(scoring="softmax_after_topk", bias=True),
    )


TYPES: Final = {
    "gpt_oss": ModelType(
        build=_gpt_oss,
        defaults=GPT_OSS_DEFAULTS,
        aliases={"num_experts": "num_local_experts"},
        origin="transformers 5.23 GptOssConfig",
    ),
}
