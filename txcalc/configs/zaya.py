"""ZAYA: attention over convolved queries and keys, one expert a token chosen by a small network, scaled streams.

Sources: Figliolia et al. 2025 (arXiv 2510.04476), section 3; Zyphra 2025 (ZAYA1's report, arXiv 2511.17127), section 3.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    Branch,
    ConvolvedHeads,
    Layer,
    MixtureOfExperts,
    Model,
    QKNorm,
    Residual,
    Router,
    RouterNetwork,
    SelfAttention,
    TokenEmbedding,
)
from txcalc.configs import moe, rope
from txcalc.configs.common import decoder_of, each_once, head_dims, layer_kinds, rms_norm, self_attention
from txcalc.configs.heads import published
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

ZAYA_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 262_272,
    "hidden_size": 2048,
    "num_hidden_layers": 40,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "sliding_window": None,
    "attention_bias": False,
    "moe_intermediate_size": 2048,
    "num_experts_per_tok": 1,
    "num_experts": 16,
    "lm_head_bias": False,
    "router_hidden_size": 256,
    "cca_time0": 2,
    "cca_time1": 2,
}
_KINDS: Final = ("hybrid", "hybrid_sliding")
_THETA: Final = {"hybrid": 5e6, "hybrid_sliding": 1e4}


def _zaya(r: Reader) -> Model:
    """Layers differ in their windows, and the first one's router has nothing carried to it."""
    num_layers, hidden = r.layers(), r.integer("hidden_size")
    if r.integer("num_experts_per_tok") != 1:
        raise r.error("num_experts_per_tok", f"is {r.integer('num_experts_per_tok')}; this type sends a token to 1")
    r.ignore("sliding_window", "rope_parameters", "rope_scaling", "rope_theta")
    kinds = layer_kinds(r, num_layers, lambda: ["hybrid"] * num_layers, known=_KINDS)
    mixers = {kind: _attention(r, kind) for kind in dict.fromkeys(kinds)}
    mixtures = {carries: _experts(r, carries=carries) for carries in (False, True)}
    norm = rms_norm(hidden, r.number("rms_norm_eps"))

    def layer(key: tuple[str, bool]) -> Layer:
        parts = (mixers[key[0]], mixtures[key[1]])
        return Layer(
            steps=tuple(Residual(branches=(Branch(sublayer=part, norm_in=norm),), affine=True) for part in parts)
        )

    layers = each_once([(kind, i > 0) for i, kind in enumerate(kinds)], layer)
    head = {**published("Zaya", ""), "bias": r.flag("lm_head_bias")}
    embedding = TokenEmbedding(vocab_size=r.integer("vocab_size"), embedding_size=hidden, affine=True)
    return decoder_of(r, layers, final_norm=norm, head=head, embedding=embedding)


def _attention(r: Reader, kind: str) -> SelfAttention:
    """Queries and keys of one length, the keys times a learned number for each of their heads."""
    _, _, kv_heads, head_dim = head_dims(r)
    if kv_heads * head_dim % 2:
        raise r.error("head_dim", f"is {head_dim}; half of the {kv_heads * head_dim} value channels are a token's own")
    window = r.integer("sliding_window") if kind == "hybrid_sliding" else None
    settings = rope.entry(r, kind)
    bias = r.flag("attention_bias")
    return self_attention(
        r,
        position=rope.rotary(r, head_dim, theta=_THETA[kind], factor=0.5, settings=settings),
        qkv_bias=bias,
        o_bias=bias,
        qk_norm=QKNorm(kind="l2", scope="head", eps=0.0, weight=False),
        window=window,
        convolved=ConvolvedHeads(depthwise=r.integer("cca_time0"), grouped=r.integer("cca_time1")),
    )


def _experts(r: Reader, *, carries: bool) -> MixtureOfExperts:
    """One choice more than there are experts does nothing."""
    router = Router(
        scoring="softmax",
        correction_bias=True,
        zero_experts=1,
        network=RouterNetwork(size=r.integer("router_hidden_size"), norm_eps=r.number("rms_norm_eps"), carries=carries),
    )
    return moe.mixture(r, size="moe_intermediate_size", router=router)


TYPES: Final = {"zaya": ModelType(build=_zaya, defaults=ZAYA_DEFAULTS, origin="transformers 5.23 ZayaConfig")}
