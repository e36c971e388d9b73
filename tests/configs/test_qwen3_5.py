"""Qwen3.5, its text alone and with the vision tower, against transformers on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import transformers_meta
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, heads, maybe, read, small
from tests.width import assert_default, flags, varied, width
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.params import params

few = settings(max_examples=10, deadline=None)
LINEAR: dict[str, Any] = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 12,
}  # fmt: skip
TEXT: dict[str, Any] = {
    **LINEAR, "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
           "shared_expert_intermediate_size": 24}  # fmt: skip
VISION: dict[str, Any] = {
    "depth": 2, "hidden_size": 16, "intermediate_size": 20, "num_heads": 2, "out_hidden_size": 32,
    "num_position_embeddings": 16, "patch_size": 4,
}  # fmt: skip
DENSE: dict[str, Any] = {"model_type": "qwen3_5", "architectures": ["Qwen3_5ForConditionalGeneration"],
                         "text_config": TEXT, "vision_config": VISION}  # fmt: skip
SPARSE: dict[str, Any] = {**DENSE, "model_type": "qwen3_5_moe", "text_config": {**TEXT, **EXPERTS},
                          "architectures": ["Qwen3_5MoeForConditionalGeneration"]}  # fmt: skip


@st.composite
def shape(draw: st.DrawFn) -> dict[str, Any]:
    query_heads, kv_heads = draw(heads(most=3))
    keys, layers = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    config = {
        "num_attention_heads": query_heads, "num_key_value_heads": kv_heads, "num_hidden_layers": layers,
        "linear_num_key_heads": keys, "linear_num_value_heads": keys * draw(st.integers(1, 3)),
    }  # fmt: skip
    kinds = st.sampled_from(["linear_attention", "full_attention"])
    listed = draw(st.none() | st.lists(kinds, min_size=layers, max_size=layers))
    return {**config, "layer_types": listed} if listed else config


KEYS: dict[str, Any] = {
    "vocab_size": small, "hidden_size": small, "head_dim": st.sampled_from([8, 16]), "attention_bias": flags,
    "linear_key_head_dim": small, "linear_value_head_dim": small, "linear_conv_kernel_dim": st.integers(1, 5),
    "tie_word_embeddings": flags, "full_attention_interval": maybe(st.integers(1, 4)), "pad_token_id": 0,
}  # fmt: skip
WIDTHS = [
    width("qwen3_5_text", "Qwen3_5", "ForCausalLM TextModel TextForSequenceClassification", kin=shape(), **KEYS,
          intermediate_size=small),
    width("qwen3_5_moe_text", "Qwen3_5Moe", "ForCausalLM TextModel", kin=shape(), **KEYS,
          num_experts=st.integers(2, 5), num_experts_per_tok=st.integers(1, 2), moe_intermediate_size=small,
          shared_expert_intermediate_size=small),
]  # fmt: skip


@pytest.mark.parametrize("row", WIDTHS, ids=lambda row: str(row.model_type))
@few
@given(data=st.data())
def test_varied_text(row: Any, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(varied(row)))


@pytest.mark.parametrize("row", WIDTHS, ids=lambda row: str(row.model_type))
def test_default_text(row: Any) -> None:
    assert_default(row)


@pytest.mark.parametrize("config", [DENSE, SPARSE], ids=["dense", "sparse"])
@few
@given(
    vision=st.fixed_dictionaries(
        {
            "depth": st.integers(1, 3), "intermediate_size": small, "in_channels": st.integers(1, 4),
            "patch_size": st.integers(1, 5), "spatial_merge_size": st.integers(1, 3), "out_hidden_size": small,
            "temporal_patch_size": st.integers(1, 3), "num_position_embeddings": st.sampled_from([1, 4, 9, 16]),
        }
    ),
    many=st.integers(1, 3),
    width=st.sampled_from([4, 8]),
    tie=st.booleans(),
)  # fmt: skip
def test_varied_towers(config: dict[str, Any], vision: dict[str, int], many: int, width: int, tie: bool) -> None:
    tower = {**vision, "num_heads": many, "hidden_size": many * width}
    assert_params_equal_meta({**config, "vision_config": tower, "tie_word_embeddings": tie})


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (DENSE, "Qwen3_5Model"),
        (DENSE, "Qwen3_5ForSequenceClassification"),
        (DENSE, "Qwen3_5ForTokenClassification"),
        (SPARSE, "Qwen3_5MoeModel"),
    ],
)
def test_every_class_with_a_tower(config: dict[str, Any], name: str) -> None:
    assert_params_equal_meta({**config, "architectures": [name], "num_labels": 3})


@pytest.mark.parametrize("config", [DENSE, SPARSE], ids=["dense", "sparse"])
def test_a_causal_language_model_is_the_text_alone(config: dict[str, Any]) -> None:
    """The same as the text's own type, which transformers builds of ``text_config``."""
    name = config["architectures"][0].replace("ForConditionalGeneration", "ForCausalLM")
    model = read({**config, "architectures": [name]})
    assert [stack.role for stack in model.stacks] == ["decoder"]
    text = {**config["text_config"], "model_type": f"{config['model_type']}_text", "architectures": [name]}
    assert params(model).figures()["params.total"] == transformers_meta.num_params(text)


def test_without_architectures_the_tower_counts_and_it_is_an_estimate() -> None:
    """Checkpoints have it; the class that transformers picks for causal language models has none."""
    bare = {key: value for key, value in DENSE.items() if key != "architectures"}
    model = architecture_of(bare)
    assert params(model).figures()["params.total"] == transformers_meta.num_params(DENSE)
    assert transformers_meta.num_params(bare) < transformers_meta.num_params(DENSE)
    assert any("no architectures" in reason for reason in model.reasons)


@pytest.mark.parametrize(
    "change", [{"depth": 3}, {"spatial_merge_size": 1}, {"temporal_patch_size": 1}, {"num_position_embeddings": 4}]
)
def test_the_comparison_notices(change: dict[str, int]) -> None:
    """Negative control: another depth, patches joined otherwise, one frame a patch, another table."""
    assert_params_differ_from_meta({**DENSE, "vision_config": {**VISION, **change}}, DENSE)


@pytest.mark.parametrize(
    "change",
    [
        {"text_config": {**TEXT, "model_type": "llama"}},
        {"text_config": {**TEXT, "attn_output_gate": False}},
        {"vision_config": {**VISION, "deepstack_visual_indexes": [1]}},
        {"vision_config": {**VISION, "rope_parameters": {"rope_type": "default"}}},
        {"architectures": ["Qwen3_5MoeForConditionalGeneration"]},
    ],
)
def test_what_is_not_described_is_an_estimate(change: dict[str, Any]) -> None:
    assert architecture_of({**DENSE, **change}).reasons


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_config": {**VISION, "num_heads": 3}}, "vision_config.hidden_size is 16"),
        ({"vision_config": {**VISION, "model_type": "clip"}}, "vision_config.model_type is 'clip'"),
        ({"text_config": {**TEXT, "linear_num_value_heads": 3}}, "text_config.linear_num_value_heads is 3"),
        ({"text_config": 3}, "text_config is 3"),
    ],
)
def test_what_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({**DENSE, **change})
    assert message in str(caught.value)
