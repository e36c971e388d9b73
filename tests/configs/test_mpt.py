"""MPT: counts equal transformers' on the meta device; what only MosaicML's own code builds is an estimate."""

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
    maybe,
    read,
    shapes,
    small,
)
from txcalc.architecture import Alibi
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.params import params


def tiny(**keys: Any) -> dict[str, Any]:
    base = {"d_model": 24, "n_heads": 4, "n_layers": 2, "vocab_size": 30}
    return {"model_type": "mpt", "architectures": ["MptForCausalLM"], **base, **keys}


def test_default_and_minimal_configs() -> None:
    assert_params_equal_meta({**default_config("mpt"), "architectures": ["MptForCausalLM"]})
    assert_params_equal_meta({"model_type": "mpt"})
    assert_params_equal_meta({"model_type": "mpt", "n_layers": 1, "attn_config": None})


attention_settings = st.fixed_dictionaries(
    {},
    optional={
        "attn_impl": st.sampled_from(["torch", "triton", "flash"]),
        "clip_qkv": st.none() | st.floats(1, 9),
        "softmax_scale": st.none() | st.floats(0.1, 1),
        "alibi": st.just(True),
        "alibi_bias_max": st.integers(1, 16),
    },
)


@few
@given(
    shapes(
        "mpt",
        heads_key="n_heads",
        kv_heads_key=None,
        width_key="d_model",
        n_layers=layer_counts,
        vocab_size=small,
        max_seq_len=small,
        attn_config=maybe(st.none() | attention_settings),
        tie_word_embeddings=st.booleans(),
        architectures=classes("Mpt"),
        num_labels=st.integers(1, 5),
    )
)
def test_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_hub_spelling_of_the_class() -> None:
    """mosaicml/mpt-7b's file names the class of its own code, MPTForCausalLM: the same model."""
    keys = {"init_device": "cpu", "embedding_fraction": 1.0, "norm_type": "low_precision_layernorm", "verbose": 0}
    assert read(tiny(**keys, architectures=["MPTForCausalLM"])) == read(tiny(**keys))


def test_the_comparison_notices_a_norms_bias() -> None:
    model = read(tiny())
    assert model.main.final_norm is not None
    broken = model.main.replace(final_norm=model.main.final_norm.replace(bias=True))
    counted = params(model.replace(stacks=(broken,))).figures()["params.total"]
    assert counted == num_params(tiny()) + 24


def test_attention_settings() -> None:
    a = attention_of(read(tiny(attn_config={"clip_qkv": 6.0, "softmax_scale": 0.25, "alibi_bias_max": 16})))
    assert (a.clip_qkv, a.scale, a.position) == (6.0, 0.25, Alibi(max_bias=16.0))
    assert "8" in read(tiny(attn_config={"alibi_bias_max": 16})).notes[0]  # transformers passes no other
    plain = attention_of(read(tiny()))
    assert (plain.clip_qkv, plain.scale, plain.position) == (None, None, Alibi(max_bias=8.0))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"d_model": 25}, "d_model is 25; it is not a multiple of the 4 heads"),
        ({"attn_config": {"clip_qkv": "6"}}, 'attn_config.clip_qkv is "6"; expected a number'),
        ({"attn_config": 3}, "attn_config is 3; expected an object"),
        ({"hidden_size": 48}, "hidden_size is 48 and d_model is 24: two names of one field"),
    ],
)
def test_bad_values(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(tiny(**keys))


@pytest.mark.parametrize(
    "keys",
    [
        {"expansion_ratio": 2},
        {"no_bias": False},
        {"norm_type": "rmsnorm"},
        {"ffn_config": {"ffn_type": "mptglu"}},
        {"attn_config": {"attn_type": "multiquery_attention"}},
        {"attn_config": {"alibi": False}},
        {"attn_config": {"qk_ln": True}},
        {"attn_config": {"kv_n_heads": 2}},
    ],
)
def test_what_transformers_does_not_build_makes_an_estimate(keys: dict[str, Any]) -> None:
    assert len(architecture_of(tiny(**keys)).reasons) == 1
