"""Towers of images and sound by their tensors: what a wrapper around a language model counts, and does not run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from txcalc.architecture import CountedPart
from txcalc.configs.counted_towers import INERT, Tensors, divided, encoder, kept, linear
from txcalc.configs.reader import Reader
from txcalc.configs.siglip import SIGLIP_VISION_DEFAULTS


class Tower(NamedTuple):
    """How one type of tower is read: its own defaults, its tensors, keys without bearing on them."""

    defaults: Mapping[str, Any]
    tensors: Callable[[Reader], Tensors]
    inert: str = ""
    aliases: Mapping[str, str] = {}


def tower_part(v: Reader, tower: Tower, name: str) -> CountedPart:
    """The tower that ``v`` describes, as a part that is counted."""
    v.ignore(*INERT, *_EVERYWHERE, *tower.inert.split())
    return CountedPart(name=name, tensors=kept(tower.tensors(v)))


_EVERYWHERE: Final = (
    "activation_function", "vocab_size", "projection_dim", "head_dim", "attention_dropout", "activation_dropout",
    "projection_dropout", "drop_path_rate", "scale_embedding", "rope_scaling", "max_length", "is_composition",
    "tie_word_embeddings", "size", "max_image_size", "use_base_siglip", "_flash_attn_2_enabled",
    "projector_hidden_act", "num_hidden_states",
)  # fmt: skip
_DEPTH: Final = {"num_hidden_layers": "depth", "num_attention_heads": "num_heads"}


# ---- images of one size ---------------------------------------------------------------------------------------------


def _clip(v: Reader) -> Tensors:
    """A class token, positions for it and the patches, norms before and after pre-norm layers."""
    width, grid = divided(v), side(v)
    return [
        ("class_token", (width,), 1),
        *linear("patches", pixels(v), width, bias=False),
        ("positions", (grid**2 + 1, width), 1),
        *encoder(width, v.integer("intermediate_size"), v.layers()),
        ("outer_norms", (width,), 4),
    ]


def _siglip(v: Reader) -> Tensors:
    """No class token; one learned query that attends over the patches at the end, unless it is switched off."""
    width, wide = divided(v), v.integer("intermediate_size")
    pooled = pooled_query(width, wide) if v.flag("vision_use_head") else []
    return [*patches_and_layers(v, width, wide), *pooled]


def pooled_query(width: int, wide: int) -> Tensors:
    """A learned query, its attention, one norm, a feed-forward."""
    return [("query", (width,), 1), *encoder(width, wide, 1)[:-1], ("pooled_norm", (width,), 2)]


def _idefics3(v: Reader) -> Tensors:
    """SigLIP's without the pooled output."""
    return patches_and_layers(v, divided(v), v.integer("intermediate_size"))


def patches_and_layers(v: Reader, width: int, wide: int) -> Tensors:
    """SigLIP's tower up to its final norm."""
    return [
        *linear("patches", pixels(v), width),
        ("positions", (side(v) ** 2, width), 1),
        *encoder(width, wide, v.layers()),
        ("final_norm", (width,), 2),
    ]


def _internvl(v: Reader) -> Tensors:
    """A class token, scales on both branches, and switches for biases, norms of queries and keys, positions."""
    width, wide, layers, bias = divided(v), v.integer("intermediate_size"), v.layers(), v.flag("attention_bias")
    (high, wide_image), (patch_high, patch_wide) = pair(v, "image_size"), pair(v, "patch_size")
    patches = (high // patch_high) * (wide_image // patch_wide)
    norm = 2 if v.choice("norm_type", ("layer_norm", "rms_norm")) == "layer_norm" else 1
    v.ignore("layer_scale_init_value")
    return [
        ("class_and_mask_tokens", (width,), 1 + v.flag("use_mask_token")),
        *linear("patches", v.integer("num_channels") * patch_high * patch_wide, width),
        ("positions", (patches + 1, width), int(v.flag("use_absolute_position_embeddings"))),
        *linear("qkv_proj", width, width, bias=bias, count=3 * layers),
        *linear("o_proj", width, width, count=layers),
        ("qk_norms", (width,), 2 * layers * v.flag("use_qk_norm")),
        *linear("up_proj", width, wide, count=layers),
        *linear("down_proj", wide, width, count=layers),
        ("norms", (width,), 2 * norm * layers),
        ("scales", (width,), 2 * layers),
        ("final_norm", (width,), 2 * (not v.flag("use_mean_pooling"))),
    ]


def side(v: Reader) -> int:
    """How many whole patches fit along an image's side."""
    patch = v.integer("patch_size")
    return v.integer("image_size", minimum=patch) // patch


def pixels(v: Reader, channels: str = "num_channels") -> int:
    """What a patch holds."""
    return v.integer(channels) * v.integer("patch_size") ** 2


def pair(v: Reader, name: str) -> tuple[int, int]:
    """A size, or two of them."""
    if isinstance(v.raw(name), list | tuple):
        first, second = v.integers(name, length=2, minimum=1)
        return first, second
    return v.integer(name), v.integer(name)


# ---- images of any size ---------------------------------------------------------------------------------------------


def _pixtral(v: Reader) -> Tensors:
    """Gated layers without a bias, rotary positions, a norm before the first (Pixtral 12B, arXiv 2410.07073)."""
    width, wide, layers = divided(v), v.integer("intermediate_size"), v.layers()
    v.ignore("image_size")
    return [
        *linear("patches", pixels(v), width, bias=False),
        *linear("attention", width, width, bias=False, count=4 * layers),
        *linear("gate_up_and_down_proj", width, wide, bias=False, count=3 * layers),
        ("norms", (width,), 2 * layers + 1),
    ]


def video_pixels(v: Reader) -> int:
    """What a patch holds that reaches over several frames."""
    return pixels(v, "in_channels") * v.integer("temporal_patch_size")


def _merger(width: int, merge: int, out: int, count: int = 1) -> Tensors:
    """The vectors of a square of patches, joined, through two matrices."""
    joined = width * merge**2
    return [
        *linear("merger_up", joined, joined, count=count),
        *linear("merger_down", joined, out, count=count),
    ]


def _qwen2_vl(v: Reader) -> Tensors:
    """Pre-norm layers with biases; ``hidden_size`` is the decoder's, ``embed_dim`` the tower's."""
    width, heads = v.integer("embed_dim"), v.integer("num_heads")
    if width % heads:
        raise v.error("embed_dim", f"is {width}; it is not a multiple of the {heads} heads")
    return [
        *linear("patches", video_pixels(v), width, bias=False),
        *encoder(width, int(width * v.number("mlp_ratio")), v.integer("depth")),
        ("merger_norm", (width,), 2),
        *_merger(width, v.integer("spatial_merge_size"), v.integer("hidden_size")),
    ]


def _qwen2_5_vl(v: Reader) -> Tensors:
    """RMSNorm and gated layers, with biases (arXiv 2502.13923)."""
    width, wide, layers = divided(v, "num_heads"), v.integer("intermediate_size"), v.integer("depth")
    return [
        *linear("patches", video_pixels(v), width, bias=False),
        *linear("attention", width, width, count=4 * layers),
        *linear("gate_and_up_proj", width, wide, count=2 * layers),
        *linear("down_proj", wide, width, count=layers),
        ("norms", (width,), 2 * layers),
        ("merger_norm", (width,), 1),
        *_merger(width, v.integer("spatial_merge_size"), v.integer("out_hidden_size")),
    ]


def _qwen3_vl(v: Reader) -> Tensors:
    """A table of positions that is stretched; what a few layers see is merged too, and added in the decoder."""
    width, merge, out = divided(v, "num_heads"), v.integer("spatial_merge_size"), v.integer("out_hidden_size")
    more = len(v.integers("deepstack_visual_indexes"))
    return [
        *linear("patches", video_pixels(v), width),
        ("positions", (v.integer("num_position_embeddings"), width), 1),
        *encoder(width, v.integer("intermediate_size"), v.integer("depth")),
        ("merger_norm", (width,), 2),
        ("merger_norms", (width * merge**2,), 2 * more),
        *_merger(width, merge, out, 1 + more),
    ]


def _glm4v(v: Reader) -> Tensors:
    """Gated layers as wide inside as the decoder, a convolution that joins patches, a gated projector behind it."""
    width, layers, out, wide = (
        v.integer(name) for name in ("hidden_size", "depth", "out_hidden_size", "intermediate_size")
    )
    divided(v, "num_heads")
    return [
        *linear("patches", video_pixels(v), width),
        ("positions", (side(v) ** 2, width), 1),
        *linear("qkv_proj", width, 3 * width, bias=v.flag("attention_bias"), count=layers),
        *linear("o_proj", width, width, bias=False, count=layers),
        *linear("gate_up_and_down_proj", width, out, bias=False, count=3 * layers),
        ("norms", (width,), 2 * layers + 2),
        *linear("joined", width * v.integer("spatial_merge_size") ** 2, out),
        *linear("merger_proj", out, out, bias=False),
        ("merger_norm", (out,), 2),
        *linear("merger_gate_up_and_down", out, wide, bias=False, count=3),
    ]


def _kimi(v: Reader) -> Tensors:
    """MoonViT (Kimi-VL, arXiv 2504.07491): SigLIP's layers, a table of positions by row and column."""
    width, layers = divided(v), v.layers()
    v.ignore("pos_emb_time", "merge_kernel_size")
    return [
        *linear("patches", 3 * v.integer("patch_size") ** 2, width),
        ("positions", (v.integer("pos_emb_height"), v.integer("pos_emb_width"), width), 1),
        *encoder(width, v.integer("intermediate_size"), layers),
        ("final_norm", (width,), 2),
    ]


# ---- sound ----------------------------------------------------------------------------------------------------------


def _whisper(v: Reader) -> Tensors:
    """Whisper's encoder (arXiv 2212.04356): two convolutions of 3 frames, positions, pre-norm layers, a final norm."""
    return [*whisper_layers(v), ("positions", (v.integer("max_source_positions"), v.integer("hidden_size")), 1)]


def whisper_layers(v: Reader) -> Tensors:
    """Its convolutions, layers and final norm."""
    width, wide, layers = divided(v), v.integer("intermediate_size"), v.layers()
    return [
        *linear("convolution", 3 * v.integer("num_mel_bins"), width),
        *linear("second_convolution", 3 * width, width),
        *linear("attention", width, width, bias=False, count=4 * layers),
        ("attention_biases", (width,), 3 * layers),
        *linear("up_proj", width, wide, count=layers),
        *linear("down_proj", wide, width, count=layers),
        ("norms", (width,), 4 * layers + 2),
    ]


_VIT: Final = {"num_channels": 3, "image_size": 224, "patch_size": 32, "num_hidden_layers": 12}
_IDEFICS3: Final = {**_VIT, "hidden_size": 1152, "intermediate_size": 3072, "num_attention_heads": 16}
_VIDEO: Final = {"in_channels": 3, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
_QWEN3: Final = {
    **_VIDEO, "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
    "out_hidden_size": 3584, "num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24],
}  # fmt: skip
_GLM: Final = {
    **_VIDEO, "depth": 24, "hidden_size": 1536, "attention_bias": False, "num_heads": 12, "image_size": 336,
    "out_hidden_size": 4096, "intermediate_size": 13_696,
}  # fmt: skip
_WHISPER: Final = {
    "num_mel_bins": 128, "num_hidden_layers": 32, "num_attention_heads": 20, "intermediate_size": 5120,
    "hidden_size": 1280, "max_source_positions": 1500,
}  # fmt: skip
_WHISPER_NAMES: Final = {
    "num_hidden_layers": "encoder_layers", "num_attention_heads": "encoder_attention_heads",
    "intermediate_size": "encoder_ffn_dim", "hidden_size": "d_model",
}  # fmt: skip

#: By the tower's own ``model_type``.
TOWERS: Final = {
    "clip_vision_model": Tower(
        {**_VIT, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}, _clip
    ),
    "siglip_vision_model": Tower(SIGLIP_VISION_DEFAULTS, _siglip, "num_image_tokens"),
    "idefics3_vision": Tower(_IDEFICS3, _idefics3),
    "smolvlm_vision": Tower(_IDEFICS3, _idefics3, "use_base_siglip size max_image_size tie_word_embeddings"),
    "internvl_vision": Tower(
        {
            **_IDEFICS3, "hidden_size": 1024, "num_hidden_layers": 24, "attention_bias": False, "use_qk_norm": False,
            "intermediate_size": 4096, "norm_type": "layer_norm", "image_size": [448, 448], "patch_size": [14, 14],
            "use_mask_token": False, "use_absolute_position_embeddings": True, "use_mean_pooling": True,
        },
        _internvl,
    ),
    "pixtral": Tower(
        {
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
            "num_channels": 3, "patch_size": 16,
        },
        _pixtral,
    ),
    "qwen2_vl_vision": Tower(
        {**_VIDEO, "depth": 32, "embed_dim": 1280, "hidden_size": 3584, "mlp_ratio": 4, "num_heads": 16},
        _qwen2_vl,
        "in_chans spatial_patch_size",
        _DEPTH,
    ),
    "qwen2_5_vl_vision": Tower(
        {
            **_VIDEO, "depth": 32, "hidden_size": 3584, "intermediate_size": 3420, "num_heads": 16,
            "out_hidden_size": 3584,
        },
        _qwen2_5_vl,
        "in_chans spatial_patch_size tokens_per_second window_size fullatt_block_indexes",
        _DEPTH,
    ),
    "qwen3_vl_vision": Tower(_QWEN3, _qwen3_vl, aliases=_DEPTH),
    "qwen3_vl_moe_vision": Tower(_QWEN3, _qwen3_vl, aliases=_DEPTH),
    "glm4v_vision": Tower(_GLM, _glm4v, aliases=_DEPTH),
    "glm4v_moe_vision": Tower(_GLM, _glm4v, aliases=_DEPTH),
    "kimi_k25_vision": Tower(
        {
            "patch_size": 14, "pos_emb_height": 64, "pos_emb_width": 64, "num_attention_heads": 16,
            "num_hidden_layers": 27, "hidden_size": 1152, "intermediate_size": 4304,
        },
        _kimi,
    ),
    "qwen2_audio_encoder": Tower(_WHISPER, _whisper, aliases=_WHISPER_NAMES),
    "voxtral_encoder": Tower(
        _WHISPER, _whisper, "num_key_value_heads", {own: name for name, own in _WHISPER_NAMES.items()}
    ),
}  # fmt: skip
