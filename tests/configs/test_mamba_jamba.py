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
    shapes,
    small,
)
from txcalc.architecture import FeedForward, Mamba, MixtureOfExperts, SelfAttention
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.cache_shapes import state_of

MAMBA: dict[str, Any] = {"model_type": "mamba", "hidden_size": 24, "num_hidden_layers": 2, "vocab_size": 50}
JAMBA: dict[str, Any] = {
    "model_type": "jamba",
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts": 4,
    "vocab_size": 50,
}


def mixer_of(config: dict[str, Any]) -> Mamba:
    found = read(config).main.layers[0].sublayers()[0]
    assert isinstance(found, Mamba)
    return found


# ---- Mamba ----------------------------------------------------------------------------------------------------------


def test_default_mamba_equals_transformers() -> None:
    assert_params_equal_meta(default_config("mamba"))


@pytest.mark.parametrize("extra", [{}, {"hidden_size": 100}, {"expand": 3}, {"intermediate_size": 777}])
def test_a_minimal_mamba_takes_transformers_defaults(extra: dict[str, Any]) -> None:
    assert_params_equal_meta({"model_type": "mamba", **extra})


@few
@given(
    configs(
        "mamba",
        hidden_size=small,
        num_hidden_layers=layer_counts,
        vocab_size=small,
        state_size=maybe(small),
        conv_kernel=maybe(st.integers(1, 6)),
        expand=maybe(st.integers(1, 3)),
        intermediate_size=maybe(small),
        time_step_rank=maybe(st.just("auto") | small),
        use_bias=maybe(st.booleans()),
        use_conv_bias=maybe(st.booleans()),
        tie_word_embeddings=maybe(st.booleans()),
        architectures=maybe(st.sampled_from([["MambaForCausalLM"], ["MambaModel"]])),
    )
)
def test_varied_mamba_equal_transformers(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@pytest.mark.parametrize("change", [{"use_bias": True}, {"time_step_rank": 3}, {"conv_kernel": 3}])
def test_the_oracle_notices_another_mamba(change: dict[str, Any]) -> None:
    assert_params_differ_from_meta({**MAMBA, **change}, MAMBA)


def test_mamba_settings_equal_those_of_transformers_modules() -> None:
    config = {**MAMBA, "expand": 3, "layer_norm_epsilon": 0.25}
    ours, theirs = mixer_of(config), modules(model_of(config), "MambaMixer")[0]
    assert (ours.intermediate_size, ours.state_size) == (theirs.intermediate_size, theirs.ssm_state_size)
    assert (ours.time_step_rank, ours.conv_kernel) == (theirs.time_step_rank, theirs.conv_kernel_size)
    layer = read(config).main.layers[0]
    assert [len(step.branches) for step in layer.steps] == [1]
    norm = layer.steps[0].branches[0].norm_in
    assert norm is not None
    assert (norm.kind, norm.eps) == ("rmsnorm", 0.25)


def test_state_of_mamba_2_8b() -> None:
    """5,120 inner channels: a state of 16 each, and a convolution that remembers 4 - 1 inputs."""
    shape = state_of(mixer_of({**MAMBA, "hidden_size": 2560}))
    assert shape is not None
    assert (int(shape.state), int(shape.window)) == (5120 * 16, 5120 * 3)


def test_older_names_have_no_bearing_beside_the_ones_that_count() -> None:
    config = {**MAMBA, "n_layer": 9, "d_model": 9, "d_inner": 9, "intermediate_size": 48, "ssm_cfg": {}}
    assert_params_equal_meta(config)
    assert architecture_of({"model_type": "mamba", "n_layer": 9}).reasons
    assert architecture_of({"model_type": "mamba", "n_layer": 32, "d_model": 768, "d_inner": 1536}).reasons == ()


@pytest.mark.parametrize(
    "change",
    [{"rms_norm": False}, {"ssm_cfg": {"layer": "Mamba2"}}, {"architectures": ["MambaForTokenClassification"]}],
)
def test_what_is_not_understood_of_mamba_is_a_reason(change: dict[str, Any]) -> None:
    assert architecture_of({**MAMBA, **change}).reasons


# ---- Jamba ----------------------------------------------------------------------------------------------------------


def test_default_jamba_equals_transformers() -> None:
    assert_params_equal_meta(default_config("jamba"))


@pytest.mark.parametrize("extra", [{}, {"num_hidden_layers": 5}, {"num_experts": 1}, {"num_local_experts": 3}])
def test_a_minimal_jamba_takes_transformers_defaults(extra: dict[str, Any]) -> None:
    assert_params_equal_meta({"model_type": "jamba", **extra})


@few
@given(
    shapes(
        "jamba",
        intermediate_size=small,
        num_hidden_layers=st.integers(1, 6),
        vocab_size=small,
        head_dim=maybe(st.sampled_from([3, 8])),
        num_experts=st.sampled_from([0, 1, 2, 4]),
        num_experts_per_tok=st.integers(1, 2),
        expert_layer_period=st.integers(2, 3),
        expert_layer_offset=st.integers(0, 1),
        attn_layer_period=st.integers(3, 4),
        attn_layer_offset=st.integers(0, 2),
        mamba_d_state=maybe(small),
        mamba_d_conv=maybe(st.integers(1, 6)),
        mamba_expand=maybe(st.integers(1, 3)),
        mamba_dt_rank=maybe(st.just("auto") | small),
        mamba_conv_bias=maybe(st.booleans()),
        mamba_proj_bias=maybe(st.booleans()),
        tie_word_embeddings=maybe(st.booleans()),
        architectures=maybe(
            st.sampled_from([["JambaForCausalLM"], ["JambaModel"], ["JambaForSequenceClassification"]])
        ),
    )
)
def test_varied_jamba_equal_transformers(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@pytest.mark.parametrize("change", [{"expert_layer_offset": 0}, {"mamba_proj_bias": True}, {"attn_layer_offset": 7}])
def test_the_oracle_notices_another_jamba(change: dict[str, Any]) -> None:
    config = {**JAMBA, "num_hidden_layers": 7}
    assert_params_differ_from_meta({**config, **change}, config)


def test_jambas_layers_stand_where_its_paper_puts_them() -> None:
    """Lieber et al. 2024, section 3.1: attention at layer 4 of 8, experts in every second layer from layer 1."""
    model = read(JAMBA)
    pairs = [tuple(map(type, layer.sublayers())) for layer in model.main.sequence()]
    mixers = [SelfAttention if i == 4 else Mamba for i in range(8)]
    assert pairs == list(zip(mixers, [FeedForward, MixtureOfExperts] * 4, strict=True))


def test_jamba_has_no_positions_and_normalises_inside_the_mixer() -> None:
    model = read(JAMBA)
    for layer in model.main.layers:
        mixer, moe = layer.sublayers()
        if isinstance(mixer, SelfAttention):
            assert mixer.position is None
        else:
            assert isinstance(mixer, Mamba)
            assert (mixer.inner_norms, mixer.norm_eps) == ("weighted", 1e-6)
        if isinstance(moe, MixtureOfExperts):
            assert (moe.router.scoring, moe.router.norm_topk_prob) == ("softmax", False)


@pytest.mark.parametrize(
    ("config", "change", "named"),
    [
        (JAMBA, {"attn_layer_offset": 8}, "attn_layer_offset is 8; it must be below attn_layer_period, 8"),
        (JAMBA, {"expert_layer_period": 0}, "expert_layer_period is 0"),
        (JAMBA, {"num_experts_per_tok": 5}, "num_experts_per_tok is 5; there are 4 experts"),
        (JAMBA, {"mamba_dt_rank": "big"}, 'mamba_dt_rank is "big"'),
        (MAMBA, {"time_step_rank": 0}, "time_step_rank is 0"),
        (MAMBA, {"intermediate_size": None}, "intermediate_size is null"),
    ],
)
def test_bad_values_are_named(config: dict[str, Any], change: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({**config, **change})
    assert named in caught.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"sliding_window": 128},
        {"mamba_inner_layernorms": False},
        {"architectures": ["JambaForQuestionAnswering"]},
        {"rope_theta": 10_000},
    ],
)
def test_what_is_not_understood_of_jamba_is_a_reason(change: dict[str, Any]) -> None:
    assert architecture_of({**JAMBA, **change}).reasons
