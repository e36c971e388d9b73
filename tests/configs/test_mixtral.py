from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.transformers_meta import default_config
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
from txcalc.architecture import MixtureOfExperts, SelfAttention
from txcalc.configs import architecture_of
from txcalc.errors import ModelError

SMALL: dict[str, Any] = {
    "model_type": "mixtral",
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 50,
}


def test_default_config_equals_transformers() -> None:
    assert_params_equal_meta(default_config("mixtral"))


@pytest.mark.parametrize("extra", [{}, {"num_hidden_layers": 3}, {"num_local_experts": 4}, {"num_experts": 4}])
def test_a_minimal_config_takes_transformers_defaults(extra: dict[str, Any]) -> None:
    assert_params_equal_meta({"model_type": "mixtral", **extra})


@few
@given(
    shapes(
        "mixtral",
        intermediate_size=small,
        num_hidden_layers=layer_counts,
        vocab_size=small,
        head_dim=maybe(st.sampled_from([None, 2, 6, 16])),
        num_local_experts=st.integers(2, 6),
        num_experts_per_tok=st.integers(1, 2),
        sliding_window=maybe(st.sampled_from([None, 16])),
        tie_word_embeddings=st.booleans(),
        architectures=maybe(
            st.sampled_from(
                [
                    ["MixtralForCausalLM"],
                    ["MixtralModel"],
                    ["MixtralForSequenceClassification"],
                    ["MixtralForTokenClassification"],
                    ["MixtralForQuestionAnswering"],
                ]
            )
        ),
        id2label=maybe(st.just({"0": "a", "1": "b", "2": "c"})),
    )
)
def test_varied_shapes_equal_transformers(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_the_oracle_notices_one_expert_less() -> None:
    assert_params_differ_from_meta({**SMALL, "num_local_experts": 7}, SMALL)


def test_routing_and_window() -> None:
    """Two of eight experts, their weights made to sum to one; the window, where set, is every layer's."""
    attention, experts = read({**SMALL, "sliding_window": 7}).main.layers[0].sublayers()
    assert isinstance(attention, SelfAttention)
    assert isinstance(experts, MixtureOfExperts)
    assert (attention.window, experts.num_experts_per_tok) == (7, 2)
    assert (experts.router.scoring, experts.router.norm_topk_prob) == ("softmax", True)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_experts_per_tok": 9}, "num_experts_per_tok is 9; there are 8 experts"),
        ({"num_local_experts": 0}, "num_local_experts is 0"),
        ({"num_local_experts": 4, "num_experts": 5}, "two names of one field"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3"),
        ({"hidden_act": "swoosh"}, "hidden_act is 'swoosh'"),
        ({"sliding_window": -1}, "sliding_window is -1"),
    ],
)
def test_bad_values_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({**SMALL, **change})
    assert named in caught.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"attention_bias": True},
        {"layer_types": ["full_attention"] * 2},
        {"architectures": ["MixtralForMaskedLM"]},
        {"architectures": ["MixtralForConditionalGeneration"]},
        {"per_layer_config": {"0": {"intermediate_size": 8}}},
    ],
)
def test_what_is_not_understood_is_a_reason(change: dict[str, Any]) -> None:
    assert architecture_of({**SMALL, **change}).reasons
