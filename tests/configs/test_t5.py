"""T5 against transformers on the meta device; and where its checkpoints, not transformers' class, are the truth."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles import transformers_meta
from tests.strategies import (
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    configs,
    few,
    layer_counts,
    maybe,
    read,
    small,
)
from txcalc.architecture import CrossAttention, FeedForward, SelfAttention, Stack
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params

CLASSES = """
T5ForConditionalGeneration T5Model T5EncoderModel T5ForSequenceClassification T5ForTokenClassification
T5ForQuestionAnswering
""".split()

TINY = {"d_model": 8, "d_kv": 3, "d_ff": 20, "num_layers": 2, "num_heads": 5, "vocab_size": 30}
GENERATION = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], **TINY}


@pytest.mark.parametrize("name", CLASSES)
def test_default_config_of_every_class(name: str) -> None:
    assert_params_equal_meta({**transformers_meta.default_config("t5"), "architectures": [name]})


def test_minimal_configs() -> None:
    assert_params_equal_meta({"model_type": "t5"})
    assert_params_equal_meta({"model_type": "t5", "num_layers": 2, "d_model": 24})
    assert_params_equal_meta({"model_type": "t5", "num_decoder_layers": 1})


@few
@given(
    config=configs(
        "t5",
        architectures=st.sampled_from(CLASSES).map(lambda name: [name]),
        vocab_size=small,
        d_model=small,
        d_kv=small,
        d_ff=small,
        num_heads=st.integers(1, 8),
        num_layers=layer_counts,
        num_decoder_layers=maybe(st.one_of(st.none(), layer_counts)),
        relative_attention_num_buckets=maybe(st.integers(4, 40)),
        feed_forward_proj=maybe(st.sampled_from(["relu", "gelu", "gated-gelu", "gated-silu", "gated-relu"])),
        tie_word_embeddings=maybe(st.sampled_from([True, None])),
        num_labels=maybe(st.integers(1, 7)),
    )
)
def test_varied(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@few
@given(width=small, vocab=small, gated=st.booleans())
def test_untied_heads_are_separate(width: int, vocab: int, gated: bool) -> None:
    """Checkpoints with tie_word_embeddings false hold a head [d_model, vocab_size] that transformers' class ties."""
    proj = "gated-gelu" if gated else "relu"
    config = {**GENERATION, "d_model": width, "vocab_size": vocab, "feed_forward_proj": proj}
    untied = params(read({**config, "tie_word_embeddings": False})).figures()
    assert untied["params.total"] == transformers_meta.num_params(config) + width * vocab
    assert untied["params.head"] == width * vocab


def test_t5_small_by_hand() -> None:
    """One table 32,128 * 512 = 16,449,536. Attention 4 * 512^2 = 1,048,576, feed-forward 2 * 512 * 2,048 = 2,097,152.

    Encoder layer 1,048,576 + 2,097,152 + 2 * 512 = 3,146,752, six 18,880,512; decoder layer 2 * 1,048,576 + 2,097,152
    + 3 * 512 = 4,195,840, six 25,175,040. Each stack a bias table 32 * 8 = 256 and a norm 512. Sum: 60,506,624.
    """
    assert params(read({"model_type": "t5"})).figures()["params.total"] == 60_506_624


def test_t5_v1_1_large_by_hand() -> None:
    """Two tables 2 * 32,128 * 1,024 = 65,798,144; attention 4 * 1,024^2, gated feed-forward 3 * 1,024 * 2,816.

    Encoder layer 4,194,304 + 8,650,752 + 2,048 = 12,847,104; decoder layer 8,388,608 + 8,650,752 + 3,072 = 17,042,432;
    24 of each 717,348,864; bias tables 2 * 32 * 16 and norms 2 * 1,024 = 3,072. Sum: 783,150,080.
    """
    config = {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16, "feed_forward_proj": "gated-gelu"}
    model = read({"model_type": "t5", "tie_word_embeddings": False, **config})
    assert params(model).figures()["params.total"] == 783_150_080


def test_the_comparison_notices_a_bias_table_too_few() -> None:
    """Negative control: one relative bucket less is num_heads parameters less in each stack."""
    config = {**GENERATION, "relative_attention_num_buckets": 16}
    assert_params_differ_from_meta({**config, "relative_attention_num_buckets": 15}, config)


def parts(stack: Stack) -> tuple[Any, ...]:
    return stack.layers[0].sublayers()


def test_what_the_stacks_are() -> None:
    encoder, decoder = read({**GENERATION, "num_decoder_layers": 3}).stacks
    assert (encoder.role, encoder.num_hidden_layers) == ("encoder", 2)
    assert (decoder.role, decoder.num_hidden_layers) == ("decoder", 3)
    (seen, _), (own, crossed, _) = parts(encoder), parts(decoder)
    assert isinstance(own, SelfAttention)
    assert isinstance(crossed, CrossAttention)
    assert (seen.causal, own.causal) == (False, True)
    assert (seen.scale, own.scale, crossed.scale) == (1.0, 1.0, 1.0)
    assert (seen.position.bidirectional, own.position.bidirectional) == (True, False)
    assert crossed.position is None


def test_a_tied_head_reads_scaled_states() -> None:
    """At d_model 16 they are a quarter."""
    tied = read({**GENERATION, "d_model": 16}).head
    assert tied is not None
    assert tied.scale == 0.25
    untied = read({**GENERATION, "d_model": 16, "tie_word_embeddings": False}).head
    assert untied is not None
    assert untied.scale == 1.0


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("relu", False)),
        ({"feed_forward_proj": "gated-gelu"}, ("gelu_tanh", True)),
        ({"feed_forward_proj": "gelu"}, ("gelu", False)),
        ({"feed_forward_proj": "gated-silu"}, ("silu", True)),
        ({"feed_forward_proj": "relu", "is_gated_act": True, "dense_act_fn": "silu"}, ("silu", True)),
    ],
)
def test_feed_forward_proj(fields: dict[str, Any], expected: tuple[str, bool]) -> None:
    feed_forward = parts(read({**GENERATION, **fields}).stacks[0])[-1]
    assert isinstance(feed_forward, FeedForward)
    assert (feed_forward.activation, feed_forward.gated) == expected


def test_the_first_name_of_conditional_generation() -> None:
    named = read({**GENERATION, "architectures": ["T5WithLMHeadModel"]})
    assert named.stacks == read(GENERATION).stacks
    assert named.head == read(GENERATION).head


def test_num_hidden_layers_alone_leaves_the_decoder_at_its_default() -> None:
    model = read({"model_type": "t5", "num_hidden_layers": 2})
    assert [stack.num_hidden_layers for stack in model.stacks] == [2, 6]
    assert_params_equal_meta({"model_type": "t5", "num_hidden_layers": 2})


def test_cache_of_self_and_cross_attention() -> None:
    """T5-small at 512 and 128 source tokens: 2 * 8 * 64 * 2 bytes a token and layer, six layers of each kind.

    6 * 2,048 * 512 + 6 * 2,048 * 128 = 7,864,320.
    """
    figures = kv_cache(read({"model_type": "t5"}), ctx=512, source_ctx=128, kv_dtype="bf16").figures()
    assert figures["kv_cache.total_bytes"] == 7_864_320
    assert figures["kv_cache.bytes_per_token"] == 6 * 2048


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"feed_forward_proj": "gated-big-gelu"}, "feed_forward_proj is 'gated-big-gelu'"),
        ({"feed_forward_proj": "glu-gelu"}, "feed_forward_proj is 'glu-gelu'"),
        ({"feed_forward_proj": "gated-mystery"}, "feed_forward_proj is 'gated-mystery'"),
        ({"dense_act_fn": None}, "dense_act_fn is null"),
        ({"num_layers": 2, "num_hidden_layers": 3}, "two names of one field"),
        ({"d_kv": 0}, "d_kv is 0"),
        ({"num_decoder_layers": "3"}, 'num_decoder_layers is "3"'),
    ],
)
def test_what_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({**GENERATION, **fields})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"scale_decoder_outputs": False},
        {"architectures": ["T5ForMaskedLM"]},
        {"architectures": ["SpladeT5Model"]},
        {"relative_attention_heads": 2},
    ],
)
def test_what_is_not_understood_is_an_estimate(fields: dict[str, Any]) -> None:
    assert architecture_of({**GENERATION, **fields}).reasons
