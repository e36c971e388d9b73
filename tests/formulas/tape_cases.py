"""Layers of every arrangement and mechanism that has a walk, small enough to run in milliseconds."""

from __future__ import annotations

from typing import Any, Final

from tests.reference.tiny import NORM, D, attention, feed_forward, layer
from txcalc.architecture import (
    Alibi,
    Branch,
    LatentAttention,
    Layer,
    LengthTemperature,
    MixtureOfExperts,
    Norm,
    QKNorm,
    Residual,
    Rotary,
    Router,
    Sublayer,
)

LAYER_NORM = Norm(kind="layernorm", width=D, bias=True)
OFFSET_NORM = Norm(kind="rmsnorm", width=D, unit_offset=True)
PLAIN_NORM = Norm(kind="rmsnorm", width=D, weight=False)


def mixture(**changes: Any) -> MixtureOfExperts:
    fields: dict[str, Any] = {
        "hidden_size": D,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "expert": feed_forward(intermediate_size=24),
        "router": Router(),
    }
    return MixtureOfExperts(**{**fields, **changes})


def latent(**changes: Any) -> LatentAttention:
    fields: dict[str, Any] = {
        "hidden_size": D,
        "num_attention_heads": 4,
        "q_lora_rank": 12,
        "kv_lora_rank": 10,
        "qk_nope_head_dim": 6,
        "qk_rope_head_dim": 4,
        "v_head_dim": 6,
        "norm_eps": 1e-6,
        "position": Rotary(theta=1e4, rotary_dim=4, interleaved=True),
    }
    return LatentAttention(**{**fields, **changes})


def normed(*sublayers: Sublayer, **norms: Norm) -> Layer:
    """Each sublayer a step of its own, with these norms around its branch."""
    return Layer(steps=tuple(Residual(branches=(Branch(sublayer=each, **norms),)) for each in sublayers))


ATTENTION: Final[dict[str, dict[str, Any]]] = {
    "grouped": {},
    "multi-head": {"num_key_value_heads": 4},
    "multi-query": {"num_key_value_heads": 1},
    "biases": {"q_bias": True, "k_bias": True, "v_bias": True, "o_bias": True},
    "no positions": {"position": None},
    "no positions, multi-head": {"position": None, "num_key_value_heads": 4},
    "partly rotary": {"position": Rotary(theta=1e4, rotary_dim=4)},
    "interleaved rotary": {"position": Rotary(theta=1e4, rotary_dim=8, interleaved=True)},
    "ALiBi": {"position": Alibi()},
    "RMSNorm of heads": {"qk_norm": QKNorm(kind="rmsnorm", scope="head", eps=1e-6)},
    "RMSNorm of all heads": {"qk_norm": QKNorm(kind="rmsnorm", scope="width", eps=1e-6)},
    "LayerNorm of heads": {"qk_norm": QKNorm(kind="layernorm", scope="heads", eps=1e-6)},
    "length of heads": {"qk_norm": QKNorm(kind="l2", scope="head", eps=1e-6, weight=False, after_rotary=True)},
    "values normalised": {"qk_norm": QKNorm(kind="rmsnorm", scope="head", eps=1e-6, v_norm=True, unit_offset=True)},
    "window": {"window": 3},
    "chunk": {"chunk": 3},
    "both ways": {"causal": False},
    "window both ways": {"causal": False, "window": 4},
    "softcap": {"softcap": 10.0},
    "sinks": {"sinks": True},
    "gate a channel": {"gate": "channel"},
    "gate a head": {"gate": "head"},
    "clipped": {"clip_qkv": 1.0},
    "keys as values": {"k_equals_v": True},
    "norm of the output": {"out_norm": NORM},
    "temperature": {"temperature": LengthTemperature(factor=0.1, length=2)},
    "values scaled": {"value_scale": 0.5},
}

DENSE: Final[dict[str, Layer]] = {
    **{
        f"{'gated ' * gated}{name}": layer(feed_forward(activation=name, gated=gated))
        for name in ("relu", "relu2", "gelu", "gelu_tanh", "quick_gelu", "silu", "tanh")
        for gated in (False, True)
    },
    "clamped SwiGLU": layer(feed_forward(activation="swiglu_oai", limit=7.0)),
    "biases": layer(feed_forward(up_bias=True, down_bias=True)),
    "norm inside": layer(feed_forward(norm=Norm(kind="rmsnorm", width=48))),
    "latent": layer(latent()),
    "latent, plain queries": layer(latent(q_lora_rank=None)),
    "latent, wide values": layer(latent(v_head_dim=10)),
    "latent, biases": layer(latent(bias=True, position=None)),
    "pre-norm": layer(attention(), feed_forward()),
    "post-norm": Layer(
        steps=tuple(
            Residual(branches=(Branch(sublayer=each),), norm_after=LAYER_NORM) for each in (attention(), feed_forward())
        )
    ),
    "sandwich": normed(attention(), feed_forward(), norm_in=OFFSET_NORM, norm_out=OFFSET_NORM),
    "norm behind": normed(attention(), feed_forward(), norm_out=NORM),
    "LayerNorm without bias": normed(attention(), norm_in=Norm(kind="layernorm", width=D)),
    "LayerNorm without parameters": normed(attention(), norm_in=Norm(kind="layernorm", width=D, weight=False)),
    "RMSNorm without weight": normed(attention(), norm_in=PLAIN_NORM),
    "length of the stream": normed(attention(), norm_in=Norm(kind="l2", width=D, weight=False)),
    "parallel": Layer(
        steps=(Residual(branches=(Branch(sublayer=attention()), Branch(sublayer=feed_forward())), norm_in=LAYER_NORM),)
    ),
    "parallel, two norms": Layer(
        steps=(
            Residual(
                branches=tuple(Branch(sublayer=each, norm_in=LAYER_NORM) for each in (attention(), feed_forward()))
            ),
        )
    ),
    "scales": Layer(
        steps=(
            Residual(branches=(Branch(sublayer=attention(), norm_in=LAYER_NORM, layer_scale=True),)),
            Residual(branches=(Branch(sublayer=feed_forward(), norm_in=LAYER_NORM, scale=0.5),)),
        )
    ),
}

MIXTURES: Final[dict[str, Layer]] = {
    "softmax": layer(mixture()),
    "sigmoid, normalised": layer(mixture(router=Router(scoring="sigmoid", norm_topk_prob=True, correction_bias=True))),
    "softmax after top-k": layer(mixture(router=Router(scoring="softmax_after_topk", bias=True))),
    "shared expert": layer(mixture(shared_expert=feed_forward())),
    "gated shared expert": layer(mixture(shared_expert=feed_forward(), shared_expert_gate=True)),
    "weight on the input": layer(mixture(weight_input=True)),
    "square root of softplus": layer(mixture(router=Router(scoring="sqrt_softplus"))),
}
