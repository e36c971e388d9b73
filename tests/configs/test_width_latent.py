"""Types with DeepSeek's latent attention: counts equal transformers' on the meta device.

What is computed is held by their logits (tests/reference).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.configs.width import BARE, CAUSAL, SEQUENCE, TOKEN, assert_default_and_minimal, drawn, four
from tests.oracles.transformers_meta import default_config, num_params
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, even_widths, few, maybe, read
from txcalc.architecture import LatentAttention, Model
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params

width = st.integers(1, 12)
RANKS = {"kv_lora_rank": width, "qk_nope_head_dim": width, "v_head_dim": width, "attention_bias": st.booleans(),
         "qk_rope_head_dim": even_widths, "q_lora_rank": width}  # fmt: skip
FULL = {**RANKS, "q_lora_rank": st.none() | width}
EXPERTS = {"n_routed_experts": st.sampled_from([2, 4, 6]), "n_group": st.integers(1, 2), "topk_group": 1,
           "num_experts_per_tok": st.integers(1, 2), "moe_intermediate_size": width,
           "n_shared_experts": st.integers(0, 2)}  # fmt: skip
FIRST = {"first_k_dense_replace": st.integers(0, 4)}
LISTED = {"mlp_layer_types": maybe(four("dense", "sparse")), "num_hidden_layers": 4}
INDEX = {"index_n_heads": st.integers(1, 3), "index_head_dim": 12, "index_topk": st.integers(1, 9)}
PATTERN = maybe(four("F", "S").map(lambda letters: "F" + "".join(letters[1:])))

SHAPES = {
    "deepseek_v32": drawn("deepseek_v32", "DeepseekV32", **RANKS, **EXPERTS, **FIRST, **INDEX, **LISTED),
    "glm_moe_dsa": drawn("glm_moe_dsa", "GlmMoeDsa", **RANKS, **EXPERTS, **FIRST, **INDEX, **LISTED,
                         index_topk_pattern=PATTERN),
    "glm4_moe_lite": drawn("glm4_moe_lite", "Glm4MoeLite", **FULL, **EXPERTS, **LISTED),
    "axk1": drawn("axk1", "AXK1", (CAUSAL, BARE, SEQUENCE, TOKEN), **RANKS, **EXPERTS, **FIRST,
                  moe_layer_freq=st.integers(1, 2)),
    "mistral4": drawn("mistral4", "Mistral4", (CAUSAL, BARE, SEQUENCE, TOKEN), **FULL, **EXPERTS, **FIRST),
    "minicpm3": drawn("minicpm3", "MiniCPM3", (CAUSAL, BARE, SEQUENCE), **FULL, mlp_bias=st.booleans()),
    "youtu": drawn("youtu", "Youtu", **FULL),
}  # fmt: skip


@pytest.mark.parametrize("model_type", SHAPES)
def test_default_and_minimal_configs(model_type: str) -> None:
    assert_default_and_minimal(model_type)


@pytest.mark.parametrize("model_type", SHAPES)
@few
@given(data=st.data())
def test_shapes(model_type: str, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(SHAPES[model_type]))


def test_kimi_k2_is_a_deepseek_v3_by_another_name() -> None:
    """transformers does not know the name: the same fields under V3's give the count."""
    config = {**default_config("deepseek_v3"), "model_type": "kimi_k2", "num_hidden_layers": 3,
              "architectures": ["DeepseekV3ForCausalLM"]}  # fmt: skip
    ours = params(read(config)).figures()["params.total"]
    assert ours == num_params({**config, "model_type": "deepseek_v3"})


TINY = {"hidden_size": 24, "num_attention_heads": 6, "num_hidden_layers": 4, "intermediate_size": 10, "vocab_size": 30,
        "kv_lora_rank": 5, "q_lora_rank": 7, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 3}  # fmt: skip
DSA = {"model_type": "glm_moe_dsa", **TINY, "n_routed_experts": 2, "num_experts_per_tok": 1}


@pytest.mark.parametrize(
    ("model_type", "ours", "theirs"),
    [
        ("glm_moe_dsa", {"indexer_types": ["full"] * 4}, {"index_topk_pattern": "FSFS"}),
        ("axk1", {"first_k_dense_replace": 1}, {"first_k_dense_replace": 2}),
        ("minicpm3", {"mlp_bias": False}, {"mlp_bias": True}),
    ],
)
def test_the_comparison_notices(model_type: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    tiny = {"model_type": model_type, **TINY}
    assert_params_differ_from_meta({**tiny, **ours}, {**tiny, **theirs})


def shared(model: Model) -> list[bool]:
    found = [each for layer in model.main.sequence() for each in layer.sublayers() if isinstance(each, LatentAttention)]
    return [each.indexer is not None and each.indexer.shared for each in found]


def test_which_layers_have_an_indexer() -> None:
    """From the config class: a list, a pattern, or every ``index_topk_freq``-th layer after an offset."""
    assert shared(read(DSA)) == [False] * 4
    assert shared(read({**DSA, "index_topk_pattern": "FSSF"})) == [False, True, True, False]
    assert shared(read({**DSA, "indexer_types": ["full", "shared", "full", "full"]})) == [False, True, False, False]
    assert shared(read({**DSA, "index_topk_freq": 2, "index_skip_topk_offset": 1})) == [False, True, False, True]


def test_a_layer_without_an_indexer_keeps_no_keys_for_one() -> None:
    """At 10 tokens, 2 bytes: latents 4 * (5 + 2) * 10 * 2 = 560, and 128 * 10 * 2 = 2,560 a layer with an indexer."""
    pattern = {**DSA, "index_topk_pattern": "FSFS"}
    assert kv_cache(read(DSA), ctx=10, kv_dtype="bf16").figures()["kv_cache.total_bytes"] == 560 + 4 * 2560
    assert kv_cache(read(pattern), ctx=10, kv_dtype="bf16").figures()["kv_cache.total_bytes"] == 560 + 2 * 2560


def test_minicpm3s_multipliers() -> None:
    """scale_depth / sqrt(layers) on branches, hidden_size / dim_model_base under the logits, 12 on the embedding."""
    model = read({"model_type": "minicpm3", **TINY, "scale_depth": 3.0, "dim_model_base": 6})
    scales = {branch.scale for layer in model.main.layers for step in layer.steps for branch in step.branches}
    assert scales == {1.5}
    assert model.head is not None
    assert model.head.scale == 0.25
    assert model.main.embedding.scale == 12.0  # type: ignore[union-attr]
    whole = read({"model_type": "minicpm3", **TINY, "scale_depth": None, "dim_model_base": None, "v_head_dim": None})
    assert whole.head is not None
    assert whole.head.scale == 1.0
    assert whole.main.layers[0].sublayers()[0].v_head_dim == 4  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("model_type", "keys", "words"),
    [
        ("glm_moe_dsa", {"index_topk_pattern": "SFFF"}, "must say full or shared for each of 4 layers"),
        ("glm_moe_dsa", {"index_topk_pattern": "FX"}, "must say full or shared for each of 4 layers"),
        ("glm_moe_dsa", {"index_topk_pattern": 5}, "index_topk_pattern is 5; expected a list"),
        ("deepseek_v32", {"layer_types": ["full_attention"] * 4}, "layer_types holds 'full_attention'"),
        ("deepseek_v32", {"index_head_dim": 1}, "index_head_dim is 1; expected 2 to"),
        ("deepseek_v32", {"q_lora_rank": None}, "q_lora_rank is null; expected a whole number"),
        ("glm4_moe_lite", {"head_dim": 8}, "head_dim is 8 and qk_rope_head_dim is 2: two names of one field"),
        ("minicpm3", {"scale_emb": "12"}, 'scale_emb is "12"; expected a number'),
    ],
)
def test_bad_values(model_type: str, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of({"model_type": model_type, **TINY, **keys})


@pytest.mark.parametrize(
    ("model_type", "keys"),
    [
        ("deepseek_v32", {"mlp_bias": True}),
        ("glm_moe_dsa", {"indexer_rope_interleave": False}),
        ("glm4_moe_lite", {"first_k_dense_replace": 2}),
        ("kimi_k2", {"architectures": ["KimiK2ForCausalLM"]}),
    ],
)
def test_what_is_not_known_makes_an_estimate(model_type: str, keys: dict[str, Any]) -> None:
    assert len(architecture_of({"model_type": model_type, **TINY, **keys}).reasons) == 1
