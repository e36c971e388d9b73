"""Granite (arXiv 2508.15260 and IBM's cards) and HyperCLOVA X: Llama with four constant multipliers, dense or with
experts; the SWA types add sinks, windows and a rotary base per layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from txcalc.architecture import Layer, MixtureOfExperts, Model, Router, SelfAttention
from txcalc.configs import moe, rope
from txcalc.configs.common import (
    Arrangement,
    decoder_of,
    each_once,
    foreign_spelling,
    head_dims,
    layer_kinds,
    llama_like,
    pre_norm,
    rms_norm,
    sandwich,
    self_attention,
    swiglu,
    windows_of,
)
from txcalc.configs.heads import published
from txcalc.configs.llama import LLAMA_DEFAULTS
from txcalc.configs.llama_kin import both_biases
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType


def multiplier(r: Reader, name: str) -> float:
    """One of the constants; null is 1."""
    value = r.optional_number(name)
    return 1.0 if value is None else value


def scaled_head(r: Reader, prefix: str) -> dict[str, Any]:
    """The logits are divided by ``logits_scaling``.

    Raises:
        ModelError: it is 0.
    """
    scaling = multiplier(r, "logits_scaling")
    if not scaling:
        raise r.error("logits_scaling", "is 0; logits are divided by it")
    return {**published(prefix, ""), "scale": 1.0 / scaling}


def _common(r: Reader, prefix: str) -> dict[str, Any]:
    return {
        "arrange": partial(pre_norm, scale=multiplier(r, "residual_multiplier")),
        "embedding_scale": multiplier(r, "embedding_multiplier"),
        "scale": multiplier(r, "attention_multiplier"),
        "head": scaled_head(r, prefix),
        **both_biases(r),
    }


def _granite(r: Reader) -> Model:
    return llama_like(r, mlp_bias=r.flag("mlp_bias"), **_common(r, "Granite"))


def _hyperclovax(r: Reader) -> Model:
    """A norm after each sublayer too, unless ``use_post_norm`` is false; logits times ``logits_scaling``."""
    made = _common(r, "HyperCLOVAX")
    made["head"]["scale"] = multiplier(r, "logits_scaling")
    norms: Callable[..., Layer] = sandwich if r.flag("use_post_norm") else pre_norm
    arrange: Arrangement = partial(norms, scale=multiplier(r, "residual_multiplier"))
    default_scale = r.raw("attention_multiplier") is None
    scale = head_dims(r)[3] ** -0.5 if default_scale else made["scale"]
    return llama_like(r, mlp_bias=r.flag("mlp_bias"), **{**made, "arrange": arrange, "scale": scale})


# ---- experts --------------------------------------------------------------------------------------------------------


def experts(r: Reader) -> MixtureOfExperts:
    """The best experts by their logits, weighted by a softmax over these alone; perhaps a shared one."""
    foreign_spelling(r, "num_experts")
    shared = r.integer("shared_intermediate_size", minimum=0) if "shared_intermediate_size" in r.defaults else 0
    return moe.mixture(
        r,
        size="intermediate_size",
        num_experts="num_local_experts",
        router=Router(scoring="softmax_after_topk"),
        shared=shared,
    )


def _granitemoe(r: Reader, prefix: str = "GraniteMoe") -> Model:
    r.unused("mlp_bias", False)
    return llama_like(r, feed_forward=experts(r), **_common(r, prefix))


def _granitemoeshared(r: Reader) -> Model:
    return _granitemoe(r, "GraniteMoeShared")


# ---- windows --------------------------------------------------------------------------------------------------------


def _granite_swa(r: Reader) -> Model:
    return _swa(r, swiglu(r, bias=r.flag("mlp_bias")), "GraniteSWA")


def _granitemoe_swa(r: Reader) -> Model:
    r.unused("mlp_bias", False)
    return _swa(r, experts(r), "GraniteMoeSWA")


def _swa(r: Reader, feed_forward: Any, prefix: str) -> Model:
    """A full layer, then three with a window; every layer has sinks and its own rotary base, 0 for none."""
    num_layers, norm = r.layers(), rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    default = ["sliding_attention" if i % 4 else "full_attention" for i in range(num_layers)]
    kinds = layer_kinds(r, num_layers, lambda: default)
    made = _common(r, prefix)
    arrange: Arrangement = made.pop("arrange")
    head, scale = made.pop("head"), made.pop("embedding_scale")

    def layer(key: tuple[int | None, float]) -> Layer:
        return arrange(_attention(r, *key, **made), feed_forward, norm=norm)

    layers = each_once(zip(windows_of(r, kinds), _bases(r, num_layers), strict=True), layer)
    return decoder_of(r, layers, final_norm=norm, head=head, embedding_scale=scale)


def _attention(r: Reader, window: int | None, base: float, **fields: Any) -> SelfAttention:
    position = rope.rotary(r, head_dims(r)[3], whole=True)
    return self_attention(
        r, position=position.replace(theta=base) if base else None, window=window, sinks=True, **fields
    )


def _bases(r: Reader, num_layers: int) -> list[float]:
    """The rotary base of every layer; 0 or null: the layer is not turned."""
    if r.config.get("layer_rope_theta") is None:
        r.ignore("layer_rope_theta")
        return [rope.rotary(r, head_dims(r)[3], whole=True).theta] * num_layers
    return r.numbers("layer_rope_theta", length=num_layers)


_GRANITE: Final[dict[str, Any]] = {
    **LLAMA_DEFAULTS,
    "embedding_multiplier": 1.0,
    "logits_scaling": 1.0,
    "residual_multiplier": 1.0,
    "attention_multiplier": 1.0,
}
_EXPERTS: Final = {"num_local_experts": 8, "num_experts_per_tok": 2}
_ALIASES: Final = {"num_experts": "num_local_experts"}

TYPES: Final = {
    "granite": ModelType(build=_granite, defaults=_GRANITE, origin="transformers 5.23 GraniteConfig"),
    "hyperclovax": ModelType(
        build=_hyperclovax,
        defaults={**_GRANITE, "attention_multiplier": None, "use_post_norm": True},
        origin="transformers 5.23 HyperCLOVAXConfig",
    ),
    "granitemoe": ModelType(
        build=_granitemoe,
        defaults={**_GRANITE, **_EXPERTS},
        aliases=_ALIASES,
        origin="transformers 5.23 GraniteMoeConfig",
    ),
    "granitemoeshared": ModelType(
        build=_granitemoeshared,
        defaults={**_GRANITE, **_EXPERTS, "shared_intermediate_size": 0},
        aliases=_ALIASES,
        origin="transformers 5.23 GraniteMoeSharedConfig",
    ),
    "granite_swa": ModelType(
        build=_granite_swa,
        defaults={
            **_GRANITE, "vocab_size": 100_352, "hidden_size": 2560, "intermediate_size": 8192, "num_hidden_layers": 24,
            "num_attention_heads": 20, "num_key_value_heads": 4, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True, "sliding_window": 128,
        },
        origin="transformers 5.23 GraniteSWAConfig",
    ),
    "granitemoe_swa": ModelType(
        build=_granitemoe_swa,
        defaults={**_GRANITE, **_EXPERTS, "shared_intermediate_size": 0, "sliding_window": 128},
        aliases=_ALIASES,
        origin="transformers 5.23 GraniteMoeSWAConfig",
    ),
}  # fmt: skip
