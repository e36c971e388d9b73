"""Tiny configs of every type of the first slice, in the spelling of their own config.json, and variants of them."""

from __future__ import annotations

from typing import Any

V = 67
_D = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": V,
      "max_position_embeddings": 64}  # fmt: skip
_GQA = {**_D, "num_key_value_heads": 2}
_GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": V, "n_positions": 64}
_MOE = {**_GQA, "moe_intermediate_size": 24, "num_experts": 6, "num_experts_per_tok": 2, "head_dim": 8}
_MLA = {**_D, "num_key_value_heads": 4, "q_lora_rank": 20, "kv_lora_rank": 16, "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4, "v_head_dim": 12, "moe_intermediate_size": 24, "n_routed_experts": 8,
        "n_shared_experts": 2, "num_experts_per_tok": 3, "first_k_dense_replace": 1}  # fmt: skip
_DELTA = {"num_hidden_layers": 4, "head_dim": 16, "linear_num_value_heads": 4, "linear_num_key_heads": 2,
          "linear_key_head_dim": 8, "linear_value_head_dim": 6, "shared_expert_intermediate_size": 20}  # fmt: skip
_JAMBA = {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
          "expert_layer_offset": 1, "mamba_d_state": 4, "mamba_dt_rank": 6, "use_mamba_kernels": False}  # fmt: skip
_TEXT = {**_GQA, "model_type": "gemma3_text", "head_dim": 10, "sliding_window": 5}
_VISION = {"model_type": "siglip_vision_model", "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
           "num_attention_heads": 2, "image_size": 28, "patch_size": 7}  # fmt: skip

TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", _GQA),
    "mistral": ("MistralForCausalLM", {**_GQA, "sliding_window": 5}),
    "mixtral": ("MixtralForCausalLM", {**_GQA, "num_local_experts": 4}),
    "qwen2": ("Qwen2ForCausalLM", _GQA),
    "qwen3": ("Qwen3ForCausalLM", {**_GQA, "head_dim": 12}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", {**_MOE, "decoder_sparse_step": 2}),
    "qwen3_next": ("Qwen3NextForCausalLM", {**_MOE, **_DELTA}),
    "gemma": ("GemmaForCausalLM", {**_GQA, "head_dim": 10}),
    "gemma2": ("Gemma2ForCausalLM", {**_GQA, "head_dim": 10, "sliding_window": 5, "query_pre_attn_scalar": 12}),
    "gemma3": ("Gemma3ForConditionalGeneration", {"text_config": _TEXT, "vision_config": _VISION,
                                                  "mm_tokens_per_image": 4}),
    "gemma3_text": ("Gemma3ForCausalLM", {**_GQA, "head_dim": 10, "sliding_window": 5}),
    "phi": ("PhiForCausalLM", _GQA),
    "phi3": ("Phi3ForCausalLM", {**_GQA, "pad_token_id": 0}),
    "gpt2": ("GPT2LMHeadModel", _GPT),
    "gptj": ("GPTJForCausalLM", {**_GPT, "rotary_dim": 4}),
    "gpt_neox": ("GPTNeoXForCausalLM", _D),
    "gpt_bigcode": ("GPTBigCodeForCausalLM", _GPT),
    "gpt_oss": ("GptOssForCausalLM", {**_GQA, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8,
                                      "sliding_window": 5}),
    "opt": ("OPTForCausalLM", {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
                               "vocab_size": V, "max_position_embeddings": 64, "word_embed_proj_dim": 32}),
    "bloom": ("BloomForCausalLM", {"hidden_size": 32, "n_layer": 3, "n_head": 4, "vocab_size": V}),
    "mpt": ("MptForCausalLM", {"d_model": 32, "n_heads": 4, "n_layers": 3, "vocab_size": V, "max_seq_len": 64}),
    "falcon": ("FalconForCausalLM", {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
                                     "vocab_size": V}),
    "starcoder2": ("Starcoder2ForCausalLM", _GQA),
    "stablelm": ("StableLmForCausalLM", {**_GQA, "qk_layernorm": True, "use_qkv_bias": True}),
    "cohere": ("CohereForCausalLM", {**_GQA, "use_qk_norm": True, "logit_scale": 0.5}),
    "olmo2": ("Olmo2ForCausalLM", _GQA),
    "deepseek_v2": ("DeepseekV2ForCausalLM", {**_MLA, "topk_method": "group_limited_greedy", "n_group": 4,
                                              "topk_group": 2}),
    "deepseek_v3": ("DeepseekV3ForCausalLM", {**_MLA, "n_group": 4, "topk_group": 2}),
    "jamba": ("JambaForCausalLM", {**_GQA, **_JAMBA, "num_experts": 4}),
    "mamba": ("MambaForCausalLM", {"hidden_size": 32, "num_hidden_layers": 3, "vocab_size": V, "state_size": 4,
                                   "time_step_rank": 6}),
    "bert": ("BertForMaskedLM", _D),
    "roberta": ("RobertaForMaskedLM", _D),
    "albert": ("AlbertForMaskedLM", {**_D, "embedding_size": 20}),
    "distilbert": ("DistilBertForMaskedLM", {"dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 4, "vocab_size": V,
                                             "max_position_embeddings": 64}),
    "t5": ("T5ForConditionalGeneration", {"d_model": 32, "d_kv": 10, "d_ff": 48, "num_layers": 3, "num_heads": 4,
                                          "vocab_size": V}),
    "bart": ("BartForConditionalGeneration", {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "vocab_size": V, "max_position_embeddings": 64}),
}  # fmt: skip

_YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
_LONG = {"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 3.0, 4.0]}

#: (type, what changes): each arranges a layer, stores a tensor or masks a score in another way than the type's first.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama biases, tied": ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "qwen2 windows": ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen3_moe normed weights": ("qwen3_moe", {"norm_topk_prob": True, "mlp_only_layers": [0]}),
    "qwen3_next normed weights": ("qwen3_next", {"norm_topk_prob": True}),
    "mixtral windows": ("mixtral", {"sliding_window": 5}),
    "gemma2 no caps": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "phi norms": ("phi", {"qk_layernorm": True}),
    "phi3 longrope": ("phi3", {"rope_scaling": _LONG, "original_max_position_embeddings": 16}),
    "gpt2 untied": ("gpt2", {"tie_word_embeddings": False, "n_inner": 40}),
    "gpt_bigcode heads": ("gpt_bigcode", {"multi_query": False}),
    "gpt_neox sequential": ("gpt_neox", {"use_parallel_residual": False, "attention_bias": False}),
    "opt post-norm, projected": ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 16}),
    "bloom post-norm residual": ("bloom", {"apply_residual_connection_post_layernorm": True}),
    "falcon grouped": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon grouped, one norm": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2,
                                            "num_ln_in_parallel_attn": 1}),
    "falcon sequential": ("falcon", {"multi_query": False, "parallel_attn": False, "bias": True}),
    "falcon alibi": ("falcon", {"alibi": True, "multi_query": False}),
    "starcoder2 windows": ("starcoder2", {"sliding_window": 5, "use_bias": False}),
    "stablelm parallel": ("stablelm", {"use_parallel_residual": True, "qk_layernorm": False}),
    "cohere no norms": ("cohere", {"use_qk_norm": False}),
    "deepseek_v2 full queries": ("deepseek_v2", {"q_lora_rank": None, "topk_method": "greedy"}),
    "deepseek_v3 yarn": ("deepseek_v3", {"rope_parameters": {**_YARN, "mscale": 1.0, "mscale_all_dim": 1.0},
                                         "rope_interleave": False}),
    "jamba dense": ("jamba", {"num_experts": 1}),
    "mamba biases": ("mamba", {"use_bias": True, "use_conv_bias": False}),
    "bert decoder": ("bert", {"architectures": ["BertLMHeadModel"], "is_decoder": True}),
    "bert untied": ("bert", {"tie_word_embeddings": False}),
    "roberta decoder": ("roberta", {"architectures": ["RobertaForCausalLM"], "is_decoder": True}),
    "albert groups": ("albert", {"num_hidden_groups": 2, "inner_group_num": 2}),
    "t5 gated": ("t5", {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 2}),
    "bart scaled": ("bart", {"scale_embedding": True}),
}  # fmt: skip


def config(model_type: str, **changes: Any) -> dict[str, Any]:
    """The tiny config of a type, with changes."""
    architecture, fields = TYPES[model_type]
    return {"model_type": model_type, "architectures": [architecture], **fields, **changes}


def every() -> dict[str, dict[str, Any]]:
    """Every type and every variant, by name."""
    variants = {name: config(kind, **changes) for name, (kind, changes) in VARIANTS.items()}
    return {**{kind: config(kind) for kind in TYPES}, **variants}
