"""MiniMax-01: lightning attention and softmax attention in turns, experts behind each (arXiv 2501.08313, section 2)."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    Branch,
    Layer,
    LinearAttention,
    MixtureOfExperts,
    Model,
    Norm,
    Residual,
    Router,
    SelfAttention,
    Sublayer,
)
from txcalc.configs import moe, rope
from txcalc.configs.common import (
    activation,
    decoder_of,
    each_once,
    head_dims,
    layer_kinds,
    optional,
    rms_norm,
    self_attention,
)
from txcalc.configs.heads import published
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

_FACTORS: Final = tuple(
    f"{part}_{factor}_factor" for part in ("full_attn", "linear_attn", "mlp") for factor in ("alpha", "beta")
)
MINIMAX_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "sliding_window": None,
    "num_experts_per_tok": 2,
    "num_local_experts": 8,
    "rope_theta": 1e6,
    "block_size": 256,
    **dict.fromkeys(_FACTORS, 1.0),
}


def _minimax(r: Reader) -> Model:
    r.rounds_heads = True
    r.ignore("router_jitter_noise", "postnorm", *_FACTORS)
    num_layers, norm = r.layers(), rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    default = ["linear_attention" if i % 2 else "full_attention" for i in range(num_layers)]
    kinds = layer_kinds(r, num_layers, lambda: default, known=("full_attention", "linear_attention"))
    attention, experts = _attention(r), _experts(r)

    def layer(key: tuple[str, float]) -> Layer:
        kind, rate = key
        mixer = attention if kind == "full_attention" else _lightning(r, rate)
        name = "full_attn" if kind == "full_attention" else "linear_attn"
        return Layer(steps=(*_steps(r, mixer, norm, name), *_steps(r, experts, norm, "mlp")))

    rates = [_rate(kind, i, num_layers) for i, kind in enumerate(kinds)]
    layers = each_once(zip(kinds, rates, strict=True), layer)
    return decoder_of(r, layers, final_norm=norm, head=published("MiniMax"))


def _rate(kind: str, index: int, num_layers: int) -> float:
    """Lightning attention forgets less from layer to layer; softmax layers are all alike."""
    return 0.0 if kind == "full_attention" else 1 - index / (num_layers - 1 + 1e-5) + 1e-5


def _steps(r: Reader, sublayer: Sublayer, norm: Norm, name: str) -> tuple[Residual, Residual]:
    """The stream itself is normalised; then it and what the sublayer makes of it are added, each times a constant."""
    branch = Branch(sublayer=sublayer, scale=r.number(f"{name}_beta_factor"))
    add = Residual(branches=(branch,), skip_scale=r.number(f"{name}_alpha_factor"))
    return Residual(branches=(), norm_after=norm), add


def _attention(r: Reader) -> SelfAttention:
    position = rope.rotary(r, head_dims(r)[3])
    return self_attention(r, position=position, window=optional(r, "sliding_window"))


def _lightning(r: Reader, rate: float) -> LinearAttention:
    """All query heads have keys and values of their own here."""
    return LinearAttention(
        hidden_size=r.integer("hidden_size"),
        num_heads=r.integer("num_attention_heads"),
        head_dim=head_dims(r)[3],
        feature_map="lightning",
        decay_scale=rate,
        block_size=r.integer("block_size"),
        activation=activation(r),
    )


def _experts(r: Reader) -> MixtureOfExperts:
    router = Router(scoring="softmax", norm_topk_prob=True)
    return moe.mixture(r, size="intermediate_size", router=router, num_experts="num_local_experts")


TYPES: Final = {
    "minimax": ModelType(
        build=_minimax,
        defaults=MINIMAX_DEFAULTS,
        aliases={"num_experts": "num_local_experts"},
        origin="transformers 5.23 MiniMaxConfig",
    ),
}
