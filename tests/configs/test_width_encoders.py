"""Encoders beside BERT against transformers on the meta device: every class, default, minimal and varied shapes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import assert_params_equal_meta, layer_counts, maybe, small
from tests.width import Width, assert_default, assert_heads, flags, labels, split_width, varied, width

BERT_TASKS = """
ForMaskedLM Model ForSequenceClassification ForTokenClassification ForQuestionAnswering ForMultipleChoice
"""
BERT_KEYS: dict[str, Any] = {
    "vocab_size": small.map(lambda size: size + 4),
    "num_hidden_layers": layer_counts,
    "intermediate_size": small,
    "max_position_embeddings": small.map(lambda rows: rows + 4),
    "type_vocab_size": maybe(st.integers(1, 4)),
    "tie_word_embeddings": flags,
    "num_labels": labels,
}
DECODER = {**BERT_KEYS, "is_decoder": flags}


def bert(model_type: str, prefix: str, tasks: str = f"{BERT_TASKS} ForCausalLM", **keys: Any) -> Width:
    base = DECODER if "ForCausalLM" in tasks else BERT_KEYS
    return width(model_type, prefix, tasks, kin=split_width(), **{**base, **keys})


WIDTHS = [
    bert("xlm-roberta", "XLMRoberta"),
    bert("camembert", "Camembert"),
    bert("data2vec-text", "Data2VecText"),
    bert("xlm-roberta-xl", "XLMRobertaXL"),
    bert("roberta-prelayernorm", "RobertaPreLayerNorm"),
    bert("ibert", "IBert", BERT_TASKS),
    bert("electra", "Electra", f"{BERT_TASKS} ForCausalLM ForPreTraining", embedding_size=small),
    bert("rembert", "RemBert", input_embedding_size=small, output_embedding_size=small),
    bert(
        "deberta",
        "Deberta",
        BERT_TASKS.replace("ForMultipleChoice", ""),
        type_vocab_size=maybe(st.integers(0, 2)),
        relative_attention=flags,
        max_relative_positions=maybe(st.integers(-1, 20)),
        pos_att_type=st.sampled_from([None, ["c2p"], ["p2c"], ["c2p", "p2c"], "c2p|p2c"]),
        position_biased_input=flags,
        legacy=flags,
    ),
    bert(
        "deberta-v2",
        "DebertaV2",
        BERT_TASKS,
        type_vocab_size=maybe(st.integers(0, 2)),
        relative_attention=flags,
        max_relative_positions=maybe(st.integers(-1, 20)),
        pos_att_type=st.sampled_from([None, ["c2p"], ["p2c"], ["c2p", "p2c"], "c2p|p2c"]),
        position_biased_input=flags,
        position_buckets=maybe(st.integers(-1, 12)),
        share_att_key=flags,
        norm_rel_ebd=maybe(st.sampled_from(["none", "layer_norm"])),
        conv_kernel_size=maybe(st.sampled_from([0, 1, 3])),
        legacy=flags,
    ),
]
by_type = pytest.mark.parametrize("row", WIDTHS, ids=lambda row: str(row.model_type))


@by_type
def test_default_and_minimal(row: Width) -> None:
    assert_default(row)


@by_type
def test_every_class(row: Width) -> None:
    assert_heads(row)


@by_type
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_varied(row: Width, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(varied(row)))
