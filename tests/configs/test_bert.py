"""BERT and RoBERTa against transformers on the meta device, and what their heads read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles import transformers_meta
from tests.strategies import (
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    few,
    layer_counts,
    maybe,
    read,
    shapes,
    small,
)
from txcalc.architecture import LearnedPositions, TokenEmbedding
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.params import params

BERT_CLASSES = """
BertModel BertForMaskedLM BertLMHeadModel BertForPreTraining BertForNextSentencePrediction
BertForSequenceClassification BertForTokenClassification BertForQuestionAnswering BertForMultipleChoice
""".split()
ROBERTA_CLASSES = """
RobertaModel RobertaForMaskedLM RobertaForCausalLM RobertaForSequenceClassification RobertaForTokenClassification
RobertaForQuestionAnswering RobertaForMultipleChoice
""".split()
CLASSES = [("bert", name) for name in BERT_CLASSES] + [("roberta", name) for name in ROBERTA_CLASSES]

#: One layer and narrow, so that a bias or a pooler too many shows as itself.
TINY = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "vocab_size": 30,
    "max_position_embeddings": 16,
}


@pytest.mark.parametrize(("model_type", "name"), CLASSES)
def test_default_config_of_every_class(model_type: str, name: str) -> None:
    assert_params_equal_meta({**transformers_meta.default_config(model_type), "architectures": [name]})


@pytest.mark.parametrize(("model_type", "name"), CLASSES)
@pytest.mark.parametrize("tied", [True, False])
def test_tied_and_untied(model_type: str, name: str, tied: bool) -> None:
    assert_params_equal_meta(
        {"model_type": model_type, "architectures": [name], "tie_word_embeddings": tied, "num_labels": 5, **TINY}
    )


@pytest.mark.parametrize("model_type", ["bert", "roberta"])
def test_minimal_configs(model_type: str) -> None:
    assert_params_equal_meta({"model_type": model_type})
    assert_params_equal_meta({"model_type": model_type, "num_hidden_layers": 2, "vocab_size": 1000})


def varied(model_type: str, classes: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return shapes(
        model_type,
        kv_heads_key=None,
        architectures=st.sampled_from(classes).map(lambda name: [name]),
        vocab_size=small.map(lambda size: size + 1),
        num_hidden_layers=layer_counts,
        intermediate_size=small,
        max_position_embeddings=small.map(lambda rows: rows + 2),
        type_vocab_size=maybe(st.integers(1, 4)),
        tie_word_embeddings=maybe(st.booleans()),
        num_labels=maybe(st.integers(1, 7)),
        is_decoder=maybe(st.booleans()),
    ).flatmap(_maybe_crossed)


def _maybe_crossed(config: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Only a decoder may carry cross-attention."""
    if not config.get("is_decoder"):
        return st.just(config)
    return st.booleans().map(lambda crossed: {**config, "add_cross_attention": crossed})


@few
@given(config=varied("bert", BERT_CLASSES))
def test_varied_bert(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@few
@given(config=varied("roberta", ROBERTA_CLASSES))
def test_varied_roberta(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_bert_base_by_hand() -> None:
    """BERT base, masked: (30,522 + 512 + 2) * 768 tables and 2 * 768 for their norm = 23,837,184.

    A layer: 4 * (768^2 + 768) + (768 * 3,072 + 3,072) + (3,072 * 768 + 768) + 4 * 768 = 7,087,872; twelve 85,054,464.
    The head: 768^2 + 768 + 2 * 768 + 30,522 = 622,650. No pooler. Sum: 109,514,298, the figure that logs of
    BertForMaskedLM print.
    """
    figures = params(read({"model_type": "bert", "architectures": ["BertForMaskedLM"]})).figures()
    assert figures["params.total"] == 109_514_298
    assert figures["params.head"] == 622_650
    assert figures["params.embedding"] == 23_835_648


def test_pretraining_adds_pooler_and_next_sentence() -> None:
    """The published checkpoint of bert-base-uncased: 109,514,298 + (768^2 + 768) + (2 * 768 + 2) = 110,106,428."""
    figures = params(read({"model_type": "bert", "architectures": ["BertForPreTraining"]})).figures()
    assert figures["params.total"] == 110_106_428
    assert figures["params.head"] == 622_650 + 1538


def test_the_comparison_notices_a_missing_pooler() -> None:
    """Negative control: the bare model counted as the masked one is wrong by a pooler and a head."""
    bare = {"model_type": "bert", "architectures": ["BertModel"], **TINY}
    assert_params_differ_from_meta({**bare, "architectures": ["BertForMaskedLM"]}, bare)


def test_roberta_positions_start_after_the_padding_id() -> None:
    """padding_idx 1: the first token reads row 2, and 514 rows serve 512 tokens."""
    model = read({"model_type": "roberta", "max_position_embeddings": 514})
    embedding = model.main.embedding
    assert isinstance(embedding, TokenEmbedding)
    assert embedding.positions == LearnedPositions(rows=514, width=768, offset=2)
    assert model.max_position_embeddings == 512


def test_attention_is_causal_only_in_a_decoder() -> None:
    def causal(**fields: Any) -> bool:
        model = read({"model_type": "bert", **TINY, **fields})
        return bool(model.main.layers[0].sublayers()[0].causal)

    assert not causal()
    assert causal(is_decoder=True)
    assert read({"model_type": "bert", "is_decoder": True, **TINY}).main.role == "decoder"


def test_idle_cross_attention_is_counted_but_not_a_sublayer() -> None:
    """Two layers of (8^2 + 8) * 4 + 2 * 8 = 304."""
    config = {"model_type": "bert", "is_decoder": True, **TINY, "num_hidden_layers": 2}
    without, crossed = read(config), read({**config, "add_cross_attention": True})
    totals = [params(model).figures()["params.total"] for model in (without, crossed)]
    assert totals[1] - totals[0] == 608
    assert crossed.stacks == without.stacks


def test_num_labels_overrules_id2label() -> None:
    base = {"model_type": "bert", "architectures": ["BertForTokenClassification"], **TINY}
    assert_params_equal_meta({**base, "id2label": {"0": "a", "1": "b", "2": "c"}})
    assert_params_equal_meta({**base, "id2label": {"0": "a", "1": "b", "2": "c"}, "num_labels": 4})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 10, "num_attention_heads": 4}, "hidden_size is 10; it is not a multiple of the 4 heads"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"add_cross_attention": True}, "add_cross_attention is true and is_decoder is not"),
        ({"hidden_act": "mystery"}, "hidden_act is 'mystery'"),
        ({"type_vocab_size": 0}, "type_vocab_size is 0"),
        ({"tie_word_embeddings": None}, "tie_word_embeddings is null"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({"model_type": "bert", **TINY, **fields})
    assert message in str(caught.value)


def test_empty_labels_and_null_padding_are_refused() -> None:
    with pytest.raises(ModelError, match="id2label is empty"):
        architecture_of({"model_type": "bert", "architectures": ["BertForSequenceClassification"], "id2label": {}})
    with pytest.raises(ModelError, match="pad_token_id is null"):
        architecture_of({"model_type": "roberta", "pad_token_id": None})


@pytest.mark.parametrize(
    "fields",
    [
        {"architectures": ["BertForImageCaptioning"]},
        {"architectures": ["NomicBertModel"]},
        {"architectures": ["RobertaForMaskedLM"]},
        {"num_key_value_heads": 1},
        {"head_dim": 16},
    ],
)
def test_what_is_not_understood_is_an_estimate(fields: dict[str, Any]) -> None:
    assert architecture_of({"model_type": "bert", **TINY, **fields}).reasons


def test_published_config_files_of_older_releases_are_exact() -> None:
    """Keys that bert-base-multilingual-cased's and roberta-base's files carry beside the shape."""
    pooler = {"directionality": "bidi", "pooler_fc_size": 768, "pooler_num_attention_heads": 12}
    pooler |= {"pooler_num_fc_layers": 3, "pooler_size_per_head": 128, "pooler_type": "first_token_transform"}
    assert_params_equal_meta({"model_type": "bert", "architectures": ["BertForMaskedLM"], **TINY, **pooler})
    assert_params_equal_meta({"model_type": "roberta", "position_embedding_type": "absolute", **TINY})
