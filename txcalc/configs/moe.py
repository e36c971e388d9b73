"""What mixture-of-experts families share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from txcalc.architecture import (
    FeedForward,
    GatedDeltaNet,
    LatentAttention,
    Layer,
    MixtureOfExperts,
    Model,
    Router,
    SelfAttention,
)
from txcalc.architecture.feed_forward import Activation
from txcalc.configs.common import Arrangement, activation, decoder_of, each_once, pre_norm, rms_norm
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


Key = TypeVar("Key", bound=Hashable)


def sparse_decoder(
    r: Reader,
    *,
    sparse: list[bool],
    mixture: Callable[[], MixtureOfExperts],
    dense: Callable[[], FeedForward],
    attention: Callable[[Key], SelfAttention | LatentAttention | GatedDeltaNet],
    kinds: Sequence[Key] | None = None,
    arrange: Arrangement = pre_norm,
    head: Mapping[str, Any] | None = None,
    **stack: Any,
) -> Model:
    """A decoder whose layers hold experts where ``sparse`` says so and a plain feed-forward elsewhere.

    ``attention`` makes the mixer of one of ``kinds`` (one entry a layer; None: all alike). What no layer needs is not
    made, so that its fields are not asked for.
    """
    norm = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    made: dict[bool, FeedForward | MixtureOfExperts] = {}

    def layer(key: tuple[Key, bool]) -> Layer:
        kind, experts = key
        if experts not in made:
            made[experts] = mixture() if experts else dense()
        return arrange(attention(kind), made[experts], norm=norm)

    each: Sequence[Any] = kinds or [None] * len(sparse)
    layers = each_once(zip(each, sparse, strict=True), layer)
    return decoder_of(r, layers, final_norm=norm, head=head, **stack)
