"""More models around a known language model: counts equal transformers' on the meta device, or the text part's do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.auto import modeling_auto

from tests.configs.test_width_wrapped import (
    CLIP,
    GLM,
    LAYERS,
    PIXTRAL,
    QWEN3,
    SIGLIP,
    TEXT,
    WHISPER,
    drawn,
    size,
    tower,
    two,
    video,
)
from tests.oracles import transformers_meta
from tests.oracles.transformers_meta import default_config
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta
from tests.width import shallow
from txcalc.configs import architecture_of, known_types
from txcalc.configs.registry import REFUSED, type_of
from txcalc.configs.wrappers_more import TYPES as EXACT
from txcalc.configs.wrappers_partly import TYPES as PARTLY
from txcalc.errors import ModelError
from txcalc.formulas.params import params

MAPPINGS = [getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES")
            for task in ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "SPEECH_SEQ_2_SEQ",
                         "MULTIMODAL_LM")]  # fmt: skip
CLASSES = {name: of for mapping in reversed(MAPPINGS) for name, of in mapping.items()}

HEADS = {"hidden_size": 24, "intermediate_size": size, "num_hidden_layers": two,
         "num_attention_heads": st.integers(1, 3)}  # fmt: skip
ANY = {**HEADS, "num_channels": st.integers(1, 3), "patch_size": st.integers(1, 4)}
ENCODER = {"num_mel_bins": size, "d_model": 24, "encoder_layers": two, "encoder_attention_heads": two,
           "encoder_ffn_dim": size}  # fmt: skip
ASR = drawn(**ENCODER, output_dim=32, downsample_hidden_size=size)
FLAMINGO = drawn(**WHISPER, **HEADS, model_type="audioflamingo3_encoder")
OMNI = {"vision_config": video(), "audio_config": drawn(**ENCODER, output_dim=32)}
OUTER: dict[str, dict[str, Any]] = {
    "llava_next_video": {"vision_config": CLIP, "vision_feature_layer": LAYERS},
    "vipllava": {"vision_config": CLIP, "vision_feature_layers": st.sampled_from([-2, [-2, 1]])},
    "video_llava": {"vision_config": CLIP, "multimodal_projector_bias": st.booleans()},
    "aya_vision": {"vision_config": SIGLIP, "downsample_factor": two,
                   "alignment_intermediate_size": st.sampled_from([10, 33])},
    "cohere2_vision": {"vision_config": SIGLIP, "downsample_factor": two, "alignment_intermediate_size": size},
    "lfm2_vl": {"vision_config": drawn(**ANY, num_patches=size, vision_use_head=st.booleans()),
                "projector_hidden_size": size, "projector_bias": st.booleans(), "downsample_factor": two,
                "projector_use_layernorm": st.booleans(), "tie_embedding": st.booleans()},
    "lighton_ocr": {"vision_config": PIXTRAL, "spatial_merge_size": two},
    "video_llama_3": {"vision_config": drawn(**ANY)},
    "deepseek_vl": {"vision_config": SIGLIP},
    "idefics2": {"vision_config": tower(), "perceiver_config": drawn(
        resampler_n_latents=size, resampler_depth=two, resampler_n_heads=4, resampler_head_dim=size,
        num_key_value_heads=two)},
    "glm46v": {"vision_config": GLM},
    "glmga": {"vision_config": GLM},
    "glm_ocr": {"vision_config": GLM},
    "paddleocr_vl": {"vision_config": tower(spatial_merge_size=two)},
    "cosmos3_omni": {"vision_config": QWEN3},
    "hyperclovax_vision_v2": {"vision_config": video()},
    "qianfan_ocr": {"vision_config": tower(attention_bias=st.booleans(), use_qk_norm=st.booleans())},
    "fuyu": {"patch_size": st.integers(1, 4), "num_channels": st.integers(1, 3)},
    "audioflamingo3": {"audio_config": FLAMINGO, "projector_bias": st.booleans()},
    "musicflamingo": {"audio_config": FLAMINGO},
    "qwen3_asr": {"audio_config": ASR},
    "glmasr": {"audio_config": drawn(**HEADS, num_mel_bins=size)},
    "qwen2_5_omni_thinker": OMNI,
    "qwen3_omni_moe_thinker": {"vision_config": QWEN3, "audio_config": ASR},
    "shieldgemma2": {},
}  # fmt: skip
TEXTS: dict[str, dict[str, Any]] = {
    "lfm2_vl": {"layer_types": ["conv", "full_attention"]},
    "fuyu": {"qk_layernorm": st.booleans(), "num_key_value_heads": 4},
    "qwen3_omni_moe_thinker": {"moe_intermediate_size": 6, "num_experts": 2, "num_experts_per_tok": 1},
    "paddleocr_vl": {"use_bias": st.booleans()},
}


def shapes(model_type: str) -> st.SearchStrategy[dict[str, Any]]:
    text = drawn(**{**TEXT, "tie_word_embeddings": st.booleans(), **TEXTS.get(model_type, {})})
    name = CLASSES[model_type]
    names = [[name], [name.replace("ForConditionalGeneration", "Model").replace("ForCausalLM", "Model")]]
    outer = {"tie_word_embeddings": st.booleans(), **OUTER[model_type]}
    return drawn(model_type=model_type, architectures=st.sampled_from(names), text_config=text, **outer)


def shallow_default(model_type: str) -> dict[str, Any]:
    """The default config, a layer or two deep; lists of the towers stay."""
    found: dict[str, Any] = {}
    for key, value in default_config(model_type).items():
        lists = {name: each for name, each in value.items() if name in KEPT} if isinstance(value, dict) else {}
        found[key] = {**shallow(value), **lists} if isinstance(value, dict) and value else value
    return {**found, "architectures": [CLASSES[model_type]]}


KEPT = ("deepstack_visual_indexes", "image_size", "patch_size", "vision_feature_layer", "pixel_shuffle")


def test_every_type_is_tested() -> None:
    assert set(OUTER) == set(EXACT)


@pytest.mark.parametrize("model_type", sorted(set(OUTER) - {"shieldgemma2"}))
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_shapes(model_type: str, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(shapes(model_type)))


@pytest.mark.parametrize("model_type", sorted(set(OUTER) - {"aya_vision"}))
def test_default_configs(model_type: str) -> None:
    """Aya Vision's own default has 14 heads for 1,152 channels, which no one can build."""
    assert_params_equal_meta(shallow_default(model_type))


def test_the_comparison_notices() -> None:
    config = shallow_default("fuyu")
    assert_params_differ_from_meta(config, {**config, "patch_size": 10})


def test_files_that_hold_the_text_beside_the_tower() -> None:
    flat = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 20}
    assert_params_equal_meta({"model_type": "fuyu", "architectures": ["FuyuForCausalLM"], **flat, "vocab_size": 90})


# ---- the text part alone ---------------------------------------------------------------------------------------------


def text_of(model: Any) -> int:
    """Elements of the language model and its head."""
    found = {"language_model", "text_model", "lm_head"}
    parts = [part for name, part in model.named_modules() if name.split(".")[-1] in found and "talker" not in name]
    return sum({id(each): each.numel() for part in parts for each in part.parameters()}.values())


# A tower of another package, a default that lacks a field, code of their own.
UNBUILT = {"fast_vlm", "perception_lm", "qwen3_omni_moe", "kimi_vl", "internvl_chat"}


@pytest.mark.parametrize("model_type", sorted(set(PARTLY) - UNBUILT))
def test_text_parts_are_exact_and_the_whole_an_estimate(model_type: str) -> None:
    config = shallow_default(model_type)
    model = architecture_of(config)
    assert len(model.reasons) == 1
    assert "not counted: the" in model.reasons[0]
    ours = params(model)
    assert ours.basis == "estimated"
    assert ours.figures()["params.total"] == text_of(transformers_meta.build(config))


@pytest.mark.parametrize(
    ("config", "text", "name"),
    [
        ({"model_type": "kimi_vl", "architectures": ["KimiVLForConditionalGeneration"]}, "text_config", "deepseek_v3"),
        ({"model_type": "internvl_chat", "architectures": ["InternVLChatModel"]}, "llm_config", "qwen2"),
    ],
)
def test_types_with_code_of_their_own(config: dict[str, Any], text: str, name: str) -> None:
    """transformers has no class of them; their language model is one that it has."""
    part = {"model_type": name, **TEXT, "num_key_value_heads": 4}
    model = architecture_of({**config, text: part, "vision_config": {"anything": 3}})
    assert len(model.reasons) == 1
    assert params(model).figures()["params.total"] == transformers_meta.num_params(part)


def test_tied_as_the_type_does() -> None:
    """BLIP-2's head is tied by its text's config, whatever the outer one says."""
    config = shallow_default("blip-2")
    text = {**config["text_config"], "tie_word_embeddings": False}
    untied = {**config, "text_config": text, "tie_word_embeddings": True}
    assert params(architecture_of(untied)).figures()["params.total"] == text_of(transformers_meta.build(untied))


# ---- every name is answered or refused ------------------------------------------------------------------------------


def test_every_wrapper_is_known_or_refused_with_a_reason() -> None:
    """Types that another page describes are left to it."""
    named = {name for mapping in MAPPINGS[2:] for name in mapping}
    assert named - set(known_types()) - set(REFUSED) == set()
    assert not set(known_types()) & set(REFUSED)


@pytest.mark.parametrize("model_type", ["chameleon", "granite_docling", "dia", "vision-encoder-decoder"])
def test_refusals_say_why(model_type: str) -> None:
    with pytest.raises(ModelError, match=f"'{model_type}' is refused: .+"):
        architecture_of({"model_type": model_type})


@pytest.mark.parametrize("model_type", ["vipllava", "blip-2"])
def test_defaults_say_where_they_are_from(model_type: str) -> None:
    assert type_of(model_type).origin.startswith("transformers 5.23")


@pytest.mark.parametrize("model_type", ["fuyu", "voxtral", "paligemma", "glmasr"])
def test_without_architectures_the_class_is_that_of_the_auto_classes(model_type: str) -> None:
    """A tied head costs nothing, and of these types but one auto classes make a language model."""
    tied = {"tie_word_embeddings": model_type == "paligemma", "text_config": {"num_hidden_layers": 1, "head_dim": 64}}
    needed = {} if model_type != "fuyu" else {"text_config": {"num_hidden_layers": 1}}
    assert_params_equal_meta({"model_type": model_type, **tied, **needed})
