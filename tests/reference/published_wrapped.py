"""Tiny configs of the text parts of models that see or hear, which have types of their own and no head.

A text's tokens have one position for time, row and column: turned by sections or in turn, it is plain rotary.
"""

from __future__ import annotations

from typing import Any

from tests.reference.published import V

_D = {"hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4,
      "num_key_value_heads": 2, "vocab_size": V, "max_position_embeddings": 64, "pad_token_id": 0}  # fmt: skip
_WIDE = {**_D, "head_dim": 16}
_MOE = {**_WIDE, "moe_intermediate_size": 24, "num_experts": 6, "num_experts_per_tok": 2}


def _turned(*sections: int, theta: float = 1e4, **fields: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, "mrope_section": [*sections], **fields}}


#: type -> (class, fields); variants carry a word after the type's name.
TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2_vl_text": ("Qwen2VLTextModel", {**_D, **_turned(2, 2, 2)}),
    "qwen2_5_vl_text": ("Qwen2_5_VLTextModel", {
        **_D, **_turned(2, 3, 1), "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen2_5_omni_text": ("Qwen2_5OmniThinkerTextModel", {**_D, **_turned(2, 2, 2)}),
    "qwen3_vl_text": ("Qwen3VLTextModel", {**_WIDE, **_turned(4, 2, 2), "attention_bias": True}),
    "qwen3_vl_moe_text": ("Qwen3VLMoeTextModel", {**_MOE, **_turned(4, 2, 2), "mlp_only_layers": [1]}),
    "qwen3_omni_moe_text": ("Qwen3OmniMoeThinkerTextModel", {**_MOE, **_turned(4, 2, 2), "decoder_sparse_step": 2}),
    "glm4v_text": ("Glm4vTextModel", {**_D, **_turned(1, 1, 1, partial_rotary_factor=0.5)}),
    "glm4v_moe_text": ("Glm4vMoeTextModel", {
        **_WIDE, **_turned(1, 1, 2, partial_rotary_factor=0.5), "moe_intermediate_size": 24, "n_routed_experts": 6,
        "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 2,
        "routed_scaling_factor": 1.5}),
    "glm_ocr_text": ("GlmOcrTextModel", {**_WIDE, **_turned(2, 3, 3)}),
    "paddleocr_vl_text": ("PaddleOCRTextModel", {**_WIDE, **_turned(2, 3, 3), "use_bias": True}),
}  # fmt: skip


def every() -> dict[str, dict[str, Any]]:
    """Every config by its name."""
    return {
        name: {"model_type": name.split()[0], "architectures": [architecture], **fields}
        for name, (architecture, fields) in TYPES.items()
    }
