from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.transformers_meta import default_config
from tests.strategies import (
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    configs,
    few,
    layer_counts,
    maybe,
    small,
)
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.params import params

SMALL: dict[str, Any] = {"model_type": "siglip_vision_model", "hidden_size": 24, "num_hidden_layers": 1}


def test_default_config_equals_transformers() -> None:
    assert_params_equal_meta(default_config("siglip_vision_model"))


@pytest.mark.parametrize("extra", [{}, {"patch_size": 14, "image_size": 30}, {"vision_use_head": False}])
def test_a_minimal_config_takes_transformers_defaults(extra: dict[str, Any]) -> None:
    assert_params_equal_meta({"model_type": "siglip_vision_model", **extra})


@few
@given(
    configs(
        "siglip_vision_model",
        hidden_size=st.sampled_from([6, 12, 18]),
        num_attention_heads=st.sampled_from([1, 2, 3]),
        intermediate_size=small,
        num_hidden_layers=layer_counts,
        num_channels=st.integers(1, 4),
        image_size=st.integers(5, 40),
        patch_size=st.integers(1, 5),
        vision_use_head=maybe(st.booleans()),
    )
)
def test_varied_shapes_equal_transformers(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_the_oracle_notices_a_class_token() -> None:
    """One row of positions more, as if the tower had a class token."""
    assert_params_differ_from_meta({**SMALL, "image_size": 240}, SMALL)


def test_tables_of_a_tower_alone_are_its_embedding() -> None:
    """Patches 3 * 16 * 16 * 24 + 24, positions 14 * 14 * 24: 18,456 + 4,704 = 23,160."""
    assert params(architecture_of(SMALL)).figures()["params.embedding"] == 23_160


@pytest.mark.parametrize(
    ("change", "named"),
    [({"num_attention_heads": 5}, "hidden_size is 24"), ({"image_size": [224, 224]}, "image_size is [224, 224]")],
)
def test_bad_values_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({**SMALL, **change})
    assert named in caught.value.message


def test_another_head_is_a_reason() -> None:
    assert architecture_of({**SMALL, "architectures": ["SiglipForImageClassification"]}).reasons
