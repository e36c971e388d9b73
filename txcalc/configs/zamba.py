"""Zamba and Zamba 2: Mamba layers, and one or two attention blocks that many of them share.

Sources: Glorioso et al. 2024 (arXiv 2405.16712), figure 2; Zamba 2: Glorioso et al. 2024 (arXiv 2411.15242), section 2.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    Branch,
    FeedForward,
    Layer,
    LinearMap,
    Mamba,
    Mamba2,
    Model,
    Norm,
    Position,
    Residual,
    SelfAttention,
)
from txcalc.configs import moe, rope
from txcalc.configs.common import activation, decoder_of, each_once, rms_norm
from txcalc.configs.heads import published
from txcalc.configs.mamba import time_step_rank
from txcalc.configs.reader import Reader
from txcalc.configs.recurrent import groups_of
from txcalc.configs.registry import ModelType

ZAMBA_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32_000,
    "tie_word_embeddings": True,
    "hidden_size": 3712,
    "attention_hidden_size": None,
    "intermediate_size": 14_848,
    "num_hidden_layers": 76,
    "num_attention_heads": 16,
    "attention_head_dim": None,
    "num_key_value_heads": 16,
    "n_mamba_heads": 2,
    "hidden_act": "gelu",
    "hidden_mamba_act": "silu",
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 4096,
    "attn_layer_period": 6,
    "attn_layer_offset": 4,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_dt_rank": "auto",
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "layers_block_type": None,
}
ZAMBA2_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32_000,
    "max_position_embeddings": 4096,
    "hidden_size": 2560,
    "num_hidden_layers": 54,
    "layers_block_type": None,
    "mamba_d_state": 64,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_ngroups": 1,
    "time_step_min": 0.001,
    "n_mamba_heads": 8,
    "chunk_size": 256,
    "add_bias_linear": False,
    "intermediate_size": None,
    "hidden_act": "gelu",
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "num_mem_blocks": 1,
    "use_shared_attention_adapter": False,
    "adapter_rank": 128,
    "use_mem_rope": False,
    "use_long_context": False,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
_ALIASES: Final = {"layer_types": "layers_block_type", "head_dim": "attention_head_dim"}
_KINDS: Final = {"mamba": "linear_attention", "linear_attention": "linear_attention", "hybrid": "hybrid"}
# How time steps are drawn at first, which kernels run, and what follows from other keys.
_WITHOUT_BEARING: Final = (
    "num_logits_to_keep", "use_mamba_kernels", "use_associative_scan", "time_step_min", "time_step_max",
    "time_step_floor", "use_mem_eff_path", "use_conv_bias", "attn_layer_period", "attn_layer_offset",
    "use_long_context", "kv_channels", "num_query_groups", "mamba_headdim", "attention_hidden_size",
)  # fmt: skip


def _zamba(r: Reader) -> Model:
    """One block for all layers that attend."""
    r.ignore(*_WITHOUT_BEARING)
    hidden = r.integer("hidden_size")
    kinds = _kinds(r, _zamba_kinds(r))
    block = _Block(r, _attention(r), moe.gated(hidden, r.integer("intermediate_size"), activation(r)), blocks=1)
    return _model(r, "Zamba", kinds, _mamba(r), block)


def _zamba_kinds(r: Reader) -> list[str]:
    period, offset = r.integer("attn_layer_period"), r.integer("attn_layer_offset", minimum=0)
    later = ["hybrid" if i % period == offset else "mamba" for i in range(r.layers() - 3)]
    return ["mamba", "mamba", "hybrid", *later]


def _zamba2(r: Reader) -> Model:
    """Several blocks by turns, which adapters tell apart from layer to layer."""
    r.ignore(*_WITHOUT_BEARING, "adapter_rank")
    hidden, bias = r.integer("hidden_size"), r.flag("add_bias_linear")
    rank = r.integer("adapter_rank")
    position = rope.rotary(r, _head_dim(r), whole=True) if r.flag("use_mem_rope") else None
    if r.flag("use_long_context"):
        r.reasons.append("use_long_context = true: its scaled rotary positions are not described")
    attention = _attention(r, position, adapter_rank=rank if r.flag("use_shared_attention_adapter") else None)
    inner = r.optional_integer("intermediate_size") or 4 * hidden
    feed_forward = moe.gated(hidden, inner, activation(r), bias=bias).replace(adapter_rank=rank)
    block = _Block(r, attention, feed_forward, blocks=r.integer("num_mem_blocks"))
    r.ignore("rope_theta", "rope_parameters", "rope_scaling")
    return _model(r, "Zamba2", _kinds(r, _ZAMBA2_KINDS), _mamba2(r, bias=bias), block)


_ZAMBA2_KINDS: Final = [
    "mamba", *(["mamba"] * 5 + ["hybrid"]) * 7, *["mamba"] * 4, "hybrid", *["mamba"] * 3, "hybrid", "mamba", "mamba",
]  # fmt: skip


def _kinds(r: Reader, default: list[str]) -> list[str]:
    """Which layers have a block before their Mamba; the list counts, and the number of layers must agree."""
    named = default if r.raw("layers_block_type") is None else r.texts("layers_block_type")
    unknown = sorted(set(named) - set(_KINDS))
    if unknown:
        raise r.error("layers_block_type", f"holds {unknown[0]!r}; this type knows {' and '.join(_KINDS)}")
    if len(named) != r.layers():
        raise r.error("num_hidden_layers", f"is {r.layers()}; {len(named)} layers are named", "set layers_block_type")
    return [_KINDS[each] for each in named]


# ---- layers ---------------------------------------------------------------------------------------------------------


class _Block:
    """The steps beside the stream that a layer with attention has: shared ones, and a matrix of its own."""

    def __init__(self, r: Reader, attention: SelfAttention, feed_forward: FeedForward, *, blocks: int) -> None:
        hidden, eps = r.integer("hidden_size"), r.number("rms_norm_eps")
        self.blocks = blocks
        self.parts = (("attention", attention, rms_norm(2 * hidden, eps)),
                      ("feed-forward", feed_forward, rms_norm(hidden, eps)))  # fmt: skip
        self.out = Residual(branches=(Branch(sublayer=LinearMap(hidden_size=hidden)),), aside=True)

    def steps(self, index: int) -> tuple[Residual, ...]:
        """Those of block ``index``."""
        shared = (
            Branch(sublayer=sublayer, norm_in=norm, shared=f"block {index + 1}: {name}")
            for name, sublayer, norm in self.parts
        )
        return (*(Residual(branches=(branch,), aside=True) for branch in shared), self.out)


def _model(r: Reader, prefix: str, kinds: list[str], mixer: Mamba | Mamba2, block: _Block) -> Model:
    norm: Norm = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    stream = Residual(branches=(Branch(sublayer=mixer),), norm_in=norm)

    def layer(turn: int | None) -> Layer:
        return Layer(steps=(*(() if turn is None else block.steps(turn)), stream))

    attending = [i for i, kind in enumerate(kinds) if kind == "hybrid"]
    r.unused("hybrid_layer_ids", attending)
    if len(attending) > block.blocks and not r.flag("tie_word_embeddings"):
        r.reasons.append("tie_word_embeddings = false: transformers then keeps copies of the shared blocks")
    turns = {layer: turn % block.blocks for turn, layer in enumerate(attending)}
    layers = each_once([turns.get(i) for i in range(len(kinds))], layer)
    return decoder_of(r, layers, final_norm=norm, head=published(prefix, "sequence"))


def _head_dim(r: Reader) -> int:
    """Heads of twice the width: they read the stream beside the embeddings."""
    given = r.optional_integer("attention_head_dim") if r.has("attention_head_dim") else None
    if given is not None and "attention_head_dim" in r.defaults:
        return given
    heads, width = r.integer("num_attention_heads"), 2 * r.integer("hidden_size")
    if given not in (None, width // heads):
        r.reasons.append(f"attention_head_dim = {given}: this type's heads are {width // heads} channels wide")
    if width < heads:
        raise r.error("num_attention_heads", f"is {heads}; {width} channels are too few for so many")
    return width // heads


def _attention(r: Reader, position: Position | None = None, **fields: Any) -> SelfAttention:
    heads, width = r.integer("num_attention_heads"), _head_dim(r)
    hidden = r.integer("hidden_size")
    kv_heads = r.optional_integer("num_key_value_heads") or heads
    if heads % kv_heads:
        raise r.error("num_key_value_heads", f"is {kv_heads}; it must divide the {heads} query heads")
    r.unused("attention_hidden_size", None, 2 * hidden)
    return SelfAttention(
        hidden_size=2 * hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=width,
        v_head_dim=width,
        out_size=hidden,
        position=position,
        scale=(width / 2) ** -0.5,
        **fields,
    )


def _mamba(r: Reader) -> Mamba:
    hidden, heads = r.integer("hidden_size"), r.integer("n_mamba_heads")
    inner = r.integer("mamba_expand") * hidden
    if inner % heads:
        raise r.error("n_mamba_heads", f"is {heads}; it must divide the inner width, {inner}")
    return Mamba(
        hidden_size=hidden,
        intermediate_size=inner,
        state_size=r.integer("mamba_d_state"),
        conv_kernel=r.integer("mamba_d_conv"),
        time_step_rank=time_step_rank(r, "mamba_dt_rank", hidden),
        conv_bias=r.flag("mamba_conv_bias"),
        bias=r.flag("mamba_proj_bias"),
        activation=activation(r, "hidden_mamba_act"),
        num_heads=heads,
    )


def _mamba2(r: Reader, *, bias: bool) -> Mamba2:
    """The convolution always has a bias, whatever ``use_conv_bias`` says."""
    heads = r.integer("n_mamba_heads")
    inner = int(r.number("mamba_expand") * r.integer("hidden_size"))
    if inner % heads:
        raise r.error("n_mamba_heads", f"is {heads}; it must divide the inner width, {inner}")
    groups = groups_of(r, "mamba_ngroups", heads)
    return Mamba2(
        hidden_size=r.integer("hidden_size"),
        num_heads=heads,
        head_dim=inner // heads,
        state_size=r.integer("mamba_d_state"),
        n_groups=groups,
        conv_kernel=r.integer("mamba_d_conv"),
        bias=bias,
        norm_groups=groups,
        time_step_limit=(r.number("time_step_min"), float("inf")),
        chunk_size=r.integer("chunk_size"),
    )


TYPES: Final = {
    "zamba": ModelType(build=_zamba, defaults=ZAMBA_DEFAULTS, aliases=_ALIASES, origin="transformers 5.23 ZambaConfig"),
    "zamba2": ModelType(
        build=_zamba2, defaults=ZAMBA2_DEFAULTS, aliases=_ALIASES, origin="transformers 5.23 Zamba2Config"
    ),
}
