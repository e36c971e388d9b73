"""Llama 4: counts equal transformers' on the meta device; what its layers keep; its tower.

What is computed is held by its logits (tests/reference).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.configs.width import BARE, CAUSAL, drawn, four
from tests.oracles import flop_counter
from tests.oracles.transformers_meta import default_config
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
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache

width = st.integers(1, 12)
TEXT = drawn(
    "llama4_text",
    "Llama4",
    (CAUSAL, "TextModel"),
    num_hidden_layers=4,
    head_dim=maybe(even_widths),
    intermediate_size_mlp=width,
    attention_bias=st.booleans(),
    num_local_experts=st.integers(1, 4),
    num_experts_per_tok=1,
    moe_layers=maybe(st.none() | st.lists(st.integers(0, 5))),
    interleave_moe_layer_step=maybe(st.integers(1, 5)),
    no_rope_layers=maybe(st.just([]) | four(0, 1)),
    layer_types=maybe(four("full_attention", "chunked_attention")),
    use_qk_norm=st.booleans(),
)
VISION = st.fixed_dictionaries(
    {
        "hidden_size": st.sampled_from([8, 16]),
        "num_attention_heads": st.integers(1, 2),
        "intermediate_size": width,
        "num_hidden_layers": st.integers(1, 3),
        "image_size": st.integers(8, 20),
        "patch_size": st.integers(2, 5),
        "num_channels": st.integers(1, 3),
        "vision_output_dim": width,
        "projector_input_dim": width,
        "projector_output_dim": width,
        "pixel_shuffle_ratio": st.sampled_from([0.5, 1.0]),
    }
)
TINY: dict[str, Any] = {
    "model_type": "llama4_text", "hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 4,
    "num_hidden_layers": 4, "intermediate_size": 10, "intermediate_size_mlp": 14, "vocab_size": 30,
    "num_local_experts": 3, "pad_token_id": 0,
}  # fmt: skip
WHOLE: dict[str, Any] = {
    "model_type": "llama4",
    "architectures": ["Llama4ForConditionalGeneration"],
    "image_token_index": 7,
    "text_config": TINY,
    "vision_config": {
        "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 2, "image_size": 16,
        "patch_size": 4, "vision_output_dim": 12, "projector_input_dim": 12, "projector_output_dim": 12,
    },
}  # fmt: skip


def test_default_and_minimal_configs() -> None:
    """All of the default config's layers once; the others with a few, because building 48 layers of experts is slow."""
    assert_params_equal_meta({"model_type": "llama4_text"})
    few_layers = {"num_hidden_layers": 4, "layer_types": None, "no_rope_layers": None, "moe_layers": None}
    assert_params_equal_meta({**default_config("llama4_text"), "architectures": None, **few_layers})
    assert_params_equal_meta(
        {
            "model_type": "llama4",
            "architectures": ["Llama4ForConditionalGeneration"],
            "text_config": {"num_hidden_layers": 2},
        }
    )


@few
@given(config=TEXT)
def test_shapes_of_the_text_model(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@few
@given(text=TEXT, vision=VISION, tied=maybe(st.booleans()))
def test_shapes_with_the_tower(text: dict[str, Any], vision: dict[str, Any], tied: Any) -> None:
    """The outer config's tying is without effect."""
    whole = {"text_config": text, "vision_config": vision, "tie_word_embeddings": tied}
    config = {key: value for key, value in whole.items() if repr(value) != "ABSENT"}
    assert_params_equal_meta({"model_type": "llama4", "architectures": ["Llama4ForConditionalGeneration"], **config})


def test_maverick_alternates_dense_layers_and_experts() -> None:
    config = {**TINY, "interleave_moe_layer_step": 2, "architectures": ["Llama4ForCausalLM"]}
    assert_params_equal_meta(config)
    assert_params_differ_from_meta({**config, "interleave_moe_layer_step": 1}, config)


def test_a_chunked_layer_keeps_its_chunk() -> None:
    """Three of four layers are chunked: 2 * 2 * 4 elements of 2 bytes a token, 8 tokens of 10 in three layers."""
    model = read({**TINY, "attention_chunk_size": 8})
    figures = kv_cache(model, ctx=10, kv_dtype="bf16").figures()
    assert figures["kv_cache.total_bytes"] == 32 * (3 * 8 + 10)
    assert figures["kv_cache.reserved_bytes"] == 32 * 4 * 10
    assert attention_of(model).chunk == 8
    assert attention_of(model, 3).chunk is None


def test_layers_without_positions_sharpen_far_queries() -> None:
    model = read(TINY)
    assert attention_of(model).temperature is None
    assert attention_of(model).qk_norm is not None
    assert attention_of(model, 3).position is None
    assert attention_of(model, 3).qk_norm is None
    assert attention_of(model, 3).temperature is not None
    assert attention_of(read({**TINY, "attn_temperature_tuning": False}), 3).temperature is None


@pytest.mark.parametrize("images", [0, 1])
def test_images_run_through_the_tower(images: int) -> None:
    """16 patches and a class token; squares of four are joined: 4 of the 9 tokens. Each expert runs on every token."""
    ids = torch.zeros(1, 9, dtype=torch.long)
    ids[:, 2 : 2 + 4 * images] = 7
    pixels = {"pixel_values": torch.zeros(1, 3, 16, 16)} if images else {}
    counted = flop_counter.on_cpu(WHOLE, input_ids=ids, **pixels)
    found = flops(read(WHOLE), seq=9, images=images, moe="all_experts").figures()
    assert found["flops.matmul"] == counted


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"no_rope_layers": [1, 0]}, "no_rope_layers has 2 entries for 4 layers"),
        ({"layer_types": ["sliding_attention"] * 4}, "layer_types holds 'sliding_attention'"),
        ({"num_experts_per_tok": 4}, "num_experts_per_tok is 4; there are 3 experts"),
        ({"interleave_moe_layer_step": 0}, "interleave_moe_layer_step is 0; expected 1 to"),
    ],
)
def test_bad_values(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of({**TINY, **keys})


@pytest.mark.parametrize(
    "keys",
    [
        {"architectures": None},
        {"architectures": ["Llama4" + BARE]},
        {"architectures": ["Llama4ForSequenceClassification"]},
        {"vision_config": {**WHOLE["vision_config"], "multi_modal_projector_bias": True}},
        {"text_config": {**TINY, "mlp_bias": True}},
    ],
)
def test_what_is_not_known_makes_an_estimate(keys: dict[str, Any]) -> None:
    assert len(architecture_of({**WHOLE, **keys}).reasons) == 1


def test_the_text_part_alone() -> None:
    alone = architecture_of({**WHOLE, "architectures": ["Llama4ForCausalLM"]})
    assert alone.reasons == ()
    assert [stack.role for stack in alone.stacks] == ["decoder"]
