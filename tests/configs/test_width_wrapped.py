"""Vision and sound models around a known language model: counts equal transformers' on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import flop_counter
from tests.oracles.transformers_meta import default_config
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, read
from tests.width import shallow
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache

size, two = st.integers(1, 40), st.integers(1, 2)
TEXT = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
        "intermediate_size": 20, "vocab_size": 67, "pad_token_id": 0}  # fmt: skip
MOE = {**TEXT, "moe_intermediate_size": 6, "num_experts_per_tok": 1}
LATENT = {**MOE, "kv_lora_rank": 5, "q_lora_rank": 7, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 3,
          "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
          "num_key_value_heads": 4}  # fmt: skip


def drawn(**keys: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({k: v if isinstance(v, st.SearchStrategy) else st.just(v) for k, v in keys.items()})


def tower(**keys: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Small towers of images of one size: a width of 24 for up to 3 heads."""
    return drawn(
        hidden_size=24, intermediate_size=size, num_hidden_layers=two, num_attention_heads=st.integers(1, 3),
        num_channels=st.integers(1, 3), image_size=st.integers(4, 16), patch_size=st.integers(1, 4), **keys,
    )  # fmt: skip


def video(**keys: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Small towers of images of any size."""
    return drawn(
        **{
            "hidden_size": 24, "intermediate_size": size, "depth": two, "num_heads": st.integers(1, 3),
            "in_channels": st.integers(1, 3), "patch_size": st.integers(1, 4), "spatial_merge_size": two,
            "temporal_patch_size": two, "out_hidden_size": st.sampled_from([32, 20]), **keys,
        }
    )  # fmt: skip


LAYERS = st.sampled_from([-1, -2, [-1, -2], [0, 1, 2]])
CLIP = tower()
SIGLIP = tower(vision_use_head=st.booleans(), model_type="siglip_vision_model")
PIXTRAL = drawn(model_type="pixtral", hidden_size=24, num_attention_heads=st.integers(1, 3), intermediate_size=size,
                num_hidden_layers=two, patch_size=st.integers(1, 4), num_channels=st.integers(1, 3))  # fmt: skip
QWEN3 = video(num_position_embeddings=size, deepstack_visual_indexes=st.lists(st.integers(0, 2), max_size=2))
GLM = video(image_size=st.integers(4, 16), attention_bias=st.booleans())
WHISPER = {"num_mel_bins": size, "max_source_positions": size}
TEXT_OF: dict[str, tuple[str, st.SearchStrategy[dict[str, Any]]]] = {
    "mistral3": ("Mistral3", drawn(**TEXT, head_dim=st.sampled_from([4, 8]))),
    "qwen2_vl": ("Qwen2VL", drawn(**TEXT, tie_word_embeddings=st.booleans())),
    "qwen2_5_vl": ("Qwen2_5_VL", drawn(**TEXT, tie_word_embeddings=st.booleans())),
    "qwen3_vl": ("Qwen3VL", drawn(**TEXT, head_dim=st.sampled_from([4, 16]), attention_bias=st.booleans())),
    "qwen3_vl_moe": ("Qwen3VLMoe", drawn(**MOE, num_experts=st.integers(1, 3), decoder_sparse_step=two,
                                         mlp_only_layers=st.sampled_from([[], [1]]))),
    "glm4v": ("Glm4v", drawn(**TEXT, tie_word_embeddings=st.booleans())),
    "glm4v_moe": ("Glm4vMoe", drawn(**MOE, n_routed_experts=st.integers(1, 3), first_k_dense_replace=st.integers(0, 2),
                                    attention_bias=st.booleans(), tie_word_embeddings=st.booleans())),
    "llava": ("Llava", drawn(**TEXT, model_type=st.sampled_from(["llama", "mistral", "qwen2", "gemma"]), head_dim=8,
                             tie_word_embeddings=st.booleans())),
    "llava_next": ("LlavaNext", drawn(**TEXT, model_type=st.sampled_from(["llama", "mistral"]))),
    "llava_onevision": ("LlavaOnevision", drawn(**TEXT, tie_word_embeddings=st.booleans())),
    "paligemma": ("PaliGemma", drawn(**TEXT, model_type=st.sampled_from(["gemma", "gemma2"]), head_dim=8)),
    "idefics3": ("Idefics3", drawn(**TEXT)),
    "smolvlm": ("SmolVLM", drawn(**TEXT)),
    "internvl": ("InternVL", drawn(**TEXT, model_type=st.sampled_from(["qwen2", "llama"]))),
    "kimi_k25": ("Kimi_K25", drawn(**LATENT, model_type=st.sampled_from(["deepseek_v3", "kimi_k2"]))),
    "qwen2_audio": ("Qwen2Audio", drawn(**TEXT)),
    "voxtral": ("Voxtral", drawn(**TEXT, head_dim=8)),
}  # fmt: skip
OUTER: dict[str, dict[str, Any]] = {
    "mistral3": {"vision_config": PIXTRAL, "vision_feature_layer": LAYERS, "spatial_merge_size": two,
                 "multimodal_projector_bias": st.booleans()},
    "qwen2_vl": {"vision_config": video(embed_dim=24, mlp_ratio=st.integers(1, 3), hidden_size=32).map(
        lambda v: {key: v[key] for key in v if key not in ("intermediate_size", "out_hidden_size")})},
    "qwen2_5_vl": {"vision_config": video()},
    "qwen3_vl": {"vision_config": QWEN3},
    "qwen3_vl_moe": {"vision_config": QWEN3},
    "glm4v": {"vision_config": GLM},
    "glm4v_moe": {"vision_config": GLM},
    "llava": {"vision_config": CLIP | SIGLIP | PIXTRAL, "vision_feature_layer": LAYERS,
              "multimodal_projector_bias": st.booleans()},
    "llava_next": {"vision_config": CLIP, "vision_feature_layer": LAYERS},
    "llava_onevision": {"vision_config": SIGLIP, "multimodal_projector_bias": st.booleans()},
    "paligemma": {"vision_config": SIGLIP, "projection_dim": st.sampled_from([32, 20])},
    "idefics3": {"vision_config": tower(), "scale_factor": two},
    "smolvlm": {"vision_config": tower(), "scale_factor": two},
    "internvl": {"vision_config": tower(
        norm_type=st.sampled_from(["layer_norm", "rms_norm"]),
        **{key: st.booleans() for key in ("attention_bias", "use_qk_norm", "use_mask_token", "use_mean_pooling",
                                          "use_absolute_position_embeddings")}),
                 "downsample_ratio": st.sampled_from([1.0, 0.5, 0.3])},
    "kimi_k25": {"vision_config": drawn(hidden_size=24, num_attention_heads=two, intermediate_size=size,
                                        num_hidden_layers=two, patch_size=two, pos_emb_height=size, pos_emb_width=size,
                                        merge_kernel_size=st.sampled_from([[2, 2], [1, 2]])),
                 "projection_hidden_size": size},
    "qwen2_audio": {"audio_config": drawn(**WHISPER, d_model=24, encoder_layers=two, encoder_attention_heads=two,
                                          encoder_ffn_dim=size)},
    "voxtral": {"audio_config": drawn(**WHISPER, hidden_size=24, num_hidden_layers=two, num_attention_heads=two,
                                      intermediate_size=size)},
}  # fmt: skip


def shapes(model_type: str) -> st.SearchStrategy[dict[str, Any]]:
    prefix, text = TEXT_OF[model_type]
    names = st.sampled_from([[f"{prefix}ForConditionalGeneration"], [f"{prefix}Model"]])
    return drawn(
        model_type=model_type, text_config=text, architectures=names, tie_word_embeddings=st.booleans(),
        **OUTER[model_type],
    )  # fmt: skip


@pytest.mark.parametrize("model_type", TEXT_OF)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_shapes(model_type: str, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(shapes(model_type)))


@pytest.mark.parametrize("model_type", TEXT_OF)
def test_default_and_minimal_configs(model_type: str) -> None:
    """Depths of the default config are cut down; the type's name alone takes every width from the defaults."""
    names = [f"{TEXT_OF[model_type][0]}ForConditionalGeneration"]
    default = default_config(model_type)
    cut = {key: shallow(value, 1) if isinstance(value, dict) and value else value for key, value in default.items()}
    for name in ("deepstack_visual_indexes", "image_size", "patch_size", "merge_kernel_size"):
        if name in default.get("vision_config", {}):
            cut["vision_config"][name] = default["vision_config"][name]
    assert_params_equal_meta({**cut, "architectures": names})
    depth = {"text_config": {"num_hidden_layers": 1, "rms_norm_eps": 1e-6}, "tie_word_embeddings": False}
    assert_params_equal_meta({"model_type": model_type, "architectures": names, **depth})


@pytest.mark.parametrize(
    ("model_type", "keys"),
    [
        ("qwen2_vl_text", {"tie_word_embeddings": True, "vocab_size": 90}),
        ("qwen2_5_vl_text", {}),
        ("qwen3_vl_text", {"attention_bias": True}),
        ("qwen3_vl_moe_text", {"num_experts": 2, "num_experts_per_tok": 1}),
        ("glm4v_text", {}),
        ("glm4v_moe_text", {"n_routed_experts": 2, "num_experts_per_tok": 1}),
    ],
)
def test_text_parts_by_themselves(model_type: str, keys: dict[str, Any]) -> None:
    assert_params_equal_meta({"model_type": model_type, "num_hidden_layers": 2, **keys})


QWEN = {"model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"], **TEXT,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}, "use_sliding_window": False,
        "vision_config": {"depth": 2, "hidden_size": 24, "num_heads": 2, "intermediate_size": 9, "in_chans": 3,
                          "out_hidden_size": 32}}  # fmt: skip
LLAVA = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"],
         "text_config": {"model_type": "qwen2", **TEXT},
         "vision_config": {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1, "image_size": 28,
                           "patch_size": 14, "intermediate_size": 9}}  # fmt: skip


def test_files_that_hold_the_text_beside_the_tower() -> None:
    """Qwen2-VL's and Qwen2.5-VL's first published files."""
    assert_params_equal_meta(QWEN)
    assert_params_differ_from_meta(QWEN, {**QWEN, "num_key_value_heads": 4})


def test_the_comparison_notices() -> None:
    assert_params_differ_from_meta(LLAVA, {**LLAVA, "multimodal_projector_bias": False})
    assert_params_differ_from_meta(LLAVA, {**LLAVA, "vision_config": {**LLAVA["vision_config"], "patch_size": 7}})  # type: ignore[dict-item]


@pytest.mark.parametrize("config", [LLAVA, QWEN], ids=["llava", "qwen2_5_vl"])
def test_flops_and_cache_of_a_text(config: dict[str, Any]) -> None:
    """A text passes the decoder alone; 2 layers of 2 KV heads of 8 channels, keys and values, at 2 bytes."""
    model = flop_counter.model_of(config)
    counted = flop_counter.forward(model, **flop_counter.inputs_of(model, batch=2, seq=9))
    ours = read(config)
    assert flops(ours, batch=2, seq=9).figures()["flops.matmul"] == counted
    assert kv_cache(ours, ctx=10, kv_dtype="bf16").figures()["kv_cache.total_bytes"] == 10 * 2 * 2 * 2 * 8 * 2
    with pytest.raises(RequestError, match="has no vision tower beside its text model"):
        flops(ours, seq=9, images=1)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**LLAVA, "text_config": {"model_type": "mystery"}}, "text_config is of model_type 'mystery'"),
        ({**LLAVA, "text_config": {"model_type": "t5"}}, "a text part is one decoder without towers"),
        ({**LLAVA, "vision_feature_layer": "last"}, "vision_feature_layer is \"last\"; expected a whole number"),
        ({"model_type": "internvl", "downsample_ratio": 0.0}, "downsample_ratio is 0.0; expected more than 0"),
        ({**QWEN, "vision_config": {"hidden_size": 25}}, "hidden_size is 25; it is not a multiple of the 16 heads"),
        ({"model_type": "qwen2_vl", "vision_config": {"embed_dim": 25}}, "embed_dim is 25; it is not a multiple"),
    ],
)  # fmt: skip
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**LLAVA, "vision_config": {"model_type": "mystery_vision"}}, "a mystery_vision tower is not counted"),
        ({**LLAVA, "architectures": ["LlavaForSequenceClassification"]}, "nobody's published class"),
        ({**LLAVA, "architectures": None}, "no architectures in the config: counted with a head"),
        ({"model_type": "mistral3"}, "tie_word_embeddings is not in the config"),
        (
            {"model_type": "qwen3_vl", "tie_word_embeddings": True, "text_config": {"model_type": "llama"}},
            "read as a qwen3_vl_text",
        ),
        ({"model_type": "glm4v_text", "architectures": ["Glm4vTextForCausalLM"]}, "the only class of the type"),
    ],
)
def test_what_is_not_known_makes_an_estimate(config: dict[str, Any], words: str) -> None:
    reasons = architecture_of(config).reasons
    assert len(reasons) == 1
    assert words in reasons[0]


def test_the_text_part_of_an_estimate_is_exact() -> None:
    """Beside a tower that is not known, what is counted is the language model to the unit."""
    from txcalc.formulas.params import params

    unknown = architecture_of({**LLAVA, "vision_config": {"model_type": "mystery_vision"}})
    text = {**LLAVA["text_config"], "architectures": ["Qwen2ForCausalLM"]}  # type: ignore[dict-item]
    assert params(unknown).basis == "estimated"
    assert params(unknown).figures()["params.total"] == params(read(text)).figures()["params.total"]
