"""Mamba 2 with attention beside it or between: Bamba, Falcon-H1, Granite 4.

Sources: IBM et al. 2024 (Bamba's release); Zuo et al. 2025 (arXiv 2507.22448), section 2; IBM 2025 (Granite 4's cards).
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    Branch,
    FeedForward,
    Layer,
    Mamba2,
    MixtureOfExperts,
    Model,
    Residual,
    SelfAttention,
    Sublayer,
)
from txcalc.configs import granite, moe, rope
from txcalc.configs.common import (
    activation,
    decoder_of,
    each_once,
    head_dims,
    layer_kinds,
    pre_norm,
    rms_norm,
    self_attention,
    swiglu,
)
from txcalc.configs.granite import multiplier
from txcalc.configs.heads import published
from txcalc.configs.reader import Reader
from txcalc.configs.recurrent import groups_of, time_step_limit
from txcalc.configs.registry import ModelType

_SHARED: Final[dict[str, Any]] = {
    "vocab_size": 128_000,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "mamba_n_heads": 128,
    "mamba_n_groups": 1,
    "mamba_d_state": 256,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 256,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "time_step_limit": None,
}


def _mixer(r: Reader, inner: int | None = None, **fields: Any) -> Mamba2:
    """The mixer in the spelling that Bamba, Falcon-H1 and Granite share; ``inner`` where it is not expand * D.

    Raises:
        ModelError: the heads do not make up the inner width.
    """
    hidden, heads = r.integer("hidden_size"), r.integer("mamba_n_heads")
    inner = inner or int(r.number("mamba_expand") * hidden)
    auto = r.raw("mamba_d_head") == "auto"
    head_dim = inner // heads if auto else r.integer("mamba_d_head")
    if head_dim * heads != inner:
        raise r.error("mamba_n_heads", f"is {heads}; times {head_dim} channels it must be the inner width, {inner}")
    groups = groups_of(r, "mamba_n_groups", heads)
    made: dict[str, Any] = {"norm_groups": groups, **fields}
    return Mamba2(
        hidden_size=hidden,
        num_heads=heads,
        head_dim=head_dim,
        state_size=r.integer("mamba_d_state"),
        n_groups=groups,
        conv_kernel=r.integer("mamba_d_conv"),
        conv_bias=r.flag("mamba_conv_bias"),
        bias=r.flag("mamba_proj_bias"),
        activation=activation(r),
        norm_eps=r.number("rms_norm_eps"),
        time_step_limit=time_step_limit(r),
        chunk_size=r.integer("mamba_chunk_size"),
        **made,
    )


# ---- Bamba ----------------------------------------------------------------------------------------------------------

BAMBA_DEFAULTS: Final[dict[str, Any]] = {
    **_SHARED,
    "max_position_embeddings": 262_144,
    "mamba_d_head": 64,
    "attn_layer_indices": None,
}


def _bamba(r: Reader) -> Model:
    r.rounds_heads = True
    r.ignore("num_logits_to_keep", "z_loss_coefficient", "layers_block_type", "layer_types", "partial_rotary_factor")
    num_layers, norm = r.layers(), rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    bias = r.flag("attention_bias")
    position = rope.rotary(r, head_dims(r)[3], factor=0.5)
    attention = self_attention(r, position=position, qkv_bias=bias, o_bias=bias)
    mixer, feed_forward = _mixer(r), swiglu(r, bias=r.flag("mlp_bias"))
    listed = set(r.integers("attn_layer_indices"))

    def layer(attends: bool) -> Layer:
        return pre_norm(attention if attends else mixer, feed_forward, norm=norm)

    layers = each_once([i in listed for i in range(num_layers)], layer)
    return decoder_of(r, layers, final_norm=norm, head=published("Bamba", ""))


# ---- Falcon-H1 ------------------------------------------------------------------------------------------------------

FALCON_H1_DEFAULTS: Final[dict[str, Any]] = {
    **_SHARED,
    "max_position_embeddings": 8192,
    "mamba_d_ssm": 1024,
    "mamba_d_head": 8,
    "mamba_norm_before_gate": True,
    "mamba_rms_norm": False,
    "projectors_bias": False,
    "lm_head_multiplier": 1.0,
    "embedding_multiplier": 1.0,
    "mlp_multipliers": None,
    "key_multiplier": 1.0,
    "attention_out_multiplier": 1.0,
    "attention_in_multiplier": 1.0,
    "ssm_multipliers": None,
    "ssm_in_multiplier": 1.0,
    "ssm_out_multiplier": 1.0,
}


def _falcon_h1(r: Reader) -> Model:
    """Attention and Mamba 2 side by side on one normed input, then a feed-forward; constants on everything."""
    r.rounds_heads = True
    r.ignore("num_logits_to_keep", "layers_block_type", "layer_types", "mamba_use_mlp", "attn_layer_indices")
    r.ignore("mamba_expand")  # where mamba_d_ssm says how wide
    norm = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    gate, down = _numbers(r, "mlp_multipliers", 2)
    feed_forward = swiglu(r, bias=r.flag("mlp_bias")).replace(gate_scale=gate)
    attention = Branch(sublayer=_scaled_attention(r), scale=_attention_output(r))
    mamba = Branch(sublayer=_scaled_mixer(r), scale=multiplier(r, "ssm_out_multiplier"))
    layer = Layer(
        steps=(
            Residual(branches=(mamba, attention), norm_in=norm),
            Residual(branches=(Branch(sublayer=feed_forward, norm_in=norm, scale=down),)),
        )
    )
    head = {**published("FalconH1", ""), "scale": multiplier(r, "lm_head_multiplier")}
    scale = multiplier(r, "embedding_multiplier")
    return decoder_of(r, [(layer, r.layers())], final_norm=norm, head=head, embedding_scale=scale)


def _numbers(r: Reader, name: str, length: int) -> tuple[float, ...]:
    """So many constants; null: all one."""
    return (1.0,) * length if r.raw(name) is None else tuple(r.numbers(name, length=length))


def _scaled_attention(r: Reader) -> SelfAttention:
    """What multiplies the input multiplies queries and keys: their product by its square, times the keys' own."""
    bias, factor = r.flag("attention_bias"), multiplier(r, "attention_in_multiplier")
    if bias and factor != 1:
        r.reasons.append("attention_in_multiplier beside attention_bias: a scaled input before biases is not described")
    head_dim = head_dims(r)[3]
    return self_attention(
        r,
        position=rope.rotary(r, head_dim, whole=True),
        qkv_bias=bias,
        o_bias=bias,
        scale=float(head_dim**-0.5) * multiplier(r, "key_multiplier") * factor**2,
    )


def _attention_output(r: Reader) -> float:
    """The input's multiplier reaches the output through the values."""
    return multiplier(r, "attention_out_multiplier") * multiplier(r, "attention_in_multiplier")


def _scaled_mixer(r: Reader) -> Mamba2:
    """One constant for the whole input, five for the parts that its projection gives."""
    if r.flag("mamba_proj_bias") and multiplier(r, "ssm_in_multiplier") != 1:
        r.reasons.append("ssm_in_multiplier beside mamba_proj_bias: a scaled input before a bias is not described")
    whole = multiplier(r, "ssm_in_multiplier")
    parts = tuple(whole * each for each in _numbers(r, "ssm_multipliers", 5))
    inner = None if r.raw("mamba_d_ssm") is None else r.integer("mamba_d_ssm")
    return _mixer(
        r,
        inner,
        norm=r.flag("mamba_rms_norm"),
        gate_first=not r.flag("mamba_norm_before_gate"),
        out_bias=r.flag("projectors_bias"),
        multipliers=() if set(parts) == {1.0} else parts,
    )


# ---- Granite 4 ------------------------------------------------------------------------------------------------------

GRANITE_HYBRID_DEFAULTS: Final[dict[str, Any]] = {
    **_SHARED,
    "vocab_size": 32_000,
    "intermediate_size": 11_008,
    "num_key_value_heads": None,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "mamba_d_head": "auto",
    "embedding_multiplier": 1.0,
    "logits_scaling": 1.0,
    "residual_multiplier": 1.0,
    "attention_multiplier": 1.0,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "shared_intermediate_size": 1024,
    "position_embedding_type": None,
}
_MIXED: Final = ("full_attention", "linear_attention")


def _granite_hybrid(r: Reader) -> Model:
    """Mamba 2 and attention, mostly without positions; behind each a shared feed-forward and perhaps experts."""
    r.rounds_heads = True
    r.ignore("num_experts_per_tok", "intermediate_size", "init_method", "normalization_function", "mlp_bias")
    r.ignore("layers_block_type", "rope_theta", "rope_scaling", "rope_parameters")
    num_layers, norm = r.layers(), rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    kinds = layer_kinds(r, num_layers, lambda: ["linear_attention"] * num_layers, known=_MIXED)
    mixers: dict[str, Sublayer] = {"linear_attention": _mixer(r), "full_attention": _granite_attention(r)}
    feed_forward, scale = _granite_feed_forward(r), multiplier(r, "residual_multiplier")
    layers = each_once(kinds, lambda kind: pre_norm(mixers[kind], feed_forward, norm=norm, scale=scale))
    head = granite.scaled_head(r, "GraniteMoeHybrid")
    return decoder_of(r, layers, final_norm=norm, head=head, embedding_scale=multiplier(r, "embedding_multiplier"))


def _granite_attention(r: Reader) -> SelfAttention:
    bias, kind = r.flag("attention_bias"), r.raw("position_embedding_type")
    turned = rope.rotary(r, head_dims(r)[3], whole=True) if kind == "rope" else None
    scale = multiplier(r, "attention_multiplier")
    return self_attention(r, position=turned, qkv_bias=bias, o_bias=bias, scale=scale)


def _granite_feed_forward(r: Reader) -> FeedForward | MixtureOfExperts:
    shared = moe.gated(r.integer("hidden_size"), r.integer("shared_intermediate_size"), activation(r))
    if not r.integer("num_local_experts", minimum=0):
        return shared
    return granite.experts(r)


TYPES: Final = {
    "bamba": ModelType(build=_bamba, defaults=BAMBA_DEFAULTS, origin="transformers 5.23 BambaConfig"),
    "falcon_h1": ModelType(build=_falcon_h1, defaults=FALCON_H1_DEFAULTS, origin="transformers 5.23 FalconH1Config"),
    "granitemoehybrid": ModelType(
        build=_granite_hybrid, defaults=GRANITE_HYBRID_DEFAULTS, origin="transformers 5.23 GraniteMoeHybridConfig"
    ),
}
