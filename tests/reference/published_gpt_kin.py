"""Tiny configs of decoders beside GPT-2 that the reference builds (XLM and FlauBERT among them), in their spelling."""

from __future__ import annotations

from typing import Any

from tests.reference.published import V

_D = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": V,
      "max_position_embeddings": 64, "pad_token_id": 0}  # fmt: skip
_GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": V, "n_positions": 64}
_XGLM = {"d_model": 32, "num_layers": 3, "attention_heads": 4, "ffn_dim": 48, "vocab_size": V, "pad_token_id": 1,
         "max_position_embeddings": 64}  # fmt: skip
_XLM = {"emb_dim": 32, "n_layers": 3, "n_heads": 4, "vocab_size": V, "max_position_embeddings": 64, "causal": True}

#: type -> (class, fields); variants carry a word after the type's name.
TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_neo": ("GPTNeoForCausalLM", {
        "hidden_size": 32, "num_layers": 4, "num_heads": 4, "vocab_size": V, "max_position_embeddings": 64,
        "window_size": 5, "attention_types": [[["global", "local"], 2]]}),
    "codegen": ("CodeGenForCausalLM", {**_GPT, "n_head": 8, "rotary_dim": 2, "n_inner": 40}),
    "gpt_neox_japanese": ("GPTNeoXJapaneseForCausalLM", {**_D, "rope_parameters": {
        "rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}}),
    "xglm": ("XGLMForCausalLM", _XGLM),
    "biogpt": ("BioGptForCausalLM", {**_D, "intermediate_size": 48}),
    "ctrl": ("CTRLLMHeadModel", {**_GPT, "dff": 48}),
    "gpt-sw3": ("GPT2LMHeadModel", {**_GPT, "scale_attn_by_inverse_layer_idx": True}),
    "xlm": ("XLMWithLMHeadModel", {**_XLM, "gelu_activation": False}),
    "flaubert": ("FlaubertWithLMHeadModel", {**_XLM, "tie_word_embeddings": False}),
    "openai-gpt": ("OpenAIGPTLMHeadModel", _GPT),
}  # fmt: skip


def every() -> dict[str, dict[str, Any]]:
    """Every config by its name."""
    return {
        name: {"model_type": name.split()[0], "architectures": [architecture], **fields}
        for name, (architecture, fields) in TYPES.items()
    }
