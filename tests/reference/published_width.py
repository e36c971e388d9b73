"""Tiny configs of the types beyond the first slice that the reference builds, in their own spelling."""

from __future__ import annotations

from typing import Any

from tests.reference.published import V

_D = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": V,
      "max_position_embeddings": 64, "pad_token_id": 0}  # fmt: skip
_GQA = {**_D, "num_key_value_heads": 2}
_HEADS = {**_GQA, "head_dim": 12}
_SCALED = {"embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.7, "attention_multiplier": 0.3}
_YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
_PLAIN = {"rope_type": "default", "rope_theta": 1e4}
_MOE = {**_HEADS, "moe_intermediate_size": 24, "num_experts_per_tok": 2}
_V3 = {"n_routed_experts": 8, "n_shared_experts": 2, "n_group": 4, "topk_group": 2, "first_k_dense_replace": 1,
       "norm_topk_prob": True, "routed_scaling_factor": 1.5}  # fmt: skip
_MLA = {
    **_D,
    "num_key_value_heads": 4,
    "q_lora_rank": 20,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 12,
}
_V3_MLA = {**_MLA, "moe_intermediate_size": 24, "num_experts_per_tok": 2}
_INDEX = {"index_head_dim": 6, "index_n_heads": 12, "index_topk": 5}  # with few heads, scores that ReLU makes 0 tie
_SHARING = {**_HEADS, "num_hidden_layers": 6, "layer_types": ["sliding_attention", "full_attention"] * 3,
            "sliding_window": 5, "num_kv_shared_layers": 2}  # fmt: skip

#: type -> (class, fields); variants carry a word after the type's name.
TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "ministral": ("MinistralForCausalLM", {**_HEADS, "sliding_window": 5}),
    "internlm3": ("LlamaForCausalLM", {**_HEADS, "qkv_bias": True, "bias": True}),
    "iquestcoder": ("LlamaForCausalLM", _HEADS),
    "seed_oss": ("SeedOssForCausalLM", _HEADS),
    "seed_oss biases": ("SeedOssForCausalLM", {**_HEADS, "attention_out_bias": True, "mlp_bias": True}),
    "helium": ("HeliumForCausalLM", {**_GQA, "head_dim": 8}),
    "ernie4_5": ("Ernie4_5ForCausalLM", {**_HEADS, "use_bias": True}),
    "smollm3": ("SmolLM3ForCausalLM", {**_GQA, "use_sliding_window": True, "sliding_window": 5}),
    "cwm": ("CwmForCausalLM", {**_HEADS, "sliding_window": 5}),
    "arcee": ("ArceeForCausalLM", {**_GQA, "attention_bias": True, "mlp_bias": True}),
    "bitnet": ("BitNetForCausalLM", _GQA),
    "hunyuan_v1_dense": ("HunYuanDenseV1ForCausalLM", {
        **_HEADS, "rope_theta": 1e4, "rope_scaling": {"type": "dynamic", "alpha": 50.0, "factor": 1.0}}),
    "exaone4": ("Exaone4ForCausalLM", {**_GQA, "sliding_window": 5}),
    "exaone4 no windows": ("Exaone4ForCausalLM", {**_GQA, "sliding_window": None,
                                                     "layer_types": ["full_attention"] * 4}),
    "ministral3": ("Ministral3ForCausalLM", {**_HEADS, "rope_parameters": {
        **_YARN, "original_max_position_embeddings": 4, "llama_4_scaling_beta": 0.5}}),
    "granite": ("GraniteForCausalLM", {**_GQA, **_SCALED}),
    "hyperclovax": ("HyperCLOVAXForCausalLM", {**_GQA, **_SCALED}),
    "granitemoe": ("GraniteMoeForCausalLM", {**_GQA, **_SCALED, "num_local_experts": 6}),
    "granitemoeshared": ("GraniteMoeSharedForCausalLM", {**_GQA, **_SCALED, "num_local_experts": 6,
                                                         "shared_intermediate_size": 20}),
    "granite_swa": ("GraniteSWAForCausalLM", {**_GQA, **_SCALED, "sliding_window": 5,
                                              "layer_rope_theta": [1e4, 1e5, 0, 1e6]}),
    "granitemoe_swa": ("GraniteMoeSWAForCausalLM", {**_GQA, **_SCALED, "sliding_window": 5, "num_local_experts": 6,
                                                    "shared_intermediate_size": 20}),
    "olmo": ("OlmoForCausalLM", {**_GQA, "clip_qkv": 0.2}),
    "olmo3": ("Olmo3ForCausalLM", {**_GQA, "sliding_window": 5, "rope_scaling": _YARN}),
    "olmoe": ("OlmoeForCausalLM", {**_GQA, "num_experts": 6, "num_experts_per_tok": 2, "clip_qkv": 1.0}),
    "flex_olmo": ("FlexOlmoForCausalLM", {**_GQA, "num_experts": 6, "norm_topk_prob": True}),
    "cohere2": ("Cohere2ForCausalLM", {**_GQA, "sliding_window": 5, "logit_scale": 0.5}),
    "cohere2_moe": ("Cohere2MoeForCausalLM", {**_HEADS, "sliding_window": 5, "logit_scale": 0.5, "num_experts": 6,
                                              "num_shared_experts": 2, "first_k_dense_replace": 1}),
    "cohere2_moe sigmoid": ("Cohere2MoeForCausalLM", {
        **_HEADS, "sliding_window": 5, "logit_scale": 0.5, "num_experts": 6, "expert_selection_fn": "sigmoid",
        "rms_norm_eps": 1e-6}),
    "apertus": ("ApertusForCausalLM", {**_GQA, "rope_parameters": _PLAIN}),
    "glm": ("GlmForCausalLM", _HEADS),
    "glm4": ("Glm4ForCausalLM", _HEADS),
    "nemotron": ("NemotronForCausalLM", {**_HEADS, "mlp_bias": True}),
    "jais2": ("Jais2ForCausalLM", _GQA),
    "persimmon": ("PersimmonForCausalLM", _D),
    "nanochat": ("NanoChatForCausalLM", {**_GQA, "final_logit_softcapping": 6.0}),
    "diffllama": ("DiffLlamaForCausalLM", _GQA),
    "vaultgemma": ("VaultGemmaForCausalLM", {**_HEADS, "sliding_window": 5, "query_pre_attn_scalar": 12}),
    "qwen2_moe": ("Qwen2MoeForCausalLM", {**_MOE, "num_experts": 6, "shared_expert_intermediate_size": 20,
                                          "use_sliding_window": True, "sliding_window": 5}),
    "glm4_moe": ("Glm4MoeForCausalLM", {**_MOE, **_V3, "use_qk_norm": True, "attention_bias": True}),
    "dots1": ("Dots1ForCausalLM", {**_MOE, **_V3, "sliding_window": 5, "max_window_layers": 2}),
    "solar_open": ("SolarOpenForCausalLM", {**_MOE, **_V3, "first_k_dense_replace": 0}),
    "exaone_moe": ("ExaoneMoeForCausalLM", {**_MOE, "num_experts": 6, "sliding_window": 5, "n_group": 2,
                                            "topk_group": 1}),
    "kolibri1": ("Kolibri1ForCausalLM", {**_MOE, "num_experts": 6, "sliding_window": 5, "num_hidden_layers": 5,
                                         "shared_expert_intermediate_size": 20}),
    "minimax_m2": ("MiniMaxM2ForCausalLM", {**_HEADS, "num_local_experts": 6, "num_experts_per_tok": 2,
                                            "rotary_dim": 6}),
    "hy_v3": ("HYV3ForCausalLM", {**_MOE, "num_experts": 6}),
    "mimo_v2_flash": ("MiMoV2FlashForCausalLM", {**_MOE, "n_routed_experts": 6, "v_head_dim": 10, "sliding_window": 5,
                                                 "num_hidden_layers": 7, "num_key_value_heads": 1}),
    "afmoe": ("AfmoeForCausalLM", {**_MOE, "num_experts": 6, "sliding_window": 5, "mup_enabled": True,
                                   "route_scale": 1.5}),
    "laguna": ("LagunaForCausalLM", {
        **_MOE, "num_experts": 6, "sliding_window": 5, "shared_expert_intermediate_size": 20,
        "num_attention_heads_per_layer": [4, 6, 2, 4], "moe_router_logit_softcapping": 2.0,
        "moe_routed_scaling_factor": 1.5, "layer_types": ["full_attention", *["sliding_attention"] * 3]}),
    "laguna by channel": ("LagunaForCausalLM", {**_MOE, "num_experts": 6, "gating": "channel",
                                                "shared_expert_intermediate_size": 20}),
    "mellum": ("MellumForCausalLM", {
        **_MOE, "num_experts": 6, "sliding_window": 5, "mlp_layer_types": ["dense", "sparse", "dense", "sparse"],
        "layer_types": ["full_attention", *["sliding_attention"] * 3]}),
    "phimoe": ("PhimoeForCausalLM", {**_GQA, "num_local_experts": 6, "attention_bias": True, "lm_head_bias": True}),
    "ernie4_5_moe": ("Ernie4_5_MoeForCausalLM", {
        **_GQA, "moe_num_experts": 6, "moe_k": 2, "moe_intermediate_size": 24, "use_bias": True,
        "tie_word_embeddings": False}),
    "hunyuan_v1_moe": ("HunYuanMoEV1ForCausalLM", {**_HEADS, "num_experts": 6, "moe_topk": [1, 2, 3, 2]}),
    "dbrx": ("DbrxForCausalLM", {
        "d_model": 32, "n_heads": 4, "n_layers": 3, "vocab_size": V, "max_seq_len": 64,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 0.2, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 6, "moe_top_k": 2}}),
    "aria_text": ("AriaTextForCausalLM", {**_HEADS, "moe_num_experts": 6, "mlp_bias": True, "attention_bias": True}),
    "llama4_text": ("Llama4ForCausalLM", {
        **_HEADS, "num_hidden_layers": 5, "intermediate_size_mlp": 40, "num_local_experts": 3, "num_experts_per_tok": 2,
        "interleave_moe_layer_step": 2, "attention_chunk_size": 5, "floor_scale": 3, "attn_scale": 0.5}),
    "gemma4_text": ("Gemma4ForCausalLM", {
        **_SHARING, "global_head_dim": 16, "vocab_size_per_layer_input": V, "hidden_size_per_layer_input": 6}),
    "gemma4_text keys as values": ("Gemma4ForCausalLM", {
        **_SHARING, "global_head_dim": 16, "attention_k_eq_v": True, "num_global_key_value_heads": 1,
        "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0}),
    "gemma4_text experts": ("Gemma4ForCausalLM", {
        **_SHARING, "global_head_dim": 16, "hidden_size_per_layer_input": 6, "enable_moe_block": True, "num_experts": 6,
        "top_k_experts": 2, "moe_intermediate_size": 20, "final_logit_softcapping": 4.0, "use_double_wide_mlp": True}),
    "gemma4_unified_text": ("Gemma4UnifiedForCausalLM", {**_SHARING, "global_head_dim": 16}),
    "gemma3n_text": ("Gemma3nForCausalLM", {
        **_SHARING, "vocab_size_per_layer_input": V - 5, "hidden_size_per_layer_input": 6, "laurel_rank": 5,
        "altup_num_inputs": 3, "activation_sparsity_pattern": [0.7, 0.0] * 3}),
    "deepseek_v32": ("DeepseekV32ForCausalLM", {**_V3_MLA, **_V3, **_INDEX}),
    "glm_moe_dsa": ("GlmMoeDsaForCausalLM", {**_V3_MLA, **_V3, **_INDEX, "index_topk_pattern": "FSFS"}),
    "glm4_moe_lite": ("Glm4MoeLiteForCausalLM", {**_V3_MLA, **_V3}),
    "axk1": ("AXK1ForCausalLM", {**_V3_MLA, **_V3, "rope_interleave": False}),
    "mistral4": ("Mistral4ForCausalLM", {**_V3_MLA, **_V3, "rope_parameters": {
        **_YARN, "original_max_position_embeddings": 4, "llama_4_scaling_beta": 0.5, "mscale": 1.0,
        "mscale_all_dim": 1.0}}),
    "minicpm3": ("MiniCPM3ForCausalLM", {**_MLA, "v_head_dim": None, "dim_model_base": 20, "scale_depth": 1.1}),
    "youtu": ("YoutuForCausalLM", _MLA),
    "axk2": ("AXK2ForCausalLM", {**_V3_MLA, **_V3, **_INDEX, "gated_norm_rank": 6, "n_group": None,
                                 "topk_group": None}),
    "hy_v4": ("HYV4ForCausalLM", {**_V3_MLA, **_V3, **_INDEX, "n_group": 1, "topk_group": 1, "hc_mult": 3,
                                  "hc_eps": 1e-3, "swiglu_limit": 0.3,
                                  "indexer_types": ["full", "shared", "full", "full"]}),
    "dots3_note_text": ("Dots3NoteForCausalLM", {
        **_V3_MLA, **_V3, **_INDEX, "swa_num_attention_heads": 6, "swa_num_key_value_heads": 6, "swa_q_lora_rank": 10,
        "swa_kv_lora_rank": 14, "swa_head_dim": 14, "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 10, "head_dim": 12,
        "sliding_window_size": 5, "shared_experts_intermediate_size": 20, "num_hidden_layers": 5}),
    "cohere_compass_text": ("CohereCompassForCausalLM", {
        **_GQA, "sliding_window": 5, "logit_scale": 0.5, "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {"sliding_attention": {**_PLAIN, "mrope_section": [2, 1, 1]}, "full_attention": None}}),
    "emu3_text_model": ("Emu3ForCausalLM", {**_GQA, "mlp_bias": True}),
    "mllama_text_model": ("MllamaForCausalLM", {**_GQA, "cross_attention_layers": []}),
    "moshi": ("MoshiForCausalLM", {key: value for key, value in _HEADS.items() if key != "intermediate_size"}
              | {"ffn_dim": 40}),
    "doge": ("DogeForCausalLM", {**_GQA, "mlp_bias": True}),
    "doge few": ("DogeForCausalLM", {**_GQA, "keep_window_size": 5}),
    "flint": ("FlintForCausalLM", {**_MOE, "num_experts": 6, "sliding_window": 5, "num_hidden_layers": 5,
                                   "shared_expert_intermediate_size": 20}),
    "beam": ("BeamForCausalLM", {**_MOE, "num_experts": 6, "sliding_window": 5, "n_group": 2, "topk_group": 1,
                                 "final_logit_softcapping": 3.0, "num_hidden_layers": 7}),
    "minimax_m3_vl_text": ("MiniMaxM3VLForCausalLM", {
        **_HEADS, "num_local_experts": 6, "num_experts_per_tok": 2, "shared_intermediate_size": 20,
        "dense_intermediate_size": 36, "mlp_layer_types": ["dense", "sparse", "sparse", "dense"], "index_n_heads": 2,
        "index_head_dim": 12, "index_block_size": 2, "index_topk_blocks": 2, "swiglu_limit": 0.2,
        "layer_types": ["full_attention", *["minimax_m3_sparse"] * 3]}),
}  # fmt: skip


def every() -> dict[str, dict[str, Any]]:
    """Every config by its name."""
    return {
        name: {"model_type": name.split()[0], "architectures": [architecture], **fields}
        for name, (architecture, fields) in TYPES.items()
    }
