"""Funnel and Perceiver against transformers: every class of text, varied shapes; whatever runs them is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.configs.test_width_encoders import BERT_TASKS
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, maybe, read, small
from tests.width import Width, assert_default, assert_heads, flags, labels, varied, width
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.attention import attention
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.memory import memory
from txcalc.formulas.training import training_memory
from txcalc.reference.support import not_built

channels = st.sampled_from([8, 16, 24])
WIDTHS = [
    width(
        "funnel", "Funnel", f"{BERT_TASKS} ForPreTraining BaseModel", kin=st.just({}), vocab_size=small, d_model=small,
        n_head=maybe(st.integers(1, 4)), d_head=maybe(st.integers(1, 9)), d_inner=small, num_labels=labels,
        block_sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3), num_decoder_layers=maybe(st.integers(0, 3)),
        tie_word_embeddings=flags,
    ),
    width(
        "perceiver", "Perceiver", "ForMaskedLM ForSequenceClassification", kin=st.just({}), vocab_size=small,
        d_latents=channels, d_model=channels, num_latents=small, num_self_attends_per_block=st.integers(0, 3),
        num_blocks=maybe(st.integers(1, 2)), qk_channels=maybe(channels), v_channels=maybe(channels),
        num_self_attention_heads=maybe(st.sampled_from([2, 4])), max_position_embeddings=small,
        cross_attention_shape_for_attention=maybe(st.sampled_from(["q", "kv"])), num_labels=labels,
        self_attention_widening_factor=maybe(st.integers(1, 3)),
        cross_attention_widening_factor=maybe(st.integers(1, 3)),
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


FUNNEL = {"model_type": "funnel", "architectures": ["FunnelModel"], "block_sizes": [1, 1]}
PERCEIVER = {"model_type": "perceiver", "num_self_attends_per_block": 1}
QUESTIONS: list[Callable[[Any], Any]] = [
    lambda model: flops(model, seq=8),
    lambda model: memory(model, ctx=8),
    lambda model: attention(model, ctx=8),
    lambda model: training_memory(model, seq=8),
    not_built,
]


@pytest.mark.parametrize("config", [FUNNEL, PERCEIVER], ids=lambda config: str(config["model_type"]))
@pytest.mark.parametrize("ask", QUESTIONS, ids=["flops", "memory", "attention", "training", "reference"])
def test_what_runs_them_is_refused(ask: Callable[[Any], Any], config: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"is not described|only the parameters are known"):
        ask(read(config))


def test_nothing_is_cached() -> None:
    assert kv_cache(read(PERCEIVER), ctx=8).figures()["kv_cache.total_bytes"] == 0


def test_the_comparison_notices() -> None:
    """Negative controls: one decoder layer more, another way to choose the width of keys."""
    assert_params_differ_from_meta(FUNNEL, {**FUNNEL, "num_decoder_layers": 3})
    assert_params_differ_from_meta(PERCEIVER, {**PERCEIVER, "cross_attention_shape_for_attention": "q"})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**FUNNEL, "block_repeats": [1]}, "not one for each"),
        ({**PERCEIVER, "d_latents": 20}, "are no multiple of 8 heads"),
        ({**PERCEIVER, "architectures": ["PerceiverForOpticalFlow"]}, "only Perceiver's text models are read"),
    ],
)
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)
