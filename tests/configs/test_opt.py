"""OPT: counts equal transformers' on the meta device; position rows, narrow embeddings, post-norm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.transformers_meta import default_config
from tests.strategies import (
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    classes,
    few,
    layer_counts,
    maybe,
    read,
    shapes,
    small,
)
from txcalc.architecture import LearnedPositions, TokenEmbedding
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.params import params


def tiny(**keys: Any) -> dict[str, Any]:
    base = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "ffn_dim": 10, "vocab_size": 30}
    return {"model_type": "opt", "architectures": ["OPTForCausalLM"], **base, "max_position_embeddings": 12, **keys}


def test_default_and_minimal_configs() -> None:
    assert_params_equal_meta({**default_config("opt"), "architectures": ["OPTForCausalLM"]})
    assert_params_equal_meta({"model_type": "opt"})
    assert_params_equal_meta({"model_type": "opt", "hidden_size": 96, "word_embed_proj_dim": None})


@few
@given(
    shapes(
        "opt",
        kv_heads_key=None,
        num_hidden_layers=layer_counts,
        ffn_dim=small,
        vocab_size=st.integers(2, 64),
        max_position_embeddings=small,
        word_embed_proj_dim=maybe(st.none() | small),
        do_layer_norm_before=st.booleans(),
        _remove_final_layer_norm=st.booleans(),
        enable_bias=st.booleans(),
        layer_norm_elementwise_affine=st.booleans(),
        tie_word_embeddings=st.booleans(),
        architectures=classes("OPT", "ForCausalLM", "Model", "ForSequenceClassification", "ForQuestionAnswering"),
        num_labels=st.integers(1, 5),
    )
)
def test_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_opt_350m() -> None:
    """facebook/opt-350m's published shape: embeddings of 512 projected to 1,024 and back, no final norm.

    331,196,416 = embeddings 50,272 * 512 + positions 2,050 * 1,024 + projections 2 * 512 * 1,024
    + 24 layers of (attention 4 * (1,024^2 + 1,024) + feed-forward 2 * 4,096 * 1,024 + 4,096 + 1,024 + norms 4 * 1,024).
    """
    keys = {"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24, "ffn_dim": 4096}
    config = tiny(
        **keys, vocab_size=50_272, max_position_embeddings=2048, word_embed_proj_dim=512, do_layer_norm_before=False
    )
    model = read(config)
    assert params(model).figures()["params.total"] == 331_196_416
    assert_params_equal_meta(config)
    assert model.main.final_norm is None
    first, second = model.main.layers[0].steps
    assert first.norm_after is not None
    assert second.norm_after is not None
    assert first.norm_in is None


def test_positions_start_at_row_two() -> None:
    embedding = read(tiny()).main.embedding
    assert isinstance(embedding, TokenEmbedding)
    assert embedding.positions == LearnedPositions(rows=14, width=24, offset=2)


def test_the_comparison_notices_missing_position_rows() -> None:
    assert_params_differ_from_meta(tiny(max_position_embeddings=10), tiny(max_position_embeddings=12))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"hidden_size": 25}, "hidden_size is 25; it is not a multiple of the 4 heads"),
        ({"ffn_dim": "10"}, 'ffn_dim is "10"; expected a whole number'),
        ({"intermediate_size": 11}, "intermediate_size is 11 and ffn_dim is 10: two names of one field"),
        ({"activation_function": "maxout"}, "activation_function is 'maxout'"),
        ({"enable_bias": None}, "enable_bias is null; expected true or false"),
    ],
)
def test_bad_values(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(tiny(**keys))


@pytest.mark.parametrize(
    "config",
    [
        tiny(learned_embeddings=False),
        tiny(scale_embeddings=True),
        tiny(num_key_value_heads=2),
        tiny(architectures=["OPTForTokenClassification"]),
        {"model_type": "opt", "intermediate_size": 10},
    ],
)
def test_what_is_not_known_makes_an_estimate(config: dict[str, Any]) -> None:
    assert len(architecture_of(config).reasons) == 1
