"""Which config.json each llama.cpp architecture corresponds to, and how its metadata is spelled there.

Keys: gguf-py's ``Keys`` (0.19) and what llama.cpp's converter writes for each architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple


class Kind(NamedTuple):
    """``fields``: metadata key -> field of the config; ``fixed``: what every file of the architecture has.

    ``present``: field -> a tensor whose presence makes it true. ``partial``: the field that says which part of a head
    is turned, as a fraction. ``beside``: the key that counts blocks beside the model (they are among its blocks).
    ``ignored``: keys without bearing on any figure.
    """

    model_type: str
    architecture: str
    fields: Mapping[str, str] = {}
    fixed: Mapping[str, Any] = {}
    present: Mapping[str, str] = {}
    partial: str = ""
    beside: str = ""
    ignored: tuple[str, ...] = ()


_WINDOW: Final = {"attention.sliding_window": "sliding_window"}
_EXPERTS: Final = {"expert_count": "num_experts", "expert_feed_forward_length": "moe_intermediate_size"}
_SHARED: Final = {"expert_shared_feed_forward_length": "shared_expert_intermediate_size"}
_SCALES: Final = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}
_CAPS: Final = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
_ROUTED: Final = {
    **_EXPERTS,
    "expert_count": "n_routed_experts",
    "expert_shared_count": "n_shared_experts",
    "leading_dense_block_count": "first_k_dense_replace",
    "expert_weights_scale": "routed_scaling_factor",
    "expert_weights_norm": "norm_topk_prob",
    "expert_group_count": "n_group",
    "expert_group_used_count": "topk_group",
}
_LATENT: Final = {
    "attention.q_lora_rank": "q_lora_rank",
    "attention.kv_lora_rank": "kv_lora_rank",
    "rope.dimension_count": "qk_rope_head_dim",
}


def _norm(name: str) -> dict[str, str]:
    return {"attention.layer_norm_epsilon": name}


KINDS: Final = {
    "llama": Kind("llama", "LlamaForCausalLM", present={"attention_bias": "blk.0.attn_q.bias"}),
    "qwen2": Kind("qwen2", "Qwen2ForCausalLM"),
    "qwen3": Kind("qwen3", "Qwen3ForCausalLM"),
    "qwen2moe": Kind("qwen2_moe", "Qwen2MoeForCausalLM", {**_EXPERTS, **_SHARED}),
    "qwen3moe": Kind("qwen3_moe", "Qwen3MoeForCausalLM", _EXPERTS, {"norm_topk_prob": True}),
    "gemma": Kind("gemma", "GemmaForCausalLM"),
    "gemma2": Kind("gemma2", "Gemma2ForCausalLM", {**_WINDOW, **_CAPS}),
    "gemma3": Kind("gemma3_text", "Gemma3ForCausalLM", {**_WINDOW, **_CAPS}),
    "phi2": Kind("phi", "PhiForCausalLM", _norm("layer_norm_eps"), partial="partial_rotary_factor"),
    "phi3": Kind("phi3", "Phi3ForCausalLM", _WINDOW, {"pad_token_id": None}, partial="partial_rotary_factor"),
    "gpt2": Kind("gpt2", "GPT2LMHeadModel", {**_norm("layer_norm_epsilon"), "feed_forward_length": "n_inner"}),
    "gptneox": Kind(
        "gpt_neox", "GPTNeoXForCausalLM",
        {**_norm("layer_norm_eps"), "use_parallel_residual": "use_parallel_residual"}, partial="rotary_pct",
    ),
    "starcoder2": Kind("starcoder2", "Starcoder2ForCausalLM", _norm("norm_epsilon")),
    "stablelm": Kind(
        "stablelm", "StableLmForCausalLM",
        {**_norm("layer_norm_eps"), "use_parallel_residual": "use_parallel_residual"},
        present={"use_qkv_bias": "blk.0.attn_q.bias", "qk_layernorm": "blk.0.attn_q_norm.weight"},
        partial="partial_rotary_factor",
    ),
    "command-r": Kind(
        "cohere", "CohereForCausalLM", {**_norm("layer_norm_eps"), "logit_scale": "logit_scale"},
        present={"use_qk_norm": "blk.0.attn_q_norm.weight"},
    ),
    "cohere2": Kind(
        "cohere2", "Cohere2ForCausalLM", {**_norm("layer_norm_eps"), "logit_scale": "logit_scale", **_WINDOW}
    ),
    "olmo2": Kind("olmo2", "Olmo2ForCausalLM"),
    "olmoe": Kind("olmoe", "OlmoeForCausalLM", {"expert_count": "num_experts"}),
    "granite": Kind("granite", "GraniteForCausalLM", _SCALES),
    "deepseek2": Kind("deepseek_v3", "DeepseekV3ForCausalLM", {**_ROUTED, **_LATENT}, ignored=("expert_gating_func",)),
    "glm4": Kind(
        "glm4", "Glm4ForCausalLM", present={"attention_bias": "blk.0.attn_q.bias"}, partial="partial_rotary_factor"
    ),
    "glm4moe": Kind(
        "glm4_moe", "Glm4MoeForCausalLM", _ROUTED,
        present={"attention_bias": "blk.0.attn_q.bias", "use_qk_norm": "blk.0.attn_q_norm.weight"},
        partial="partial_rotary_factor", beside="nextn_predict_layers", ignored=("expert_gating_func",),
    ),
    "gpt-oss": Kind("gpt_oss", "GptOssForCausalLM", {**_WINDOW, "expert_feed_forward_length": "intermediate_size"}),
    "smollm3": Kind("smollm3", "SmolLM3ForCausalLM"),
    "seed_oss": Kind(
        "seed_oss", "SeedOssForCausalLM",
        present={"attention_bias": "blk.0.attn_q.bias", "attention_out_bias": "blk.0.attn_output.bias"},
    ),
    "arcee": Kind(
        "arcee", "ArceeForCausalLM",
        present={"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_up.bias"},
    ),
    "ernie4_5": Kind("ernie4_5", "Ernie4_5ForCausalLM", present={"use_bias": "blk.0.attn_q.bias"}),
    "hunyuan-dense": Kind("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM"),
    "exaone4": Kind("exaone4", "Exaone4ForCausalLM", _WINDOW),
    "mamba": Kind(
        "mamba", "MambaForCausalLM",
        {
            "ssm.conv_kernel": "conv_kernel", "ssm.inner_size": "intermediate_size", "ssm.state_size": "state_size",
            "ssm.time_step_rank": "time_step_rank", "attention.layer_norm_rms_epsilon": "layer_norm_epsilon",
        },
        ignored=("attention.head_count", "feed_forward_length", "context_length"),
    ),
}  # fmt: skip
MIXTURE: Final = Kind("mixtral", "MixtralForCausalLM")  # the llama architecture with experts
V2: Final = ("deepseek_v2", "DeepseekV2ForCausalLM")  # deepseek2 whose experts are chosen by a softmax
