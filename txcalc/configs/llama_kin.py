"""Types that are Llama but for a switch or two, each said in its own few lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from txcalc.architecture import LengthTemperature, Model, QKNorm
from txcalc.configs import rope
from txcalc.configs.common import (
    activation,
    head_dims,
    layer_kinds,
    llama_like,
    output_norm,
    rms_norm,
    swiglu,
    windows_of,
)
from txcalc.configs.dense import flag_or_null, heads_fill_width, mlp
from txcalc.configs.heads import published
from txcalc.configs.llama import LLAMA_DEFAULTS
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType


def head_norm(r: Reader, **fields: Any) -> QKNorm:
    """RMSNorm of each query and key head, one weight for all heads."""
    return QKNorm(kind="rmsnorm", scope="head", eps=r.number("rms_norm_eps"), **fields)


def both_biases(r: Reader, name: str = "attention_bias") -> dict[str, Any]:
    """One flag for the biases of all four projections of an attention."""
    bias = flag_or_null(r, name)
    return {"qkv_bias": bias, "o_bias": bias}


# ---- Mistral's ------------------------------------------------------------------------------------------------------


def _ministral(r: Reader) -> Model:
    r.unused("attention_bias", False)
    return llama_like(r, default_windows=_all_alike(r), head=published("Ministral"))


def _all_alike(r: Reader) -> list[str]:
    return ["full_attention" if r.raw("sliding_window") is None else "sliding_attention"] * r.layers()


_MINISTRAL3_ROPE: Final = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    "original_max_position_embeddings": 16_384,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale_all_dim": 1.0,
    "mscale": 1.0,
    "llama_4_scaling_beta": 0.1,
}


def _ministral3(r: Reader) -> Model:
    """YaRN unless the config says otherwise, and queries that grow with the position."""
    r.unused("attention_bias", False)
    r.unused("layer_types", None, _all_alike(r))
    settings = said_or(r, _MINISTRAL3_ROPE)
    beta, trained = settings.get("llama_4_scaling_beta"), settings.get("original_max_position_embeddings")
    return llama_like(
        r,
        rotary={"settings": settings},
        layer_windows=[r.optional_integer("sliding_window")] * r.layers(),
        temperature=LengthTemperature(factor=float(beta), length=int(trained)) if beta and trained else None,
        head=published("Ministral3"),
    )


def said_or(r: Reader, default: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rotary settings of a config, or the type's where there are none: an empty object says none, null does not."""
    unsaid = not r.config.get("rope_scaling") and r.config.get("rope_parameters") is None
    settings = rope.parameters(r)
    return default if unsaid else settings


# ---- biases ---------------------------------------------------------------------------------------------------------


def _internlm3(r: Reader) -> Model:
    """Its ``qkv_bias`` is Llama's ``attention_bias``, for the output too, and its ``bias`` the feed-forward's."""
    bias = r.flag("attention_bias")
    if bias != r.flag("mlp_bias"):
        r.reasons.append("qkv_bias and bias differ: this type has one for both")
    return llama_like(r, qkv_bias=bias, o_bias=bias, mlp_bias=bias, head=published("InternLM3 Llama"))


def _iquestcoder(r: Reader) -> Model:
    r.unused("clip_qkv", None)
    r.unused("use_sliding_window", False)
    return llama_like(r, **both_biases(r), mlp_bias=r.flag("mlp_bias"), head=published("IQuestCoder Llama"))


def _seed_oss(r: Reader) -> Model:
    return llama_like(
        r,
        qkv_bias=r.flag("attention_bias"),
        o_bias=r.flag("attention_out_bias"),
        mlp_bias=r.flag("mlp_bias"),
        head=published("SeedOss"),
    )


# ---- feed-forwards and norms ----------------------------------------------------------------------------------------


def _arcee(r: Reader) -> Model:
    plain = mlp(r, r.integer("intermediate_size"), bias=r.flag("mlp_bias"))
    return llama_like(r, **both_biases(r), feed_forward=plain, head=published("Arcee"))


def _apertus(r: Reader) -> Model:
    """xIELU without a gate, and normed heads (arXiv 2509.14233)."""
    r.unused("mlp_bias", False)
    r.unused("post_norm", False)
    r.unused("qk_norm", True)
    act = activation(r, also={"xielu": "xielu"})
    plain = swiglu(r, act=act).replace(gated=False)
    return llama_like(
        r,
        theta=12e6,
        rotary={"settings": said_or(r, _APERTUS_ROPE)},
        **both_biases(r),
        feed_forward=plain,
        qk_norm=head_norm(r),
        head=published("Apertus", "token"),
    )


_APERTUS_ROPE: Final = {
    "rope_type": "llama3",
    "rope_theta": 12e6,
    "factor": 8.0,
    "original_max_position_embeddings": 8192,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}


def _bitnet(r: Reader) -> Model:
    """A norm before each output projection (BitNet b1.58, arXiv 2504.12285)."""
    heads_fill_width(r)
    eps = r.number("rms_norm_eps")
    inner = rms_norm(r.integer("intermediate_size"), eps)
    return llama_like(
        r,
        theta=500_000.0,
        **both_biases(r),
        out_norm=rms_norm(r.integer("hidden_size"), eps),
        feed_forward=swiglu(r).replace(norm=inner),
        head=published("BitNet", ""),
    )


def _hunyuan(r: Reader) -> Model:
    """Heads are normed after they are turned; ``alpha`` stretches the rotary base once and for all."""
    hunyuan_marks(r)
    return llama_like(
        r,
        rotary={"settings": hunyuan_rope(r)},
        **both_biases(r),
        qk_norm=head_norm(r, after_rotary=True),
        head=published("HunYuanDenseV1", "sequence"),
    )


def hunyuan_marks(r: Reader) -> None:
    """Keys of published files that transformers does not read."""
    r.unused("use_qk_norm", True)
    r.unused("mlp_bias", False)
    r.unused("use_cla", False)
    r.ignore("attention_head_dim", "org_vocab_size", "sep_token_id", "cla_share_factor", "eod_token_id")


def hunyuan_rope(r: Reader) -> Mapping[str, Any]:
    """NTK scaling by ``alpha``: the base times alpha^(d / (d - 2)), whatever the length."""
    settings = rope.parameters(r)
    alpha, kind = settings.get("alpha"), settings.get("rope_type") or settings.get("type")
    width = head_dims(r)[3]
    if kind != "dynamic" or not alpha or width <= 2:
        return settings
    base = settings.get("rope_theta") or (r.number("rope_theta") if r.has("rope_theta") else 10_000.0)
    return {"rope_type": "default", "rope_theta": float(base) * float(alpha) ** (width / (width - 2))}


# ---- rotation -------------------------------------------------------------------------------------------------------


def _helium(r: Reader) -> Model:
    heads_fill_width(r)
    return llama_like(
        r,
        theta=100_000.0,
        rotary={"interleaved": True},
        qkv_bias=r.flag("attention_bias"),
        mlp_bias=r.flag("mlp_bias"),
        head=published("Helium", "sequence token"),
    )


def _ernie4_5(r: Reader) -> Model:
    """Published in PaddlePaddle's spelling too; ``use_bias`` is on every projection."""
    bias = flag_or_null(r, "use_bias")
    ernie_marks(r)
    return llama_like(
        r,
        theta=500_000.0,
        rotary={"interleaved": True},
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=bias,
        head=published("Ernie4_5", ""),
    )


def ernie_marks(r: Reader) -> None:
    """Keys of published files that transformers does not read."""
    r.unused("compression_ratio", 1.0, 1)
    r.unused("use_rmsnorm", True)
    r.ignore("use_flash_attention", "max_sequence_length", "weight_share_add_bias", "ignored_index", "fuse_rope")


def _smollm3(r: Reader) -> Model:
    """Every fourth layer is not turned; windows, where there are any, belong to those."""
    r.ignore("max_window_layers", "no_rope_layer_interval", "sliding_window")
    num_layers = r.layers()
    turned = _turned(r, num_layers)
    windowed = r.flag("use_sliding_window") and r.optional_integer("sliding_window") is not None
    default = ["sliding_attention" if windowed and not turns else "full_attention" for turns in turned]
    kinds = layer_kinds(r, num_layers, lambda: default)
    if not windowed and "sliding_attention" in kinds:
        r.reasons.append("layer_types holds sliding_attention, but no window is in use")
    return llama_like(
        r,
        theta=2e6,
        layer_windows=windows_of(r, kinds) if windowed else None,
        turned=turned,
        **both_biases(r),
        mlp_bias=r.flag("mlp_bias"),
        head=published("SmolLM3"),
    )


def _turned(r: Reader, num_layers: int) -> list[bool]:
    """``no_rope_layers`` says 1 for a layer that is turned, whatever its name suggests."""
    if r.config.get("no_rope_layers") is not None:
        return [bool(each) for each in r.integers("no_rope_layers", length=num_layers)]
    r.ignore("no_rope_layers")
    interval = r.integer("no_rope_layer_interval")
    return [(i + 1) % interval != 0 for i in range(num_layers)]


# ---- windows --------------------------------------------------------------------------------------------------------

_CWM_ROPE: Final = {
    "rope_theta": 1e6,
    "factor": 16.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def _cwm(r: Reader) -> Model:
    """One full layer, then three with a window (Code World Model, arXiv 2510.02387)."""
    r.unused("attention_bias", False)
    r.ignore("global_window", "window_pattern")  # Meta's own spelling of layer_types
    return llama_like(
        r,
        theta=1e6,
        rotary={"settings": said_or(r, _CWM_ROPE)},
        default_windows=["sliding_attention" if i % 4 else "full_attention" for i in range(r.layers())],
        mlp_bias=r.flag("mlp_bias"),
        head=published("Cwm", ""),
    )


def _exaone4(r: Reader) -> Model:
    """Norms on what sublayers give out, and layers without a window that are not turned (arXiv 2507.11407)."""
    r.unused("attention_bias", False)
    windows, turned = exaone_windows(r)
    return llama_like(
        r,
        layer_windows=windows,
        turned=turned,
        arrange=output_norm,
        qk_norm=head_norm(r),
        head=published("Exaone4"),
    )


def exaone_windows(r: Reader) -> tuple[list[int | None], list[bool]]:
    """Each layer's window, and whether it is turned: all are where no layer has a window."""
    r.ignore("sliding_window_pattern")
    num_layers, windowed = r.layers(), r.optional_integer("sliding_window") is not None
    kinds = layer_kinds(r, num_layers, lambda: _exaone_kinds(r, num_layers, windowed=windowed))
    return windows_of(r, kinds), [kind == "sliding_attention" or not windowed for kind in kinds]


def _exaone_kinds(r: Reader, num_layers: int, *, windowed: bool) -> list[str]:
    """From ``sliding_window_pattern``, LLLG or 4: three local layers, then a global one."""
    if not windowed:
        return ["full_attention"] * num_layers
    pattern = r.raw("sliding_window_pattern")
    if isinstance(pattern, str):
        kinds = ["sliding_attention" if letter == "L" else "full_attention" for letter in pattern] or ["full_attention"]
        return [kinds[i % len(kinds)] if i < num_layers - 1 else "full_attention" for i in range(num_layers)]
    every = r.integer("sliding_window_pattern")
    return ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(num_layers)]


# ---- what configs leave out -----------------------------------------------------------------------------------------


def _kin(build: Callable[[Reader], Model], name: str, defaults: dict[str, Any], **fields: Any) -> ModelType:
    """A type with Llama's defaults but for its own."""
    return ModelType(build=build, defaults={**LLAMA_DEFAULTS, **defaults}, origin=f"transformers 5.23 {name}", **fields)


TYPES: Final = {
    "ministral": _kin(_ministral, "MinistralConfig", {
        "intermediate_size": 14_336, "num_key_value_heads": 8, "max_position_embeddings": 131_072,
        "sliding_window": 4096,
    }),
    "ministral3": _kin(_ministral3, "Ministral3Config", {
        "vocab_size": 131_072, "intermediate_size": 14_336, "num_hidden_layers": 34, "num_key_value_heads": 8,
        "head_dim": 128, "max_position_embeddings": 262_144, "rms_norm_eps": 1e-5, "sliding_window": None,
    }),
    "internlm3": _kin(_internlm3, "InternLM3Config", {
        "vocab_size": 128_512, "intermediate_size": 10_240, "num_hidden_layers": 48, "num_key_value_heads": 2,
        "head_dim": 128, "max_position_embeddings": 32_768, "rms_norm_eps": 1e-5,
    }, aliases={"attention_bias": "qkv_bias", "mlp_bias": "bias"}),
    "iquestcoder": _kin(_iquestcoder, "IQuestCoderConfig", {
        "vocab_size": 76_800, "hidden_size": 5120, "intermediate_size": 27_648, "num_hidden_layers": 80,
        "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
    }),
    "seed_oss": _kin(_seed_oss, "SeedOssConfig", {
        "vocab_size": 155_136, "intermediate_size": 27_648, "num_hidden_layers": 64, "num_attention_heads": 80,
        "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 524_288, "attention_bias": True,
        "attention_out_bias": False,
    }),
    "arcee": _kin(_arcee, "ArceeConfig", {
        "hidden_size": 2560, "intermediate_size": 18_432, "hidden_act": "relu2", "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    }),
    "apertus": _kin(_apertus, "ApertusConfig", {
        "vocab_size": 131_072, "intermediate_size": 14_336, "hidden_act": "xielu", "max_position_embeddings": 65_536,
        "rms_norm_eps": 1e-5,
    }),
    "bitnet": _kin(_bitnet, "BitNetConfig", {
        "vocab_size": 128_256, "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 30,
        "num_attention_heads": 20, "num_key_value_heads": 5, "hidden_act": "relu2", "rms_norm_eps": 1e-5,
    }),
    "hunyuan_v1_dense": _kin(_hunyuan, "HunYuanDenseV1Config", {"vocab_size": 290_943, "rms_norm_eps": 1e-5}),
    "helium": _kin(_helium, "HeliumConfig", {
        "vocab_size": 48_000, "hidden_size": 2560, "intermediate_size": 7040, "num_hidden_layers": 24,
        "num_attention_heads": 20, "num_key_value_heads": 20, "head_dim": 128, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-8,
    }),
    "ernie4_5": _kin(_ernie4_5, "Ernie4_5Config", {
        "vocab_size": 103_424, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 18,
        "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 128, "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "use_bias": False,
    }),
    "smollm3": _kin(_smollm3, "SmolLM3Config", {
        "vocab_size": 128_256, "hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 4, "max_position_embeddings": 32_768, "tie_word_embeddings": True,
        "use_sliding_window": False, "sliding_window": None, "no_rope_layer_interval": 4,
    }),
    "cwm": _kin(_cwm, "CwmConfig", {
        "vocab_size": 128_256, "hidden_size": 6144, "intermediate_size": 21_504, "num_hidden_layers": 64,
        "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5, "sliding_window": 8192,
    }),
    "exaone4": _kin(_exaone4, "Exaone4Config", {
        "vocab_size": 102_400, "intermediate_size": 16_384, "num_key_value_heads": 32, "rms_norm_eps": 1e-5,
        "sliding_window": 4096, "sliding_window_pattern": 4,
    }),
}  # fmt: skip
