"""BLOOM: counts equal transformers' on the meta device; ALiBi, embedding norm, the stream normed or not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.transformers_meta import default_config, num_params
from tests.strategies import (
    assert_params_equal_meta,
    attention_of,
    classes,
    few,
    layer_counts,
    read,
    shapes,
    small,
)
from txcalc.architecture import Alibi, TokenEmbedding
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.params import params


def tiny(**keys: Any) -> dict[str, Any]:
    base = {"hidden_size": 24, "n_head": 4, "n_layer": 2, "vocab_size": 30}
    return {"model_type": "bloom", "architectures": ["BloomForCausalLM"], **base, **keys}


def test_default_and_minimal_configs() -> None:
    assert_params_equal_meta({**default_config("bloom"), "architectures": ["BloomForCausalLM"]})
    assert_params_equal_meta({"model_type": "bloom"})
    assert_params_equal_meta({"model_type": "bloom", "n_layer": 1, "n_inner": None})


@few
@given(
    shapes(
        "bloom",
        heads_key="n_head",
        kv_heads_key=None,
        n_layer=layer_counts,
        vocab_size=small,
        apply_residual_connection_post_layernorm=st.booleans(),
        tie_word_embeddings=st.booleans(),
        architectures=classes("Bloom"),
        num_labels=st.integers(1, 5),
    )
)
def test_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_hub_spellings() -> None:
    """bigscience/bloom's file says n_embed and num_attention_heads beside n_head; all name one model."""
    keys = {"n_embed": 24, "num_attention_heads": 4, "seq_length": 2048, "offset_alibi": 100, "skip_bias_add": True}
    config = {**tiny(**keys), "hidden_size": 24}
    assert_params_equal_meta(config)
    assert_params_equal_meta({**config, "n_embed": None})
    del config["hidden_size"]
    assert_params_equal_meta(config)
    assert read(config).max_position_embeddings == 2048


def test_the_comparison_notices_a_missing_embedding_norm() -> None:
    model = read(tiny())
    assert isinstance(model.main.embedding, TokenEmbedding)
    broken = model.main.replace(embedding=model.main.embedding.replace(norm=None))
    counted = params(model.replace(stacks=(broken,))).figures()["params.total"]
    assert counted == num_params(tiny()) - 2 * 24


def test_alibi_and_what_the_stream_is() -> None:
    model = read(tiny())
    assert attention_of(model).position == Alibi(max_bias=8.0, before_scaling=False)
    assert [len(step.branches) for step in model.main.layers[0].steps] == [1, 1]
    normed = read(tiny(apply_residual_connection_post_layernorm=True)).main.layers[0].steps
    assert [(len(step.branches), step.norm_after is not None) for step in normed] == [(0, True), (1, True), (1, False)]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"hidden_size": 25}, "hidden_size is 25; it is not a multiple of the 4 heads"),
        ({"n_embed": 48}, "hidden_size is 24 and n_embed is 48: two names of one field"),
        ({"n_layer": -1}, "n_layer is -1; expected 1 to"),
        ({"vocab_size": True}, "vocab_size is true; expected a whole number"),
    ],
)
def test_bad_values(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(tiny(**keys))


@pytest.mark.parametrize(
    "keys",
    [{"n_inner": 50}, {"num_key_value_heads": 2}, {"hidden_act": "relu"}, {"architectures": ["BloomForRewardModel"]}],
)
def test_what_is_not_known_makes_an_estimate(keys: dict[str, Any]) -> None:
    assert len(architecture_of(tiny(**keys)).reasons) == 1
