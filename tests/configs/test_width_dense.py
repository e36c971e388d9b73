"""Granite, OLMo, Cohere 2 and others with a layer of their own: counts equal transformers' on the meta device.

What is computed is held by their logits (tests/reference).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.configs.width import ALL, BARE, CAUSAL, SEQUENCE, TOKEN, assert_default_and_minimal, drawn, four
from tests.strategies import (
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    attention_of,
    even_widths,
    few,
    maybe,
    read,
)
from txcalc.configs import architecture_of
from txcalc.errors import ModelError

BIAS = {"attention_bias": st.booleans()}
BOTH = {**BIAS, "mlp_bias": st.booleans()}
WIDE = {"head_dim": maybe(even_widths)}
FOUR = {
    "layer_types": maybe(four("full_attention", "sliding_attention")),
    "num_hidden_layers": 4,
    "sliding_window": st.integers(1, 9),
}
SPARSE = {"mlp_layer_types": maybe(four("dense", "sparse"))}
LOCAL = {"num_local_experts": st.integers(2, 5), "num_experts_per_tok": st.integers(1, 2)}
EXPERTS = {"num_experts": st.integers(2, 5), "num_experts_per_tok": st.integers(1, 2)}
SHARED = {"shared_intermediate_size": st.integers(0, 9)}
TURNS = {"layer_rope_theta": maybe(four(0, 1e4, 1e6))}
CLASSIFIED = (CAUSAL, BARE, SEQUENCE)

SHAPES = {
    "granite": drawn("granite", "Granite", **WIDE, **BOTH),
    "hyperclovax": drawn("hyperclovax", "HyperCLOVAX", **WIDE, **BOTH, use_post_norm=st.booleans()),
    "granitemoe": drawn("granitemoe", "GraniteMoe", **WIDE, **BIAS, **LOCAL),
    "granitemoeshared": drawn("granitemoeshared", "GraniteMoeShared", **WIDE, **BIAS, **LOCAL, **SHARED),
    "granite_swa": drawn("granite_swa", "GraniteSWA", **WIDE, **BOTH, **FOUR, **TURNS),
    "granitemoe_swa": drawn("granitemoe_swa", "GraniteMoeSWA", **WIDE, **BIAS, **FOUR, **TURNS, **LOCAL, **SHARED),
    "glm": drawn("glm", "Glm", (*CLASSIFIED, TOKEN), head_dim=even_widths, **BIAS),
    "glm4": drawn("glm4", "Glm4", (*CLASSIFIED, TOKEN), head_dim=even_widths, **BIAS),
    "nemotron": drawn("nemotron", "Nemotron", ALL, **WIDE, **BOTH),
    "jais2": drawn("jais2", "Jais2", **WIDE, **BOTH),
    "persimmon": drawn("persimmon", "Persimmon", (*CLASSIFIED, TOKEN), kv_heads_key=None, qk_layernorm=st.booleans()),
    "nanochat": drawn("nanochat", "NanoChat", **WIDE, **BIAS),
    "diffllama": drawn("diffllama", "DiffLlama", ALL, **WIDE, **BIAS),
    "vaultgemma": drawn("vaultgemma", "VaultGemma", head_dim=even_widths, **BIAS, **FOUR),
    "olmo": drawn("olmo", "Olmo", CLASSIFIED, **WIDE, **BIAS, clip_qkv=st.none() | st.just(8.0)),
    "olmo3": drawn("olmo3", "Olmo3", CLASSIFIED, **WIDE, **BIAS, **FOUR),
    "olmoe": drawn("olmoe", "Olmoe", **BIAS, **EXPERTS),
    "flex_olmo": drawn("flex_olmo", "FlexOlmo", **WIDE, **BIAS, **EXPERTS),
    "cohere2": drawn("cohere2", "Cohere2", **WIDE, **BIAS, **FOUR, sliding_window_pattern=st.integers(1, 4)),
    "cohere2_moe": drawn("cohere2_moe", "Cohere2Moe", head_dim=even_widths, **BIAS, **FOUR, **SPARSE, **EXPERTS,
                         rms_norm_eps=st.none() | st.just(1e-6), num_shared_experts=st.integers(0, 2),
                         first_k_dense_replace=st.integers(0, 4),
                         prefix_dense_intermediate_size=st.none() | st.integers(1, 9)),
}  # fmt: skip


@pytest.mark.parametrize("model_type", SHAPES)
def test_default_and_minimal_configs(model_type: str) -> None:
    assert_default_and_minimal(model_type, **({"num_key_value_heads": 8} if model_type == "nemotron" else {}))


@pytest.mark.parametrize("model_type", SHAPES)
@few
@given(data=st.data())
def test_shapes(model_type: str, data: st.DataObject) -> None:
    config = data.draw(SHAPES[model_type])
    if model_type == "diffllama":  # pairs of heads
        config["num_key_value_heads"] *= 2
        config["num_attention_heads"] *= 2
        config["hidden_size"] *= 2
    assert_params_equal_meta(config)


TINY = {"hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "num_hidden_layers": 4,
        "intermediate_size": 10, "vocab_size": 30, "pad_token_id": 0}  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "ours", "theirs"),
    [
        ("hyperclovax", {"use_post_norm": False}, {"use_post_norm": True}),
        ("glm4", {"attention_bias": False, "head_dim": 4}, {"attention_bias": True, "head_dim": 4}),
        ("persimmon", {"qk_layernorm": False}, {"qk_layernorm": True}),
        ("granitemoeshared", {"shared_intermediate_size": 0}, {"shared_intermediate_size": 3}),
        ("cohere2_moe", {"num_shared_experts": 0, "head_dim": 4}, {"num_shared_experts": 1, "head_dim": 4}),
    ],
)
def test_the_comparison_notices(model_type: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    tiny = {"model_type": model_type, **TINY}
    assert_params_differ_from_meta({**tiny, **ours}, {**tiny, **theirs})


@pytest.mark.parametrize(
    ("model_type", "keys", "words"),
    [
        ("diffllama", {"num_key_value_heads": 3}, "num_key_value_heads is 3; differential attention takes pairs"),
        ("persimmon", {"qk_layernorm": 1}, "qk_layernorm is 1; expected true or false"),
        ("granite", {"logits_scaling": 0}, "logits_scaling is 0; logits are divided by it"),
        ("granite_swa", {"layer_rope_theta": [1e4]}, "layer_rope_theta has 1 entries for 4 layers"),
        ("granite_swa", {"layer_rope_theta": ["x"] * 4}, 'layer_rope_theta is "x"; expected a number'),
        ("granitemoe", {"num_experts_per_tok": 9}, "num_experts_per_tok is 9; there are 8 experts"),
        ("cohere2_moe", {"first_k_dense_replace": 5}, "first_k_dense_replace is 5; there are 4 layers"),
        ("cohere2_moe", {"mlp_layer_types": ["wide"] * 4}, "mlp_layer_types holds 'wide'"),
        ("cohere2_moe", {"expert_selection_fn": "top"}, "expert_selection_fn is 'top'"),
    ],
)
def test_bad_values(model_type: str, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of({"model_type": model_type, **TINY, **keys})


def test_lambda_starts_at_the_papers_values() -> None:
    """0.8 - 0.6 exp(-0.3 (layer - 1)), layers from 1 (Ye et al. 2024, section 2.1): 0.2 in the first, 0.8 far down."""
    model = read({"model_type": "diffllama", **TINY, "num_hidden_layers": 30})
    starts = [attention_of(model, layer).differential for layer in (0, 1, 29)]
    assert [round(each.lambda_init, 6) for each in starts if each] == [0.2, 0.355509, 0.7999]


@pytest.mark.parametrize(
    ("model_type", "keys"),
    [
        ("granitemoe", {"num_experts": 4}),
        ("nemotron", {"kv_channels": 9}),
        ("persimmon", {"num_key_value_heads": 2}),
        ("olmoe", {"head_dim": 8}),
        ("cohere2", {"position_embedding_type": "alibi"}),
        ("olmo3", {"rope_scaling": {"rope_type": "spiral", "factor": 2.0}}),
    ],
)
def test_what_is_not_known_makes_an_estimate(model_type: str, keys: dict[str, Any]) -> None:
    assert len(architecture_of({"model_type": model_type, **TINY, **keys}).reasons) == 1
