"""Whisper: an encoder of sound, a decoder of text (Radford et al. 2022, arXiv 2212.04356, section 2.2)."""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import AudioEmbedding, Head, HeadTransform, Model, Projection, Sinusoidal, Stack
from txcalc.configs.bart import BART_ALIASES, BART_DEFAULTS, Style, alike, idle_of, stack_of
from txcalc.configs.common import dtype_of, quantization_of
from txcalc.configs.encoders import known_task
from txcalc.configs.heads import Task, classifier, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

_STYLE: Final = Style(
    prefix="Whisper",
    tasks="seq2seq_lm base causal_lm audio_classification",
    pre_normed=True,
    embedding_normed=False,
    final_normed=True,
    offset=0,
    rows="max_target_positions",
    key_bias=False,
    scaled=(),
)
_KERNEL: Final = 3  # of both convolutions; no field of the config

DEFAULTS: Final[dict[str, Any]] = {
    **BART_DEFAULTS,
    "vocab_size": 51_865,
    "num_mel_bins": 80,
    "d_model": 384,
    "encoder_layers": 4,
    "encoder_ffn_dim": 1536,
    "encoder_attention_heads": 6,
    "decoder_layers": 4,
    "decoder_ffn_dim": 1536,
    "decoder_attention_heads": 6,
    "max_source_positions": 1500,
    "max_target_positions": 448,
    "use_weighted_layer_sum": False,
    "classifier_proj_size": 256,
}
# How sound was masked in training, which heads align words with time, what is said in which language.
_WITHOUT_BEARING: Final = (
    "apply_spec_augment", "mask_time_prob", "mask_time_length", "mask_time_min_masks", "mask_feature_prob",
    "mask_feature_length", "mask_feature_min_masks", "median_filter_width", "alignment_heads", "is_multilingual",
    "forced_decoder_ids", "no_timestamps_token_id", "lang_to_id", "task_to_id", "max_initial_timestamp_index",
    "return_timestamps", "prev_sot_token_id", "scale_embedding", "max_position_embeddings",
)  # fmt: skip


def _whisper(r: Reader) -> Model:
    r.ignore(*_WITHOUT_BEARING, "classifier_proj_size", "use_weighted_layer_sum", "decoder_layers", "decoder_ffn_dim")
    r.ignore("encoder_layers", "encoder_ffn_dim", "encoder_attention_heads", "decoder_attention_heads")
    r.ignore("num_mel_bins", "max_source_positions", "max_target_positions", "num_hidden_layers", "num_attention_heads")
    r.ignore("tie_word_embeddings", "vocab_size")  # of the classes that have text
    task = known_task(r, _STYLE.tasks, prefix="Whisper", default="seq2seq_lm")
    alone = task == "causal_lm"
    stacks = [] if alone else [_encoder(r)]
    if task != "audio_classification":
        stacks.append(stack_of(r, _STYLE, "decoder", mixers=alike, feed_forwards=alike, alone=alone))
    return Model(
        name="",
        model_type=r.model_type,
        stacks=tuple(stacks),
        head=_head(r, task),
        unused=idle_of(r, _STYLE) if alone else (),
        dtype=dtype_of(r),
        quantization=quantization_of(r),
        max_position_embeddings=None if task == "audio_classification" else r.integer("max_target_positions"),
    )


def _encoder(r: Reader) -> Stack:
    """Two convolutions, fixed sines that are stored as a table, and layers like the decoder's; one length only."""
    hidden, rows = r.integer("hidden_size"), r.integer("max_source_positions")
    if hidden % 2 or hidden < 4:
        raise r.error("hidden_size", f"is {hidden}; sines and cosines need an even width of at least 4")
    sound = AudioEmbedding(
        num_mel_bins=r.integer("num_mel_bins"),
        hidden_size=hidden,
        conv_kernel=_KERNEL,
        positions=Sinusoidal(rows=rows, width=hidden, stored=True),
    )
    text = stack_of(r, _STYLE, "encoder", mixers=alike, feed_forwards=alike)
    return text.replace(embedding=sound, fixed_length=rows)


def _head(r: Reader, task: Task) -> Head | None:
    hidden = r.integer("hidden_size")
    if task == "base":
        return None
    if task == "audio_classification":  # the mean over time, through a narrower layer
        if r.flag("use_weighted_layer_sum"):
            r.reasons.append("use_weighted_layer_sum = true: a sum over all layers is not described")
        width = r.integer("classifier_proj_size")
        dense = Projection(in_size=hidden, out_size=width, bias=True)
        head = classifier(hidden, num_labels(r), role="encoder", bias=True, pooled=False)
        return head.replace(transform=HeadTransform(dense=dense), reads="mean")
    tied, vocab = r.flag("tie_word_embeddings"), r.integer("vocab_size")
    return Head(kind="lm", input_size=hidden, output_size=vocab, tied=tied, tied_to="decoder")


TYPES: Final = {
    "whisper": ModelType(
        build=_whisper,
        defaults=DEFAULTS,
        aliases={**BART_ALIASES, "num_key_value_heads": "encoder_attention_heads"},
        origin="transformers 5.23 WhisperConfig",
    )
}
