"""Encoder-decoders beside T5 and BART against transformers on the meta device: every class, default and varied."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import transformers_meta
from tests.strategies import (
    ABSENT,
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    layer_counts,
    maybe,
    read,
    small,
)
from tests.width import Width, assert_default, assert_heads, flags, labels, varied, width
from txcalc.architecture import (
    AudioEmbedding,
    CrossAttention,
    MixtureOfExperts,
    Model,
    SelfAttention,
    Sinusoidal,
    Stack,
    TokenEmbedding,
)
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params

TASKS = "ForConditionalGeneration Model"
CLASSIFIED = f"{TASKS} ForCausalLM ForSequenceClassification"
BART_KEYS: dict[str, Any] = {
    "vocab_size": small.map(lambda size: size + 4),
    "encoder_layers": layer_counts,
    "decoder_layers": layer_counts,
    "encoder_ffn_dim": small,
    "decoder_ffn_dim": small,
    "max_position_embeddings": small,
    "tie_word_embeddings": flags,
    "scale_embedding": flags,
    "num_labels": labels,
    "pad_token_id": 1,
}
T5_KEYS: dict[str, Any] = {
    "vocab_size": small,
    "d_model": small,
    "d_kv": small,
    "d_ff": small,
    "num_heads": st.integers(1, 8),
    "num_layers": layer_counts,
    "num_decoder_layers": maybe(st.one_of(st.none(), layer_counts)),
    "relative_attention_num_buckets": maybe(st.integers(4, 40)),
    "num_labels": labels,
    "tie_word_embeddings": maybe(st.just(True)),
}


@st.composite
def two_heads(
    draw: st.DrawFn,
    encoder: str = "encoder_attention_heads",
    decoder: str = "decoder_attention_heads",
    hidden: str = "d_model",
) -> dict[str, int]:
    """Heads of both stacks, and a width that they divide; sines need an even one of at least four."""
    mine, other = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return {encoder: mine, decoder: other, hidden: 4 * mine * other * draw(st.integers(1, 3))}


def bart(model_type: str, prefix: str, tasks: str = f"{TASKS} ForCausalLM", **keys: Any) -> Width:
    return width(model_type, prefix, tasks, kin=two_heads(), **{**BART_KEYS, **keys})


def t5(model_type: str, prefix: str, tasks: str, **keys: Any) -> Width:
    return width(model_type, prefix, tasks, kin=st.just({}), **{**T5_KEYS, **keys})


T5_TASKS = f"{TASKS} EncoderModel ForSequenceClassification ForTokenClassification ForQuestionAnswering"
FEED_FORWARDS = maybe(st.sampled_from(["relu", "gelu", "gated-gelu", "gated-silu"]))
WIDTHS = [
    bart("mbart", "MBart", f"{CLASSIFIED} ForQuestionAnswering"),
    bart("plbart", "PLBart", CLASSIFIED),
    bart("mvp", "Mvp", f"{CLASSIFIED} ForQuestionAnswering"),
    bart("pegasus", "Pegasus"),
    bart("blenderbot", "Blenderbot"),
    bart("blenderbot-small", "BlenderbotSmall"),
    bart("m2m_100", "M2M100", TASKS),
    bart(
        "nllb-moe", "NllbMoe", TASKS,
        num_experts=st.integers(2, 5), encoder_sparse_step=st.integers(0, 3), decoder_sparse_step=st.integers(0, 3),
        router_bias=flags,
    ),
    bart("bigbird_pegasus", "BigBirdPegasus", f"{CLASSIFIED} ForQuestionAnswering", use_bias=flags),
    bart(
        "led", "LED", f"{TASKS} ForQuestionAnswering",
        max_position_embeddings=ABSENT, scale_embedding=ABSENT,
        max_encoder_position_embeddings=small, max_decoder_position_embeddings=small,
        attention_window=st.integers(1, 9).map(lambda half: 2 * half),
    ),
    bart("pegasus_x", "PegasusX", TASKS, num_global_tokens=small, block_size=small, stagger_local_blocks=flags),
    bart("marian", "Marian", "MTModel Model ForCausalLM"),
    bart(
        "fsmt", "FSMT", TASKS,
        vocab_size=ABSENT, tie_word_embeddings=ABSENT,
        src_vocab_size=small.map(lambda size: size + 4), tgt_vocab_size=small.map(lambda size: size + 4),
    ),
    bart(
        "whisper", "Whisper", f"{TASKS} ForCausalLM ForAudioClassification",
        max_position_embeddings=ABSENT, scale_embedding=ABSENT, num_mel_bins=small, max_source_positions=small,
        max_target_positions=small, classifier_proj_size=small,
    ),
    width(
        "trocr", "TrOCR", "ForCausalLM", kin=two_heads(encoder="encoder_layers"),
        **{**BART_KEYS, "encoder_ffn_dim": ABSENT}, layernorm_embedding=flags, use_learned_position_embeddings=flags,
        cross_attention_hidden_size=maybe(st.none() | small),
    ),
    width(
        "prophetnet", "ProphetNet", f"{TASKS} ForCausalLM",
        kin=two_heads("num_encoder_attention_heads", "num_decoder_attention_heads", "hidden_size"),
        vocab_size=small.map(lambda size: size + 4), num_encoder_layers=layer_counts, num_decoder_layers=layer_counts,
        encoder_ffn_dim=small, decoder_ffn_dim=small, max_position_embeddings=small.map(lambda rows: rows + 1),
        ngram=st.integers(1, 4), num_buckets=st.integers(4, 40), tie_word_embeddings=flags,
    ),
    t5("mt5", "MT5", T5_TASKS, feed_forward_proj=FEED_FORWARDS),
    t5("umt5", "UMT5", T5_TASKS, feed_forward_proj=FEED_FORWARDS),
    t5(
        "longt5", "LongT5", f"{TASKS} EncoderModel", feed_forward_proj=FEED_FORWARDS, tie_word_embeddings=flags,
        encoder_attention_type=maybe(st.sampled_from(["local", "transient-global"])), local_radius=small,
    ),
    t5(
        "switch_transformers", "SwitchTransformers", f"{TASKS} EncoderModel", tie_word_embeddings=flags,
        num_experts=st.integers(1, 4), router_bias=flags,
        num_sparse_encoder_layers=st.integers(0, 4), num_sparse_decoder_layers=st.integers(0, 4),
    ),
]  # fmt: skip
by_type = pytest.mark.parametrize("row", WIDTHS, ids=lambda row: str(row.model_type))


@by_type
def test_default_and_minimal(row: Width) -> None:
    assert_default(row)


@by_type
def test_every_class(row: Width) -> None:
    assert_heads(row)


@by_type
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_varied(row: Width, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(varied(row)))


def test_the_comparison_notices_a_bias_too_many() -> None:
    """Negative control: BigBird-Pegasus with biases on its attention is not the one without."""
    without = {**tiny_config("bigbird_pegasus", "BigBirdPegasusModel"), "use_bias": False}
    assert_params_differ_from_meta({**without, "use_bias": True}, without)


# ---- T5Gemma, whose two sides are configs of their own -------------------------------------------------------------

SIDES = st.fixed_dictionaries(
    {
        "vocab_size": small,
        "intermediate_size": small,
        "num_hidden_layers": layer_counts,
        "head_dim": small.map(lambda half: 2 * half),
        "attention_bias": st.booleans(),
        "hidden_size": st.integers(1, 6).map(lambda each: 8 * each),
        "num_attention_heads": st.sampled_from([4, 8]),
        "num_key_value_heads": st.sampled_from([1, 2, 4]),
        "pad_token_id": st.just(0),
    }
)
T5GEMMA = ("ForConditionalGeneration", "Model", "ForSequenceClassification", "ForTokenClassification")


@settings(max_examples=15, deadline=None)
@given(encoder=SIDES, decoder=SIDES, task=st.sampled_from(T5GEMMA), tied=st.booleans(), joint=st.booleans())
def test_t5gemma(encoder: dict[str, Any], decoder: dict[str, Any], task: str, tied: bool, joint: bool) -> None:
    config = {"model_type": "t5gemma", "architectures": ["T5Gemma" + task], "encoder": encoder, "decoder": decoder}
    alone = task.endswith("Classification") and not joint
    assert_params_equal_meta({**config, "tie_word_embeddings": tied, "is_encoder_decoder": not alone})


@pytest.mark.parametrize("task", T5GEMMA)
def test_t5gemma_default(task: str) -> None:
    assert_params_equal_meta({"model_type": "t5gemma", "architectures": ["T5Gemma" + task]})


# ---- what no count depends on ---------------------------------------------------------------------------------------


def tiny_config(model_type: str, name: str, **fields: Any) -> dict[str, Any]:
    """Two layers of two heads a stack, 16 channels."""
    sizes = dict.fromkeys(("encoder_layers", "decoder_layers"), 2)
    heads = dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2)
    widths = {"d_model": 16, "encoder_ffn_dim": 20, "decoder_ffn_dim": 20, "vocab_size": 30}
    return {"model_type": model_type, "architectures": [name], **sizes, **heads, **widths, **fields}


def tiny(model_type: str, name: str, **fields: Any) -> Model:
    return read(tiny_config(model_type, name, **fields))


def self_attention(stack: Stack, layer: int = 0) -> SelfAttention:
    found = list(stack.sequence())[layer].sublayers()[0]
    assert isinstance(found, SelfAttention)
    return found


def text(stack: Stack) -> TokenEmbedding:
    assert isinstance(stack.embedding, TokenEmbedding)
    return stack.embedding


def test_pre_norm_types_end_each_stack_in_a_norm() -> None:
    for model_type, name in (("mbart", "MBartModel"), ("pegasus", "PegasusModel"), ("m2m_100", "M2M100Model")):
        for stack in tiny(model_type, name).stacks:
            step = stack.layers[0].steps[0]
            assert (step.branches[0].norm_in is not None, step.norm_after) == (True, None)
            assert stack.final_norm is not None
    for stack in tiny("marian", "MarianModel").stacks:
        assert stack.layers[0].steps[0].norm_after is not None
        assert (stack.final_norm, text(stack).norm) == (None, None)


@pytest.mark.parametrize(
    ("model_type", "name", "expected"),
    [
        ("pegasus", "PegasusModel", Sinusoidal(rows=1024, width=16, stored=True, paper_rates=True)),
        ("marian", "MarianModel", Sinusoidal(rows=1024, width=16, stored=True, paper_rates=True)),
        ("m2m_100", "M2M100Model", Sinusoidal(rows=1026, width=16, offset=2)),
        ("fsmt", "FSMTModel", Sinusoidal(rows=1026, width=16, offset=2, stored=True)),
    ],
)
def test_sines(model_type: str, name: str, expected: Sinusoidal) -> None:
    """Stored ones are in the count; positions behind a padding token start after its id, 1."""
    fields = {} if model_type != "fsmt" else {"vocab_size": 42_024}
    assert [text(stack).positions for stack in tiny(model_type, name, **fields).stacks] == [expected, expected]


def test_sines_equal_transformers() -> None:
    """Pegasus' table at rows 0 and 3 of width 16, and M2M-100's: the rates, and sines before cosines."""
    import torch
    from transformers.models.m2m_100.modeling_m2m_100 import M2M100SinusoidalPositionalEmbedding
    from transformers.models.pegasus.modeling_pegasus import PegasusSinusoidalPositionalEmbedding

    from txcalc.reference.positions import sinusoidal

    rows = torch.tensor([[0, 3, 7]])
    pegasus = PegasusSinusoidalPositionalEmbedding(10, 16)
    ours = sinusoidal(Sinusoidal(rows=10, width=16, paper_rates=True), rows)
    torch.testing.assert_close(ours[0], pegasus.create_weight()[rows[0]])
    m2m = M2M100SinusoidalPositionalEmbedding(10, 16)
    torch.testing.assert_close(sinusoidal(Sinusoidal(rows=12, width=16), rows)[0], m2m.weights[rows[0]])


def test_whisper_hears_1500_positions_and_its_keys_have_no_bias() -> None:
    encoder, decoder = tiny("whisper", "WhisperModel").stacks
    assert isinstance(encoder.embedding, AudioEmbedding)
    assert (encoder.fixed_length, encoder.embedding.positions.rows) == (1500, 1500)
    for attention in (self_attention(encoder), self_attention(decoder), decoder.layers[0].sublayers()[1]):
        assert isinstance(attention, SelfAttention | CrossAttention)
        assert (attention.q_bias, attention.k_bias, attention.v_bias, attention.o_bias) == (True, False, True, True)


def test_whisper_caches_its_source_once() -> None:
    """Two decoder layers of 2 * 16 elements in 2 bytes: 64 bytes a token and layer; 10 tokens, and 1,500 of the source.

    2 * 64 * 10 + 2 * 64 * 1,500 = 193,280.
    """
    model = tiny("whisper", "WhisperForConditionalGeneration")
    assert kv_cache(model, ctx=10, kv_dtype="bf16").figures()["kv_cache.total_bytes"] == 193_280


def test_led_windows_and_longt5_radius() -> None:
    led = tiny("led", "LEDModel", attention_window=[4, 8])
    assert [self_attention(led.stacks[0], layer).window for layer in (0, 1)] == [4, 8]
    assert self_attention(led.stacks[0]).global_tokens is not None
    assert self_attention(led.stacks[1]).window is None
    longt5 = read({"model_type": "longt5", "local_radius": 5, "encoder_attention_type": "transient-global"})
    assert self_attention(longt5.stacks[0]).window == 10  # half of it to each side
    assert self_attention(longt5.stacks[0]).transient_global is not None
    assert self_attention(longt5.stacks[1]).transient_global is None


def test_umt5_has_a_table_in_every_layer() -> None:
    """Eight layers of each stack, tables of 32 * 6: fourteen more than T5's one a stack."""
    umt5, mt5 = read({"model_type": "umt5"}), read({"model_type": "mt5"})
    totals = [params(model).figures()["params.total"] for model in (umt5, mt5)]
    assert totals[0] - totals[1] == 14 * 32 * 6


@pytest.mark.parametrize("name", ["MT5ForConditionalGeneration", "UMT5ForConditionalGeneration"])
def test_untied_heads_are_separate(name: str) -> None:
    """As in T5 v1.1: the checkpoints hold a head [512, 250,112] that transformers' class ties."""
    config = {"model_type": name[:4].lower().rstrip("f"), "architectures": [name], "num_layers": 1}
    tied, apart = read({**config, "tie_word_embeddings": True}), read({**config, "tie_word_embeddings": False})
    totals = [params(model).figures()["params.total"] for model in (tied, apart)]
    assert totals[1] - totals[0] == 512 * 250_112
    assert transformers_meta.num_params({**config, "tie_word_embeddings": False}) == totals[0]


def test_sparse_layers() -> None:
    """NLLB: every fourth layer, the last of them; Switch: the second of every four."""

    def sparse(stack: Stack) -> list[bool]:
        return [isinstance(layer.sublayers()[-1], MixtureOfExperts) for layer in stack.sequence()]

    nllb = read({"model_type": "nllb-moe"}).stacks[0]
    assert [index for index, each in enumerate(sparse(nllb)) if each] == [3, 7, 11]
    switch = read({"model_type": "switch_transformers"}).stacks[1]
    assert [index for index, each in enumerate(sparse(switch)) if each] == [1, 5, 9]


def test_t5gemma_windows_of_both_directions() -> None:
    """4,096 tokens to each side in the encoder, 4,096 in all in the decoder; every second layer sees everything."""
    encoder, decoder = read({"model_type": "t5gemma"}).stacks
    assert [self_attention(encoder, layer).window for layer in (0, 1)] == [8192, None]
    assert [self_attention(decoder, layer).window for layer in (0, 1)] == [4096, None]
    assert not self_attention(encoder).causal
    assert not text(decoder).shared_with


@pytest.mark.parametrize(
    "config",
    [
        tiny_config("mvp", "MvpModel", use_prompt=True),
        tiny_config("marian", "MarianForCausalLM", decoder_vocab_size=40),
        tiny_config("led", "LEDModel", scale_embedding=True),
        tiny_config("whisper", "WhisperForAudioClassification", use_weighted_layer_sum=True),
        {"model_type": "mt5", "architectures": ["MT5EncoderModel"], "is_decoder": True},
        {"model_type": "fsmt", "tie_word_embeddings": True, "src_vocab_size": 20},
    ],
)
def test_what_is_not_described_is_an_estimate(config: dict[str, Any]) -> None:
    assert architecture_of(config).reasons


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "m2m_100", "pad_token_id": None}, "pad_token_id is null"),
        ({"model_type": "longt5", "encoder_attention_type": "global"}, "encoder_attention_type is 'global'"),
        ({"model_type": "whisper", "d_model": 7, "encoder_attention_heads": 1}, "d_model is 7"),
        ({"model_type": "mbart", "d_model": 1000}, "it is not a multiple of the 16 heads"),
    ],
)
def test_what_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of(config)
    assert message in str(caught.value)
