"""Tiny configs of the recurrent types and hybrids that the reference builds, in their own spelling."""

from __future__ import annotations

from typing import Any

from tests.reference.published import V

_D = {"hidden_size": 32, "num_hidden_layers": 4, "vocab_size": V, "pad_token_id": 0}
_GQA = {**_D, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 64}  # fmt: skip
_MIXER = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 2, "mamba_d_state": 6, "mamba_chunk_size": 4,
          "initializer_range": 0.2}  # fmt: skip
_MIXED = ["conv", "full_attention", "conv", "full_attention"]
_NEMOTRON = {**_GQA, "head_dim": 12, "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 2, "ssm_state_size": 6,
             "chunk_size": 4, "initializer_range": 0.2,
             "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 20}  # fmt: skip
_TURNS = ["linear_attention", "full_attention"] * 2
_LATENT = {**_GQA, "num_key_value_heads": 4, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
           "v_head_dim": 10, "num_experts": 6, "num_experts_per_token": 2, "moe_intermediate_size": 24,
           "layer_types": _TURNS, "first_k_dense_replace": 1}  # fmt: skip
_DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
          "linear_value_head_dim": 12, "layer_types": _TURNS}  # fmt: skip

#: type -> (class, fields); variants carry a word after the type's name.
TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba2": ("Mamba2ForCausalLM", {**_D, "num_heads": 4, "head_dim": 16, "state_size": 6, "n_groups": 2,
                                     "chunk_size": 4, "time_step_limit": [0.01, 0.6]}),
    "falcon_mamba": ("FalconMambaForCausalLM", {**_D, "state_size": 6, "mixer_rms_eps": 1e-3}),
    "recurrent_gemma": ("RecurrentGemmaForCausalLM", {**_GQA, "attention_window_size": 5, "lru_width": 40,
                                                      "logits_soft_cap": 3.0}),
    "lfm2": ("Lfm2ForCausalLM", {**_GQA, "block_multiple_of": 8, "full_attn_idxs": [1, 2]}),
    "lfm2_moe": ("Lfm2MoeForCausalLM", {
        **_GQA, "moe_intermediate_size": 24, "num_experts": 6, "num_experts_per_tok": 2, "layer_types": _MIXED,
        "routed_scaling_factor": 1.5, "num_dense_layers": 1}),
    "bamba": ("BambaForCausalLM", {**_GQA, **_MIXER, "attn_layer_indices": [1]}),
    "falcon_h1": ("FalconH1ForCausalLM", {
        **_GQA, **_MIXER, "mamba_d_ssm": 64, "mamba_rms_norm": True, "projectors_bias": True,
        "lm_head_multiplier": 0.5, "embedding_multiplier": 3.0, "mlp_multipliers": [0.7, 0.8],
        "key_multiplier": 0.9, "attention_out_multiplier": 0.6, "attention_in_multiplier": 1.3,
        "ssm_multipliers": [0.5, 0.6, 0.7, 0.8, 0.9], "ssm_in_multiplier": 1.2, "ssm_out_multiplier": 0.4}),
    "falcon_h1 gate first": ("FalconH1ForCausalLM", {
        **_GQA, **_MIXER, "mamba_d_ssm": 64, "mamba_rms_norm": True, "mamba_norm_before_gate": False}),
    "falcon_h1 no norm": ("FalconH1ForCausalLM", {**_GQA, **_MIXER, "mamba_d_ssm": 64}),
    "granitemoehybrid": ("GraniteMoeHybridForCausalLM", {
        **_GQA, **_MIXER, "shared_intermediate_size": 20, "num_local_experts": 6,
        "layer_types": ["mamba", "attention", "mamba", "attention"], "embedding_multiplier": 3.0,
        "logits_scaling": 2.0, "residual_multiplier": 0.7, "attention_multiplier": 0.3}),
    "granitemoehybrid dense": ("GraniteMoeHybridForCausalLM", {
        **_GQA, **_MIXER, "shared_intermediate_size": 20, "num_local_experts": 0, "position_embedding_type": "rope",
        "layer_types": ["mamba", "attention", "mamba", "attention"]}),
    "olmo_hybrid": ("OlmoHybridForCausalLM", {**_GQA, "linear_num_key_heads": 2, "linear_num_value_heads": 4}),
    "olmo_hybrid no rotary": ("OlmoHybridForCausalLM", {
        **_GQA, "linear_allow_neg_eigval": False, "rope_parameters": {"rope_theta": None, "rope_type": "default"}}),
    "kimi_linear": ("KimiLinearForCausalLM", {**_LATENT, "linear_head_dim": 8, "linear_num_heads": 4}),
    "bailing_hybrid": ("BailingHybridForCausalLM", {
        **_LATENT, "head_dim": 8, "num_expert_group": 2, "topk_group": 1, "kda_lower_bound": -2000.0}),  # starts near 0
    "bailing_hybrid no floor": ("BailingHybridForCausalLM", {
        **_LATENT, "head_dim": 8, "num_expert_group": 1, "topk_group": 1, "kda_safe_gate": False}),
    "qwen3_5_text": ("Qwen3_5ForCausalLM", {**_GQA, **_DELTA, "head_dim": 16}),
    "qwen3_5_moe_text": ("Qwen3_5MoeForCausalLM", {
        **_GQA, **_DELTA, "head_dim": 16, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 20}),
    "minimax": ("MiniMaxForCausalLM", {
        **_GQA, "num_local_experts": 6, "block_size": 4, "full_attn_alpha_factor": 1.4, "full_attn_beta_factor": 0.7,
        "linear_attn_alpha_factor": 1.2, "mlp_alpha_factor": 1.1, "mlp_beta_factor": 0.8}),
    "longcat_flash": ("LongcatFlashForCausalLM", {
        **_D, "num_layers": 2, "num_attention_heads": 4, "ffn_hidden_size": 48, "q_lora_rank": 12, "kv_lora_rank": 16,
        "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "head_dim": 4, "v_head_dim": 10, "moe_topk": 2,
        "n_routed_experts": 6, "zero_expert_num": 0, "expert_ffn_hidden_size": 24, "max_position_embeddings": 64,
        "num_hidden_layers": 4}),
    "lfm3": ("Lfm3ForCausalLM", {**_GQA, "head_dim": 8, "num_hidden_layers": 6, "sliding_window": 5,
                                 "conv_L_cache": 5}),
    "lfm3 plain": ("Lfm3ForCausalLM", {**_GQA, "head_dim": 8, "use_sandwich_norm": False,
                                       "use_attention_gate": False, "attention_bias": True}),
    "nemotron_h": ("NemotronHForCausalLM", {**_NEMOTRON, "hybrid_override_pattern": "M*-E", "n_group": 4,
                                            "topk_group": 2, "routed_scaling_factor": 1.5}),
}  # fmt: skip


def every() -> dict[str, dict[str, Any]]:
    """Every config by its name."""
    return {
        name: {"model_type": name.split()[0], "architectures": [architecture], **fields}
        for name, (architecture, fields) in TYPES.items()
    }
