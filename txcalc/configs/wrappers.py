"""Vision and sound models around a language model of a known type, towers counted by their tensors.

Mistral 3, Qwen's and GLM's vision models, LLaVA, PaliGemma, Idefics 3 and SmolVLM, InternVL, Kimi K2.5; Qwen2-Audio
and Voxtral.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from txcalc.architecture import Model
from txcalc.configs.counted_towers import Tensors, linear
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.tower_parts import pair
from txcalc.configs.wrapped import Front, Text, Wrapped, feature_layers

# ---- projectors -----------------------------------------------------------------------------------------------------


def no_projector(r: Reader, v: Reader, hidden: int) -> Tensors:
    """The tower ends in the decoder's width."""
    name = "out_hidden_size" if "out_hidden_size" in v.defaults else "hidden_size"
    if v.integer(name) != hidden:
        r.notes.append(f"images do not run: the tower ends in {v.integer(name)} channels, the decoder has {hidden}")
    return []


def two_matrices(r: Reader, width: int, hidden: int) -> Tensors:
    """Two matrices behind the tower's layers side by side."""
    bias = r.flag("multimodal_projector_bias")
    return [
        *linear("up_proj", width * feature_layers(r), hidden, bias=bias),
        *linear("down_proj", hidden, hidden, bias=bias),
    ]


def llava_projector(r: Reader, v: Reader, hidden: int) -> Tensors:
    """LLaVA's (arXiv 2310.03744)."""
    return two_matrices(r, v.integer("hidden_size"), hidden)


def llava_newline(r: Reader, v: Reader, hidden: int) -> Tensors:
    """And a vector that ends each row of an image's parts."""
    return [*llava_projector(r, v, hidden), ("newline", (hidden,), 1)]


def merged_projector(r: Reader, v: Reader, hidden: int) -> Tensors:
    """A norm, squares of patches joined, two matrices."""
    width = v.integer("hidden_size")
    return [
        ("norm", (width,), 1),
        *linear("merger", width * r.integer("spatial_merge_size") ** 2, width, bias=False),
        *two_matrices(r, width, hidden),
    ]


def _paligemma(r: Reader, v: Reader, hidden: int) -> Tensors:
    out = r.integer("projection_dim")
    if out != hidden:
        r.notes.append(f"images do not run: the projector ends in {out} channels, the decoder has {hidden}")
    return linear("projector", v.integer("hidden_size"), out)


def _idefics3(r: Reader, v: Reader, hidden: int) -> Tensors:
    return linear("projector", v.integer("hidden_size") * r.integer("scale_factor") ** 2, hidden, bias=False)


def shuffled_projector(r: Reader, v: Reader, hidden: int) -> Tensors:
    """Squares of patches joined, as large as ``downsample_ratio`` says, a norm, two matrices."""
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

CLIP: Final = {
    "intermediate_size": 4096, "hidden_size": 1024, "patch_size": 14, "image_size": 336, "num_hidden_layers": 24,
    "num_attention_heads": 16,
}  # fmt: skip
SIGLIP: Final = {
    "hidden_size": 1152, "patch_size": 14, "num_attention_heads": 16, "vision_use_head": False,
}  # fmt: skip
LLAVA: Final[dict[str, Any]] = {"vision_feature_layer": -2, "multimodal_projector_bias": True}


def wrapper_type(
    wrapped: Wrapped,
    *,
    build: Callable[[Reader], Model] | None = None,
    tied: bool = False,
    aliases: Mapping[str, str] | None = None,
    **defaults: Any,
) -> ModelType:
    """The adapter of a wrapper; ``defaults`` are the outer config's, ``tied`` whether it ties the head by default."""
    return ModelType(
        build=build or wrapped.read,
        defaults={"tie_word_embeddings": tied, **defaults},
        aliases=aliases or {},
        origin=f"transformers 5.23 {wrapped.prefix}Config",
    )


def own_parts(prefix: str, model_type: str, **fields: Any) -> Wrapped:
    """A type whose text and tower are of types of its own, which no config can change."""
    flat = fields.pop("flat", False)
    text = Text(f"{model_type}_text", fixed=True, flat=flat)
    return Wrapped(prefix, text, (Front("vision_config", f"{model_type}_vision", no_projector, fixed=True),), **fields)


TYPES: Final = {
    "mistral3": wrapper_type(
        Wrapped(
            "Mistral3",
            Text(
                "mistral",
                {
                    "head_dim": 128, "hidden_size": 5120, "intermediate_size": 32_768, "num_hidden_layers": 40,
                    "rms_norm_eps": 1e-5, "rope_theta": 1e9, "sliding_window": None, "vocab_size": 131_072,
                },
            ),
            (Front("vision_config", "pixtral", merged_projector, {"patch_size": 14}),),
        ),
        tied=True,
        vision_feature_layer=-1,
        multimodal_projector_bias=False,
        spatial_merge_size=2,
    ),
    "qwen2_vl": wrapper_type(own_parts("Qwen2VL", "qwen2_vl", flat=True, tied="either")),
    "qwen2_5_vl": wrapper_type(own_parts("Qwen2_5_VL", "qwen2_5_vl", flat=True, tied="either")),
    "qwen3_vl": wrapper_type(own_parts("Qwen3VL", "qwen3_vl")),
    "qwen3_vl_moe": wrapper_type(own_parts("Qwen3VLMoe", "qwen3_vl_moe")),
    "glm4v": wrapper_type(own_parts("Glm4v", "glm4v", tied="either")),
    "glm4v_moe": wrapper_type(own_parts("Glm4vMoe", "glm4v_moe", tied="either")),
    "llava": wrapper_type(
        Wrapped(
            "Llava", Text("llama"), (Front("vision_config", "clip_vision_model", llava_projector, CLIP),), tied="either"
        ),
        **LLAVA,
    ),
    "llava_next": wrapper_type(
        Wrapped("LlavaNext", Text("llama"), (Front("vision_config", "clip_vision_model", llava_newline, CLIP),)),
        **LLAVA,
    ),
    "llava_onevision": wrapper_type(
        Wrapped(
            "LlavaOnevision",
            Text("qwen2"),
            (
                Front(
                    "vision_config",
                    "siglip_vision_model",
                    llava_newline,
                    {**SIGLIP, "intermediate_size": 4304, "image_size": 384, "num_hidden_layers": 26},
                ),
            ),
            tied="either",
        ),
        **{**LLAVA, "vision_feature_layer": -1},
    ),
    "paligemma": wrapper_type(
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
                    {**SIGLIP, "intermediate_size": 4096, "num_hidden_layers": 27},
                ),
            ),
            inert="_vocab_size text_config_overrides",
        ),
        tied=True,
        projection_dim=2048,
    ),
    **{
        name: wrapper_type(
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
    "internvl": wrapper_type(
        Wrapped(
            "InternVL",
            Text("qwen2"),
            (Front("vision_config", "internvl_vision", shuffled_projector, fixed=True),),
            inert="vision_feature_layer",
        ),
        tied=True,
        downsample_ratio=0.5,
    ),
    "kimi_k25": wrapper_type(
        Wrapped(
            "Kimi_K25",
            Text("deepseek_v3", renamed={"kimi_k2": "deepseek_v3"}),
            (Front("vision_config", "kimi_k25_vision", _kimi, fixed=True),),
        ),
        tied=True,
        projection_hidden_size=1152,
    ),
    "qwen2_audio": wrapper_type(
        Wrapped(
            "Qwen2Audio",
            Text("qwen2"),
            (Front("audio_config", "qwen2_audio_encoder", _qwen2_audio, name="sound"),),
            tied="never",
        ),
    ),
    "voxtral": wrapper_type(
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
