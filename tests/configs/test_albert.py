"""ALBERT against transformers on the meta device: layers in groups, stored once and run often."""

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
    maybe,
    read,
    shapes,
    small,
)
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.params import params

CLASSES = """
AlbertModel AlbertForMaskedLM AlbertForPreTraining AlbertForSequenceClassification AlbertForTokenClassification
AlbertForQuestionAnswering AlbertForMultipleChoice
""".split()

TINY = {
    "hidden_size": 8,
    "embedding_size": 6,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "vocab_size": 30,
    "max_position_embeddings": 16,
}


@pytest.mark.parametrize("name", CLASSES)
def test_default_config_of_every_class(name: str) -> None:
    assert_params_equal_meta({**transformers_meta.default_config("albert"), "architectures": [name]})


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("tied", [True, False])
def test_tied_and_untied(name: str, tied: bool) -> None:
    assert_params_equal_meta(
        {"model_type": "albert", "architectures": [name], "tie_word_embeddings": tied, "num_labels": 5, **TINY}
    )


def test_minimal_configs() -> None:
    assert_params_equal_meta({"model_type": "albert"})
    assert_params_equal_meta({"model_type": "albert", "hidden_size": 128, "intermediate_size": 100})


@few
@given(
    config=shapes(
        "albert",
        kv_heads_key=None,
        architectures=st.sampled_from(CLASSES).map(lambda name: [name]),
        vocab_size=small,
        embedding_size=maybe(small),
        num_hidden_layers=st.integers(1, 7),
        num_hidden_groups=maybe(st.integers(1, 9)),
        inner_group_num=maybe(st.integers(1, 3)),
        intermediate_size=small,
        max_position_embeddings=small,
        type_vocab_size=maybe(st.integers(1, 4)),
        tie_word_embeddings=maybe(st.booleans()),
        num_labels=maybe(st.integers(1, 7)),
    )
)
def test_varied(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_albert_base_by_hand() -> None:
    """ALBERT base, masked: tables (30,000 + 512 + 2) * 128 = 3,905,792 and their norm 256; up to width 768: 99,072.

    One layer for all twelve: 4 * (768^2 + 768) + (768 * 3,072 + 3,072) + (3,072 * 768 + 768) + 4 * 768 = 7,087,872.
    The head: 768 * 128 + 128 + 256 + 30,000 = 128,688. Sum: 11,221,680.
    """
    config = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
    model = read({"model_type": "albert", "architectures": ["AlbertForMaskedLM"], **config})
    assert params(model).figures()["params.total"] == 11_221_680
    assert model.main.num_hidden_layers == 12


def test_which_layer_runs_when() -> None:
    """Six layers in two groups of two: group 0 three times over, then group 1; twelve run, four are stored."""
    model = read({"model_type": "albert", **TINY, "num_hidden_layers": 6, "num_hidden_groups": 2, "inner_group_num": 2})
    order = [layer.shared for layer in model.main.sequence()]
    assert order == ["group 0 layer 0", "group 0 layer 1"] * 3 + ["group 1 layer 0", "group 1 layer 1"] * 3
    assert len(model.main.layers) == 4


def test_a_group_that_never_runs_is_stored_all_the_same() -> None:
    """One layer in three groups runs group 0 alone; transformers keeps all three."""
    config = {"model_type": "albert", **TINY, "num_hidden_layers": 1, "num_hidden_groups": 3}
    assert read(config).main.num_hidden_layers == 1
    assert_params_equal_meta(config)


def test_the_comparison_notices_layers_that_are_not_shared() -> None:
    """Negative control: counted as twelve groups, one group's count is wrong."""
    one = {"model_type": "albert", **TINY, "num_hidden_groups": 1}
    assert_params_differ_from_meta({**one, "num_hidden_groups": 12}, one)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_attention_heads": 3}, "hidden_size is 8; it is not a multiple of the 3 heads"),
        ({"num_hidden_groups": 0}, "num_hidden_groups is 0"),
        ({"inner_group_num": 10**9}, "inner_group_num is 1000000000"),
        ({"embedding_size": None}, "embedding_size is null"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({"model_type": "albert", **TINY, **fields})
    assert message in str(caught.value)


def test_a_causal_head_is_an_estimate() -> None:
    assert architecture_of({"model_type": "albert", "architectures": ["AlbertForCausalLM"], **TINY}).reasons
