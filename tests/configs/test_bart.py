"""BART against transformers on the meta device."""

from __future__ import annotations

import math
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
from txcalc.architecture import CrossAttention, LearnedPositions, TokenEmbedding
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params

CLASSES = """
BartForConditionalGeneration BartModel BartForCausalLM BartForSequenceClassification BartForQuestionAnswering
""".split()

TINY = {
    "d_model": 8,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 20,
    "decoder_ffn_dim": 12,
    "vocab_size": 30,
    "max_position_embeddings": 16,
}
GENERATION = {"model_type": "bart", "architectures": ["BartForConditionalGeneration"], **TINY}


@pytest.mark.parametrize("name", CLASSES)
def test_default_config_of_every_class(name: str) -> None:
    assert_params_equal_meta({**transformers_meta.default_config("bart"), "architectures": [name]})


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("tied", [True, False])
def test_tied_and_untied(name: str, tied: bool) -> None:
    assert_params_equal_meta({**GENERATION, "architectures": [name], "tie_word_embeddings": tied, "num_labels": 5})


@pytest.mark.parametrize("name", CLASSES)
def test_minimal_configs(name: str) -> None:
    """Classifiers of BART have three labels where a config does not say (it was published for MNLI)."""
    assert_params_equal_meta({"model_type": "bart", "architectures": [name]})
    assert_params_equal_meta({"model_type": "bart", "architectures": [name], "num_hidden_layers": 2})


@st.composite
def varied(draw: st.DrawFn) -> dict[str, Any]:
    encoder_heads, decoder_heads = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    config = draw(
        configs(
            "bart",
            architectures=st.sampled_from(CLASSES).map(lambda name: [name]),
            encoder_attention_heads=encoder_heads,
            decoder_attention_heads=decoder_heads,
            d_model=st.integers(1, 4).map(lambda width: width * math.lcm(encoder_heads, decoder_heads)),
            encoder_layers=layer_counts,
            decoder_layers=layer_counts,
            encoder_ffn_dim=small,
            decoder_ffn_dim=small,
            vocab_size=small.map(lambda size: size + 1),
            max_position_embeddings=small,
            scale_embedding=maybe(st.booleans()),
            tie_word_embeddings=maybe(st.booleans()),
            num_labels=maybe(st.integers(1, 7)),
        )
    )
    return config


@few
@given(config=varied())
def test_varied(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_bart_large_by_hand() -> None:
    """Tables: (50,265 + 2 * 1,026) * 1,024 = 53,572,608, their norms 2 * 2,048 = 4,096.

    Attention 4 * (1,024^2 + 1,024) = 4,198,400; feed-forward 2 * 1,024 * 4,096 + 4,096 + 1,024 = 8,393,728. Encoder
    layer 4,198,400 + 8,393,728 + 2 * 2,048 = 12,596,224; decoder layer 2 * 4,198,400 + 8,393,728 + 3 * 2,048 =
    16,796,672; twelve of each 352,714,752. Sum: 406,291,456.
    """
    figures = params(read({"model_type": "bart"})).figures()
    assert figures["params.total"] == 406_291_456
    assert figures["params.embedding"] == 53_572_608
    assert figures["params.head"] == 0


def test_the_comparison_notices_missing_offset_rows() -> None:
    """Negative control: two position rows less in each stack."""
    assert_params_differ_from_meta({**GENERATION, "max_position_embeddings": 14}, GENERATION)


def test_positions_and_scale() -> None:
    model = read({**GENERATION, "scale_embedding": True})
    for stack in model.stacks:
        assert isinstance(stack.embedding, TokenEmbedding)
        assert stack.embedding.positions == LearnedPositions(rows=18, width=8, offset=2)
        assert stack.embedding.scale == math.sqrt(8)
    assert model.max_position_embeddings == 16


def test_a_lone_decoder_holds_cross_attention_and_does_not_run_it() -> None:
    """One layer: 4 * (8^2 + 8) + 2 * 8 = 304 parameters that no forward pass reads."""
    model = read({**GENERATION, "architectures": ["BartForCausalLM"]})
    assert [stack.role for stack in model.stacks] == ["decoder"]
    assert not any(isinstance(each, CrossAttention) for each in model.main.layers[0].sublayers())
    assert sum(math.prod(tensor.shape) * tensor.count for tensor in model.unused) == 304


def test_cache_of_self_and_cross_attention() -> None:
    """BART large at 1,024 tokens on both sides: 2 * 16 * 64 elements, 2 bytes, 12 layers, twice: 100,663,296."""
    figures = kv_cache(read({"model_type": "bart"}), ctx=1024, kv_dtype="bf16").figures()
    assert figures["kv_cache.total_bytes"] == 100_663_296


def test_published_config_files_of_the_first_release_are_exact() -> None:
    """Switches that facebook/bart-large's file carries; the standard names stand for the encoder."""
    old = {"normalize_before": False, "normalize_embedding": True, "add_final_layer_norm": False}
    old |= {"add_bias_logits": False, "static_position_embeddings": False, "extra_pos_embeddings": 2}
    assert_params_equal_meta({**GENERATION, **old, "num_hidden_layers": 2, "classif_dropout": 0.0})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decoder_attention_heads": 3}, "d_model is 8; it is not a multiple of the 3 heads"),
        ({"num_hidden_layers": 3}, "two names of one field"),
        ({"decoder_layers": None}, "decoder_layers is null"),
        ({"activation_function": "mystery"}, "activation_function is 'mystery'"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({**GENERATION, **fields})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "fields", [{"normalize_before": True}, {"architectures": ["BartForMaskedLM"]}, {"encoder_head_dim": 4}]
)
def test_what_is_not_understood_is_an_estimate(fields: dict[str, Any]) -> None:
    assert architecture_of({**GENERATION, **fields}).reasons
