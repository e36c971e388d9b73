"""GIT: counts equal transformers' on the meta device; a text runs through the decoder alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.configs.test_width_wrapped import CLIP
from tests.oracles import flop_counter
from tests.oracles.transformers_meta import default_config
from tests.strategies import (
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    classes,
    configs,
    few,
    read,
    small,
)
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache

SMALL = {"model_type": "git", "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 67,
         "intermediate_size": 20, "position_embedding_type": "absolute",
         "vision_config": {"num_hidden_layers": 1, "tie_encoder_decoder": False}}  # fmt: skip


@few
@given(
    configs(
        "git", hidden_size=24, num_attention_heads=st.integers(1, 3), num_hidden_layers=st.integers(1, 3),
        intermediate_size=small, vocab_size=small, max_position_embeddings=small, vision_config=CLIP, pad_token_id=0,
        num_image_with_embedding=st.sampled_from([None, 0, 3]), tie_word_embeddings=st.booleans(),
        architectures=classes("Git", "ForCausalLM", "Model"),
    )
)  # fmt: skip
def test_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_default_and_minimal_configs() -> None:
    assert_params_equal_meta(default_config("git"))
    assert_params_equal_meta({"model_type": "git"})


def test_the_comparison_notices() -> None:
    assert_params_differ_from_meta(SMALL, {**SMALL, "num_image_with_embedding": 1})


def test_flops_and_cache_of_a_text() -> None:
    """2 layers of 4 heads of 8 channels, keys and values, at 2 bytes."""
    model, ours = flop_counter.model_of(SMALL), read(SMALL)
    counted = flop_counter.forward(model, **flop_counter.inputs_of(model, batch=2, seq=9))
    assert flops(ours, batch=2, seq=9).figures()["flops.matmul"] == counted
    assert kv_cache(ours, ctx=10, kv_dtype="bf16").figures()["kv_cache.total_bytes"] == 10 * 2 * 2 * 32 * 2


def test_bad_values_and_unknown_heads() -> None:
    with pytest.raises(ModelError, match="hidden_size is 30; it is not a multiple of the 4 heads"):
        architecture_of({**SMALL, "hidden_size": 30})
    (reason,) = architecture_of({**SMALL, "num_key_value_heads": 2}).reasons
    assert "transformers reads no such key" in reason
