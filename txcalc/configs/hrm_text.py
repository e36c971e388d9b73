"""HRM-Text: two small stacks that run over and over, one slow and one fast (Wang et al. 2025, arXiv 2506.21734)."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import Cycles, Layer, Model, Norm
from txcalc.configs import rope
from txcalc.configs.common import decoder_of, head_dims, pre_norm, self_attention, swiglu
from txcalc.configs.heads import published
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

HRM_TEXT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 151_808,
    "hidden_size": 1536,
    "intermediate_size": 4096,
    "num_hidden_layers": 16,
    "num_attention_heads": 12,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "head_dim": 128,
    "H_cycles": 2,
    "L_cycles": 3,
    "embedding_scale": None,
    "prefix_lm": True,
    "num_layers_per_stack": None,
}


def _hrm_text(r: Reader) -> Model:
    """Both stacks hold their layers once; every pass of one has keys and values of its own."""
    r.ignore("L_bp_cycles")
    hidden, heads, _, head_dim = head_dims(r)
    if hidden % heads:
        raise r.error("hidden_size", f"is {hidden}; it is not a multiple of the {heads} heads")
    norm = Norm(kind="rmsnorm", width=hidden, eps=r.number("rms_norm_eps"), weight=False)
    high, low = r.integer("H_cycles"), r.integer("L_cycles")
    each = _layers_of_one(r, high * (low + 1))
    layer = _layer(r, head_dim, norm)
    stacks = {name: [layer.replace(shared=f"{name} {i}") for i in range(each)] for name in ("low", "high")}
    passes = [*["low"] * low, "high"] * high
    if r.flag("prefix_lm"):
        r.notes.append("prefix_lm: tokens of a prompt that are marked so see each other; counted as causal")
    return decoder_of(
        r,
        [(each_layer, 1) for name in passes for each_layer in stacks[name]],
        final_norm=None,
        head=published("HrmText", ""),
        cycles=Cycles(high=high, low=low, layers=each, norm=norm),
        embedding_scale=_embedding_scale(r),
    )


def _embedding_scale(r: Reader) -> float:
    """What undoes the spread that the embedding starts with."""
    r.ignore("initializer_range")
    given = r.optional_number("embedding_scale")
    if given is not None:
        return given
    spread = r.number("initializer_range")
    if not 0 < spread <= 1:
        raise r.error("initializer_range", f"is {spread}; its inverse scales the embeddings, give one up to 1")
    return 1 / spread


def _layer(r: Reader, head_dim: int, norm: Norm) -> Layer:
    """As many key heads as query heads, and a gate by channel."""
    r.unused("num_key_value_heads", None, r.integer("num_attention_heads"))
    bias = r.flag("attention_bias")
    attention = self_attention(
        r, position=rope.rotary(r, head_dim, whole=True), qkv_bias=bias, o_bias=bias, gate="channel"
    )
    heads = attention.num_attention_heads
    return pre_norm(attention.replace(num_key_value_heads=heads), swiglu(r, bias=r.flag("mlp_bias")), norm=norm)


def _layers_of_one(r: Reader, passes: int) -> int:
    """Files that transformers wrote hold the layers of one stack beside those of all passes; others the first alone."""
    layers = r.layers()
    if r.raw("num_layers_per_stack") is None:
        return layers
    each = r.layers("num_layers_per_stack")
    if layers != each * passes:
        r.reasons.append(f"num_hidden_layers = {layers}: not the {passes} passes of {each} layers")
    return each


TYPES: Final = {
    "hrm_text": ModelType(build=_hrm_text, defaults=HRM_TEXT_DEFAULTS, origin="transformers 5.23 HrmTextConfig"),
}
