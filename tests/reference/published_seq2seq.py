"""Tiny configs of encoder-decoders beside T5 and BART that the reference builds, in their own spelling."""

from __future__ import annotations

from typing import Any

from tests.reference.published import V

_D = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40,
      "encoder_attention_heads": 4, "decoder_attention_heads": 4, "vocab_size": V, "max_position_embeddings": 64,
      "pad_token_id": 1}  # fmt: skip
_T5 = {"d_model": 32, "d_kv": 10, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": V, "pad_token_id": 0}
_WHISPER = {**{key: value for key, value in _D.items() if key != "max_position_embeddings"}, "num_mel_bins": 6,
            "max_source_positions": 9, "max_target_positions": 20, "bos_token_id": 2, "eos_token_id": 2,
            "decoder_start_token_id": 2}  # fmt: skip
_GEMMA = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 10, "vocab_size": V, "sliding_window": 4,
          "query_pre_attn_scalar": 12}  # fmt: skip

#: type -> (class, fields); variants carry a word after the type's name.
TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "mbart": ("MBartForConditionalGeneration", {**_D, "scale_embedding": True}),
    "mbart untied": ("MBartForConditionalGeneration", {**_D, "tie_word_embeddings": False}),
    "mbart decoder": ("MBartForCausalLM", _D),
    "plbart": ("PLBartForConditionalGeneration", _D),
    "mvp": ("MvpForConditionalGeneration", {**_D, "scale_embedding": True}),
    "pegasus": ("PegasusForConditionalGeneration", {**_D, "scale_embedding": True}),
    "blenderbot": ("BlenderbotForConditionalGeneration", {**_D, "scale_embedding": True}),
    "blenderbot-small": ("BlenderbotSmallForConditionalGeneration", {**_D, "scale_embedding": True}),
    "m2m_100": ("M2M100ForConditionalGeneration", _D),
    "nllb-moe": ("NllbMoeForConditionalGeneration", {
        **_D, "num_experts": 4, "encoder_sparse_step": 2, "decoder_sparse_step": 2, "expert_capacity": 64}),
    "marian": ("MarianMTModel", {**_D, "scale_embedding": True}),
    "marian two vocabularies": ("MarianMTModel", {
        **_D, "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 71}),
    "marian decoder": ("MarianForCausalLM", _D),
    "fsmt": ("FSMTForConditionalGeneration", {
        **{key: _D[key] for key in _D if key != "vocab_size"}, "src_vocab_size": V, "tgt_vocab_size": 71}),
    "led": ("LEDForConditionalGeneration", {
        **_D, "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64, "attention_window": 4}),
    "trocr": ("TrOCRForCausalLM", {
        "d_model": 32, "decoder_layers": 2, "decoder_ffn_dim": 40, "decoder_attention_heads": 4, "vocab_size": V,
        "max_position_embeddings": 64, "cross_attention_hidden_size": 24}),
    "whisper": ("WhisperForConditionalGeneration", _WHISPER),
    "whisper decoder": ("WhisperForCausalLM", _WHISPER),
    "mt5": ("MT5ForConditionalGeneration", {**_T5, "tie_word_embeddings": False}),
    "mt5 encoder": ("MT5EncoderModel", _T5),
    "umt5": ("UMT5ForConditionalGeneration", _T5),
    "longt5": ("LongT5ForConditionalGeneration", {**_T5, "local_radius": 3}),
    "switch_transformers": ("SwitchTransformersForConditionalGeneration", {
        **_T5, "num_decoder_layers": 2, "num_experts": 4, "num_sparse_encoder_layers": 1,
        "num_sparse_decoder_layers": 1, "expert_capacity": 64}),
    "t5gemma": ("T5GemmaForConditionalGeneration", {"encoder": _GEMMA, "decoder": {**_GEMMA, "hidden_size": 24}}),
}  # fmt: skip


#: Other classes of these types.
HEADS: dict[str, tuple[str, ...]] = {
    "mbart": ("MBartModel", "MBartForQuestionAnswering"),
    "plbart": ("PLBartForCausalLM",),
    "pegasus": ("PegasusModel", "PegasusForCausalLM"),
    "blenderbot-small": ("BlenderbotSmallForCausalLM",),
    "m2m_100": ("M2M100Model",),
    "marian": ("MarianModel",),
    "led": ("LEDModel",),
    "whisper": ("WhisperModel",),
    "mt5": ("MT5Model", "MT5ForTokenClassification", "MT5ForQuestionAnswering"),
    "umt5": ("UMT5EncoderModel",),
    "longt5": ("LongT5EncoderModel",),
    "switch_transformers": ("SwitchTransformersEncoderModel",),
    "t5gemma": ("T5GemmaModel",),
}


def every() -> dict[str, dict[str, Any]]:
    """Every config by its name."""
    return {
        name: {"model_type": name.split()[0], "architectures": [architecture], **fields}
        for name, (architecture, fields) in TYPES.items()
    }
