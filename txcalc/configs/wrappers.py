"""Vision and sound models around a language model of a known type, towers counted by their tensors.

Mistral 3, Qwen's and GLM's vision models, LLaVA, PaliGemma, Idefics 3 and SmolVLM, InternVL, Kimi K2.5; Qwen2-Audio
and Voxtral.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.configs.counted_towers import Tensors, linear
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.tower_parts import pair
from txcalc.configs.wrapped import Front, Text, Wrapped, feature_layers

# ---- projectors -----------------------------------------------------------------------------------------------------


def _none(r: Reader, v: Reader, hidden: int) -> Tensors:
    """The tower ends in the decoder's width."""
    name = "out_hidden_size" if "out_hidden_size" in v.defaults else "hidden_size"
    if v.integer(name) != hidden:
        r.notes.append(f"images do not run: the tower ends in {v.integer(name)} channels, the decoder has {hidden}")
    return []


def _two(r: Reader, width: int, hidden: int) -> Tensors:
    bias = r.flag("multimodal_projector_bias")
    return [
        *linear("up_proj", width * feature_layers(r), hidden, bias=bias),
        *linear("down_proj", hidden, hidden, bias=bias),
    ]


def _llava(r: Reader, v: Reader, hidden: int) -> Tensors:
    return _two(r, v.integer("hidden_size"), hidden)


def _llava_newline(r: Reader, v: Reader, hidden: int) -> Tensors:
    """And a vector that ends each row of an image's parts."""
    return [*_llava(r, v, hidden), ("newline", (hidden,), 1)]


def _mistral3(r: Reader, v: Reader, hidden: int) -> Tensors:
    width = v.integer("hidden_size")
    return [
        ("norm", (width,), 1),
        *linear("merger", width * r.integer("spatial_merge_size") ** 2, width, bias=False),
        *_two(r, width, hidden),
    ]


def _paligemma(r: Reader, v: Reader, hidden: int) -> Tensors:
    out = r.integer("projection_dim")
    if out != hidden:
        r.notes.append(f"images do not run: the projector ends in {out} channels, the decoder has {hidden}")
    return linear("projector", v.integer("hidden_size"), out)


def _idefics3(r: Reader, v: Reader, hidden: int) -> Tensors:
    return linear("projector", v.integer("hidden_size") * r.integer("scale_factor") ** 2, hidden, bias=False)


def _internvl(r: Reader, v: Reader, hidden: int) -> Tensors:
    ratio = r.number("downsample_ratio")
    if not 0 < ratio <= 1:
        raise r.error("downsample_ratio", f"is {ratio}; expected more than 0, at most 1")
    width = v.integer("hidden_size") * int(1 / ratio) ** 2
    return [("norm", (width,), 2), *linear("up_proj", width, hidden), *linear("down_proj", hidden, hidden)]


def _kimi(r: Reader, v: Reader, hidden: int) -> Tensors:
    v.defaults = {**v.defaults, "merge_kernel_size": [2, 2]}
    high, wide = pair(v, "merge_kernel_size")
    joined = v.integer("hidden_size") * high * wide
    return [
        ("norm", (r.integer("projection_hidden_size"),), 2),
        *linear("up_proj", joined, joined),
        *linear("down_proj", joined, hidden),
    ]


def _qwen2_audio(r: Reader, v: Reader, hidden: int) -> Tensors:
    return linear("projector", v.integer("hidden_size"), hidden)


def _voxtral(r: Reader, v: Reader, hidden: int) -> Tensors:
    """Frames are joined until they are as wide as the tower's feed-forward."""
    return [
        *linear("up_proj", v.integer("intermediate_size"), hidden, bias=False),
        *linear("down_proj", hidden, hidden, bias=False),
    ]


# ---- types ----------------------------------------------------------------------------------------------------------

_CLIP: Final = {
    "intermediate_size": 4096, "hidden_size": 1024, "patch_size": 14, "image_size": 336, "num_hidden_layers": 24,
    "num_attention_heads": 16,
}  # fmt: skip
_SIGLIP: Final = {
    "hidden_size": 1152, "patch_size": 14, "num_attention_heads": 16, "vision_use_head": False,
}  # fmt: skip
_LLAVA: Final[dict[str, Any]] = {"vision_feature_layer": -2, "multimodal_projector_bias": True}


def _type(wrapped: Wrapped, *, tied: bool = False, **defaults: Any) -> ModelType:
    origin = f"transformers 5.23 {wrapped.prefix}Config"
    return ModelType(build=wrapped.read, defaults={"tie_word_embeddings": tied, **defaults}, origin=origin)


def _own(prefix: str, model_type: str, **fields: Any) -> Wrapped:
    """A type whose text and tower are of types of its own, which no config can change."""
    flat = fields.pop("flat", False)
    text = Text(f"{model_type}_text", fixed=True, flat=flat)
    return Wrapped(prefix, text, (Front("vision_config", f"{model_type}_vision", _none, fixed=True),), **fields)


TYPES: Final = {
    "mistral3": _type(
        Wrapped(
            "Mistral3",
            Text(
                "mistral",
                {
                    "head_dim": 128, "hidden_size": 5120, "intermediate_size": 32_768, "num_hidden_layers": 40,
                    "rms_norm_eps": 1e-5, "rope_theta": 1e9, "sliding_window": None, "vocab_size": 131_072,
                },
            ),
            (Front("vision_config", "pixtral", _mistral3, {"patch_size": 14}),),
        ),
        tied=True,
        vision_feature_layer=-1,
        multimodal_projector_bias=False,
        spatial_merge_size=2,
    ),
    "qwen2_vl": _type(_own("Qwen2VL", "qwen2_vl", flat=True, tied="either")),
    "qwen2_5_vl": _type(_own("Qwen2_5_VL", "qwen2_5_vl", flat=True, tied="either")),
    "qwen3_vl": _type(_own("Qwen3VL", "qwen3_vl")),
    "qwen3_vl_moe": _type(_own("Qwen3VLMoe", "qwen3_vl_moe")),
    "glm4v": _type(_own("Glm4v", "glm4v", tied="either")),
    "glm4v_moe": _type(_own("Glm4vMoe", "glm4v_moe", tied="either")),
    "llava": _type(
        Wrapped(
            "Llava", Text("llama"), (Front("vision_config", "clip_vision_model", _llava, _CLIP),), tied="either"
        ),
        **_LLAVA,
    ),
    "llava_next": _type(
        Wrapped("LlavaNext", Text("llama"), (Front("vision_config", "clip_vision_model", _llava_newline, _CLIP),)),
        **_LLAVA,
    ),
    "llava_onevision": _type(
        Wrapped(
            "LlavaOnevision",
            Text("qwen2"),
            (
                Front(
                    "vision_config",
                    "siglip_vision_model",
                    _llava_newline,
                    {**_SIGLIP, "intermediate_size": 4304, "image_size": 384, "num_hidden_layers": 26},
                ),
            ),
            tied="either",
        ),
        **{**_LLAVA, "vision_feature_layer": -1},
    ),
    "paligemma": _type(
        Wrapped(
            "PaliGemma",
            Text(
                "gemma",
                {
                    "hidden_size": 2048, "num_hidden_layers": 18, "intermediate_size": 16_384,
                    "num_attention_heads": 8, "num_key_value_heads": 1, "vocab_size": 257_152,
                },
                inert="num_image_tokens use_bidirectional_attention",
            ),
            (
                Front(
                    "vision_config",
                    "siglip_vision_model",
                    _paligemma,
                    {**_SIGLIP, "intermediate_size": 4096, "num_hidden_layers": 27},
                ),
            ),
            inert="_vocab_size text_config_overrides",
        ),
        tied=True,
        projection_dim=2048,
    ),
    **{
        name: _type(
            Wrapped(
                prefix,
                Text("llama", {"rms_norm_eps": 1e-5}),
                (Front("vision_config", f"{name}_vision", _idefics3, fixed=True),),
                inert="perceiver_config qk_layer_norms_perceiver additional_vocab_size freeze_lm_head "
                "freeze_text_layers freeze_text_module_exceptions freeze_vision_layers alpha_initializer alphas_value "
                "alpha_type alpha_initializer_range cross_layer_activation_function cross_layer_interval use_resampler "
                "freeze_vision_module_exceptions frozen",
            ),
            scale_factor=2,
        )
        for name, prefix in (("idefics3", "Idefics3"), ("smolvlm", "SmolVLM"))
    },
    "internvl": _type(
        Wrapped(
            "InternVL",
            Text("qwen2"),
            (Front("vision_config", "internvl_vision", _internvl, fixed=True),),
            inert="vision_feature_layer",
        ),
        tied=True,
        downsample_ratio=0.5,
    ),
    "kimi_k25": _type(
        Wrapped(
            "Kimi_K25",
            Text("deepseek_v3", renamed={"kimi_k2": "deepseek_v3"}),
            (Front("vision_config", "kimi_k25_vision", _kimi, fixed=True),),
        ),
        tied=True,
        projection_hidden_size=1152,
    ),
    "qwen2_audio": _type(
        Wrapped(
            "Qwen2Audio",
            Text("qwen2"),
            (Front("audio_config", "qwen2_audio_encoder", _qwen2_audio, name="sound"),),
            tied="never",
        ),
    ),
    "voxtral": _type(
        Wrapped(
            "Voxtral",
            Text(
                "llama",
                {
                    "vocab_size": 131_072, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 30,
                    "num_key_value_heads": 8, "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5,
                    "rope_theta": 1e8, "head_dim": 128,
                },
                filled=True,
            ),
            (Front("audio_config", "voxtral_encoder", _voxtral, name="sound"),),
            tied="never",
        ),
    ),
}  # fmt: skip
