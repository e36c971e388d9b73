"""Nystromformer, YOSO, MRA, ESM C, UltraBERT against transformers: every class, varied shapes, FLOPs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.configs.test_width_encoders import BERT_KEYS, BERT_TASKS, SHORT_TASKS
from tests.oracles import flop_counter
from tests.strategies import ABSENT, assert_params_differ_from_meta, assert_params_equal_meta, maybe, read, small
from tests.width import Width, assert_default, assert_heads, flags, split_width, varied, width
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.attention import attention
from txcalc.formulas.flops import flops
from txcalc.result import Node

LLAMA = {**BERT_KEYS, "type_vocab_size": ABSENT, "attention_bias": flags, "mlp_bias": flags}
WIDTHS = [
    width(
        "nystromformer", "Nystromformer", BERT_TASKS, kin=split_width(step=2), **BERT_KEYS,
        conv_kernel_size=maybe(st.sampled_from([1, 5])), segment_means_seq_len=maybe(st.just(128)),
    ),
    width(
        "yoso", "Yoso", BERT_TASKS, kin=split_width(step=2), **BERT_KEYS,
        conv_window=maybe(st.sampled_from([None, 3])), use_expectation=flags,
    ),
    width("mra", "Mra", BERT_TASKS, kin=split_width(step=2), **BERT_KEYS, block_per_row=maybe(st.integers(1, 4))),
    width("esmc", "Esmc", SHORT_TASKS, kin=split_width(step=2), **LLAMA),
    width(
        "ultrabert", "Ultrabert", f"{SHORT_TASKS} ForQuestionAnswering", kin=split_width(step=2), **LLAMA,
        head_dim=maybe(st.sampled_from([4, 8])), num_key_value_heads=maybe(st.just(1)), sliding_window=maybe(small),
        prediction_head_size=maybe(small), classifier_pooling=maybe(st.sampled_from(["cls", "mean"])),
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
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 40, "vocab_size": 30,
    "max_position_embeddings": 20, "pad_token_id": 0,
}  # fmt: skip
NYSTROM = {**TINY, "model_type": "nystromformer", "architectures": ["NystromformerForMaskedLM"], "conv_kernel_size": 5}
MARKS = {**NYSTROM, "segment_means_seq_len": 8, "num_landmarks": 2}
YOSO = {**TINY, "model_type": "yoso", "architectures": ["YosoForSequenceClassification"]}
MRA = {**TINY, "model_type": "mra"}
ESMC = {**TINY, "model_type": "esmc", "architectures": ["EsmcForMaskedLM"]}
ULTRA = {
    **TINY, "model_type": "ultrabert", "architectures": ["UltrabertForMaskedLM"], "num_key_value_heads": 1,
    "prediction_head_size": 7, "sliding_window": 2, "attention_windows": [2, 0, 2],
}  # fmt: skip
CASES = [
    NYSTROM, MARKS, {**MARKS, "architectures": ["NystromformerForMultipleChoice"]}, YOSO, ESMC, ULTRA,
    {**ULTRA, "architectures": ["UltrabertForSequenceClassification"], "classifier_pooling": "mean"},
]  # fmt: skip


def doubtful(tree: Node) -> bool:
    """Whether a part of the products is an estimate, and says why."""
    return any(node.basis == "estimated" and node.reason for _, node in tree.find("flops.matmul").walk())


@pytest.mark.parametrize("config", CASES, ids=lambda config: config["architectures"][0])
def test_flops(config: dict[str, Any]) -> None:
    tokens = torch.ones(2, 8, dtype=torch.long)
    choices = "MultipleChoice" in config["architectures"][0]
    counted = flop_counter.on_cpu(config, input_ids=tokens[None] if choices else tokens)
    tree = flops(read(config), batch=2, seq=8)
    assert tree.figures()["flops.matmul"] == counted
    assert not doubtful(tree)


@pytest.mark.parametrize("config", [{**YOSO, "use_expectation": False}, MRA], ids=lambda config: config["model_type"])
def test_what_depends_on_the_content_is_estimated(config: dict[str, Any]) -> None:
    """Hashes and chosen blocks: the whole square stands for them, and says so; no scores are told."""
    tree = flops(read(config), seq=8)
    assert doubtful(tree)
    with pytest.raises(RequestError, match="are not told apart here yet"):
        attention(read(config), ctx=8)


def test_landmarks_are_of_one_length() -> None:
    assert doubtful(flops(read(MARKS), seq=9))


def test_the_comparison_notices() -> None:
    """Negative controls: another kernel, a second projection of another width."""
    assert_params_differ_from_meta(NYSTROM, {**NYSTROM, "conv_kernel_size": 7})
    assert_params_differ_from_meta(ULTRA, {**ULTRA, "prediction_head_size": 8})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**NYSTROM, "inv_coeff_init_option": True}, "transformers cannot build it"),
        ({**NYSTROM, "conv_kernel_size": 4}, "conv_kernel_size is 4"),
        ({**NYSTROM, "num_landmarks": 5}, "num_landmarks is 5; it does not divide"),
        ({**ESMC, "num_key_value_heads": 1}, "it must be 3, as queries have"),
        ({**ESMC, "head_dim": 4}, "head_dim is 4"),
        ({**ULTRA, "attention_windows": [2]}, "attention_windows has 1 entries for 3 layers"),
    ],
)
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)
