"""DistilBERT against transformers on the meta device."""

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
from txcalc.architecture import Sinusoidal, TokenEmbedding
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.params import params

CLASSES = """
DistilBertModel DistilBertForMaskedLM DistilBertForSequenceClassification DistilBertForTokenClassification
DistilBertForQuestionAnswering DistilBertForMultipleChoice
""".split()

TINY = {"dim": 8, "n_heads": 2, "n_layers": 1, "hidden_dim": 20, "vocab_size": 30, "max_position_embeddings": 16}


@pytest.mark.parametrize("name", CLASSES)
def test_default_config_of_every_class(name: str) -> None:
    assert_params_equal_meta({**transformers_meta.default_config("distilbert"), "architectures": [name]})


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("tied", [True, False])
def test_tied_and_untied(name: str, tied: bool) -> None:
    assert_params_equal_meta({"model_type": "distilbert", "architectures": [name], "tie_word_embeddings": tied, **TINY})


def test_minimal_configs() -> None:
    assert_params_equal_meta({"model_type": "distilbert"})
    assert_params_equal_meta({"model_type": "distilbert", "num_hidden_layers": 2, "hidden_size": 24})


@few
@given(
    config=shapes(
        "distilbert",
        heads_key="n_heads",
        kv_heads_key=None,
        width_key="dim",
        architectures=st.sampled_from([name for name in CLASSES if "QuestionAnswering" not in name]).map(
            lambda name: [name]
        ),
        vocab_size=small,
        n_layers=layer_counts,
        hidden_dim=maybe(small),
        max_position_embeddings=small,
        sinusoidal_pos_embds=maybe(st.booleans()),
        tie_word_embeddings=maybe(st.booleans()),
        num_labels=maybe(st.integers(1, 7)),
    )
)
def test_varied(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_distilbert_base_by_hand() -> None:
    """Masked: (30,522 + 512) * 768 = 23,834,112 and a norm of 1,536; six layers of 7,087,872 as BERT's, 42,527,232.

    The head: 768^2 + 768 + 1,536 + 30,522 = 622,650. Sum: 66,985,530.
    """
    figures = params(read({"model_type": "distilbert", "architectures": ["DistilBertForMaskedLM"]})).figures()
    assert figures["params.total"] == 66_985_530
    assert figures["params.head"] == 622_650


def test_sinusoidal_positions_are_stored() -> None:
    """The table starts as sines and is a parameter like any other: 16 rows of 8."""
    model = read({"model_type": "distilbert", **TINY, "sinusoidal_pos_embds": True})
    embedding = model.main.embedding
    assert isinstance(embedding, TokenEmbedding)
    assert embedding.positions == Sinusoidal(rows=16, width=8, interleaved=True, stored=True)
    learned = read({"model_type": "distilbert", **TINY})
    assert params(model).figures() == params(learned).figures()


def test_the_comparison_notices_a_missing_classifier_layer() -> None:
    """Negative control: counted as a token classifier, a sequence classifier lacks its own dense layer."""
    sequence = {"model_type": "distilbert", "architectures": ["DistilBertForSequenceClassification"], **TINY}
    assert_params_differ_from_meta({**sequence, "architectures": ["DistilBertForTokenClassification"]}, sequence)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_heads": 3}, "dim is 8; it is not a multiple of the 3 heads"),
        ({"dim": 8, "hidden_size": 16}, "two names of one field"),
        ({"architectures": ["DistilBertForQuestionAnswering"], "num_labels": 3}, "num_labels is 3"),
        ({"n_layers": 10**30}, "expected 1 to 100,000"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({"model_type": "distilbert", **TINY, **fields})
    assert message in str(caught.value)


def test_a_spelling_that_transformers_does_not_read_is_an_estimate() -> None:
    """It would build hidden_dim's default."""
    model = architecture_of({"model_type": "distilbert", "intermediate_size": 100})
    assert model.reasons == ("intermediate_size = 100: distilbert spells this hidden_dim",)
