from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.transformers_meta import default_config
from tests.oracles.transformers_modules import model_of, modules
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
from txcalc.architecture import MixtureOfExperts, Rotary, SelfAttention, YarnScaling
from txcalc.configs import architecture_of
from txcalc.errors import ModelError

SMALL: dict[str, Any] = {
    "model_type": "gpt_oss",
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "vocab_size": 50,
}


def attentions(config: dict[str, Any]) -> list[SelfAttention]:
    found = [layer.sublayers()[0] for layer in read(config).main.sequence()]
    return [each for each in found if isinstance(each, SelfAttention)]


def test_default_config_equals_transformers() -> None:
    assert_params_equal_meta(default_config("gpt_oss"))


@pytest.mark.parametrize("extra", [{}, {"num_hidden_layers": 3, "num_local_experts": 32}])
def test_a_minimal_config_takes_transformers_defaults(extra: dict[str, Any]) -> None:
    assert_params_equal_meta({"model_type": "gpt_oss", **extra})


@few
@given(
    shapes(
        "gpt_oss",
        intermediate_size=small,
        num_hidden_layers=layer_counts,
        vocab_size=small,
        head_dim=st.sampled_from([2, 8]),
        num_local_experts=st.integers(2, 5),
        num_experts_per_tok=st.integers(1, 2),
        attention_bias=maybe(st.booleans()),
        tie_word_embeddings=st.booleans(),
        swiglu_alpha=maybe(st.just(1.5)),
        architectures=maybe(
            st.sampled_from(
                [
                    ["GptOssForCausalLM"],
                    ["GptOssModel"],
                    ["GptOssForSequenceClassification"],
                    ["GptOssForTokenClassification"],
                ]
            )
        ),
    )
)
def test_varied_shapes_equal_transformers(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@pytest.mark.parametrize("change", [{"attention_bias": False}, {"num_local_experts": 3}])
def test_the_oracle_notices_a_difference(change: dict[str, Any]) -> None:
    assert_params_differ_from_meta({**SMALL, **change}, SMALL)


@pytest.mark.parametrize(
    "kinds", [None, ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]]
)
def test_windows_and_scales_equal_those_of_transformers_modules(kinds: list[str] | None) -> None:
    config = {**SMALL, "sliding_window": 5, "layer_types": kinds}
    theirs = modules(model_of(config), "Attention")
    ours = attentions(config)
    assert [each.window for each in ours] == [module.sliding_window for module in theirs]
    assert {each.sinks for each in ours} == {True}
    assert {module.scaling for module in theirs} == {ours[0].head_dim ** -0.5}
    assert ours[0].scale is None


def test_experts_are_clamped_biased_and_chosen_before_the_softmax() -> None:
    config = {**SMALL, "swiglu_limit": 5.0, "swiglu_alpha": 1.5}
    moe = read(config).main.layers[0].sublayers()[1]
    theirs = modules(model_of(config), "Experts")[0]
    assert isinstance(moe, MixtureOfExperts)
    assert (moe.expert.limit, moe.expert.alpha) == (theirs.limit, theirs.alpha) == (5.0, 1.5)
    assert (moe.expert.activation, moe.expert.up_bias, moe.expert.down_bias) == ("swiglu_oai", True, True)
    assert (moe.router.scoring, moe.router.bias) == ("softmax_after_topk", True)


@pytest.mark.parametrize("said", [{}, {"rope_scaling": None}, {"rope_parameters": None}])
def test_yarn_is_the_default_rotary(said: dict[str, Any]) -> None:
    position = attentions({**SMALL, **said})[0].position
    theirs = model_of({**SMALL, **said}).config.rope_parameters
    assert isinstance(position, Rotary)
    assert isinstance(position.scaling, YarnScaling)
    assert position.theta == theirs["rope_theta"] == 150_000
    ours = (position.scaling.factor, position.scaling.truncate, position.scaling.original_max_position_embeddings)
    assert ours == (theirs["factor"], theirs["truncate"], theirs["original_max_position_embeddings"])


def test_an_empty_rope_parameters_means_none() -> None:
    position = attentions({**SMALL, "rope_parameters": {}})[0].position
    assert isinstance(position, Rotary)
    assert position.scaling is None
    assert model_of({**SMALL, "rope_parameters": {}}).config.rope_parameters["rope_type"] == "default"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_experts_per_tok": 5}, "num_experts_per_tok is 5; there are 4 experts"),
        ({"swiglu_limit": "seven"}, 'swiglu_limit is "seven"'),
        ({"layer_types": ["sliding_attention"]}, "layer_types has 1 entries for 4 layers"),
        ({"attention_bias": 1}, "attention_bias is 1"),
    ],
)
def test_bad_values_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({**SMALL, **change})
    assert named in caught.value.message


def test_the_older_name_of_the_experts_is_a_reason_only_alone() -> None:
    assert architecture_of({**SMALL, "experts_per_token": 3}).reasons == ()
    alone = {key: value for key, value in SMALL.items() if key != "num_experts_per_tok"}
    assert architecture_of({**alone, "experts_per_token": 3}).reasons


def test_a_head_without_a_class_is_a_reason() -> None:
    assert architecture_of({**SMALL, "architectures": ["GptOssForQuestionAnswering"]}).reasons
