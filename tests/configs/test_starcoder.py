"""StarCoder2: counts equal transformers' on the meta device; windows, biases, doubled keys of hub files."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.transformers_meta import default_config
from tests.strategies import (
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    attention_of,
    classes,
    even_widths,
    few,
    layer_counts,
    maybe,
    read,
    shapes,
    small,
)
from txcalc.architecture import FeedForward
from txcalc.configs import architecture_of
from txcalc.errors import ModelError


def tiny(**keys: Any) -> dict[str, Any]:
    base = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 10}
    return {"model_type": "starcoder2", "architectures": ["Starcoder2ForCausalLM"], "vocab_size": 30, **base, **keys}


def test_default_and_minimal_configs() -> None:
    assert_params_equal_meta({**default_config("starcoder2"), "architectures": ["Starcoder2ForCausalLM"]})
    assert_params_equal_meta({"model_type": "starcoder2"})
    assert_params_equal_meta({"model_type": "starcoder2", "num_hidden_layers": 1})


@few
@given(
    shapes(
        "starcoder2",
        num_hidden_layers=layer_counts,
        intermediate_size=small,
        vocab_size=small,
        head_dim=maybe(even_widths),
        use_bias=st.booleans(),
        sliding_window=st.none() | st.integers(1, 9),
        tie_word_embeddings=st.booleans(),
        architectures=classes(
            "Starcoder2", "ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification"
        ),
        num_labels=st.integers(1, 5),
    )
)
def test_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_the_comparison_notices_missing_biases() -> None:
    assert_params_differ_from_meta(tiny(use_bias=False), tiny())


def test_hidden_act_and_norm_epsilon_rule_over_their_doubles() -> None:
    model = read(tiny(activation_function="gelu", layer_norm_epsilon=1e-3, norm_epsilon=1e-4, scale_attn_weights=True))
    feed_forward = model.main.layers[0].sublayers()[1]
    assert isinstance(feed_forward, FeedForward)
    assert feed_forward.activation == "gelu_tanh"
    assert model.main.final_norm is not None
    assert model.main.final_norm.eps == 1e-4


def test_one_window_in_every_layer() -> None:
    model = read(tiny(sliding_window=5))
    assert [attention_of(model, layer).window for layer in range(2)] == [5, 5]
    assert attention_of(read(tiny())).window is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3; it must divide the 4 query heads"),
        ({"use_bias": "true"}, 'use_bias is "true"; expected true or false'),
        ({"hidden_act": "swiglu"}, "hidden_act is 'swiglu'"),
        ({"sliding_window": -1}, "sliding_window is -1; expected 1 to"),
    ],
)
def test_bad_values(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(tiny(**keys))


@pytest.mark.parametrize(
    "keys",
    [
        {"norm_type": "rms_norm"},
        {"mlp_type": "gated"},
        {"attention_bias": True},
        {"architectures": ["Starcoder2ForQuestionAnswering"]},
    ],
)
def test_what_is_not_known_makes_an_estimate(keys: dict[str, Any]) -> None:
    assert len(architecture_of(tiny(**keys)).reasons) == 1
