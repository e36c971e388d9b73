"""Tiny configs of encoders beside BERT's first kin that the reference builds, in their own spelling."""

from __future__ import annotations

from typing import Any

from tests.reference.published import V

_D = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": V,
      "max_position_embeddings": 64, "pad_token_id": 1}  # fmt: skip
_ULTRA = {"prediction_head_size": 20, "initializer_range": 0.3}  # two layers of small weights would leave little

#: type -> (class, fields); variants carry a word after the type's name.
TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "xlm-roberta": ("XLMRobertaForMaskedLM", _D),
    "xlm-roberta decoder": ("XLMRobertaForCausalLM", {**_D, "is_decoder": True}),
    "camembert": ("CamembertForMaskedLM", {**_D, "tie_word_embeddings": False}),
    "data2vec-text": ("Data2VecTextForMaskedLM", _D),
    "roberta-prelayernorm": ("RobertaPreLayerNormForMaskedLM", _D),
    "xlm-roberta-xl": ("XLMRobertaXLForMaskedLM", _D),
    "ibert": ("IBertForMaskedLM", _D),
    "electra": ("ElectraForMaskedLM", {**_D, "embedding_size": 20}),
    "electra decoder": ("ElectraForCausalLM", {**_D, "embedding_size": 20, "is_decoder": True}),
    "ernie": ("ErnieForMaskedLM", _D),
    "megatron-bert": ("MegatronBertForMaskedLM", _D),
    "bert-generation": ("BertGenerationDecoder", {**_D, "is_decoder": True}),
    "mpnet": ("MPNetForMaskedLM", _D),
    "esm": ("EsmForMaskedLM", {**_D, "mask_token_id": 2, "position_embedding_type": "rotary"}),
    "esm absolute": ("EsmForMaskedLM", {**_D, "mask_token_id": 2, "emb_layer_norm_before": True}),
    "rembert": ("RemBertForMaskedLM", {**_D, "input_embedding_size": 20, "output_embedding_size": 24}),
    "roformer": ("RoFormerForMaskedLM", {**_D, "embedding_size": 20}),
    "eurobert": ("EuroBertForMaskedLM", {**_D, "num_key_value_heads": 2}),
    "modernbert": ("ModernBertForMaskedLM", {**_D, "num_hidden_layers": 4, "local_attention": 8}),
    "modernbert biases": ("ModernBertForMaskedLM", {
        **_D, "attention_bias": True, "mlp_bias": True, "norm_bias": True, "tie_word_embeddings": False}),
    "modernbert-decoder": ("ModernBertDecoderForCausalLM", {**_D, "num_hidden_layers": 4, "local_attention": 8}),
    "nomic_bert": ("NomicBertForMaskedLM", _D),
    "gte": ("GteForMaskedLM", {**_D, "type_vocab_size": 0}),
    "jina_embeddings_v3": ("JinaEmbeddingsV3ForMaskedLM", _D),
    "esmc": ("EsmcForMaskedLM", {**_D, "mask_token_id": 2, "attention_bias": True, "mlp_bias": True}),
    "ultrabert": ("UltrabertForMaskedLM", {
        **_D, **_ULTRA, "num_hidden_layers": 3, "num_key_value_heads": 2, "sliding_window": 3}),
    "ultrabert tied": ("UltrabertForMaskedLM", {**_D, **_ULTRA, "tie_word_embeddings": True}),
    "fnet": ("FNetForMaskedLM", _D),
    "deberta": ("DebertaForMaskedLM", {**_D, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "deberta-v2": ("DebertaV2ForMaskedLM", {
        **_D, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8, "share_att_key": True,
        "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0, "conv_kernel_size": 3}),
    "deberta-v2 newer head": ("DebertaV2ForMaskedLM", {
        **_D, "relative_attention": True, "pos_att_type": "c2p|p2c", "position_buckets": 8, "legacy": False}),
    "longformer": ("LongformerForMaskedLM", {**_D, "attention_window": 4}),
}  # fmt: skip


#: Other classes of these types, by what is theirs alone: heads, poolers, bare models.
HEADS: dict[str, tuple[str, ...]] = {
    "xlm-roberta": ("XLMRobertaForSequenceClassification", "XLMRobertaForTokenClassification", "XLMRobertaModel"),
    "electra": ("ElectraForPreTraining", "ElectraForSequenceClassification", "ElectraForMultipleChoice",
                "ElectraForQuestionAnswering", "ElectraModel"),
    "ernie": ("ErnieForPreTraining", "ErnieForNextSentencePrediction"),
    "megatron-bert": ("MegatronBertForSequenceClassification",),
    "bert-generation": ("BertGenerationEncoder",),
    "mpnet": ("MPNetForSequenceClassification", "MPNetModel"),
    "esm": ("EsmForSequenceClassification", "EsmForTokenClassification", "EsmModel"),
    "rembert": ("RemBertForSequenceClassification", "RemBertForQuestionAnswering"),
    "roformer": ("RoFormerForSequenceClassification", "RoFormerModel"),
    "eurobert": ("EuroBertForTokenClassification", "EuroBertModel"),
    "modernbert": ("ModernBertForSequenceClassification", "ModernBertForQuestionAnswering", "ModernBertModel"),
    "modernbert-decoder": ("ModernBertDecoderForSequenceClassification", "ModernBertDecoderModel"),
    "nomic_bert": ("NomicBertForSequenceClassification", "NomicBertModel"),
    "gte": ("GteForSequenceClassification", "GteModel"),
    "jina_embeddings_v3": ("JinaEmbeddingsV3ForSequenceClassification", "JinaEmbeddingsV3Model"),
    "esmc": ("EsmcForSequenceClassification", "EsmcForTokenClassification", "EsmcModel"),
    "ultrabert": ("UltrabertForSequenceClassification", "UltrabertForQuestionAnswering", "UltrabertModel"),
    "fnet": ("FNetForSequenceClassification", "FNetModel"),
    "deberta": ("DebertaForSequenceClassification",),
    "deberta-v2": ("DebertaV2ForSequenceClassification", "DebertaV2ForTokenClassification", "DebertaV2Model"),
    "longformer": ("LongformerForTokenClassification", "LongformerModel"),
}  # fmt: skip


def every() -> dict[str, dict[str, Any]]:
    """Every config by its name."""
    return {
        name: {"model_type": name.split()[0], "architectures": [architecture], **fields}
        for name, (architecture, fields) in TYPES.items()
    }


def other_classes(configs: dict[str, dict[str, Any]], heads: dict[str, tuple[str, ...]]) -> dict[str, dict[str, Any]]:
    """Configs of those classes of each type, by the name of the class."""
    return {
        name: {**configs[kind], "architectures": [name], "num_labels": 2 if "Question" in name else 3}
        for kind, names in heads.items()
        for name in names
    }
