"""Aria: counts equal transformers' on the meta device. What is computed is held by its logits (tests/reference)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.configs.width import CAUSAL, drawn
from tests.oracles import flop_counter
from tests.oracles.transformers_meta import default_config
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, even_widths, few, maybe, read
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.flops import flops

width = st.integers(1, 12)
TEXT = drawn(
    "aria_text", "AriaText", (CAUSAL, "Model"), head_dim=maybe(st.none() | even_widths), attention_bias=st.booleans(),
    mlp_bias=st.booleans(), moe_num_experts=st.integers(2, 4), moe_topk=2, moe_num_shared_experts=st.integers(1, 3),
)  # fmt: skip
VISION = st.fixed_dictionaries(
    {
        "hidden_size": st.sampled_from([4, 8]),
        "num_attention_heads": st.sampled_from([1, 2]),
        "intermediate_size": width,
        "num_hidden_layers": st.integers(1, 3),
        "num_channels": st.integers(1, 3),
        "image_size": st.integers(4, 16),
        "patch_size": st.integers(1, 4),
    }
)
TINY = {"model_type": "aria_text", "architectures": ["AriaTextForCausalLM"], "hidden_size": 24, "intermediate_size": 10,
        "num_attention_heads": 6, "num_hidden_layers": 2, "vocab_size": 30, "pad_token_id": 0}  # fmt: skip
WHOLE = {"model_type": "aria", "architectures": ["AriaForConditionalGeneration"], "text_config": TINY,
         "vision_config": {"model_type": "idefics3_vision", "hidden_size": 8, "num_attention_heads": 2}}  # fmt: skip


def test_default_and_minimal_configs() -> None:
    assert_params_equal_meta({"model_type": "aria_text"})
    assert_params_equal_meta({**default_config("aria_text"), "architectures": None, "num_hidden_layers": 2})
    few_layers = {**default_config("aria")["text_config"], "num_hidden_layers": 1}
    name = "AriaForConditionalGeneration"
    assert_params_equal_meta({**default_config("aria"), "architectures": [name], "text_config": few_layers})


@few
@given(config=TEXT)
def test_shapes_of_the_text_model(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@few
@given(text=TEXT, vision=VISION, tied=st.booleans(), queries=maybe(st.just({"4": 3, "9": 7})),
       name=st.sampled_from(["AriaForConditionalGeneration", "AriaModel"]))  # fmt: skip
def test_shapes_with_the_tower(
    text: dict[str, Any], vision: dict[str, Any], tied: bool, queries: Any, name: str
) -> None:
    whole = {"text_config": text, "vision_config": vision, "tie_word_embeddings": tied, "architectures": [name]}
    given_ = {} if repr(queries) == "ABSENT" else {"projector_patch_to_query_dict": queries}
    assert_params_equal_meta({"model_type": "aria", **whole, **given_})


def test_the_comparison_notices() -> None:
    assert_params_differ_from_meta(TINY, {**TINY, "moe_num_shared_experts": 1})
    assert_params_differ_from_meta(WHOLE, {**WHOLE, "projector_patch_to_query_dict": {"4": 5}})


def test_flops() -> None:
    model = flop_counter.model_of(TINY)
    counted = flop_counter.forward(model, **flop_counter.inputs_of(model, batch=2, seq=9))
    assert flops(read(TINY), batch=2, seq=9).figures()["flops.matmul"] == counted


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**WHOLE, "projector_patch_to_query_dict": {"4": "5"}}, "expected numbers of queries"),
        ({**WHOLE, "vision_config": {"model_type": "siglip_vision_model"}}, "Aria's tower is an idefics3_vision"),
        ({**TINY, "moe_topk": 9}, "moe_topk is 9; there are 8 experts"),
    ],
)
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)


@pytest.mark.parametrize("keys", [{"architectures": None}, {"architectures": ["AriaForSequenceClassification"]}])
def test_what_is_not_known_makes_an_estimate(keys: dict[str, Any]) -> None:
    assert len(architecture_of({**WHOLE, **keys}).reasons) == 1
