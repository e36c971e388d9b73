"""X-MOD, RoCBert, LUKE, LayoutLM, TAPAS against transformers: every class, varied shapes, FLOPs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.configs.test_width_encoders import BERT_KEYS, BERT_TASKS, DECODER
from tests.oracles import flop_counter
from tests.strategies import ABSENT, assert_params_differ_from_meta, assert_params_equal_meta, maybe, read, small
from tests.width import Width, assert_default, assert_heads, flags, split_width, varied, width
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.flops import flops
from txcalc.formulas.params import params
from txcalc.reference.support import not_built

SHORT = BERT_TASKS.replace("ForMultipleChoice", "")
ENTITIES = "ForEntityClassification ForEntityPairClassification ForEntitySpanClassification"
WIDTHS = [
    width(
        "xmod", "Xmod", f"{BERT_TASKS} ForCausalLM", kin=split_width(step=2), **DECODER, pre_norm=flags,
        adapter_reduction_factor=maybe(st.sampled_from([1, 2])), adapter_layer_norm=flags,
        adapter_reuse_layer_norm=flags, ln_before_adapter=flags,
        languages=maybe(st.sampled_from([["en_XX"], ["en_XX", "de_DE", "fr_XX"]])),
    ),
    width(
        "roc_bert", "RoCBert", f"{BERT_TASKS} ForCausalLM ForPreTraining", kin=split_width(step=2), **DECODER,
        enable_pronunciation=flags, enable_shape=flags, concat_input=flags, pronunciation_embed_dim=maybe(small),
        shape_embed_dim=maybe(small), shape_vocab_size=st.integers(4, 50), pronunciation_vocab_size=st.integers(4, 50),
    ),
    width(
        "luke", "Luke", f"{BERT_TASKS} {ENTITIES}", kin=split_width(step=2), **BERT_KEYS,
        entity_vocab_size=st.integers(4, 50), entity_emb_size=small, use_entity_aware_attention=flags,
    ),
    width(
        "layoutlm", "LayoutLM", SHORT, kin=split_width(step=2), **BERT_KEYS, max_2d_position_embeddings=maybe(small),
    ),
    width(
        "tapas", "Tapas", "ForMaskedLM Model ForSequenceClassification ForQuestionAnswering",
        kin=split_width(step=2), **{**DECODER, "type_vocab_size": ABSENT},
        type_vocab_sizes=maybe(st.lists(st.integers(1, 9), max_size=4)), select_one_column=flags,
        num_aggregation_labels=maybe(st.integers(0, 4)),
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
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_varied(row: Width, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(varied(row)))


# ---- FLOPs ----------------------------------------------------------------------------------------------------------

TINY: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "vocab_size": 30,
    "max_position_embeddings": 20, "pad_token_id": 0,
}  # fmt: skip
XMOD = {**TINY, "model_type": "xmod", "languages": ["en_XX", "de_DE"], "default_language": "de_DE"}
ROC = {**TINY, "model_type": "roc_bert", "shape_embed_dim": 5, "pronunciation_embed_dim": 7}
LUKE = {**TINY, "model_type": "luke", "entity_vocab_size": 9, "entity_emb_size": 5}
LAYOUT = {**TINY, "model_type": "layoutlm"}
TAPAS = {**TINY, "model_type": "tapas"}
CASES = [
    {**XMOD, "architectures": ["XmodForMaskedLM"]},
    {**XMOD, "architectures": ["XmodForSequenceClassification"], "pre_norm": True, "adapter_layer_norm": True},
    {**ROC, "architectures": ["RoCBertForMaskedLM"]},
    {**ROC, "architectures": ["RoCBertModel"], "enable_shape": False, "concat_input": False},
    {**LUKE, "architectures": ["LukeForMaskedLM"]},
    {**LUKE, "architectures": ["LukeForTokenClassification"]},
    {**LAYOUT, "architectures": ["LayoutLMForTokenClassification"]},
    {**TAPAS, "architectures": ["TapasForMaskedLM"]},
    {**TAPAS, "architectures": ["TapasForQuestionAnswering"], "num_aggregation_labels": 4},
]


@pytest.mark.parametrize("config", CASES, ids=lambda config: config["architectures"][0])
def test_flops(config: dict[str, Any]) -> None:
    counted = flop_counter.on_cpu(config, input_ids=torch.ones(2, 7, dtype=torch.long))
    assert flops(read(config), batch=2, seq=7).figures()["flops.matmul"] == counted


def test_a_text_uses_the_adapters_of_one_language() -> None:
    """An adapter: 24 * 12 + 12 + 12 * 24 + 24 = 612 a layer; two layers, one language idle."""
    figures = params(read({**XMOD, "architectures": ["XmodModel"]})).figures()
    assert figures["params.total"] - figures["params.active"] == 2 * 612


def test_the_comparison_notices() -> None:
    """Negative controls: one language more, an untied entity table, other places on the page."""
    assert_params_differ_from_meta(XMOD, {**XMOD, "languages": ["en_XX"]})
    assert_params_differ_from_meta(LUKE, {**LUKE, "tie_word_embeddings": False})
    assert_params_differ_from_meta(LAYOUT, {**LAYOUT, "max_2d_position_embeddings": 9})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**XMOD, "languages": []}, "no adapters are left"),
        ({**XMOD, "pad_token_id": None}, "pad_token_id is null"),
        ({**TAPAS, "type_vocab_sizes": [0]}, "type_vocab_sizes is 0"),
    ],
)
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)


@pytest.mark.parametrize("config", [XMOD, ROC, LUKE, LAYOUT, TAPAS], ids=lambda config: config["model_type"])
def test_the_reference_refuses_by_name(config: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"does not build (experts that the input names|further input tables)"):
        not_built(read(config))
