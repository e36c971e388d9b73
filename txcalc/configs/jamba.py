"""Jamba: Mamba layers, one attention layer in eight, experts in every second (Lieber et al. 2024, arXiv 2403.19887)."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import FeedForward, Mamba, MixtureOfExperts, Model, Router, SelfAttention
from txcalc.configs import moe
from txcalc.configs.common import activation, decoder_of, each_once, pre_norm, rms_norm, self_attention
from txcalc.configs.mamba import time_step_rank
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

JAMBA_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 65_536,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 262_144,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "num_experts_per_tok": 2,
    "num_experts": 16,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "attn_layer_period": 8,
    "attn_layer_offset": 4,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_dt_rank": "auto",
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
}
# Which kernel runs, how many logits a call returns, a context length of another family's spelling.
_WITHOUT_BEARING: Final = (
    "use_mamba_kernels", "use_mambapy", "use_associative_scan", "num_logits_to_keep",
    "calc_logits_for_entire_prompt", "n_ctx",
)  # fmt: skip


def _jamba(r: Reader) -> Model:
    r.ignore(*_WITHOUT_BEARING)
    r.unused("sliding_window", None)
    r.unused("mamba_inner_layernorms", True)
    num_layers, hidden = r.layers(), r.integer("hidden_size")
    norm = rms_norm(hidden, r.number("rms_norm_eps"))
    mixers: dict[bool, SelfAttention | Mamba] = {True: self_attention(r, position=None), False: _mamba(r, hidden)}
    feed_forwards: dict[bool, FeedForward | MixtureOfExperts] = _feed_forwards(r, hidden)
    kinds = zip(_periodic(r, "attn", num_layers), _periodic(r, "expert", num_layers), strict=True)
    layers = each_once(kinds, lambda kind: pre_norm(mixers[kind[0]], feed_forwards[kind[1]], norm=norm))
    head = {"prefix": "Jamba", "without": {"token_classification", "question_answering"}}
    return decoder_of(r, layers, final_norm=norm, head=head)


def _periodic(r: Reader, name: str, num_layers: int) -> list[bool]:
    """Which layers are of that kind: one in ``period``, the first at ``offset``."""
    period, offset = r.integer(f"{name}_layer_period"), r.integer(f"{name}_layer_offset", minimum=0)
    if offset >= period:
        raise r.error(f"{name}_layer_offset", f"is {offset}; it must be below {name}_layer_period, {period}")
    return [i % period == offset for i in range(num_layers)]


def _mamba(r: Reader, hidden: int) -> Mamba:
    return Mamba(
        hidden_size=hidden,
        intermediate_size=r.integer("mamba_expand") * hidden,
        state_size=r.integer("mamba_d_state"),
        conv_kernel=r.integer("mamba_d_conv"),
        time_step_rank=time_step_rank(r, "mamba_dt_rank", hidden),
        conv_bias=r.flag("mamba_conv_bias"),
        bias=r.flag("mamba_proj_bias"),
        activation=activation(r),
        inner_norms="weighted",
        norm_eps=r.number("rms_norm_eps"),
    )


def _feed_forwards(r: Reader, hidden: int) -> dict[bool, FeedForward | MixtureOfExperts]:
    """By whether the layer is an expert layer; a single expert is no mixture."""
    dense = moe.gated(hidden, r.integer("intermediate_size"), activation(r))
    experts = r.integer("num_local_experts", minimum=0)
    r.ignore("num_experts_per_tok")
    if experts <= 1:
        return {True: dense, False: dense}
    mixture = MixtureOfExperts(
        hidden_size=hidden,
        num_experts=experts,
        num_experts_per_tok=moe.top_k(r, experts),
        expert=dense,
        router=Router(scoring="softmax"),
    )
    return {True: mixture, False: dense}


TYPES: Final = {
    "jamba": ModelType(
        build=_jamba,
        defaults=JAMBA_DEFAULTS,
        aliases={"num_local_experts": "num_experts"},
        origin="transformers 5.23 JambaConfig",
    ),
}
