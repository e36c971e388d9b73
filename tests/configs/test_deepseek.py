from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.transformers_meta import default_config
from tests.oracles.transformers_modules import model_of, modules
from tests.strategies import (
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    configs,
    few,
    layer_counts,
    maybe,
    read,
    small,
)
from txcalc.architecture import FeedForward, LatentAttention, MixtureOfExperts, Rotary, YarnScaling
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.flops import flops
from txcalc.formulas.params import params

YARN = {"type": "yarn", "factor": 40, "mscale": 1.0, "mscale_all_dim": 0.707, "original_max_position_embeddings": 64}
V3: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "hidden_size": 32,
    "intermediate_size": 24,
    "moe_intermediate_size": 12,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "kv_lora_rank": 10,
    "q_lora_rank": 14,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "vocab_size": 50,
}
V2 = {**V3, "model_type": "deepseek_v2"}


def attention_of(config: dict[str, Any]) -> LatentAttention:
    found = read(config).main.layers[0].sublayers()[0]
    assert isinstance(found, LatentAttention)
    return found


def experts_of(config: dict[str, Any]) -> MixtureOfExperts:
    found = read(config).main.layers[-1].sublayers()[1]
    assert isinstance(found, MixtureOfExperts)
    return found


# ---- counts ---------------------------------------------------------------------------------------------------------


def test_default_v3_equals_transformers() -> None:
    assert_params_equal_meta(default_config("deepseek_v3"))


@pytest.mark.parametrize("extra", [{}, {"num_hidden_layers": 3}, {"num_hidden_layers": 2}, {"q_lora_rank": None}])
def test_a_minimal_v3_takes_transformers_defaults(extra: dict[str, Any]) -> None:
    assert_params_equal_meta({"model_type": "deepseek_v3", **extra})


def test_v2_without_a_number_of_chosen_experts_says_nothing_of_what_a_token_uses() -> None:
    """transformers' default config of this type leaves it open, and builds it; it cannot run it."""
    config = default_config("deepseek_v2")
    assert_params_equal_meta(config)
    model = read(config)
    assert "params.active" not in params(model).figures()
    assert "params.active" in params(read({**config, "num_experts_per_tok": 6})).figures()
    with pytest.raises(RequestError, match="num_experts_per_tok is not set"):
        flops(model, seq=9)
    dense = {**config, "first_k_dense_replace": config["num_hidden_layers"]}
    assert params(read(dense)).find("params.active").value == params(read(dense)).find("params.total").value


def test_a_text_part_without_a_number_of_chosen_experts_does_not_run_either() -> None:
    text = {**V2, "num_experts_per_tok": None}
    model = architecture_of({"model_type": "llava", "text_config": text, "tie_word_embeddings": True})
    assert model.only_params.startswith("num_experts_per_tok is not set")


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"num_hidden_layers": 3},
        {"first_k_dense_replace": 1, "mlp_bias": True},
        {"n_shared_experts": 0, "mlp_bias": True},
    ],
)
def test_a_minimal_v2_takes_transformers_defaults(extra: dict[str, Any]) -> None:
    assert_params_equal_meta({"model_type": "deepseek_v2", "num_experts_per_tok": 6, **extra})


SHAPES: dict[str, Any] = {
    "num_attention_heads": st.integers(1, 5),
    "intermediate_size": small,
    "moe_intermediate_size": small,
    "num_hidden_layers": layer_counts,
    "vocab_size": small,
    "first_k_dense_replace": maybe(st.integers(0, 5)),
    "kv_lora_rank": small,
    "q_lora_rank": st.none() | small,
    "qk_nope_head_dim": small,
    "qk_rope_head_dim": st.sampled_from([2, 4, 8]),
    "v_head_dim": small,
    "n_routed_experts": st.sampled_from([8, 16]),
    "num_experts_per_tok": st.integers(1, 4),
    "n_shared_experts": st.integers(0, 3),
    "attention_bias": maybe(st.booleans()),
    "tie_word_embeddings": st.booleans(),
    "rope_scaling": maybe(st.sampled_from([None, YARN])),
}


@few
@given(
    configs(
        "deepseek_v3",
        **SHAPES,
        hidden_size=small,
        num_nextn_predict_layers=maybe(st.integers(0, 2)),
        architectures=maybe(
            st.sampled_from(
                [
                    ["DeepseekV3ForCausalLM"],
                    ["DeepseekV3Model"],
                    ["DeepseekV3ForSequenceClassification"],
                    ["DeepseekV3ForTokenClassification"],
                ]
            )
        ),
    )
)
def test_varied_v3_equal_transformers(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@few
@given(
    configs(
        "deepseek_v2",
        **SHAPES,
        hidden_size=st.integers(1, 4).map(lambda n: 60 * n),  # transformers wants a multiple of the heads
        mlp_bias=maybe(st.booleans()),
        architectures=maybe(
            st.sampled_from([["DeepseekV2ForCausalLM"], ["DeepseekV2Model"], ["DeepseekV2ForSequenceClassification"]])
        ),
    )
)
def test_varied_v2_equal_transformers(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@pytest.mark.parametrize("change", [{"first_k_dense_replace": 2}, {"q_lora_rank": None}, {"n_shared_experts": 2}])
@pytest.mark.parametrize("config", [V2, V3], ids=["v2", "v3"])
def test_the_oracle_notices_a_difference(config: dict[str, Any], change: dict[str, Any]) -> None:
    assert_params_differ_from_meta({**config, "n_shared_experts": 1, **change}, {**config, "n_shared_experts": 1})


def test_biases_of_v2s_feed_forwards_belong_to_dense_and_shared_layers_alone() -> None:
    layers = read({**V2, "mlp_bias": True}).main.layers
    dense, moe = layers[0].sublayers()[1], layers[1].sublayers()[1]
    assert isinstance(dense, FeedForward)
    assert isinstance(moe, MixtureOfExperts)
    assert moe.shared_expert is not None
    assert (dense.up_bias, moe.expert.up_bias, moe.shared_expert.up_bias) == (True, False, True)


# ---- what the reference model runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [V2, V3], ids=["v2", "v3"])
@pytest.mark.parametrize("scaling", [None, YARN, {**YARN, "mscale_all_dim": 0}, {"type": "linear", "factor": 4.0}])
def test_scale_of_the_scores_equals_transformers(config: dict[str, Any], scaling: dict[str, Any] | None) -> None:
    config = {**config, "rope_scaling": scaling}
    ours, theirs = attention_of(config), modules(model_of(config), "Attention")[0]
    plain = (ours.qk_nope_head_dim + ours.qk_rope_head_dim) ** -0.5
    assert theirs.scaling == pytest.approx(ours.scale or plain, rel=1e-15)  # the order of two multiplications
    assert (ours.scale is not None) == (scaling == YARN)


@pytest.mark.parametrize(("said", "interleaved"), [({}, True), ({"rope_interleave": False}, False)])
def test_interleaved_rotary_on_the_rotary_part(said: dict[str, Any], interleaved: bool) -> None:
    position = attention_of({**V3, **said, "rope_scaling": YARN}).position
    assert isinstance(position, Rotary)
    assert isinstance(position.scaling, YarnScaling)
    assert (position.rotary_dim, position.interleaved) == (4, interleaved)
    assert (position.scaling.mscale, position.scaling.mscale_all_dim) == (1.0, 0.707)


def test_norms_of_the_latents_keep_their_own_epsilon() -> None:
    config = {**V3, "rms_norm_eps": 0.5}
    norms = [module for module in model_of(config).modules() if type(module).__name__ == "DeepseekV3RMSNorm"]
    latent = {norm.variance_epsilon for norm in norms if norm.weight.shape[0] in (10, 14)}
    assert latent == {attention_of(config).norm_eps}


def test_v3_routes_by_sigmoid_in_groups() -> None:
    ours, theirs = experts_of({**V3, "routed_scaling_factor": 3.5}), model_of({**V3, "routed_scaling_factor": 3.5})
    gate = modules(theirs, "TopkRouter")[0]
    router = ours.router
    assert (router.n_group, router.topk_group) == (gate.num_group, gate.topk_group) == (4, 2)
    assert (router.scaling_factor, router.norm_topk_prob) == (gate.routed_scaling_factor, gate.norm_topk_prob)
    assert (router.scoring, router.group_score, router.correction_bias) == ("sigmoid", "top2", True)
    assert "e_score_correction_bias" not in dict(gate.named_parameters())


@pytest.mark.parametrize(("method", "groups"), [("greedy", (1, 1)), ("group_limited_greedy", (4, 2))])
def test_v2_routes_by_softmax(method: str, groups: tuple[int, int]) -> None:
    router = experts_of({**V2, "topk_method": method, "routed_scaling_factor": 16.0}).router
    assert (router.n_group, router.topk_group) == groups
    assert (router.scoring, router.scaling_factor, router.correction_bias) == ("softmax", 16.0, False)


def test_multi_token_prediction_is_named_and_not_counted() -> None:
    with_block, without = architecture_of({**V3, "num_nextn_predict_layers": 1}), architecture_of(V3)
    assert with_block.extra is not None
    assert with_block.replace(extra=None) == without
    figures = params(with_block).figures()
    assert {**params(without).figures(), "params.extra": figures["params.extra"]} == figures


# ---- what it refuses or leaves open ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "change", "named"),
    [
        (V3, {"num_experts_per_tok": 9}, "num_experts_per_tok is 9; there are 8 experts"),
        (V3, {"n_group": 3}, "n_group is 3; it must divide the 8"),
        (V3, {"topk_group": 5}, "topk_group is 5; there are 4 groups"),
        (V3, {"first_k_dense_replace": -1}, "first_k_dense_replace is -1"),
        (V3, {"kv_lora_rank": None}, "kv_lora_rank is null"),
        (V2, {"topk_method": "best"}, "topk_method is 'best'"),
    ],
)
def test_bad_values_are_named(config: dict[str, Any], change: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({**config, **change})
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("config", "change"),
    [
        (V3, {"moe_layer_freq": 2}),
        (V3, {"scoring_func": "softmax"}),
        (V3, {"topk_method": "greedy"}),
        (V3, {"mlp_bias": True}),
        (V3, {"architectures": ["DeepseekV3ForQuestionAnswering"]}),
        (V2, {"scoring_func": "sigmoid"}),
        (V2, {"norm_topk_prob": True}),
        (V2, {"architectures": ["DeepseekV2ForTokenClassification"]}),
    ],
)
def test_what_is_not_understood_is_a_reason(config: dict[str, Any], change: dict[str, Any]) -> None:
    assert architecture_of(config).reasons == ()
    assert architecture_of({**config, **change}).reasons
