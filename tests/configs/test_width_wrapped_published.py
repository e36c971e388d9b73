"""Published vision and sound models: parameters equal those that their checkpoints are published with.

Configs as first published, spelled as they were then, without the keys that bear on nothing anywhere. The totals are
those of the checkpoints; transformers 5.23 counts the same on the meta device, which takes too long to repeat here.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.strategies import read
from txcalc.configs import architecture_of
from txcalc.formulas.params import params

QWEN2 = {"hidden_size": 3584, "intermediate_size": 18_944, "num_attention_heads": 28, "num_hidden_layers": 28,
         "num_key_value_heads": 4, "max_window_layers": 28, "vision_token_id": 151_654, "vocab_size": 152_064,
         "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "sliding_window": 32_768,
         "use_sliding_window": False, "tie_word_embeddings": False}  # fmt: skip
TOWER = {"depth": 32, "num_heads": 16, "in_chans": 3, "patch_size": 14, "spatial_merge_size": 2,
         "spatial_patch_size": 14, "temporal_patch_size": 2}  # fmt: skip
ROPE = {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"}
QWEN3_TOWER = {"deepstack_visual_indexes": [8, 16, 24], "depth": 27, "hidden_size": 1152, "in_channels": 3,
               "intermediate_size": 4304, "model_type": "qwen3_vl", "num_heads": 16, "num_position_embeddings": 2304,
               "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2}  # fmt: skip

PUBLISHED: dict[str, tuple[int, dict[str, Any]]] = {
    "Qwen2-VL-7B": (8_291_375_616, {
        **QWEN2, "architectures": ["Qwen2VLForConditionalGeneration"], "model_type": "qwen2_vl",
        "vision_config": {**TOWER, "embed_dim": 1280, "mlp_ratio": 4, "hidden_size": 3584}}),
    "Qwen2.5-VL-7B": (8_292_166_656, {
        **QWEN2, "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
        "vision_config": {**TOWER, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584,
                          "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2}}),
    "Qwen3-VL-8B": (8_767_123_696, {
        "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "tie_word_embeddings": False,
        "text_config": {
            "attention_bias": False, "head_dim": 128, "hidden_size": 4096, "intermediate_size": 12_288,
            "max_position_embeddings": 262_144, "model_type": "qwen3_vl_text", "num_attention_heads": 32,
            "num_hidden_layers": 36, "num_key_value_heads": 8, "rope_scaling": ROPE, "vocab_size": 151_936},
        "vision_config": {**QWEN3_TOWER, "out_hidden_size": 4096}}),
    "Qwen3-VL-30B-A3B": (31_070_754_032, {
        "architectures": ["Qwen3VLMoeForConditionalGeneration"], "model_type": "qwen3_vl_moe",
        "tie_word_embeddings": False,
        "text_config": {
            "head_dim": 128, "hidden_size": 2048, "intermediate_size": 6144, "max_position_embeddings": 262_144,
            "model_type": "qwen3_vl_moe_text", "moe_intermediate_size": 768, "norm_topk_prob": True,
            "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48,
            "num_key_value_heads": 4, "rope_scaling": ROPE, "vocab_size": 151_936},
        "vision_config": {**QWEN3_TOWER, "model_type": "qwen3_vl_moe", "out_hidden_size": 2048}}),
    "LLaVA-1.5-7B": (7_063_427_072, {
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "ignore_index": -100,
        "tie_word_embeddings": False,
        "text_config": {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096, "model_type": "llama",
                        "vocab_size": 32_064},
        "vision_config": {"hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
                          "model_type": "clip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 24,
                          "patch_size": 14, "projection_dim": 768, "vocab_size": 32_000},
        "vision_feature_layer": -2, "vocab_size": 32_064}),
    "PaliGemma-3B": (2_923_466_480, {
        "architectures": ["PaliGemmaForConditionalGeneration"], "model_type": "paligemma", "hidden_size": 2048,
        "projection_dim": 2048, "image_token_index": 257_152,
        "text_config": {"hidden_size": 2048, "intermediate_size": 16_384, "model_type": "gemma",
                        "num_attention_heads": 8, "num_hidden_layers": 18, "num_image_tokens": 256,
                        "num_key_value_heads": 1, "vocab_size": 257_216},
        "vision_config": {"hidden_size": 1152, "intermediate_size": 4304, "model_type": "siglip_vision_model",
                          "num_attention_heads": 16, "num_hidden_layers": 27, "num_image_tokens": 256,
                          "patch_size": 14, "projection_dim": 2048, "projector_hidden_act": "gelu_fast",
                          "vision_use_head": False}}),
    "SmolVLM": (2_246_272_880, {
        "architectures": ["Idefics3ForConditionalGeneration"], "model_type": "idefics3", "scale_factor": 3,
        "image_seq_len": 81, "tie_word_embeddings": False,
        "text_config": {"architectures": ["VLlama3ForCausalLM"], "head_dim": 64, "hidden_size": 2048,
                        "intermediate_size": 8192, "is_llama_config": True, "model_type": "llama",
                        "num_key_value_heads": 32, "num_hidden_layers": 24, "qk_layer_norms": False,
                        "perceiver_config": {"model_type": "vllama3"}, "use_resampler": False, "vocab_size": 49_155},
        "vision_config": {"image_size": 384, "intermediate_size": 4304, "max_image_size": {"longest_edge": 384},
                          "model_type": "idefics3", "num_hidden_layers": 27, "patch_size": 14}}),
    "GLM-4.1V-9B": (10_292_777_472, {
        "architectures": ["Glm4vForConditionalGeneration"], "model_type": "glm4v", "tie_word_embeddings": False,
        "text_config": {"model_type": "glm4v_text", "attention_bias": True, "head_dim": 128, "hidden_size": 4096,
                        "intermediate_size": 13_696, "num_attention_heads": 32, "num_hidden_layers": 40,
                        "num_key_value_heads": 2, "partial_rotary_factor": 0.5, "vocab_size": 151_552,
                        "rope_scaling": {"rope_type": "default", "mrope_section": [8, 12, 12]}},
        "vision_config": {"hidden_size": 1536, "depth": 24, "num_heads": 12, "attention_bias": False,
                          "intermediate_size": 13_696, "image_size": 336, "patch_size": 14, "out_hidden_size": 4096,
                          "spatial_merge_size": 2, "temporal_patch_size": 2, "model_type": "glm4v"}}),
    "Qwen2-Audio-7B": (8_397_094_912, {
        "architectures": ["Qwen2AudioForConditionalGeneration"], "model_type": "qwen2_audio", "vocab_size": 156_032,
        "audio_config": {"model_type": "qwen2_audio_encoder", "num_mel_bins": 128, "encoder_layers": 32,
                         "encoder_attention_heads": 20, "encoder_ffn_dim": 5120, "d_model": 1280,
                         "max_source_positions": 1500},
        "text_config": {"intermediate_size": 11_008, "max_position_embeddings": 8192, "model_type": "qwen2",
                        "use_mrope": False, "vocab_size": 156_032}}),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals(name: str) -> None:
    total, config = PUBLISHED[name]
    assert params(read(config)).figures()["params.total"] == total


def test_a_head_that_the_file_says_nothing_of() -> None:
    """Mistral Small 3.1's file names no tie; its checkpoint, of 24,011,361,280 elements, holds a head."""
    config = {"model_type": "mistral3", "architectures": ["Mistral3ForConditionalGeneration"]}
    said = params(read({**config, "tie_word_embeddings": False})).figures()["params.total"]
    assert said == 24_011_361_280
    assert params(architecture_of(config)).basis == "estimated"
