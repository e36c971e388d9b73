from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.transformers_meta import default_config
from tests.oracles.transformers_modules import inverse_frequencies, model_of
from tests.strategies import (
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    few,
    layer_counts,
    maybe,
    read,
    shapes,
    small,
)
from txcalc.architecture import FeedForward, GatedDeltaNet, MixtureOfExperts, Rotary, SelfAttention
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.cache_shapes import state_of

MOE: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "hidden_size": 32,
    "intermediate_size": 24,
    "moe_intermediate_size": 12,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "vocab_size": 50,
}
NEXT: dict[str, Any] = {
    **MOE,
    "model_type": "qwen3_next",
    "head_dim": 16,
    "shared_expert_intermediate_size": 10,
    "linear_conv_kernel_dim": 3,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 10,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}


@pytest.mark.parametrize("model_type", ["qwen3_moe", "qwen3_next"])
def test_default_config_equals_transformers(model_type: str) -> None:
    assert_params_equal_meta(default_config(model_type))


@pytest.mark.parametrize("model_type", ["qwen3_moe", "qwen3_next"])
@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"num_hidden_layers": 5},
        {"num_experts": 0},
        {"num_hidden_layers": 5, "decoder_sparse_step": 2, "mlp_only_layers": [1]},
        {"num_hidden_layers": 2, "mlp_only_layers": [0, 1]},
    ],
)
def test_a_minimal_config_takes_transformers_defaults(model_type: str, extra: dict[str, Any]) -> None:
    assert_params_equal_meta({"model_type": model_type, **extra})


TASKS = ["ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"]
EXPERTS: dict[str, st.SearchStrategy[Any]] = {
    "intermediate_size": small,
    "moe_intermediate_size": small,
    "num_hidden_layers": layer_counts,
    "vocab_size": small,
    "num_experts": st.sampled_from([0, 3, 5]),
    "num_experts_per_tok": st.integers(1, 3),
    "decoder_sparse_step": maybe(st.integers(1, 3)),
    "mlp_only_layers": maybe(st.lists(st.integers(0, 4), max_size=3)),
    "norm_topk_prob": maybe(st.booleans()),
    "attention_bias": maybe(st.booleans()),
    "tie_word_embeddings": st.booleans(),
}


@few
@given(
    shapes(
        "qwen3_moe",
        **EXPERTS,
        head_dim=maybe(st.sampled_from([2, 6, 16])),
        use_sliding_window=maybe(st.booleans()),
        sliding_window=maybe(st.sampled_from([None, 16])),
        architectures=maybe(st.sampled_from([[f"Qwen3Moe{task}"] for task in TASKS])),
    )
)
def test_varied_qwen3_moe_equal_transformers(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@few
@given(
    shapes(
        "qwen3_next",
        **EXPERTS,
        head_dim=st.sampled_from([8, 16]),
        shared_expert_intermediate_size=st.integers(0, 9),
        full_attention_interval=maybe(st.integers(1, 4)),
        linear_conv_kernel_dim=st.integers(1, 5),
        linear_key_head_dim=small,
        linear_value_head_dim=small,
        linear_num_key_heads=st.integers(1, 3),
        linear_num_value_heads=st.sampled_from([6, 12]),
        architectures=maybe(st.sampled_from([[f"Qwen3Next{task}"] for task in TASKS])),
    ),
    st.data(),
)
def test_varied_qwen3_next_equal_transformers(config: dict[str, Any], data: st.DataObject) -> None:
    kinds = st.sampled_from(["full_attention", "linear_attention", "attention", "mamba"])
    count = config["num_hidden_layers"]
    listed = data.draw(st.none() | st.lists(kinds, min_size=count, max_size=count))
    assert_params_equal_meta({**config, "layer_types": listed} if listed else config)


@pytest.mark.parametrize("change", [{"num_experts": 5}, {"attention_bias": True}, {"mlp_only_layers": [3]}])
@pytest.mark.parametrize("config", [MOE, NEXT], ids=["moe", "next"])
def test_the_oracle_notices_a_difference(config: dict[str, Any], change: dict[str, Any]) -> None:
    assert_params_differ_from_meta({**config, **change}, config)


def test_the_layers_stand_where_transformers_puts_them() -> None:
    """Every second layer sparse but not layer 3; one layer in four attends fully: kinds in order, by hand."""
    config = {**NEXT, "num_hidden_layers": 8, "decoder_sparse_step": 2, "mlp_only_layers": [3]}
    pairs = [tuple(map(type, layer.sublayers())) for layer in read(config).main.sequence()]
    linear, full = GatedDeltaNet, SelfAttention
    dense, sparse = FeedForward, MixtureOfExperts
    assert pairs == [
        (linear, dense), (linear, sparse), (linear, dense), (full, dense),
        (linear, dense), (linear, sparse), (linear, dense), (full, sparse),
    ]  # fmt: skip


def test_gated_attention_settings() -> None:
    """A quarter of the head turns, the output is gated per channel, every norm adds one to its weight."""
    model = read({**NEXT, "rope_theta": 5e6})
    attention = model.main.layers[-1].sublayers()[0]
    assert isinstance(attention, SelfAttention)
    assert isinstance(attention.position, Rotary)
    assert (attention.gate, attention.head_dim, attention.position.rotary_dim) == ("channel", 16, 4)
    assert attention.qk_norm is not None
    assert attention.qk_norm.unit_offset
    assert model.main.final_norm is not None
    assert model.main.final_norm.unit_offset
    theirs = model_of({**NEXT, "rope_theta": 5e6}).model.rotary_emb.inv_freq
    assert torch.equal(theirs, inverse_frequencies(attention.position.theta, attention.position.rotary_dim))


def test_state_of_a_delta_net_equals_the_published_model() -> None:
    """Qwen3-Next-80B-A3B, facts of its config: 36 linear layers, 32 value heads of 128 x 128 and a convolution over
    2 * 16 * 128 + 32 * 128 = 8,192 channels that remembers 4 - 1 inputs: 36 * (524,288 * 4 + 24,576 * 2) bytes =
    77,266,944."""
    model = read({"model_type": "qwen3_next", "torch_dtype": "bfloat16"})
    nets = [layer.sublayers()[0] for layer in model.main.sequence()]
    shapes_of = [shape for shape in map(state_of, nets) if shape is not None]
    assert sum(int(shape.state) * 4 + int(shape.window) * 2 for shape in shapes_of) == 77_266_944


@pytest.mark.parametrize(
    ("config", "change", "named"),
    [
        (MOE, {"num_experts_per_tok": 7}, "num_experts_per_tok is 7; there are 6 experts"),
        (MOE, {"decoder_sparse_step": 0}, "decoder_sparse_step is 0"),
        (MOE, {"mlp_only_layers": "all"}, 'mlp_only_layers is "all"'),
        (NEXT, {"full_attention_interval": 0}, "full_attention_interval is 0"),
        (NEXT, {"linear_num_value_heads": 3}, "linear_num_value_heads is 3"),
        (NEXT, {"layer_types": ["full_attention"]}, "layer_types has 1 entries for 4 layers"),
        (NEXT, {"layer_types": ["sliding_attention"] * 4}, "layer_types holds 'sliding_attention'"),
    ],
)
def test_bad_values_are_named(config: dict[str, Any], change: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({**config, **change})
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("config", "change"),
    [
        (MOE, {"qkv_bias": True}),
        (MOE, {"use_qk_norm": False}),
        (MOE, {"shared_expert_intermediate_size": 8}),
        (MOE, {"use_sliding_window": True, "max_window_layers": 2}),
        (MOE, {"layer_types": ["full_attention"] * 4}),
        (NEXT, {"use_sliding_window": True}),
        (NEXT, {"token_classification_bias": False}),
    ],
)
def test_what_is_not_understood_is_a_reason(config: dict[str, Any], change: dict[str, Any]) -> None:
    assert architecture_of({**config, **change}).reasons
