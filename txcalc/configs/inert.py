"""Keys of a config.json that bear on no figure of any type: the explicit list.

A key belongs here only if no model type gives it a meaning for shape, cache or operations. Keys that one type alone
carries are ignored by that type's adapter instead (``Reader.ignore``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_BOOKKEEPING = """
_name_or_path _commit_hash auto_map transformers_version architectures torch_dtype dtype model_type name_or_path
transformers.js_config license finetuning_task task_specific_params custom_pipelines adapters unsloth_version
unsloth_fixed _attn_implementation _attn_implementation_autoset attn_implementation _experts_implementation
experts_implementation use_cache is_decoder is_encoder_decoder torchscript return_dict output_attentions
output_hidden_states output_past problem_type id2label label2id num_labels gradient_checkpointing use_bfloat16
tokenizer_class prefix pruned_heads tf_legacy_loss return_dict_in_generate xla_device _num_labels
""".split()

_TOKENS = """
bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id cls_token_id mask_token_id decoder_start_token_id
forced_bos_token_id forced_eos_token_id suppress_tokens begin_suppress_tokens bad_words_ids
""".split()

_GENERATION = """
max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size num_return_sequences
output_scores remove_invalid_values exponential_decay_length_penalty max_new_tokens generation_config
""".split()

_TRAINING = """
initializer_range initializer_factor initializer_std init_std init_method embedding_init_std
attention_dropout attention_probs_dropout_prob hidden_dropout hidden_dropout_prob dropout dropout_rate
embd_pdrop attn_pdrop resid_pdrop activation_dropout classifier_dropout embedding_dropout embd_dropout resid_dropout
ffn_dropout residual_dropout attn_dropout hidden_dropout_rate layerdrop encoder_layerdrop decoder_layerdrop
summary_first_dropout router_aux_loss_coef router_z_loss_coef output_router_logits aux_loss_alpha seq_aux
router_jitter_noise keys_to_ignore_at_inference pretraining_tp chunk_size_feed_forward
""".split()

#: Switches that older releases wrote into every config, nested ones too: these values say what is built anyway.
OFF: Final[Mapping[str, object]] = {
    "add_cross_attention": False, "cross_attention_hidden_size": None, "tie_encoder_decoder": False,
}  # fmt: skip

INERT: Final = frozenset(_BOOKKEEPING + _TOKENS + _GENERATION + _TRAINING)
