"""Models that read pages or write down speech: counts equal transformers' on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.configs.test_width_wrapped import TEXT, WHISPER, drawn, size, two
from tests.configs.test_width_wrapped_more import CLASSES, shallow_default
from tests.oracles import flop_counter
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, read
from txcalc.configs import architecture_of
from txcalc.configs.wrappers_readers import TYPES
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache

SAM = drawn(
    hidden_size=24, num_attention_heads=st.integers(1, 3), num_hidden_layers=st.integers(1, 3), mlp_dim=size,
    output_channels=size, num_channels=st.integers(1, 3), image_size=st.integers(4, 16), patch_size=st.integers(1, 4),
    window_size=st.integers(0, 3), global_attn_indexes=st.sampled_from([[], [0], [1, 2, 5], [1, 1]]),
    qkv_bias=st.booleans(), use_abs_pos=st.booleans(), use_rel_pos=st.booleans(),
)  # fmt: skip
CONFORMER = {
    "input_dim": size, "num_layers": two, "hidden_dim": 24, "feedforward_mult": two, "num_heads": st.integers(1, 5),
    "dim_head": st.sampled_from([None, 3]), "output_dim": size, "context_size": 4, "max_pos_emb": st.integers(4, 9),
    "conv_kernel_size": st.sampled_from([3, 4, 5]), "conv_expansion_factor": two,
}  # fmt: skip
Q_FORMER = {"hidden_size": 24, "num_hidden_layers": st.integers(1, 4), "num_attention_heads": st.integers(1, 3),
            "intermediate_size": size, "cross_attention_frequency": st.integers(1, 3),
            "use_qformer_text_input": st.booleans()}  # fmt: skip
CODEC = drawn(channels=two, hidden_size=size, kernel_size=st.integers(1, 5), num_filters=st.integers(1, 5),
              ffn_expansion=two, downsampling_ratios=st.sampled_from([[2, 2], [5, 3]]),
              depths=st.lists(st.integers(0, 2), min_size=3, max_size=4))  # fmt: skip
GRANITE: dict[str, Any] = {"downsample_rate": two, "window_size": st.integers(2, 9)}
STACKED: dict[str, Any] = {"hidden_size": 24, "intermediate_size": size, "num_hidden_layers": two,
                           "num_mel_bins": size, "subsampling_factor": 2}  # fmt: skip
MAMBA = {**TEXT, "layers_block_type": ["mamba", "attention"], "mamba_num_heads": 4, "mamba_head_dim": 4, "n_groups": 2,
         "ssm_state_size": 5, "head_dim": 8}  # fmt: skip
TEXTS: dict[str, dict[str, Any]] = {"nemo_speechlm": MAMBA, "voxtral_realtime": {**TEXT, "head_dim": 8}}
JOINED = st.sampled_from([None, [], [1], [0, 1]])


def _joined(config: dict[str, Any]) -> dict[str, Any]:
    """The width that goes with ``cat_hidden_layers``."""
    more = config["encoder_config"]["cat_hidden_layers"]
    width = 24 * (len(more or []) + 1)
    return {**config, "projector_config": {**config["projector_config"], "encoder_hidden_size": width}}


OUTER: dict[str, dict[str, Any]] = {
    "got_ocr2": {"vision_config": SAM},
    "pp_chart2table": {"vision_config": SAM},
    "granite_speech": {"encoder_config": drawn(**CONFORMER),
                       "projector_config": drawn(**Q_FORMER, encoder_hidden_size=size), **GRANITE},
    "granite_speech_plus": {"encoder_config": drawn(**{**CONFORMER, "num_layers": 2}, cat_hidden_layers=JOINED),
                            "projector_config": drawn(**Q_FORMER), **GRANITE},
    "moss_transcribe_diarize": {
        "audio_config": drawn(**WHISPER, hidden_size=24, num_hidden_layers=two, num_attention_heads=st.integers(1, 3),
                              intermediate_size=size),
        "audio_merge_size": two, "projector_bias": st.booleans()},
    "vibevoice_asr": {"acoustic_tokenizer_encoder_config": CODEC, "semantic_tokenizer_encoder_config": CODEC,
                      "acoustic_tokenizer_chunk_size": 60},
    "voxtral_realtime": {
        "audio_config": drawn(hidden_size=24, num_hidden_layers=two, num_attention_heads=st.integers(1, 3),
                              intermediate_size=size, num_mel_bins=size, head_dim=st.sampled_from([4, 6])),
        "downsample_factor": two},
    "nemo_speechlm": {
        "audio_config": drawn(
            asr_config=drawn(**STACKED, num_attention_heads=4, num_key_value_heads=st.sampled_from([None, 2])),
            diarization_config=drawn(
                audio_config=drawn(**STACKED, num_attention_heads=two),
                head_config=drawn(hidden_size=size, num_speakers=3, audio_hidden_size=24, subsampling_factor=2),
                streaming_config={"num_speakers": 3, "subsampling_factor": 2})),
        "word_timestamp_config": drawn(
            hidden_size=24, intermediate_size=size, num_hidden_layers=two, num_attention_heads=two, vocab_size=size,
            blank_token_id=0, upsampling_factor=two)},
}  # fmt: skip


def shapes(model_type: str) -> st.SearchStrategy[dict[str, Any]]:
    name = CLASSES[model_type]
    names = st.sampled_from([[name], [name.replace("ForConditionalGeneration", "Model")]])
    text = drawn(**TEXTS.get(model_type, TEXT), tie_word_embeddings=st.booleans())
    found = drawn(
        model_type=model_type, architectures=names, text_config=text, tie_word_embeddings=st.booleans(),
        **OUTER[model_type],
    )  # fmt: skip
    return found.map(_joined) if model_type == "granite_speech_plus" else found


def test_every_type_is_tested() -> None:
    assert set(OUTER) == set(TYPES)


@pytest.mark.parametrize("model_type", OUTER)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_shapes(model_type: str, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(shapes(model_type)))


@pytest.mark.parametrize("model_type", OUTER)
def test_default_configs(model_type: str) -> None:
    """A layer or two deep; and the type's name alone, where transformers has a class for that."""
    assert_params_equal_meta(shallow_default(model_type))
    if model_type != "pp_chart2table":
        named = {"model_type": model_type, "text_config": {"num_hidden_layers": 1}, "tie_word_embeddings": False}
        assert_params_equal_meta(named)


@pytest.mark.parametrize(
    ("model_type", "key", "part"),
    [
        ("got_ocr2", "vision_config", {"window_size": 13}),
        ("granite_speech", "encoder_config", {"conv_kernel_size": 13}),
        ("granite_speech", "projector_config", {"cross_attention_frequency": 1}),
        ("moss_transcribe_diarize", "audio_config", {"max_source_positions": 1499}),
        ("vibevoice_asr", "acoustic_tokenizer_encoder_config", {"depths": [3, 3, 3, 3, 3, 3, 7]}),
        ("voxtral_realtime", "audio_config", {"head_dim": 40}),
        ("nemo_speechlm", "word_timestamp_config", {"upsampling_factor": 3}),
    ],
)
def test_the_comparison_notices(model_type: str, key: str, part: dict[str, Any]) -> None:
    config = shallow_default(model_type)
    assert_params_differ_from_meta(config, {**config, key: {**config[key], **part}})


def test_flops_and_cache_of_a_text() -> None:
    """A text passes the decoder alone; 2 layers of 2 KV heads of 8 channels, keys and values, at 2 bytes."""
    config = {"model_type": "granite_speech", "text_config": TEXT, "tie_word_embeddings": False,
              "encoder_config": {"num_layers": 1}, "projector_config": {"num_hidden_layers": 1}}  # fmt: skip
    model, ours = flop_counter.model_of(config), read(config)
    counted = flop_counter.forward(model, **flop_counter.inputs_of(model, batch=2, seq=9))
    assert flops(ours, batch=2, seq=9).figures()["flops.matmul"] == counted
    assert kv_cache(ours, ctx=10, kv_dtype="bf16").figures()["kv_cache.total_bytes"] == 10 * 2 * 2 * 2 * 8 * 2


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "granite_speech", "window_size": 3}, "window_size is 3; expected 5 to"),
        (
            {"model_type": "granite_speech_plus", "encoder_config": {"cat_hidden_layers": [3]}},
            "encoder_hidden_size is 1408; the encoder makes 2048 channels",
        ),
        (
            {"model_type": "granite_speech_plus", "encoder_config": {"cat_hidden_layers": [10]}},
            "cat_hidden_layers names layer 10; there are 10",
        ),
        ({"model_type": "granite_speech", "encoder_config": {"max_pos_emb": 9}}, "max_pos_emb is 9; blocks hold 200"),
        ({"model_type": "got_ocr2", "vision_config": {"global_attn_indexes": None}}, "global_attn_indexes is null"),
        ({"model_type": "nemo_speechlm", "word_timestamp_config": {"vocab_size": 9}}, "blank_token_id is 23862"),
        ({"model_type": "granite_speech", "encoder_config": {"num_heads": 2000}}, "num_heads is 2000; the width"),
        (
            {"model_type": "nemo_speechlm", "audio_config": {"asr_config": {"subsampling_factor": 4}}},
            "audio_config.subsampling_factor is 8; audio_config.asr_config.subsampling_factor is 4",
        ),
        ({"model_type": "vibevoice_asr", "acoustic_tokenizer_chunk_size": 60}, "not a multiple of 3200 samples"),
        (
            {"model_type": "vibevoice_asr", "semantic_tokenizer_encoder_config": {"depths": [3]}},
            "depths has 1 entries; 6 downsampling_ratios need one more",
        ),
        (
            {
                "model_type": "vibevoice_asr",
                "semantic_tokenizer_encoder_config": {"downsampling_ratios": [1] * 33, "depths": [1] * 34},
            },
            "downsampling_ratios has 33 entries; expected at most 32",
        ),
    ],
)
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"model_type": "granite_speech", "projector_config": {"model_type": "bert"}},
            "projector_config.model_type = 'bert': read as a blip_2_qformer",
        ),
        (
            {"model_type": "vibevoice_asr", "semantic_tokenizer_encoder_config": {"model_type": "mimi"}},
            "a mimi tower is not counted",
        ),
        (
            {"model_type": "nemo_speechlm", "audio_config": {"diarization_config": {"model_type": "whisper"}}},
            "diarization_config.model_type = 'whisper': read as a nemotron3_diarization",
        ),
        (
            {"model_type": "voxtral_realtime", "audio_config": {"model_type": "voxtral_encoder"}},
            "audio_config.model_type = 'voxtral_encoder': read as a voxtral_realtime_encoder",
        ),
        ({"model_type": "voxtral_realtime", "text_config": {"model_type": "llama"}}, "'llama': read as a mistral"),
        ({"model_type": "got_ocr2", "architectures": ["GotOcr2ForSequenceClassification"]}, "nobody's published class"),
    ],
)
def test_what_is_not_known_makes_an_estimate(config: dict[str, Any], words: str) -> None:
    reasons = architecture_of({**config, "tie_word_embeddings": False}).reasons
    assert len(reasons) == 1
    assert words in reasons[0]


def test_a_delay_is_counted_and_not_run() -> None:
    """The cache is that of the text: 26 layers of 8 heads of 128 channels, keys and values, of a window of 8,192."""
    model = read({"model_type": "voxtral_realtime"})
    bytes_at = kv_cache(model, ctx=10_000, kv_dtype="bf16").figures()["kv_cache.total_bytes"]
    assert bytes_at == 26 * 8192 * 2 * 8 * 128 * 2
    with pytest.raises(RequestError, match="its layers are scaled by what small matrices make of a delay"):
        flops(model, seq=9)


def test_what_does_not_run_is_said() -> None:
    notes = architecture_of({"model_type": "granite_speech", "tie_word_embeddings": False}).notes
    assert "sound does not run: the encoder makes 1024 channels, the Q-Former reads 1408" in notes
