"""More towers by their tensors: SigLIP 2, GLM-OCR, PaddleOCR-VL, the encoders of sound behind Qwen and GLM."""

from __future__ import annotations

from typing import Final

from txcalc.configs.counted_towers import Tensors, divided, encoder, linear, listed
from txcalc.configs.reader import Reader
from txcalc.configs.tower_parts import (
    TOWERS,
    Tower,
    patches_and_layers,
    pixels,
    pooled_query,
    side,
    video_pixels,
    whisper_layers,
)


def _siglip2(v: Reader) -> Tensors:
    """Images of any shape: a table of ``num_patches`` positions that is stretched."""
    width, wide = divided(v), v.integer("intermediate_size")
    return [
        *linear("patches", pixels(v), width),
        ("positions", (v.integer("num_patches"), width), 1),
        *encoder(width, wide, v.layers()),
        ("final_norm", (width,), 2),
        *(pooled_query(width, wide) if v.flag("vision_use_head") else []),
    ]


def _video_llama_3(v: Reader) -> Tensors:
    """SigLIP's layers with rotary positions."""
    width = divided(v)
    return [
        *linear("patches", pixels(v), width),
        *encoder(width, v.integer("intermediate_size"), v.layers()),
        ("final_norm", (width,), 2),
    ]


def _paddleocr(v: Reader) -> Tensors:
    v.ignore("spatial_merge_size")
    return patches_and_layers(v, divided(v), v.integer("intermediate_size"))


def _glm_ocr(v: Reader) -> Tensors:
    """GLM-4V's with normed heads, without a table of positions."""
    width, layers, out = divided(v, "num_heads"), v.integer("depth"), v.integer("out_hidden_size")
    wide, bias, inner = v.integer("intermediate_size"), v.flag("attention_bias"), out * v.integer("in_channels")
    v.ignore("image_size")
    return [
        *linear("patches", video_pixels(v), width),
        *linear("attention", width, width, bias=bias, count=4 * layers),
        ("qk_norms", (width // v.integer("num_heads"),), 2 * layers),
        *linear("gate_and_up_proj", width, wide, bias=bias, count=2 * layers),
        *linear("down_proj", wide, width, bias=bias, count=layers),
        ("norms", (width,), 2 * layers + 1),
        *linear("joined", width * v.integer("spatial_merge_size") ** 2, out),
        *linear("merger_proj", out, out, bias=False),
        ("merger_norm", (out,), 2),
        *linear("merger_gate_up_and_down", out, inner, bias=False, count=3),
    ]


def _got_ocr2(v: Reader) -> Tensors:
    """SAM's (arXiv 2304.02643): layers of windows, a few of the whole image; tables of distances up and across."""
    width, wide, layers, heads = divided(v), v.integer("mlp_dim"), v.layers(), v.integer("num_attention_heads")
    grid, out, window = side(v), v.integer("output_channels"), v.integer("window_size", minimum=0)
    named = {each for each in listed(v, "global_attn_indexes") if each < layers}
    whole = len(named) if window else layers
    tables = 2 * v.flag("use_rel_pos")
    return [
        *linear("patches", pixels(v), width),
        ("positions", (grid**2, width), int(v.flag("use_abs_pos"))),
        *linear("qkv_proj", width, 3 * width, bias=v.flag("qkv_bias"), count=layers),
        *linear("o_proj", width, width, count=layers),
        ("distances_in_image", (2 * grid - 1, width // heads), tables * whole),
        ("distances_in_window", (2 * window - 1, width // heads), tables * (layers - whole)),
        *linear("up_proj", width, wide, count=layers),
        *linear("down_proj", wide, width, count=layers),
        ("norms", (width,), 4 * layers),
        *linear("neck", width, out, bias=False),
        *linear("neck_convolution", 9 * out, out, bias=False),
        ("neck_norms", (out,), 4),
    ]


# ---- sound ----------------------------------------------------------------------------------------------------------


def _qwen2_5_omni(v: Reader) -> Tensors:
    """Whisper's encoder with fixed positions, two marks around a sound, and a projection."""
    out = v.integer("output_dim")
    v.ignore("n_window", "max_source_positions")
    return [*whisper_layers(v), ("marks", (2, out), 1), *linear("projection", v.integer("hidden_size"), out)]


def _qwen3_asr(v: Reader) -> Tensors:
    """Three convolutions that halve time and pitch, then pre-norm layers with biases."""
    width, channels, bins = divided(v), v.integer("downsample_hidden_size"), v.integer("num_mel_bins")
    for _ in range(3):
        bins = (bins + 1) // 2
    v.ignore("n_window", "n_window_infer", "max_position_embeddings", "max_source_positions", "conv_chunksize")
    return [
        *linear("convolution", 9, channels),
        *linear("convolutions", 9 * channels, channels, count=2),
        *linear("in_proj", channels * bins, width, bias=False),
        *encoder(width, v.integer("intermediate_size"), v.layers()),
        ("final_norm", (width,), 2),
        *linear("projector_up", width, width),
        *linear("projector_down", width, v.integer("output_dim")),
    ]


def _glmasr(v: Reader) -> Tensors:
    """Whisper's convolutions, then layers with grouped heads and rotary positions."""
    width, wide, layers, heads = (
        divided(v),
        v.integer("intermediate_size"),
        v.layers(),
        v.integer("num_attention_heads"),
    )
    kv_heads, head_dim = v.optional_integer("num_key_value_heads") or heads, width // heads
    v.ignore("max_position_embeddings", "partial_rotary_factor")
    return [
        *linear("convolution", 3 * v.integer("num_mel_bins"), width),
        *linear("second_convolution", 3 * width, width),
        *linear("q_and_o_proj", width, width, count=2 * layers),
        *linear("k_proj", width, kv_heads * head_dim, bias=False, count=layers),
        *linear("v_proj", width, kv_heads * head_dim, count=layers),
        *linear("up_proj", width, wide, count=layers),
        *linear("down_proj", wide, width, count=layers),
        ("norms", (width,), 4 * layers + 2),
    ]


def _like(name: str, **defaults: object) -> Tower:
    tower = TOWERS[name]
    return tower._replace(defaults={**tower.defaults, **defaults})


_VIT: Final = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_ASR: Final = {
    "num_mel_bins": 128, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "hidden_size": 1024, "output_dim": 3584, "downsample_hidden_size": 480,
}  # fmt: skip
_NAMES: Final = TOWERS["qwen2_audio_encoder"].aliases

MORE: Final = {
    "siglip2_vision_model": Tower(
        {**_VIT, "num_channels": 3, "patch_size": 16, "num_patches": 256, "vision_use_head": True}, _siglip2
    ),
    "video_llama_3_vision": Tower({**_VIT, "num_channels": 3, "patch_size": 16}, _video_llama_3),
    "idefics2_vision": _like("idefics3_vision", hidden_size=768, num_attention_heads=12),
    "qianfan_ocr_vision": _like("internvl_vision", attention_bias=True),
    "paddleocr_vl_vision": Tower(
        {
            "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
            "num_channels": 3, "image_size": 384, "patch_size": 14,
        },
        _paddleocr,
    ),
    "glm_ocr_vision": Tower(
        {
            **TOWERS["glm4v_vision"].defaults, "hidden_size": 1024, "attention_bias": True, "num_heads": 16,
            "out_hidden_size": 1536, "intermediate_size": 4096,
        },
        _glm_ocr,
        aliases=TOWERS["glm4v_vision"].aliases,
    ),
    "got_ocr2_vision": Tower(
        {
            **_VIT, "output_channels": 256, "num_channels": 3, "image_size": 1024, "patch_size": 16, "qkv_bias": True,
            "use_abs_pos": True, "use_rel_pos": True, "window_size": 14, "global_attn_indexes": [2, 5, 8, 11],
            "mlp_dim": 3072,
        },
        _got_ocr2,
    ),
    "moss_transcribe_diarize_audio": _like(
        "voxtral_encoder", num_mel_bins=80, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        hidden_size=1024,
    ),
    "qwen2_5_omni_vision_encoder": _like("qwen2_5_vl_vision"),
    "qwen3_omni_moe_vision_encoder": _like("qwen3_vl_vision"),
    "audioflamingo3_encoder": _like("voxtral_encoder"),
    "qwen2_5_omni_audio_encoder": Tower(
        {**TOWERS["qwen2_audio_encoder"].defaults, "output_dim": 3584}, _qwen2_5_omni, aliases=_NAMES
    ),
    "qwen3_asr_encoder": Tower(_ASR, _qwen3_asr, aliases=_NAMES),
    "qwen3_omni_moe_audio_encoder": Tower(
        {**_ASR, "num_hidden_layers": 32, "num_attention_heads": 20, "intermediate_size": 5120, "hidden_size": 1280},
        _qwen3_asr,
        aliases=_NAMES,
    ),
    "glmasr_encoder": Tower(
        {
            "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
            "num_key_value_heads": None, "num_mel_bins": 128,
        },
        _glmasr,
    ),
}  # fmt: skip
