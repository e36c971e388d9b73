"""Decoders with experts beyond the first slice: counts equal transformers' on the meta device.

What is computed is held by their logits (tests/reference).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.configs.width import ALL, BARE, CAUSAL, SEQUENCE, assert_default_and_minimal, drawn, four
from tests.strategies import (
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    attention_of,
    even_widths,
    few,
    layer_counts,
    maybe,
    read,
)
from txcalc.architecture import MixtureOfExperts, Model
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params

width = st.integers(1, 12)
BIAS = {"attention_bias": st.booleans()}
WIDE = {"head_dim": even_widths}
KINDS = {"layer_types": maybe(four("full_attention", "sliding_attention")), "num_hidden_layers": 4,
         "sliding_window": st.integers(1, 9)}  # fmt: skip
SPARSE = {"mlp_layer_types": maybe(four("dense", "sparse"))}
FOUR = {"num_hidden_layers": 4}
CHOSEN = {"num_experts_per_tok": st.integers(1, 2), "moe_intermediate_size": width}
EXPERTS = {**CHOSEN, "num_experts": st.integers(2, 5)}
LOCAL = {"num_local_experts": st.integers(2, 5), "num_experts_per_tok": st.integers(1, 2)}
ROUTED = {**CHOSEN, "n_routed_experts": st.sampled_from([2, 4, 6]), "n_group": st.integers(1, 2), "topk_group": 1}
SHARED = {"n_shared_experts": st.integers(0, 2)}
FIRST = {"first_k_dense_replace": st.integers(0, 4)}

SHAPES = {
    "qwen2_moe": drawn("qwen2_moe", "Qwen2Moe", ALL, head_dim=maybe(even_widths), qkv_bias=st.booleans(), **EXPERTS,
                       shared_expert_intermediate_size=width, decoder_sparse_step=st.integers(1, 3),
                       mlp_only_layers=st.lists(st.integers(0, 3), max_size=2)),
    "glm4_moe": drawn("glm4_moe", "Glm4Moe", **WIDE, **BIAS, **ROUTED, **SHARED, **FIRST, use_qk_norm=st.booleans()),
    "dots1": drawn("dots1", "Dots1", **WIDE, **BIAS, **ROUTED, **SHARED, **FIRST),
    "solar_open": drawn("solar_open", "SolarOpen", **WIDE, **BIAS, **ROUTED, **SHARED, intermediate_size=None),
    "exaone_moe": drawn("exaone_moe", "ExaoneMoe", **WIDE, **EXPERTS, **FIRST, num_shared_experts=st.integers(0, 2),
                        **KINDS, **SPARSE),
    "kolibri1": drawn("kolibri1", "Kolibri1", **WIDE, **EXPERTS, shared_expert_intermediate_size=width,
                      intermediate_size=None, **KINDS),
    "minimax_m2": drawn("minimax_m2", "MiniMaxM2", **WIDE, **LOCAL),
    "hy_v3": drawn("hy_v3", "HYV3", **WIDE, **BIAS, mlp_bias=st.booleans(), **EXPERTS,
                   num_shared_experts=st.integers(0, 2), **SPARSE, **FOUR),
    "mimo_v2_flash": drawn("mimo_v2_flash", "MiMoV2Flash", **WIDE, v_head_dim=width, **BIAS, **ROUTED, **KINDS,
                           **SPARSE),
    "afmoe": drawn("afmoe", "Afmoe", **WIDE, **BIAS, **EXPERTS, num_shared_experts=st.integers(0, 2), **KINDS,
                   num_dense_layers=st.integers(0, 4), mup_enabled=st.booleans()),
    "laguna": drawn("laguna", "Laguna", **WIDE, **BIAS, **EXPERTS, shared_expert_intermediate_size=width, **KINDS,
                    **SPARSE, gating=st.sampled_from([True, "per-head", "per-element"]), heads_key="spread"),
    "mellum": drawn("mellum", "Mellum", **WIDE, **BIAS, **EXPERTS, **KINDS, **SPARSE),
    "phimoe": drawn("phimoe", "Phimoe", (CAUSAL, BARE, SEQUENCE), head_dim=maybe(even_widths), **BIAS,
                    num_local_experts=st.integers(2, 5), lm_head_bias=st.booleans()),
    "ernie4_5_moe": drawn("ernie4_5_moe", "Ernie4_5_Moe", head_dim=maybe(even_widths), use_bias=st.booleans(),
                          moe_num_experts=st.integers(2, 5), moe_k=st.integers(1, 2), moe_intermediate_size=width,
                          moe_num_shared_experts=st.integers(0, 2), moe_layer_start_index=st.integers(0, 2),
                          moe_layer_end_index=st.integers(-1, 3), moe_layer_interval=st.integers(1, 2)),
    "hunyuan_v1_moe": drawn("hunyuan_v1_moe", "HunYuanMoEV1", (CAUSAL, BARE, SEQUENCE), **WIDE, **BIAS,
                            num_experts=st.integers(2, 5), moe_topk=st.integers(1, 2)),
    "dbrx": drawn("dbrx", "Dbrx", width_key="d_model", heads_key="n_heads", kv_heads_key=None, num_hidden_layers=None,
                  n_layers=layer_counts, intermediate_size=None, tie_word_embeddings=False,
                  attn_config=st.fixed_dictionaries({"kv_n_heads": st.just(1), "rope_theta": st.just(1e4)}),
                  ffn_config=st.fixed_dictionaries({"ffn_hidden_size": width, "moe_num_experts": st.integers(1, 5)})),
}  # fmt: skip
NEEDED: dict[str, dict[str, Any]] = {
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "hunyuan_v1_moe": {"head_dim": 128},
    "dbrx": {"attn_config": {"rope_theta": 1e4}},
}


@pytest.mark.parametrize("model_type", SHAPES)
def test_default_and_minimal_configs(model_type: str) -> None:
    assert_default_and_minimal(model_type, **NEEDED.get(model_type, {}))


@pytest.mark.parametrize("model_type", SHAPES)
@few
@given(data=st.data())
def test_shapes(model_type: str, data: st.DataObject) -> None:
    config = data.draw(SHAPES[model_type])
    if model_type == "laguna":  # its query heads may differ by layer
        kv_heads = config["num_key_value_heads"]
        config["num_attention_heads"] = config.pop("spread")
        config["num_attention_heads_per_layer"] = [kv_heads * each for each in data.draw(four(1, 2, 3))]
    assert_params_equal_meta(config)


TINY = {"hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "num_hidden_layers": 4, "head_dim": 4,
        "intermediate_size": 10, "vocab_size": 30, "pad_token_id": 0}  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "ours", "theirs"),
    [
        ("ernie4_5_moe", {"moe_num_experts": 64}, {"moe_num_experts": 63}),  # a balancing bias among the parameters
        ("laguna", {"gating": True}, {"gating": "per-element"}),
        ("mimo_v2_flash", {"layer_types": ["full_attention"] * 4}, {"layer_types": ["sliding_attention"] * 4}),
        ("phimoe", {"lm_head_bias": False}, {"lm_head_bias": True}),
        ("qwen2_moe", {"qkv_bias": False}, {"qkv_bias": True}),
    ],
)
def test_the_comparison_notices(model_type: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    tiny = {"model_type": model_type, **TINY}
    assert_params_differ_from_meta({**tiny, **ours}, {**tiny, **theirs})


def experts(model: Model) -> list[int]:
    """Experts that a token passes in each layer, 0 where there are none."""
    found = (
        [each for each in layer.sublayers() if isinstance(each, MixtureOfExperts)] for layer in model.main.sequence()
    )
    return [each[0].num_experts_per_tok if each else 0 for each in found]


def test_which_layers_hold_experts() -> None:
    """From the types' config classes."""
    tiny = {**TINY, "moe_intermediate_size": 5}
    ernie = {"model_type": "ernie4_5_moe", **tiny, "moe_num_experts": 4, "moe_k": 2}
    assert experts(read(ernie)) == [0, 2, 2, 2]
    assert experts(read({**ernie, "moe_layer_interval": 2, "moe_layer_end_index": 2})) == [0, 2, 0, 0]
    assert experts(read({"model_type": "afmoe", **tiny, "num_experts_per_tok": 3, "num_dense_layers": 2})) == [
        0,
        0,
        3,
        3,
    ]
    assert experts(read({"model_type": "hunyuan_v1_moe", **TINY, "num_experts": 8, "moe_topk": [1, 2, 3, 4]})) == [
        1,
        2,
        3,
        4,
    ]
    assert experts(read({"model_type": "glm4_moe", **tiny, "first_k_dense_replace": 9})) == [0, 0, 0, 0]


def test_mimo_caches_what_its_layers_differ_in() -> None:
    """Two layers full with 2 KV heads, keys of 4 and values of 3; two of window 5 with 4 KV heads.

    At 100 tokens, 2 bytes: 2 * 100 * 2 * (4 + 3) * 2 = 5,600 and 2 * 5 * 4 * (4 + 3) * 2 = 560.
    """
    kinds = ["full_attention", "sliding_attention"] * 2
    model = read({"model_type": "mimo_v2_flash", **TINY, "v_head_dim": 3, "sliding_window": 5, "layer_types": kinds})
    assert kv_cache(model, ctx=100, kv_dtype="bf16").figures()["kv_cache.total_bytes"] == 6160


def test_published_spelling_of_mimos_layers() -> None:
    """The hub's file says layers in keys of its own; where these differ from what is built, it is an estimate."""
    own = {"hybrid_layer_pattern": [0, 1, 1, 1], "moe_layer_freq": [0, 1, 1, 1], "swa_num_key_value_heads": 4,
           "sliding_window_size": 128, "layernorm_epsilon": 1e-5}  # fmt: skip
    assert attention_of(read({"model_type": "mimo_v2_flash", **TINY, **own}), 1).window == 129
    other = architecture_of({"model_type": "mimo_v2_flash", **TINY, **own, "hybrid_layer_pattern": [0, 1, 0, 1]})
    assert len(other.reasons) == 1


def test_active_parameters_leave_out_idle_experts() -> None:
    """Two layers of 6 experts of 3 * 24 * 5 = 360 parameters, 2 of them used: 2 * 4 * 360 = 2,880 less."""
    config = {"model_type": "mellum", **TINY, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 5,
              "mlp_layer_types": ["dense", "sparse", "dense", "sparse"]}  # fmt: skip
    figures = params(read(config)).figures()
    assert figures["params.total"] - figures["params.active"] == 2880


@pytest.mark.parametrize(
    ("model_type", "keys", "words"),
    [
        ("laguna", {"num_attention_heads_per_layer": [4, 3, 4, 4]}, "holds 3; 2 KV heads must divide it"),
        ("laguna", {"num_attention_heads_per_layer": [4]}, "has 1 entries for 4 layers"),
        ("hunyuan_v1_moe", {"num_experts": 2, "moe_topk": [1, 2, 3, 4]}, "moe_topk is 3; there are 2 experts"),
        ("glm4_moe", {"n_group": 3}, "n_group is 3; it must divide the 128 routed experts"),
        ("dots1", {}, "n_routed_experts is null; expected a whole number"),
        ("dbrx", {"attn_config": {"kv_n_heads": 3}}, "attn_config.kv_n_heads is 3; it must divide the 16 query heads"),
        ("dbrx", {"ffn_config": {"ffn_act_fn": {"name": "glu"}}}, "ffn_config.ffn_act_fn.name is 'glu'"),
        ("dbrx", {"ffn_config": 4}, "ffn_config is 4; expected an object"),
        ("mellum", {"mlp_layer_types": ["wide"] * 4}, "mlp_layer_types holds 'wide'"),
    ],
)
def test_bad_values(model_type: str, keys: dict[str, Any], words: str) -> None:
    sizes = {} if model_type == "dbrx" else TINY
    with pytest.raises(ModelError, match=words):
        architecture_of({"model_type": model_type, **sizes, **keys})


@pytest.mark.parametrize(
    ("model_type", "keys"),
    [
        ("phimoe", {"num_experts_per_tok": 3}),
        ("qwen2_moe", {"layer_types": ["sliding_attention"] * 4}),
        ("minimax_m2", {"attn_type_list": [0, 1, 1, 1]}),
        ("hunyuan_v1_moe", {"num_shared_expert": 2}),
        ("afmoe", {"route_norm": False}),
        ("solar_open", {"first_k_dense_replace": 1}),
    ],
)
def test_what_is_not_known_makes_an_estimate(model_type: str, keys: dict[str, Any]) -> None:
    assert len(architecture_of({"model_type": model_type, **TINY, **keys}).reasons) == 1
