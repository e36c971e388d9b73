"""GPT-2, GPT-BigCode, GPT-J and GPT-NeoX: counts equal transformers' on the meta device; old spellings, all heads."""

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
    few,
    layer_counts,
    maybe,
    read,
    shapes,
    small,
)
from txcalc.architecture import Rotary
from txcalc.configs import architecture_of
from txcalc.errors import ModelError

TINY = {"n_embd": 24, "n_head": 4, "n_layer": 2, "n_positions": 12, "vocab_size": 30}
NEOX = {"hidden_size": 80, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 10, "vocab_size": 30}
CLASS = {
    "gpt2": "GPT2LMHeadModel",
    "gpt_bigcode": "GPTBigCodeForCausalLM",
    "gptj": "GPTJForCausalLM",
    "gpt_neox": "GPTNeoXForCausalLM",
}


def tiny(model_type: str, **keys: Any) -> dict[str, Any]:
    base = NEOX if model_type == "gpt_neox" else TINY
    return {"model_type": model_type, "architectures": [CLASS[model_type]], **base, **keys}


def old_shapes(model_type: str, **strategies: Any) -> st.SearchStrategy[dict[str, Any]]:
    """GPT-2's spelling, without grouped heads."""
    spelling = {"heads_key": "n_head", "kv_heads_key": None, "width_key": "n_embd"}
    common = {
        "n_layer": layer_counts,
        "n_positions": small,
        "vocab_size": small,
        "n_inner": maybe(st.none() | small),
        "tie_word_embeddings": st.booleans(),
        "num_labels": st.integers(1, 5),
    }
    return shapes(model_type, **spelling, **common, **strategies)


@pytest.mark.parametrize("model_type", CLASS)
def test_default_and_minimal_configs(model_type: str) -> None:
    assert_params_equal_meta({**default_config(model_type), "architectures": [CLASS[model_type]]})
    assert_params_equal_meta({"model_type": model_type})
    layers = "num_hidden_layers" if model_type == "gpt_neox" else "n_layer"
    assert_params_equal_meta({"model_type": model_type, layers: 1})


@few
@given(
    old_shapes(
        "gpt2",
        add_cross_attention=st.booleans(),
        scale_attn_by_inverse_layer_idx=st.booleans(),
        architectures=st.sampled_from(["LMHeadModel", "DoubleHeadsModel", "ForSequenceClassification"]).map(
            lambda task: ["GPT2" + task]
        )
        | classes("GPT2", "Model", "ForTokenClassification", "ForQuestionAnswering"),
        summary_use_proj=st.booleans(),
        summary_proj_to_labels=st.booleans(),
    )
)
def test_gpt2_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@few
@given(
    old_shapes(
        "gpt_bigcode",
        multi_query=st.booleans(),
        architectures=classes(
            "GPTBigCode", "ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification"
        ),
    )
)
def test_gpt_bigcode_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@few
@given(
    old_shapes(
        "gptj",
        rotary_dim=st.just(2),
        architectures=classes("GPTJ", "ForCausalLM", "Model", "ForSequenceClassification", "ForQuestionAnswering"),
    )
)
def test_gptj_shapes(config: dict[str, Any]) -> None:
    """Its question-answering class alone has num_labels outputs, not two."""
    assert_params_equal_meta(config)


@few
@given(
    shapes(
        "gpt_neox",
        kv_heads_key=None,
        num_hidden_layers=layer_counts,
        intermediate_size=small,
        vocab_size=small,
        tie_word_embeddings=st.booleans(),
        attention_bias=st.booleans(),
        use_parallel_residual=st.booleans(),
        architectures=classes("GPTNeoX"),
        num_labels=st.integers(1, 5),
    )
)
def test_gpt_neox_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_standard_spelling_reaches_the_types_own() -> None:
    standard = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 12}
    assert_params_equal_meta({"model_type": "gpt2", "vocab_size": 30, **standard})
    assert_params_equal_meta({"model_type": "gpt2", "vocab_size": 30, **standard, "n_embd": 24, "n_ctx": 9})


def test_the_comparison_notices_a_second_kv_head() -> None:
    assert_params_differ_from_meta(tiny("gpt_bigcode", multi_query=False), tiny("gpt_bigcode", multi_query=True))


def test_gptj_head_has_a_bias_and_rotary_turns_neighbours() -> None:
    model = read(tiny("gptj", rotary_dim=4))
    assert model.head is not None
    assert model.head.bias
    assert attention_of(model).position == Rotary(theta=10_000.0, rotary_dim=4, interleaved=True)
    (step,) = model.main.layers[0].steps
    assert step.norm_in is not None  # one norm for both branches
    assert [branch.norm_in for branch in step.branches] == [None, None]


def test_gpt_neox_norms_each_branch_of_one_step() -> None:
    (step,) = read(tiny("gpt_neox")).main.layers[0].steps
    assert step.norm_in is None
    assert all(branch.norm_in is not None for branch in step.branches)
    assert len(read(tiny("gpt_neox", use_parallel_residual=False)).main.layers[0].steps) == 2


def test_gpt_neox_rotary_under_old_and_new_names() -> None:
    """80 / 4 = 20 channels a head; a quarter is 5, so three pairs turn, at frequencies spread over 5 (odd width)."""
    old = attention_of(read(tiny("gpt_neox", rotary_pct=0.5, rotary_emb_base=500))).position
    assert isinstance(old, Rotary)
    assert (old.rotary_dim, old.theta) == (10, 500.0)
    new = attention_of(read(tiny("gpt_neox", rope_parameters={"rope_theta": 500.0, "partial_rotary_factor": 0.5})))
    assert new.position == old
    odd = attention_of(read(tiny("gpt_neox"))).position
    assert isinstance(odd, Rotary)
    assert (odd.rotary_dim, odd.frequency_dim) == (6, 5)


def test_gpt2_scales_of_the_scores() -> None:
    """24 / 4 = 6 channels a head: 1 / sqrt(6), divided by the layer's number, or no scale at all."""
    per_layer = read(tiny("gpt2", scale_attn_by_inverse_layer_idx=True))
    assert [attention_of(per_layer, layer).scale for layer in range(2)] == [6**-0.5, 6**-0.5 / 2]
    unscaled = read(tiny("gpt2", scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True))
    assert [attention_of(unscaled, layer).scale for layer in range(2)] == [1.0, 0.5]
    assert attention_of(read(tiny("gpt2"))).scale is None


def test_gpt2_cross_attention_waits_for_an_encoder() -> None:
    model = read(tiny("gpt2", add_cross_attention=True))
    assert model.unused
    assert len(model.main.layers[0].sublayers()) == 2


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (tiny("gpt2", n_embd=25), "n_embd is 25; it is not a multiple of the 4 heads"),
        (tiny("gpt2", hidden_size=48), "hidden_size is 48 and n_embd is 24: two names of one field"),
        (tiny("gpt2", activation_function="geglu"), "activation_function is 'geglu'"),
        (tiny("gpt2", n_layer=10**30), "n_layer is a number of about"),
        (tiny("gpt_bigcode", add_cross_attention=True), "add_cross_attention is true: not with multi_query"),
        (tiny("gptj", rotary_dim=None), "rotary_dim is null; expected a whole number"),
        (tiny("gpt_neox", hidden_size=81), "hidden_size is 81; it is not a multiple of the 4 heads"),
    ],
)
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)


@pytest.mark.parametrize(
    "config",
    [
        tiny("gpt2", head_dim=8),
        tiny("gpt2", num_key_value_heads=2),
        tiny("gpt2", architectures=["GPT2ForRewardModel"]),
        tiny("gpt_bigcode", num_key_value_heads=4),
        tiny("gptj", rotary=False),
        tiny("gptj", architectures=["GPTJForTokenClassification"]),
        tiny("gpt_neox", rope_scaling={"rope_type": "spiral", "factor": 2.0}),
        tiny("gpt_neox", head_dim=5),
    ],
)
def test_what_is_not_known_makes_an_estimate(config: dict[str, Any]) -> None:
    assert len(architecture_of(config).reasons) == 1
