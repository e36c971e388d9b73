"""More vision and sound models around a language model of a known type, towers counted by their tensors."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import CountedPart, Model
from txcalc.configs.counted_towers import Tensors, kept, linear
from txcalc.configs.gemma import TYPES as GEMMA
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.wrapped import Front, Projector, Text, Wrapped, feature_layers
from txcalc.configs.wrappers import (
    CLIP,
    LLAVA,
    SIGLIP,
    llava_newline,
    llava_projector,
    merged_projector,
    no_projector,
    shuffled_projector,
    wrapper_type,
)

# ---- projectors -----------------------------------------------------------------------------------------------------


def _two(width: int, inner: int, hidden: int, *, bias: bool = True) -> Tensors:
    return [*linear("up_proj", width, inner, bias=bias), *linear("down_proj", inner, hidden, bias=bias)]


def _plain(r: Reader, v: Reader, hidden: int) -> Tensors:
    return _two(v.integer("hidden_size"), hidden, hidden)


def _one(r: Reader, v: Reader, hidden: int) -> Tensors:
    return linear("projector", v.integer("out_hidden_size"), hidden)


def _aya(r: Reader, v: Reader, hidden: int) -> Tensors:
    """A norm, then a gated matrix whose halves are gate and value."""
    joined = v.integer("hidden_size") * r.integer("downsample_factor") ** 2
    inner = r.integer("alignment_intermediate_size") if r.has("alignment_intermediate_size") else hidden
    return [
        ("norm", (joined,), 2),
        *linear("gate_and_up_proj", joined, inner),
        *linear("down_proj", inner // 2, hidden),
    ]


def _cohere2(r: Reader, v: Reader, hidden: int) -> Tensors:
    joined, inner = (
        v.integer("hidden_size") * r.integer("downsample_factor") ** 2,
        r.integer("alignment_intermediate_size"),
    )
    return [*linear("gate_and_up_proj", joined, inner), *linear("down_proj", inner // 2, hidden)]


def _lfm2(r: Reader, v: Reader, hidden: int) -> Tensors:
    joined = v.integer("hidden_size") * r.integer("downsample_factor") ** 2
    norm: Tensors = [("norm", (joined,), 2)] if r.flag("projector_use_layernorm") else []
    return [*norm, *_two(joined, r.integer("projector_hidden_size"), hidden, bias=r.flag("projector_bias"))]


def _vipllava(r: Reader, v: Reader, hidden: int) -> Tensors:
    width = v.integer("hidden_size") * feature_layers(r)
    return [("norm", (width,), 2), *_two(width, hidden, hidden)]


def _paddleocr(r: Reader, v: Reader, hidden: int) -> Tensors:
    v.defaults = {**v.defaults, "spatial_merge_size": 2}
    width = v.integer("hidden_size")
    joined = width * v.integer("spatial_merge_size") ** 2
    return [("norm", (width,), 2), *_two(joined, joined, hidden)]


def _ends_in(r: Reader, v: Reader, hidden: int) -> Tensors:
    """The tower of sound ends in the decoder's width."""
    if v.integer("output_dim") != hidden:
        r.notes.append(f"sound does not run: the tower ends in {v.integer('output_dim')} channels, not {hidden}")
    return []


def _flamingo(r: Reader, v: Reader, hidden: int) -> Tensors:
    return _two(v.integer("hidden_size"), hidden, hidden, bias=r.flag("projector_bias"))


def _glmasr(r: Reader, v: Reader, hidden: int) -> Tensors:
    return _two(v.integer("intermediate_size"), 2 * hidden, hidden)


def _idefics2(r: Reader, v: Reader, hidden: int) -> Tensors:
    """A gated projector as wide inside as the decoder's feed-forward, and learned queries that attend over patches."""
    p = r.nested("perceiver_config", defaults=_PERCEIVER)
    p.ignore("hidden_act", "hidden_size", "rms_norm_eps", "attention_dropout", "qk_layer_norms_perceiver")
    layers, heads, width = p.integer("resampler_depth"), p.integer("resampler_n_heads"), p.integer("resampler_head_dim")
    inner = Reader(r.mapping("text_config"), defaults={"intermediate_size": 14_336}, origin="")
    wide = inner.integer("intermediate_size")
    return [
        *linear("gate_and_up_proj", v.integer("hidden_size"), wide, bias=False, count=2),
        *linear("down_proj", wide, hidden, bias=False),
        ("queries", (p.integer("resampler_n_latents"), hidden), 1),
        *linear("q_and_o_proj", hidden, heads * width, bias=False, count=2 * layers),
        *linear("k_and_v_proj", hidden, p.integer("num_key_value_heads") * width, bias=False, count=2 * layers),
        *linear("feed_forward", hidden, 4 * hidden, bias=False, count=3 * layers),
        ("norms", (hidden,), 3 * layers + 1),
    ]


_PERCEIVER: Final = {
    "resampler_n_latents": 64, "resampler_depth": 3, "resampler_n_heads": 16, "resampler_head_dim": 96,
    "num_key_value_heads": 4,
}  # fmt: skip

# ---- types that are read in a way of their own ----------------------------------------------------------------------


def _lfm2_vl(r: Reader) -> Model:
    """``tie_embedding`` is the older name."""
    if "tie_embedding" in r.config:
        r.config = {**r.config, "tie_word_embeddings": r.flag("tie_embedding")}
    return _LFM2.read(r)


def _fuyu(r: Reader) -> Model:
    """Pixels of a patch through one matrix into Persimmon."""
    r.ignore("image_size", *_FUYU_COPIES)
    model = _FUYU.read(r)
    pixels = r.integer("num_channels") * r.integer("patch_size") ** 2
    part = CountedPart(name="vision", tensors=kept(linear("patches", pixels, model.main.hidden_size)))
    return model.replace(counted=(part,))


_FUYU_COPIES: Final = ("hidden_act", "layer_norm_eps", "qk_layernorm", "partial_rotary_factor")
_LFM2: Final = Wrapped(
    "Lfm2Vl",
    Text("lfm2"),
    (Front("vision_config", "siglip2_vision_model", _lfm2),),
    inert="max_image_tokens min_image_tokens min_tiles max_tiles tile_size do_image_splitting use_thumbnail "
    "encoder_patch_size max_num_patches max_pixels_tolerance use_image_special_tokens vision_feature_layer",
)
_FUYU: Final = Wrapped("Fuyu", Text("persimmon", flat=True, inert="num_image_tokens model_type"), task="causal_lm")


def _clip(prefix: str, projector: Projector, **fields: Any) -> Wrapped:
    return Wrapped(prefix, Text("llama"), (Front("vision_config", "clip_vision_model", projector, CLIP),), **fields)


def _glm(prefix: str) -> Wrapped:
    return Wrapped(prefix, Text("glm4v_text"), (Front("vision_config", "glm4v_vision", no_projector),))


def _shieldgemma2(r: Reader) -> Model:
    """Gemma 3 with its head, which answers yes or no."""
    r.ignore("yes_token_index", "no_token_index")
    r.config = {**r.config, "architectures": ["Gemma3ForConditionalGeneration"]}
    if r.mapping("text_config").get("tie_word_embeddings", True):
        r.config = {**r.config, "tie_word_embeddings": True}
    return GEMMA["gemma3"].build(r)


_IMAGES: Final = {
    "shieldgemma2": GEMMA["gemma3"].replace(
        build=_shieldgemma2, defaults={**GEMMA["gemma3"].defaults, "tie_word_embeddings": False}
    ),
    "llava_next_video": wrapper_type(
        _clip("LlavaNextVideo", llava_newline, tied="either", inert="spatial_pool_mode spatial_pool_stride"), **LLAVA
    ),
    "vipllava": wrapper_type(
        _clip("VipLlava", _vipllava, inert="projector_layernorm_eps"),
        aliases={"vision_feature_layers": "vision_feature_layer"},
        vision_feature_layer=[-2, -5, -8, -11, 6],
    ),
    "video_llava": wrapper_type(
        Wrapped(
            "VideoLlava",
            Text("llama"),
            (
                Front("vision_config", "clip_vision_model", llava_projector, {**CLIP, "image_size": 224}),
                Front(
                    "vision_config", "clip_vision_model", lambda *_: [], {**CLIP, "image_size": 224}, name="video"
                ),
            ),
        ),
        **LLAVA,
    ),
    "aya_vision": wrapper_type(
        Wrapped(
            "AyaVision",
            Text("cohere2"),
            (
                Front(
                    "vision_config",
                    "siglip_vision_model",
                    _aya,
                    {
                        **SIGLIP, "intermediate_size": 4304, "image_size": 384, "num_hidden_layers": 26,
                        "num_attention_heads": 14,
                    },
                ),
            ),
            inert="vision_feature_layer adapter_layer_norm_eps",
        ),
        tied=True,
        downsample_factor=2,
    ),
    "cohere2_vision": wrapper_type(
        Wrapped(
            "Cohere2Vision",
            Text("cohere2"),
            (
                Front(
                    "vision_config",
                    "siglip_vision_model",
                    _cohere2,
                    {"hidden_size": 1152, "intermediate_size": 3072, "image_size": 512, "num_hidden_layers": 27},
                ),
            ),
        ),
        tied=True,
        downsample_factor=2,
        alignment_intermediate_size=36_864,
    ),
    "lfm2_vl": wrapper_type(
        _LFM2,
        build=_lfm2_vl,
        tied=True,
        projector_hidden_size=2560,
        projector_bias=True,
        projector_use_layernorm=True,
        downsample_factor=2,
    ),
    "lighton_ocr": wrapper_type(
        Wrapped(
            "LightOnOcr",
            Text(
                "qwen3",
                {
                    "head_dim": 128, "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40_960,
                    "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rope_theta": 1e6,
                },
            ),
            (Front("vision_config", "pixtral", merged_projector, {"patch_size": 14}),),
        ),
        tied=True,
        spatial_merge_size=2,
        vision_feature_layer=-1,
        multimodal_projector_bias=False,
    ),
    "video_llama_3": wrapper_type(
        Wrapped(
            "VideoLlama3",
            Text("qwen2"),
            (Front("vision_config", "video_llama_3_vision", _plain),),
            tied="either",
        )
    ),
    "deepseek_vl": wrapper_type(
        Wrapped("DeepseekVL", Text("llama"), (Front("vision_config", "siglip_vision_model", _plain),)), tied=True
    ),
    "idefics2": wrapper_type(
        Wrapped(
            "Idefics2",
            Text("mistral", {"rms_norm_eps": 1e-5, "max_position_embeddings": 32_768}),
            (Front("vision_config", "idefics2_vision", _idefics2, fixed=True),),
        )
    ),
    "glm46v": wrapper_type(_glm("Glm46V")),
    "glmga": wrapper_type(_glm("Glm46V")),
    "glm_ocr": wrapper_type(
        Wrapped(
            "GlmOcr",
            Text("glm_ocr_text", fixed=True),
            (Front("vision_config", "glm_ocr_vision", no_projector, fixed=True),),
            tied="either",
        )
    ),
    "paddleocr_vl": wrapper_type(
        Wrapped(
            "PaddleOCRVL",
            Text("paddleocr_vl_text", fixed=True, flat=True),
            (Front("vision_config", "paddleocr_vl_vision", _paddleocr, fixed=True),),
            tied="either",
        ),
        tied=True,
    ),
    "cosmos3_omni": wrapper_type(
        Wrapped(
            "Cosmos3Omni",
            Text("qwen3_vl_text"),
            (Front("vision_config", "qwen3_vl_vision", no_projector, fixed=True),),
        )
    ),
    "hyperclovax_vision_v2": wrapper_type(
        Wrapped(
            "HyperCLOVAXVisionV2", Text("hyperclovax"), (Front("vision_config", "qwen2_5_vl_vision", _one),)
        ),
        tied=True,
    ),
    "qianfan_ocr": wrapper_type(
        Wrapped(
            "QianfanOCR",
            Text("qwen3"),
            (Front("vision_config", "qianfan_ocr_vision", shuffled_projector, fixed=True),),
            inert="vision_feature_layer",
        ),
        downsample_ratio=0.5,
    ),
    "fuyu": wrapper_type(_FUYU, build=_fuyu, patch_size=30, num_channels=3),
}  # fmt: skip

_SOUND: Final = {
    **{
        name: wrapper_type(
            Wrapped(
                prefix,
                Text("qwen2"),
                (Front("audio_config", "audioflamingo3_encoder", _flamingo, name="sound"),),
                tied="never",
                inert="audio_bos_token_id audio_eos_token_id audio_rotary_dim audio_frame_step rope_parameters "
                "head_dim max_position_embeddings",
            ),
            projector_bias=True,
        )
        for name, prefix in (("audioflamingo3", "AudioFlamingo3"), ("musicflamingo", "MusicFlamingo"))
    },
    "qwen3_asr": wrapper_type(
        Wrapped(
            "Qwen3ASR",
            Text(
                "qwen3",
                {
                    "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
                    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
                    "max_position_embeddings": 65_536, "tie_word_embeddings": True,
                },
            ),
            (Front("audio_config", "qwen3_asr_encoder", _ends_in, name="sound"),),
            inert="token_classification_bias classify_num timestamp_token_id timestamp_segment_time support_languages",
        ),
        tied=True,
    ),
    "glmasr": wrapper_type(
        Wrapped(
            "GlmAsr",
            Text(
                "llama",
                {
                    "vocab_size": 59_264, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
                    "num_attention_heads": 16, "num_key_value_heads": 4, "max_position_embeddings": 8192,
                    "rms_norm_eps": 1e-5,
                },
                filled=True,
            ),
            (Front("audio_config", "glmasr_encoder", _glmasr, name="sound"),),
        ),
        tied=True,
    ),
    **{
        name: wrapper_type(
            Wrapped(
                f"{prefix}Thinker",
                Text(f"{own}_text", fixed=True),
                (
                    Front("audio_config", f"{own}_audio_encoder", _ends_in, fixed=True, name="sound"),
                    Front("vision_config", f"{own}_vision_encoder", no_projector, fixed=True),
                ),
                inert="position_id_per_seconds seconds_per_chunk user_token_id audio_start_token_id audio_end_token_id",
            )
        )
        for name, own, prefix in (
            ("qwen2_5_omni_thinker", "qwen2_5_omni", "Qwen2_5Omni"),
            ("qwen3_omni_moe_thinker", "qwen3_omni_moe", "Qwen3OmniMoe"),
        )
    },
}  # fmt: skip

TYPES: Final[dict[str, ModelType]] = {**_IMAGES, **_SOUND}
