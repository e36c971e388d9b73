"""ConvBERT, MobileBERT, SqueezeBERT against transformers on the meta device: every class, varied shapes, FLOPs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.configs.test_width_encoders import BERT_KEYS, BERT_TASKS, EVERY_TASK
from tests.oracles import flop_counter
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, maybe, read, small
from tests.width import Width, assert_default, assert_heads, flags, split_width, varied, width
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.flops import flops
from txcalc.reference.support import not_built

eights = st.sampled_from([4, 8, 12])
groups = st.sampled_from([1, 2, 4])
GROUPED = {f"{name}_groups": maybe(groups) for name in ("q", "k", "v", "post_attention", "intermediate", "output")}


def mobile(config: dict[str, Any]) -> dict[str, Any]:
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    return {**config, "intra_bottleneck_size": 2 * heads, "embedding_size": hidden // 2}


WIDTHS = [
    width(
        "convbert", "ConvBert", BERT_TASKS, kin=split_width(step=4), **BERT_KEYS,
        embedding_size=small, head_ratio=st.sampled_from([1, 2, 9]), conv_kernel_size=st.sampled_from([1, 3, 9]),
        is_decoder=flags,
    ),
    width(
        "mobilebert", "MobileBert", EVERY_TASK.replace("ForCausalLM", ""), kin=split_width(step=2).map(mobile),
        **BERT_KEYS, trigram_input=flags, use_bottleneck=flags, use_bottleneck_attention=flags,
        num_feedforward_networks=maybe(st.integers(1, 3)), classifier_activation=flags,
        normalization_type=maybe(st.sampled_from(["no_norm", "layer_norm"])),
    ),
    width(
        "squeezebert", "SqueezeBert", BERT_TASKS,
        kin=split_width(step=4).map(lambda kin: {**kin, "embedding_size": kin["hidden_size"]}),
        **{**BERT_KEYS, "intermediate_size": eights}, **GROUPED,
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
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_varied(row: Width, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(varied(row)))


# ---- FLOPs ----------------------------------------------------------------------------------------------------------

TINY: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "vocab_size": 30,
    "embedding_size": 24, "max_position_embeddings": 20,
}  # fmt: skip
MOBILE = {**TINY, "model_type": "mobilebert", "embedding_size": 10, "intra_bottleneck_size": 12}
CONV = {**TINY, "model_type": "convbert", "num_attention_heads": 6, "embedding_size": 10}
SQUEEZE = {**TINY, "model_type": "squeezebert"}
CASES = [
    {**CONV, "architectures": ["ConvBertForMaskedLM"]},
    {**CONV, "architectures": ["ConvBertForSequenceClassification"], "num_groups": 4, "conv_kernel_size": 3},
    {**CONV, "architectures": ["ConvBertForMultipleChoice"], "summary_use_proj": True, "summary_type": "first"},
    {**MOBILE, "architectures": ["MobileBertForPreTraining"]},
    {**MOBILE, "architectures": ["MobileBertForMaskedLM"], "use_bottleneck_attention": True},
    {**MOBILE, "architectures": ["MobileBertModel"], "use_bottleneck": False, "trigram_input": False},
    {**SQUEEZE, "architectures": ["SqueezeBertForMaskedLM"]},
    {**SQUEEZE, "architectures": ["SqueezeBertForTokenClassification"], "output_groups": 8, "q_groups": 1},
]  # fmt: skip


@pytest.mark.parametrize("config", CASES, ids=lambda config: config["architectures"][0])
def test_flops_and_summaries(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)
    tokens = torch.ones(2, 7, dtype=torch.long)
    choices = "MultipleChoice" in config["architectures"][0]
    counted = flop_counter.on_cpu(config, input_ids=tokens[None] if choices else tokens)
    assert flops(read(config), batch=2, seq=7).figures()["flops.matmul"] == counted


def test_the_comparison_notices() -> None:
    """Negative controls: another number of groups, another kernel, one bottleneck less."""
    assert_params_differ_from_meta(SQUEEZE, {**SQUEEZE, "k_groups": 2})
    assert_params_differ_from_meta(CONV, {**CONV, "conv_kernel_size": 7})
    assert_params_differ_from_meta(
        {**MOBILE, "key_query_shared_bottleneck": True}, {**MOBILE, "num_feedforward_networks": 3}
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**CONV, "conv_kernel_size": 4}, "conv_kernel_size is 4"),
        ({**CONV, "num_groups": 7}, "num_groups is 7; it does not divide 24 channels"),
        ({**CONV, "hidden_size": 27}, "3 heads of 9 channels cannot be halved"),
        ({**MOBILE, "key_query_shared_bottleneck": False}, "queries made of 12 channels cannot read 24"),
        ({**MOBILE, "embedding_size": 48}, "embedding_size is 48"),
        ({**SQUEEZE, "embedding_size": 12}, "it must be hidden_size, 24"),
    ],
)
def test_what_cannot_be_built(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)


@pytest.mark.parametrize("config", [CONV, MOBILE, SQUEEZE], ids=lambda config: config["model_type"])
def test_the_reference_refuses_by_name(config: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"does not build .*B[Ee][Rr][Tt]"):
        not_built(read(config))
