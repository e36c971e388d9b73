"""Text models with towers that are counted by their tensors: counts equal transformers' on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, configs, few, maybe, read, small
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache

ROPE = {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}
TEXT = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
        "intermediate_size": 20, "vocab_size": 67, "pad_token_id": 0}  # fmt: skip
heads = st.integers(1, 3)


def vision(heads_key: str = "num_attention_heads", layers_key: str = "num_hidden_layers", **keys: Any) -> Any:
    """Small towers: a width of 24 for up to 3 heads."""
    drawn = {
        "hidden_size": 24, heads_key: heads, layers_key: st.integers(1, 3), "intermediate_size": small,
        "patch_size": st.integers(1, 4), "spatial_merge_size": st.integers(1, 3), **keys,
    }  # fmt: skip
    return st.fixed_dictionaries({k: v if isinstance(v, st.SearchStrategy) else st.just(v) for k, v in drawn.items()})


def of(*names: str) -> st.SearchStrategy[list[str]]:
    return st.sampled_from([[name] for name in names])


MLLAMA_VISION = {
    "num_global_layers": st.integers(0, 2), "vision_output_dim": small, "max_num_tiles": st.integers(1, 3),
    "image_size": st.integers(4, 9), "supported_aspect_ratios": st.sampled_from([[[1, 1]], [[1, 1], [1, 2]]]),
}  # fmt: skip
SHAPES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "cohere_compass": configs(
        "cohere_compass", architectures=of("CohereCompassForConditionalGeneration", "CohereCompassModel"),
        text_config={**TEXT, "rope_parameters": ROPE, "logit_scale": 0.5}, tie_word_embeddings=maybe(st.booleans()),
        vision_config=vision("num_heads", "depth", out_hidden_size=small, num_position_embeddings=small,
                             temporal_patch_size=st.integers(1, 2), in_channels=st.integers(1, 3),
                             deepstack_visual_indexes=st.lists(st.integers(0, 2), max_size=2))),
    "minimax_m3_vl": configs(
        "minimax_m3_vl", architectures=of("MiniMaxM3SparseForConditionalGeneration", "MiniMaxM3VLModel"),
        text_config=st.booleans().map(lambda tied: {
            **TEXT, "tie_word_embeddings": tied, "num_local_experts": 3, "num_experts_per_tok": 1, "head_dim": 8,
            "dense_intermediate_size": 10, "shared_intermediate_size": 10}),
        projector_hidden_size=small, vision_config=vision(temporal_patch_size=st.integers(1, 2))),
    "mllama": configs(
        "mllama", architectures=of("MllamaForConditionalGeneration", "MllamaModel", "MllamaForCausalLM"),
        text_config={**TEXT, "cross_attention_layers": [1]},
        vision_config=vision("attention_heads", **MLLAMA_VISION).map(
            lambda keys: {key: value for key, value in keys.items() if key != "spatial_merge_size"})),
    "inkling2": configs(
        "inkling2", architectures=of("Inkling2ForConditionalGeneration", "Inkling2Model"),
        text_config={key: value for key, value in TEXT.items() if key != "intermediate_size"}
        | {"moe_intermediate_size": 10, "n_routed_experts": 3, "num_experts_per_tok": 1, "swa_head_dim": 8},
        vision_config=vision(posemb_grid_size=st.integers(1, 5), projection_hidden_dim=small, text_hidden_size=32,
                             projector_bias=st.booleans())),
}  # fmt: skip
DOTS_TEXT = {
    **TEXT, "num_key_value_heads": 4, "kv_lora_rank": 5, "q_lora_rank": 7, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2,
    "v_head_dim": 3, "n_routed_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 6,
}  # fmt: skip
DOTS_VISION = {
    "hidden_size": 24, "adapter_in_dim": 24, "adapter_out_dim": 32, "num_attention_heads": heads,
    "intermediate_size": small, "moe_intermediate_size": small, "num_hidden_layers": 3, "patch_size": 2,
    "attention_bias": st.booleans(), "pyramid_num_routed": st.lists(st.integers(-1, 3), min_size=3, max_size=3),
}  # fmt: skip
DOTS_SOUND = {
    "hidden_size": 24, "adapter_input_size": 24, "adapter_out_dim": 32, "num_attention_heads": heads,
    "intermediate_size": small, "num_hidden_layers": st.integers(1, 3), "downsample_hidden_size": small,
    "feature_size": small, "attention_bias": st.booleans(),
}  # fmt: skip
PHI_SOUND = {
    "hidden_size": 24, "intermediate_size": small, "num_blocks": st.integers(1, 2), "num_attention_heads": heads,
    "ext_pw_out_channel": 24, "depthwise_separable_out_channel": 24, "depthwise_multiplier": st.integers(1, 2),
    "kernel_size": st.integers(1, 3), "input_size": st.integers(8, 20), "time_reduction": st.sampled_from([2, 4, 6, 8]),
    "bias_max_distance": small, "bias_symmetric": st.booleans(), "nemo_conv_channels": small,
    "downsample_rate": st.integers(1, 2),
}  # fmt: skip


def drawn(keys: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({k: v if isinstance(v, st.SearchStrategy) else st.just(v) for k, v in keys.items()})


SHAPES |= {
    "dots3_note": configs(
        "dots3_note", architectures=of("Dots3NoteForConditionalGeneration", "Dots3NoteModel"),
        text_config=DOTS_TEXT, vision_config=drawn(DOTS_VISION), audio_config=drawn(DOTS_SOUND)),
    "phi4_multimodal": configs(
        "phi4_multimodal", architectures=of("Phi4MultimodalForCausalLM", "Phi4MultimodalModel"), **TEXT,
        tie_word_embeddings=st.booleans(), audio_config=drawn(PHI_SOUND),
        vision_config=drawn({"hidden_size": 24, "num_attention_heads": heads, "intermediate_size": small,
                             "num_hidden_layers": st.integers(1, 2), "image_size": 28,
                             "patch_size": st.integers(2, 9)})),
}  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "cohere_compass": {"text_config": {"rope_parameters": ROPE}},
    "minimax_m3_vl": {},
    "mllama": {},
    "inkling2": {},
    "dots3_note": {},
    "phi4_multimodal": {},
}


@pytest.mark.parametrize("model_type", DEFAULTS)
def test_minimal_configs(model_type: str) -> None:
    """Without ``architectures`` the class is that of transformers' auto classes."""
    assert_params_equal_meta({"model_type": model_type, **DEFAULTS[model_type]})


@pytest.mark.parametrize("model_type", SHAPES)
@few
@given(data=st.data())
def test_shapes(model_type: str, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(SHAPES[model_type]))


MLLAMA = {"model_type": "mllama", "architectures": ["MllamaForConditionalGeneration"],
          "text_config": {**TEXT, "cross_attention_layers": [1]},
          "vision_config": {"hidden_size": 24, "attention_heads": 2, "num_hidden_layers": 1, "num_global_layers": 1,
                            "intermediate_size": 10, "vision_output_dim": 9, "image_size": 28}}  # fmt: skip


def test_the_comparison_notices() -> None:
    more = {**MLLAMA, "vision_config": {**MLLAMA["vision_config"], "num_global_layers": 2}}  # type: ignore[dict-item]
    assert_params_differ_from_meta(MLLAMA, more)


def test_a_tower_that_is_only_counted_does_not_run() -> None:
    model = read(MLLAMA)
    with pytest.raises(RequestError, match="has no vision tower beside its text model"):
        flops(model, seq=9, images=1)
    assert kv_cache(model, ctx=10, source_ctx=9, kv_dtype="bf16").figures()["kv_cache.total_bytes"] == (320 + 288) * 2


def test_dots3_as_published_files_write_it() -> None:
    """The text's fields beside the towers', which are a Whisper and a ViT by their own names."""
    vision = {"embed_dim": 24, "num_heads": 2, "use_bias": True, "num_hidden_layers": 2, "adapter_in_dim": 24,
              "adapter_out_dim": 32, "pyramid_num_routed": [-1, 2], "moe_intermediate_size": 5}  # fmt: skip
    whisper = {"d_model": 24, "encoder_attention_heads": 2, "encoder_layers": 1, "encoder_ffn_dim": 9,
               "num_mel_bins": 16}  # fmt: skip
    sound = {"whisper_config": whisper, "adapter_output_size": 32, "whisper_adapter_in_dim": 24}
    config = {"model_type": "dots3_note", "architectures": ["Dots3NoteForConditionalGeneration"], **DOTS_TEXT,
              "vision_config": vision, "audio_config": sound}  # fmt: skip
    assert_params_equal_meta(config)


EMU3 = {"model_type": "emu3", "architectures": ["Emu3ForConditionalGeneration"], "text_config": TEXT,
        "vocabulary_map": {"<image>": 5, "<|extra_200|>": 6}}  # fmt: skip


def test_emu3_is_a_text_model_by_itself() -> None:
    assert_params_equal_meta({"model_type": "emu3", "text_config": TEXT, "vocabulary_map": None})


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "emu3", "text_config": TEXT},
        {"model_type": "dots3_note", "text_config": DOTS_TEXT, "vision_config": {"adapter_out_dim": 32},
         "audio_config": {"adapter_out_dim": 32}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("inner", [True, False])
def test_a_text_alone_is_tied_by_its_own_config(config: dict[str, Any], outer: bool, inner: bool) -> None:
    text = {**config["text_config"], "tie_word_embeddings": inner}
    assert_params_equal_meta({**config, "text_config": text, "tie_word_embeddings": outer})


@few
@given(
    keys=drawn({
        "codebook_size": small, "embed_dim": small, "latent_channels": small, "in_channels": small,
        "double_latent": st.booleans(), "temporal_downsample_factor": st.integers(1, 5), "out_channels": small,
        "base_channels": st.sampled_from([32, 64]), "num_res_blocks": st.integers(1, 2), "hidden_size": 24,
        "channel_multiplier": st.lists(st.integers(1, 2), min_size=1, max_size=3), "num_attention_heads": heads,
        "attn_resolutions": st.lists(st.integers(0, 2), max_size=2)}),
    name=of("Emu3ForConditionalGeneration", "Emu3Model"),
    tied=st.booleans(),
)  # fmt: skip
def test_emu3_with_its_codec(keys: dict[str, Any], name: list[str], tied: bool) -> None:
    assert_params_equal_meta({**EMU3, "vq_config": keys, "architectures": name, "tie_word_embeddings": tied})


def test_emu3_with_the_default_codec() -> None:
    assert_params_equal_meta(EMU3)
    assert_params_differ_from_meta(EMU3, {**EMU3, "vq_config": {"attn_resolutions": [2]}})
    (reason,) = architecture_of({**EMU3, "vocabulary_map": None}).reasons
    assert reason == "no vocabulary_map: transformers does not build the model without one"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"model_type": "mllama", "architectures": ["MllamaModel"], "vision_config": {"supported_aspect_ratios": 3}},
            "supported_aspect_ratios is 3; expected a list",
        ),
        ({**EMU3, "vq_config": {"base_channels": 48}}, "base_channels is 48; channels must be multiples of 32"),
        ({**EMU3, "vq_config": {"channel_multiplier": []}}, "channel_multiplier is empty"),
        (
            {
                "model_type": "dots3_note",
                "architectures": ["Dots3NoteModel"],
                "vision_config": {"num_hidden_layers": 2},
            },
            "pyramid_num_routed has 42 entries for 2 layers",
        ),
        ({"model_type": "xlstm"}, "model_type 'xlstm' is refused: an LSTM variant"),
        ({"model_type": "inkling_mm_model"}, "is refused: the widths of its image tower are fitted"),
        (
            {**MLLAMA, "vision_config": {"hidden_size": 25, "attention_heads": 2}},
            "hidden_size is 25; it is not a",
        ),
        (
            {"model_type": "inkling2", "vision_config": {"text_hidden_size": 5}},
            "text_hidden_size is 5; the text",
        ),
    ],
)
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)


@pytest.mark.parametrize(
    "config",
    [
        {**MLLAMA, "vision_config": {**MLLAMA["vision_config"], "surprise": 3}},  # type: ignore[dict-item]
        {"model_type": "minimax_m3_vl", "architectures": ["MiniMaxM3VLForCausalLM"]},
    ],
)
def test_what_is_not_known_makes_an_estimate(config: dict[str, Any]) -> None:
    assert len(architecture_of(config).reasons) == 1
