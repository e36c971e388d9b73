"""What mixture-of-experts families share."""

from __future__ import annotations

from typing import Any

from txcalc.architecture import FeedForward, MixtureOfExperts, Router
from txcalc.architecture.feed_forward import Activation
from txcalc.configs.common import activation
from txcalc.configs.reader import Reader


def sparse_layers(r: Reader, default: list[str]) -> list[bool]:
    """Which layers hold experts: ``mlp_layer_types``, dense or sparse, where the config has it, else ``default``."""
    r.ignore("mlp_layer_types")
    if not r.config.get("mlp_layer_types"):
        return [kind == "sparse" for kind in default]
    kinds = r.texts("mlp_layer_types", length=len(default))
    unknown = sorted(set(kinds) - {"dense", "sparse"})
    if unknown:
        raise r.error("mlp_layer_types", f"holds {unknown[0]!r}; layers are dense or sparse")
    return [kind == "sparse" for kind in kinds]


def top_k(r: Reader, num_experts: int, name: str = "num_experts_per_tok") -> int:
    """How many experts a token is sent to.

    Raises:
        ModelError: more than there are.
    """
    chosen = r.integer(name)
    if chosen > num_experts:
        raise r.error(name, f"is {chosen}; there are {num_experts} experts", "choose at most that many")
    return chosen


def mixture(
    r: Reader,
    *,
    size: str,
    router: Router,
    num_experts: str = "num_experts",
    chosen: str = "num_experts_per_tok",
    shared: int = 0,
    bias: bool = False,
    **fields: Any,
) -> MixtureOfExperts:
    """Gated experts of the width that ``size`` names, and one of ``shared`` channels that every token passes."""
    hidden, act, experts = r.integer("hidden_size"), fields.pop("act", None) or activation(r), r.integer(num_experts)
    return MixtureOfExperts(
        hidden_size=hidden,
        num_experts=experts,
        num_experts_per_tok=top_k(r, experts, chosen),
        expert=gated(hidden, r.integer(size), act),
        router=router,
        shared_expert=gated(hidden, shared, act, bias=bias) if shared else None,
        **fields,
    )


def gated(hidden_size: int, intermediate_size: int, activation: Activation, *, bias: bool = False) -> FeedForward:
    """A gated feed-forward: an expert, or the dense layer beside them."""
    return FeedForward(
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        activation=activation,
        gated=True,
        up_bias=bias,
        down_bias=bias,
    )
