"""Encoders of sound by their tensors: conformers, stacked convolutions, and what queries their frames.

Sources: Gulati et al. 2020 (arXiv 2005.08100), section 2.2 (conformer); Li et al. 2023 (arXiv 2301.12597), section 3.1
(Q-Former); Peng et al. 2025 (arXiv 2508.19205), section 2.1 (VibeVoice's tokenizers).
"""

from __future__ import annotations

from itertools import chain
from typing import Final

from txcalc.configs.counted_towers import INERT, Tensors, divided, linear, listed
from txcalc.configs.reader import Reader
from txcalc.configs.tower_parts import TOWERS, Tower


def _granite(v: Reader) -> Tensors:
    """Conformer layers with a table of distances in each; a guess of letters in the middle is fed back."""
    width, layers, heads = v.integer("hidden_dim"), v.layers("num_layers"), v.integer("num_heads")
    head = v.optional_integer("dim_head") or width // heads
    if not head:
        raise v.error("num_heads", f"is {heads}; the width is {width}")
    wide, mixed = width * v.integer("feedforward_mult"), width * v.integer("conv_expansion_factor")
    farthest, letters = v.integer("max_pos_emb"), v.integer("output_dim")
    if v.integer("context_size") > farthest:
        raise v.error("max_pos_emb", f"is {farthest}; blocks hold {v.integer('context_size')} frames (context_size)")
    return [
        *linear("frames", v.integer("input_dim"), width),
        *linear("up_proj", width, wide, count=2 * layers),
        *linear("down_proj", wide, width, count=2 * layers),
        *linear("q_k_and_v_proj", width, heads * head, bias=False, count=3 * layers),
        *linear("o_proj", heads * head, width, count=layers),
        ("distances", (2 * farthest + 1, head), layers),
        *linear("gate_and_value_convolution", width, 2 * mixed, count=layers),
        ("depthwise_convolution", (mixed, v.integer("conv_kernel_size")), layers),
        ("batch_norm", (mixed,), 2 * layers),
        *linear("convolution_out", mixed, width, count=layers),
        ("norms", (width,), 10 * layers),
        *linear("letters_out", width, letters),
        *linear("letters_in", letters, width),
    ]


def q_former(p: Reader) -> Tensors:
    """BERT's layers over learned queries; every so many of them look at the tower's frames."""
    width, wide, layers = divided(p), p.integer("intermediate_size"), p.layers()
    looking, seen = -(-layers // p.integer("cross_attention_frequency")), p.integer("encoder_hidden_size")
    branches = 2 if p.flag("use_qformer_text_input") else 1
    p.ignore("vocab_size", "max_position_embeddings")
    return [
        *linear("attention", width, width, count=4 * layers + 2 * looking),
        *linear("k_and_v_of_frames", seen, width, count=2 * looking),
        *linear("up_proj", width, wide, count=branches * layers),
        *linear("down_proj", wide, width, count=branches * layers),
        ("norms", (width,), 2 * (layers + looking + branches * layers + 1)),
    ]


def _vibevoice(v: Reader) -> Tensors:
    """ConvNeXt blocks; each strided convolution between them doubles the channels."""
    width, kernel, grown = v.integer("num_filters"), v.integer("kernel_size"), v.integer("ffn_expansion")
    ratios = listed(v, "downsampling_ratios", minimum=1)
    depths = listed(v, "depths")
    if len(depths) <= len(ratios):
        raise v.error("depths", f"has {len(depths)} entries; {len(ratios)} downsampling_ratios need one more")
    v.ignore("layer_scale_init_value", "vae_std")
    if len(ratios) > _MOST_STAGES:
        raise v.error("downsampling_ratios", f"has {len(ratios)} entries; expected at most {_MOST_STAGES}")
    widths = [width * 2**stage for stage in range(len(ratios) + 1)]
    stages = [_blocks(each, depth, kernel, grown) for each, depth in zip(widths, depths, strict=False)]
    strided = [
        linear("strided_convolution", small * 2 * ratio, large)
        for small, large, ratio in zip(widths, widths[1:], ratios, strict=False)
    ]
    return [
        *linear("stem", v.integer("channels") * kernel, width),
        *chain(*strided, *stages),
        *linear("head", widths[-1] * kernel, v.integer("hidden_size")),
    ]


_MOST_STAGES: Final = 32  # each doubles the channels


def _blocks(width: int, depth: int, kernel: int, grown: int) -> Tensors:
    return [
        *linear("depthwise_convolution", kernel, width, count=depth),
        *linear("up_proj", width, grown * width, count=depth),
        *linear("down_proj", grown * width, width, count=depth),
        ("norms_and_scales", (width,), 4 * depth),
    ]


def _voxtral_realtime(v: Reader) -> Tensors:
    """Whisper's two convolutions, then gated layers with biases on all but the keys."""
    width, wide, layers = v.integer("hidden_size"), v.integer("intermediate_size"), v.layers()
    inner = v.integer("num_attention_heads") * v.integer("head_dim")
    v.ignore("max_position_embeddings", "sliding_window", "num_key_value_heads")
    return [
        *linear("convolution", 3 * v.integer("num_mel_bins"), width),
        *linear("second_convolution", 3 * width, width),
        *linear("q_and_v_proj", width, inner, count=2 * layers),
        *linear("k_proj", width, inner, bias=False, count=layers),
        *linear("o_proj", inner, width, count=layers),
        *linear("gate_and_up_proj", width, wide, bias=False, count=2 * layers),
        *linear("down_proj", wide, width, count=layers),
        ("norms", (width,), 2 * layers + 1),
    ]


def _nemotron(v: Reader) -> Tensors:
    """Two encoders of stacked frames side by side: one hears words, the other who speaks."""
    asr, speakers = v.nested("asr_config", defaults=_ASR), v.nested("diarization_config", defaults={})
    if speakers.model_type not in ("", "nemotron3_diarization"):
        v.reasons.append(f"diarization_config.model_type = {speakers.model_type!r}: read as a nemotron3_diarization")
    heard, head = speakers.nested("audio_config", defaults=_DIARIZATION), speakers.nested("head_config", defaults=_HEAD)
    v.ignore("speaker_activity_threshold", "hidden_size")
    speakers.ignore("chunk_length", "chunk_right_context", "chunk_left_context", "fifo_length")
    speakers.ignore("speaker_cache_update_period")
    _agree(asr, speakers, heard, head)
    width, out, factor = heard.integer("hidden_size"), head.integer("hidden_size"), head.integer("subsampling_factor")
    return [
        *_stacked(asr, normed=True),
        ("joined_norms", (asr.integer("hidden_size"),), 2),
        *_stacked(heard, normed=False),
        ("silence", (width,), 1),
        *linear("speakers_in", width, out),
        *linear("upsampler", 3 * out, out * factor),
        *linear("speakers_dense", out, out),
        *linear("speakers_out", out, head.integer("num_speakers")),
        ("speaker_norm", (head.integer("num_speakers"),), 2),
    ]


def _stacked(v: Reader, *, normed: bool) -> Tensors:
    """Frames side by side through one matrix, then layers with rotary positions."""
    pixels = v.integer("subsampling_factor") * v.integer("num_mel_bins")
    return [*linear("frames", pixels, v.integer("hidden_size"), bias=False), *_plain_layers(v, normed=normed)]


def _plain_layers(v: Reader, *, normed: bool) -> Tensors:
    """A norm, layers of two branches, a norm; ``normed``: queries and keys too, head by head."""
    v.ignore(*INERT, "max_position_embeddings", "partial_rotary_factor")
    width, layers, heads = divided(v), v.layers(), v.integer("num_attention_heads")
    head = v.integer("head_dim") if v.has("head_dim") else width // heads
    keys = v.optional_integer("num_key_value_heads") or heads
    return [
        *linear("q_and_v_proj", width, heads * head, bias=False, count=2 * layers),
        *linear("k_proj", width, keys * head, bias=False, count=layers),
        *linear("o_proj", heads * head, width, count=layers),
        ("qk_norms", (head,), 4 * layers * normed),
        *linear("up_proj", width, v.integer("intermediate_size"), count=layers),
        *linear("down_proj", v.integer("intermediate_size"), width, count=layers),
        ("norms", (width,), 4 * layers + 4),
    ]


def _agree(asr: Reader, speakers: Reader, heard: Reader, head: Reader) -> None:
    """Four configs say the same of the same thing.

    Raises:
        ModelError: one does not.
    """
    cache = speakers.nested("streaming_config", defaults=_STREAMING)
    cache.ignore(*cache.config)
    for reader, name, other, its in (
        (heard, "subsampling_factor", asr, "subsampling_factor"),
        (head, "subsampling_factor", heard, "subsampling_factor"),
        (cache, "subsampling_factor", heard, "subsampling_factor"),
        (head, "audio_hidden_size", heard, "hidden_size"),
        (cache, "num_speakers", head, "num_speakers"),
    ):
        if reader.integer(name) != other.integer(its):
            raise reader.error(name, f"is {reader.integer(name)}; {other.path}{its} is {other.integer(its)}")


def _word_times(v: Reader) -> Tensors:
    """A transposed convolution that makes more frames, then the same layers."""
    width = v.integer("hidden_size")
    blank, classes = v.integer("blank_token_id", minimum=0), v.integer("vocab_size")
    if blank >= classes:
        raise v.error("blank_token_id", f"is {blank}; there are {classes} classes")
    v.ignore("residual_scale")
    return [*linear("upsampler", width * v.integer("upsampling_factor"), width), *_plain_layers(v, normed=True)]


_WHISPER: Final = TOWERS["qwen2_audio_encoder"].aliases
_GRANITE: Final = Tower(
    {
        "input_dim": 160, "num_layers": 10, "hidden_dim": 1024, "feedforward_mult": 4, "num_heads": 8,
        "dim_head": None, "output_dim": 42, "context_size": 200, "max_pos_emb": 512, "conv_kernel_size": 15,
        "conv_expansion_factor": 2,
    },
    _granite,
    aliases={
        "hidden_size": "hidden_dim", "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads",
        "num_mel_bins": "input_dim",
    },
)  # fmt: skip
Q_FORMER: Final = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "cross_attention_frequency": 2, "encoder_hidden_size": 1408, "use_qformer_text_input": False,
}  # fmt: skip
_ASR: Final = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 10,
    "num_key_value_heads": None, "num_mel_bins": 128, "subsampling_factor": 8,
}  # fmt: skip
_DIARIZATION: Final = {
    **_ASR, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 31, "num_attention_heads": 8,
}  # fmt: skip
_HEAD: Final = {"hidden_size": 192, "num_speakers": 8, "audio_hidden_size": 512, "subsampling_factor": 8}
_STREAMING: Final = {"num_speakers": 8, "subsampling_factor": 8}

SOUND: Final = {
    "granite_speech_encoder": _GRANITE,
    "granite_speech_plus_encoder": _GRANITE._replace(defaults={**_GRANITE.defaults, "cat_hidden_layers": None}),
    "vibevoice_acoustic_tokenizer_encoder": Tower(
        {
            "channels": 1, "hidden_size": 64, "kernel_size": 7, "num_filters": 32, "ffn_expansion": 4,
            "downsampling_ratios": [2, 2, 4, 5, 5, 8], "depths": [3, 3, 3, 3, 3, 3, 8],
        },
        _vibevoice,
    ),
    "voxtral_realtime_encoder": Tower(
        {
            "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_mel_bins": 128, "head_dim": 64,
        },
        _voxtral_realtime,
        aliases={own: name for name, own in _WHISPER.items()},
    ),
    "nemotron3_5_transcribe_audio": Tower({}, _nemotron),
    "nemotron3_5_transcribe_word_timestamp": Tower(
        {
            "hidden_size": 1280, "intermediate_size": 640, "num_hidden_layers": 2, "num_attention_heads": 16,
            "num_key_value_heads": None, "upsampling_factor": 2, "vocab_size": 23_863,
            "blank_token_id": 23_862,
        },
        _word_times,
    ),
}  # fmt: skip
