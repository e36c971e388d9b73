"""mT5, UMT5, LongT5 and Switch: T5 with one part exchanged.

Sources: mT5, Xue et al. 2021 (arXiv 2010.11934); UMT5, Chung et al. 2023 (arXiv 2304.09151), section 3.1; LongT5, Guo
et al. 2022 (arXiv 2112.07916), section 3.1; Switch, Fedus et al. 2022 (arXiv 2101.03961), section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from txcalc.architecture import (
    FeedForward,
    MixtureOfExperts,
    Model,
    Role,
    Router,
    SelfAttention,
    TransientGlobal,
    UnusedTensor,
)
from txcalc.configs.common import activation
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.t5 import T5_ALIASES, T5_DEFAULTS, Kin, t5_like

MT5_DEFAULTS: Final[dict[str, Any]] = {
    **T5_DEFAULTS,
    "vocab_size": 250_112,
    "d_ff": 1024,
    "num_layers": 8,
    "num_heads": 6,
    "feed_forward_proj": "gated-gelu",
}
LONGT5_DEFAULTS: Final[dict[str, Any]] = {
    **T5_DEFAULTS,
    "local_radius": 127,
    "global_block_size": 16,
    "encoder_attention_type": "local",
}
SWITCH_DEFAULTS: Final[dict[str, Any]] = {
    **T5_DEFAULTS,
    "d_model": 768,
    "num_layers": 12,
    "num_decoder_layers": 12,
    "num_heads": 12,
    "dense_act_fn": "relu",
    "num_experts": 8,
    "num_sparse_encoder_layers": 3,
    "num_sparse_decoder_layers": 3,
    "router_bias": False,
}
_SWITCH_ALIASES: Final = {key: own for key, own in T5_ALIASES.items() if key != "head_dim"} | {"head_dim": "d_kv"}


def _mt5(r: Reader) -> Model:
    """T5 v1.1 on other languages: its head reads states as they are."""
    return t5_like(r, Kin(prefix="MT5", scales="never"))


def _umt5(r: Reader) -> Model:
    """Every layer has a table of relative biases of its own."""
    return t5_like(r, Kin(prefix="UMT5", table="layer", scales="tied"))


# ---- LongT5 ---------------------------------------------------------------------------------------------------------


def _longt5(r: Reader) -> Model:
    """The encoder sees ``local_radius`` tokens to each side, and with ``transient-global`` the means of all blocks."""
    radius, block = r.integer("local_radius"), r.integer("global_block_size")
    kind = r.choice("encoder_attention_type", ("local", "transient-global"))
    summaries = TransientGlobal(block_size=block) if kind == "transient-global" else None

    def attentions(role: Role, plain: SelfAttention, depth: int) -> Sequence[SelfAttention]:
        if role == "decoder":
            return [plain] * depth
        return [plain.replace(window=2 * radius, in_blocks=True, transient_global=summaries)] * depth

    return t5_like(r, Kin(prefix="LongT5", tasks="seq2seq_lm base encoder", always_tied=True), attentions=attentions)


# ---- Switch ---------------------------------------------------------------------------------------------------------


def _switch(r: Reader) -> Model:
    """Some layers send each token to one expert; a full expert drops what comes too late, which no count knows."""
    r.ignore("expert_capacity", "router_dtype", "router_ignore_padding_tokens", "add_router_probs")
    r.ignore("router_bias", "num_experts", "feed_forward_proj")
    r.unused("add_cross_attention", False)

    def feed_forwards(role: Role, plain: FeedForward, depth: int) -> Sequence[FeedForward | MixtureOfExperts]:
        step = _sparse_step(r, role, depth)
        mixture = _mixture(r, plain)
        return [mixture if step == 1 or (step and index % step == 1) else plain for index in range(depth)]

    r.ignore("num_sparse_decoder_layers", "decoder_sparse_step")  # of the classes that have a decoder
    kin = Kin(prefix="SwitchTransformers", tasks="seq2seq_lm base encoder", scales="tied")
    model = t5_like(r, kin, feed_forward=_plain, feed_forwards=feed_forwards)
    return model if r.raw("tie_word_embeddings") is None or r.flag("tie_word_embeddings") else _untied(r, model)


def _untied(r: Reader, model: Model) -> Model:
    """As transformers builds it: a table in each stack, and one more that nothing reads."""
    table = UnusedTensor(name="shared token table", shape=(r.integer("vocab_size"), r.integer("hidden_size")))
    encoder, *decoders = model.stacks
    apart = [stack.replace(embedding=stack.embedding.replace(shared_with=None)) for stack in decoders]
    return model.replace(stacks=(encoder, *apart), unused=(table,))


def _plain(r: Reader, hidden: int) -> FeedForward:
    act = activation(r, "dense_act_fn")
    return FeedForward(hidden_size=hidden, intermediate_size=r.integer("d_ff"), activation=act, gated=False)


def _sparse_step(r: Reader, role: Role, depth: int) -> int:
    """One layer in so many is sparse: given, or as many as the depth allows; none asked for still makes one."""
    key, sparse = f"{role}_sparse_step", r.integer(f"num_sparse_{role}_layers", minimum=0)
    if r.has(key):
        return r.integer(key, minimum=0)
    return depth // sparse if sparse else depth


def _mixture(r: Reader, expert: FeedForward) -> MixtureOfExperts:
    return MixtureOfExperts(
        hidden_size=expert.hidden_size,
        num_experts=r.integer("num_experts"),
        num_experts_per_tok=1,
        expert=expert,
        router=Router(bias=r.flag("router_bias")),
    )


TYPES: Final = {
    "mt5": ModelType(build=_mt5, defaults=MT5_DEFAULTS, aliases=T5_ALIASES, origin="transformers 5.23 MT5Config"),
    "umt5": ModelType(build=_umt5, defaults=MT5_DEFAULTS, aliases=T5_ALIASES, origin="transformers 5.23 UMT5Config"),
    "longt5": ModelType(
        build=_longt5, defaults=LONGT5_DEFAULTS, aliases=T5_ALIASES, origin="transformers 5.23 LongT5Config"
    ),
    "switch_transformers": ModelType(
        build=_switch,
        defaults=SWITCH_DEFAULTS,
        aliases=_SWITCH_ALIASES,
        origin="transformers 5.23 SwitchTransformersConfig",
    ),
}
