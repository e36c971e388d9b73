"""T5Gemma 2: counts equal transformers' on the meta device; one attention over both sides; its FLOPs and cache."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.configs.width import four
from tests.oracles import flop_counter
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, even_widths, few, heads, read
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache

LOCAL, GLOBAL = "sliding_attention", "full_attention"
SIDE: dict[str, Any] = {
    "hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 50,
    "num_hidden_layers": 2, "intermediate_size": 10, "layer_types": [LOCAL, GLOBAL], "sliding_window": 4,
    "pad_token_id": 0, "bos_token_id": 1,
}  # fmt: skip
VISION = {"model_type": "siglip_vision_model", "hidden_size": 12, "intermediate_size": 9, "num_hidden_layers": 1,
          "num_attention_heads": 3, "image_size": 8, "patch_size": 2, "vision_use_head": False}  # fmt: skip
TINY: dict[str, Any] = {
    "model_type": "t5gemma2",
    "architectures": ["T5Gemma2ForConditionalGeneration"],
    "encoder": {"text_config": SIDE, "vision_config": VISION, "mm_tokens_per_image": 4},
    "decoder": SIDE,
}
sides = st.fixed_dictionaries(
    {
        "heads": heads(most=2),
        "head_dim": even_widths,
        "intermediate_size": st.integers(1, 12),
        "num_hidden_layers": st.just(4),
        "layer_types": four(LOCAL, GLOBAL),
        "attention_bias": st.booleans(),
    }
).map(lambda side: {**SIDE, **{key: value for key, value in side.items() if key != "heads"},
                    "num_attention_heads": side["heads"][0], "num_key_value_heads": side["heads"][1]})  # fmt: skip


def with_sides(encoder: dict[str, Any], decoder: dict[str, Any]) -> dict[str, Any]:
    return {**TINY, "encoder": {**TINY["encoder"], "text_config": encoder}, "decoder": decoder}


def test_default_sizes() -> None:
    """But for the number of layers, 26 a side, which take long to build."""
    side = {"num_hidden_layers": 2}
    encoder = {"text_config": side, "vision_config": {"num_hidden_layers": 1}}
    assert_params_equal_meta({"model_type": "t5gemma2", "encoder": encoder, "decoder": side})


@few
@given(encoder=sides, decoder=sides, tied=st.booleans(), labels=st.integers(1, 4), name=st.sampled_from(
    ["ForConditionalGeneration", "Model", "ForSequenceClassification", "ForTokenClassification"]))  # fmt: skip
def test_shapes(encoder: dict[str, Any], decoder: dict[str, Any], tied: bool, labels: int, name: str) -> None:
    """The hidden size is one for both, and each side's heads divide it."""
    for side in (encoder, decoder):
        side["hidden_size"] = 48 if 48 % side["num_attention_heads"] == 0 else 16
    encoder["hidden_size"] = decoder["hidden_size"] = 48
    config = {**with_sides(encoder, decoder), "tie_word_embeddings": tied, "num_labels": labels}
    assert_params_equal_meta({**config, "architectures": [f"T5Gemma2{name}"]})


def test_flops_of_one_attention_over_both_sides() -> None:
    model = flop_counter.model_of(TINY)
    inputs = flop_counter.inputs_of(model, batch=2, seq=7, source=11)
    found = flops(read(TINY), batch=2, seq=7, source_seq=11, phase="train").figures()
    assert found["flops.forward"] == flop_counter.forward(model, **inputs)


def test_a_layer_keeps_its_own_keys_and_the_encoders() -> None:
    """2 * 2 * 8 elements of 2 bytes a token: 4 of 10 in the local layer, 10 in the other, 6 of the source in each."""
    figures = kv_cache(read(TINY), ctx=10, source_ctx=6, kv_dtype="bf16").figures()
    assert figures["kv_cache.total_bytes"] == 64 * (4 + 10 + 2 * 6)


def test_the_comparison_notices() -> None:
    assert_params_differ_from_meta(TINY, {**TINY, "tie_word_embeddings": False})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (with_sides({**SIDE, "hidden_size": 32}, SIDE), "hidden_size is 32 in the encoder and 16 in the decoder"),
        (with_sides(SIDE, {**SIDE, "layer_types": [LOCAL]}), "decoder.layer_types has 1 entries for 2 layers"),
    ],
)
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)


@pytest.mark.parametrize("model_type", ["gemma4_assistant", "gemma4_unified_assistant", "diffusion_gemma"])
def test_kin_that_are_refused_by_name(model_type: str) -> None:
    with pytest.raises(ModelError, match=f"model_type '{model_type}' is refused"):
        architecture_of({"model_type": model_type})
