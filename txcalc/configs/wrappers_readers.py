"""Models that read pages or write down speech, around a known language model, towers counted by their tensors."""

from __future__ import annotations

from math import prod
from typing import Final

from txcalc.architecture import CountedPart, Model
from txcalc.configs.counted_towers import INERT, Tensors, kept, linear
from txcalc.configs.nemotron_h import LETTERS
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.tower_sound import Q_FORMER, q_former
from txcalc.configs.wrapped import Front, Text, Wrapped
from txcalc.configs.wrappers import wrapper_type

# ---- projectors -----------------------------------------------------------------------------------------------------


def _got_ocr2(r: Reader, v: Reader, hidden: int) -> Tensors:
    """Two convolutions that halve both sides, and a matrix."""
    width = v.integer("output_channels")
    return [
        ("convolution", (9 * width, 2 * width), 1),
        ("second_convolution", (18 * width, hidden), 1),
        *linear("projector", hidden, hidden),
    ]


def _granite(r: Reader, v: Reader, hidden: int) -> Tensors:
    """A Q-Former makes a few vectors of every window of frames, and a matrix."""
    p = r.nested("projector_config", defaults=Q_FORMER)
    p.origin = "transformers 5.23, the defaults of blip_2_qformer"
    p.ignore(*INERT, "tie_word_embeddings")
    p.unused("position_embedding_type", "absolute")
    if p.model_type not in ("", "blip_2_qformer"):
        r.reasons.append(f"projector_config.model_type = {p.model_type!r}: read as a blip_2_qformer")
    rate, width = r.integer("downsample_rate"), p.integer("hidden_size")
    queries = r.integer("window_size", minimum=rate) // rate
    _frames(v, p)
    return [("queries", (queries, width), 1), *q_former(p), *linear("projector", width, hidden)]


def _frames(v: Reader, p: Reader) -> None:
    """What the Q-Former looks at: the last layer's output, and beside it that of ``cat_hidden_layers``.

    Raises:
        ModelError: layers beside it, and a Q-Former of another width.
    """
    more = v.integers("cat_hidden_layers") if "cat_hidden_layers" in v.defaults else []
    if more and max(more) >= v.layers("num_layers"):
        raise v.error("cat_hidden_layers", f"names layer {max(more)}; there are {v.layers('num_layers')}")
    made, read = v.integer("hidden_dim") * (len(more) + 1), p.integer("encoder_hidden_size")
    if made != read and v.config.get("cat_hidden_layers") is not None:
        raise p.error("encoder_hidden_size", f"is {read}; the encoder makes {made} channels")
    if made != read:
        p.notes.append(f"sound does not run: the encoder makes {made} channels, the Q-Former reads {read}")


def _moss(r: Reader, v: Reader, hidden: int) -> Tensors:
    """Frames side by side through two matrices and a norm."""
    joined, bias = v.integer("hidden_size") * r.integer("audio_merge_size"), r.flag("projector_bias")
    return [
        *linear("up_proj", joined, hidden, bias=bias),
        *linear("down_proj", hidden, hidden, bias=bias),
        ("norm", (hidden,), 2),
    ]


def _acoustic(r: Reader, v: Reader, hidden: int) -> Tensors:
    chunk, hop = r.integer("acoustic_tokenizer_chunk_size"), prod(v.integers("downsampling_ratios"))
    if chunk % hop:
        raise r.error("acoustic_tokenizer_chunk_size", f"is {chunk}; it is not a multiple of {hop} samples a frame")
    return _vibevoice(r, v, hidden)


def _vibevoice(r: Reader, v: Reader, hidden: int) -> Tensors:
    """A matrix, a norm, a matrix."""
    return [
        *linear("up_proj", v.integer("hidden_size"), hidden),
        ("norm", (hidden,), 1),
        *linear("down_proj", hidden, hidden),
    ]


def _voxtral(r: Reader, v: Reader, hidden: int) -> Tensors:
    """Frames side by side through two matrices."""
    if v.model_type not in ("", "voxtral_realtime_encoder"):
        r.reasons.append(f"audio_config.model_type = {v.model_type!r}: read as a voxtral_realtime_encoder")
    joined = v.integer("hidden_size") * r.integer("downsample_factor")
    return [*linear("up_proj", joined, hidden, bias=False), *linear("down_proj", hidden, hidden, bias=False)]


def _nemotron(r: Reader, v: Reader, hidden: int) -> Tensors:
    """A matrix behind the encoder of words."""
    return linear("projector", _heard(v), hidden)


def _heard(v: Reader) -> int:
    asr = v.nested("asr_config", defaults={"hidden_size": 1280})
    asr.ignore(*asr.config)
    return asr.integer("hidden_size")


# ---- types that are read in a way of their own ----------------------------------------------------------------------


def _voxtral_realtime(r: Reader) -> Model:
    """Mistral, each layer's feed-forward scaled by what two matrices make of the delay between sound and text."""
    model = _VOXTRAL.read(r)
    layers, hidden = model.main.num_hidden_layers, model.main.hidden_size
    scales = CountedPart(name="delay", tensors=(("scale_down_proj", (hidden, 32), layers),
                                                ("scale_up_proj", (32, hidden), layers)))  # fmt: skip
    return model.replace(counted=(*model.counted, scales), only_params=_DELAY)


def _nemo_speechlm(r: Reader) -> Model:
    """The class with a head has one for the times of words too, over classes of its own."""
    model = _NEMO.read(r)
    if model.head is None:
        return model
    w = r.nested("word_timestamp_config", defaults={"hidden_size": 1280, "vocab_size": 23_863})
    w.ignore(*w.config)
    head = CountedPart(
        name="word_times_head", tensors=kept(linear("classes", w.integer("hidden_size"), w.integer("vocab_size")))
    )
    return model.replace(counted=(*model.counted, head))


# ---- types ----------------------------------------------------------------------------------------------------------

_QWEN2_SMALL: Final = {
    "vocab_size": 151_860, "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 24,
    "num_attention_heads": 16, "num_key_value_heads": 16, "max_window_layers": 21, "rope_theta": 1e6,
    "tie_word_embeddings": True,
}  # fmt: skip
_QWEN3_SMALL: Final = {
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "max_position_embeddings": 131_072, "rope_theta": 1e6,
}  # fmt: skip
_NEMOTRON: Final = {
    "hidden_size": 2688, "intermediate_size": 1856, "mamba_num_heads": 64, "max_position_embeddings": 262_144,
    "moe_intermediate_size": 1856, "moe_shared_expert_intermediate_size": 3712, "n_routed_experts": 128,
    "num_experts_per_tok": 6, "num_key_value_heads": 2, "routed_scaling_factor": 2.5,
    "layers_block_type": [LETTERS[each] for each in "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"],
}  # fmt: skip
_DELAY: Final = "its layers are scaled by what small matrices make of a delay, which is not described"
_VOXTRAL: Final = Wrapped(
    "VoxtralRealtime",
    Text(
        "mistral",
        {
            "vocab_size": 131_072, "hidden_size": 3072, "intermediate_size": 9216, "num_hidden_layers": 26,
            "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-5, "rope_theta": 1e6, "head_dim": 128, "sliding_window": 8192,
            "tie_word_embeddings": True,
        },
        fixed=True,
        filled=True,
        renamed={"voxtral_realtime_text": "mistral"},
    ),
    (Front("audio_config", "voxtral_realtime_encoder", _voxtral, fixed=True, name="sound"),),
    inert="audio_length_per_tok default_num_delay_tokens",
)  # fmt: skip
_NEMO: Final = Wrapped(
    "Nemotron3_5Transcribe",
    Text("nemotron_h", _NEMOTRON),
    (
        Front("audio_config", "nemotron3_5_transcribe_audio", _nemotron, fixed=True, name="sound"),
        Front(
            "word_timestamp_config", "nemotron3_5_transcribe_word_timestamp", lambda *_: [], fixed=True,
            name="word_times",
        ),
    ),
    tied="never",
)  # fmt: skip
_GOT_OCR2: Final = (Front("vision_config", "got_ocr2_vision", _got_ocr2, fixed=True),)
_TOKENIZER: Final = "vibevoice_acoustic_tokenizer_encoder"


def _granite_speech(prefix: str, model_type: str) -> ModelType:
    wrapped = Wrapped(
        prefix,
        Text("granite"),
        (Front("encoder_config", f"{model_type}_encoder", _granite, fixed=True, name="sound"),),
        inert="has_lora_adapter",  # what is tuned for sound stands in a file of its own
    )
    return wrapper_type(wrapped, tied=True, downsample_rate=5, window_size=15)


TYPES: Final = {
    "got_ocr2": wrapper_type(Wrapped("GotOcr2", Text("qwen2", _QWEN2_SMALL), _GOT_OCR2, headed=True), tied=True),
    "pp_chart2table": wrapper_type(
        Wrapped("GotOcr2 PPChart2Table", Text("qwen2", _QWEN2_SMALL), _GOT_OCR2), tied=True
    ),
    "granite_speech": _granite_speech("GraniteSpeech", "granite_speech"),
    "granite_speech_plus": _granite_speech("GraniteSpeechPlus", "granite_speech_plus"),
    "moss_transcribe_diarize": wrapper_type(
        Wrapped(
            "MossTranscribeDiarize",
            Text("qwen3", _QWEN3_SMALL),
            (Front("audio_config", "moss_transcribe_diarize_audio", _moss, fixed=True, name="sound"),),
            inert="audio_chunk_size",
        ),
        tied=True,
        audio_merge_size=4,
        projector_bias=True,
    ),
    "vibevoice_asr": wrapper_type(
        Wrapped(
            "VibeVoiceAsr",
            Text("qwen2"),
            (
                Front("acoustic_tokenizer_encoder_config", _TOKENIZER, _acoustic, name="sound"),
                Front(
                    "semantic_tokenizer_encoder_config", _TOKENIZER, _vibevoice, {"hidden_size": 128}, name="meaning"
                ),
            ),
            tied="never",
            inert="audio_bos_token_id audio_eos_token_id",
        ),
        acoustic_tokenizer_chunk_size=1_440_000,
    ),
    "voxtral_realtime": wrapper_type(_VOXTRAL, build=_voxtral_realtime, tied=True, downsample_factor=4),
    "nemo_speechlm": wrapper_type(_NEMO, build=_nemo_speechlm),
}  # fmt: skip
