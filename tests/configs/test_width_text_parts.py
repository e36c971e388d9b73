"""Text parts of models with towers: counts, caches and FLOPs against transformers on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.configs.width import assert_default_and_minimal, drawn
from tests.oracles import flop_counter
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
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache

ROPE = {"full_attention": {"rope_type": "default", "rope_theta": 1e4}, "sliding_attention": None}
KINDS = st.lists(st.sampled_from(["full_attention", "sliding_attention"]), min_size=4, max_size=4)


def classes(*names: str) -> st.SearchStrategy[list[str]]:
    return st.sampled_from([[name] for name in names])


SHAPES = {
    "cohere_compass_text": drawn(
        "cohere_compass_text", "", num_hidden_layers=4, rope_parameters=ROPE, attention_bias=st.booleans(),
        layer_types=maybe(KINDS), logit_scale=st.none() | st.just(0.5),
        architectures=classes("CohereCompassForCausalLM", "CohereCompassTextModel",
                              "CohereCompassTextForSequenceClassification")),
    "emu3_text_model": drawn("emu3_text_model", "", attention_bias=st.booleans(), mlp_bias=st.booleans(),
                             head_dim=maybe(even_widths), architectures=classes("Emu3ForCausalLM", "Emu3TextModel")),
    "mllama_text_model": drawn("mllama_text_model", "", cross_attention_layers=maybe(st.lists(st.integers(0, 4))),
                               architectures=classes("MllamaForCausalLM", "MllamaTextModel")),
    "moshi": drawn("moshi", "", intermediate_size=None, ffn_dim=even_widths, head_dim=maybe(even_widths),
                   architectures=classes("MoshiForCausalLM", "MoshiModel")),
}  # fmt: skip
NEEDED: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {"rope_parameters": ROPE},
    "emu3_text_model": {"architectures": ["Emu3ForCausalLM"]},
    "mllama_text_model": {"architectures": ["MllamaForCausalLM"]},
    "moshi": {},
}
TINY = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 4,
        "intermediate_size": 20, "vocab_size": 67, "pad_token_id": 0}  # fmt: skip
MLLAMA = {"model_type": "mllama_text_model", "architectures": ["MllamaForCausalLM"], **TINY,
          "cross_attention_layers": [1, 3]}  # fmt: skip


@pytest.mark.parametrize("model_type", SHAPES)
def test_default_and_minimal_configs(model_type: str) -> None:
    assert_default_and_minimal(model_type, **NEEDED[model_type])


@pytest.mark.parametrize("model_type", SHAPES)
@few
@given(data=st.data())
def test_shapes(model_type: str, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(SHAPES[model_type]))


@pytest.mark.parametrize(
    ("config", "other"),
    [
        (MLLAMA, {"cross_attention_layers": [1]}),
        ({"model_type": "moshi", **TINY, "ffn_dim": 20}, {"ffn_dim": 22}),
        ({"model_type": "emu3_text_model", **TINY, "architectures": ["Emu3ForCausalLM"]}, {"mlp_bias": True}),
    ],
)
def test_the_comparison_notices(config: dict[str, Any], other: dict[str, Any]) -> None:
    assert_params_differ_from_meta(config, {**config, **other})


@pytest.mark.parametrize("seen", [0, 9])
def test_llama_3_2_vision_looks_at_an_image_or_does_not(seen: int) -> None:
    """Without an image the layers that would look at it are not run; with one, its keys and values are made here."""
    model = flop_counter.model_of(MLLAMA)
    image = {"cross_attention_states": torch.zeros(3, seen, 32, device="meta")} if seen else {}
    with flop_counter.no_values_read(), FlopCounterMode(display=False) as counter:
        model(input_ids=flop_counter.tokens(3, 13), **image)
    ours = flops(read(MLLAMA), batch=3, seq=13, source_seq=seen or None).figures()
    assert ours["flops.matmul"] == counter.get_total_flops()


def test_what_llama_3_2_vision_keeps() -> None:
    """Two layers keep the text, 2 * 2 heads * 8 = 32 elements a token, two the image's 9 tokens; 10 tokens, 2 bytes."""
    text = kv_cache(read(MLLAMA), ctx=10, kv_dtype="bf16").figures()["kv_cache.total_bytes"]
    image = kv_cache(read(MLLAMA), ctx=10, source_ctx=9, kv_dtype="bf16").figures()["kv_cache.total_bytes"]
    assert (text, image) == (2 * 32 * 10 * 2, 2 * 32 * 10 * 2 + 2 * 32 * 9 * 2)


def test_a_source_is_for_models_that_look_at_one() -> None:
    with pytest.raises(RequestError, match="has no encoder beside its decoder"):
        kv_cache(read({"model_type": "llama", **TINY}), ctx=10, source_ctx=9)


def test_compass_layers_differ_in_window_and_rotation() -> None:
    kinds = ["sliding_attention", "full_attention"] * 2
    config = {"model_type": "cohere_compass_text", **TINY, "rope_parameters": ROPE, "layer_types": kinds}
    model = read({**config, "sliding_window": 5, "architectures": ["CohereCompassForCausalLM"]})
    assert [attention_of(model, i).window for i in range(4)] == [5, None, 5, None]
    assert [attention_of(model, i).position is None for i in range(4)] == [True, False, True, False]


def test_a_tie_that_is_not_made() -> None:
    model = read({**MLLAMA, "tie_word_embeddings": True})
    assert any("a head of its own all the same" in note for note in model.notes)
    assert_params_equal_meta({**MLLAMA, "tie_word_embeddings": True})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "moshi", **TINY, "ffn_dim": 21}, "ffn_dim is 21; its halves are gate and value"),
        ({"model_type": "cohere_compass_text", **TINY, "rope_parameters": {"full_attention": 3}}, "has 3 for full_att"),
        ({**MLLAMA, "cross_attention_layers": ["x"]}, "cross_attention_layers is \"x\"; expected a whole number"),
    ],
)  # fmt: skip
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "cohere_compass_text", **TINY, "architectures": ["CohereCompassForCausalLM"]},
        {**MLLAMA, "architectures": ["MllamaModel"]},
        {**MLLAMA, "head_dim": 5},
        {"model_type": "moshi", **TINY, "architectures": ["MoshiForConditionalGeneration"]},
    ],
)
def test_what_is_not_known_makes_an_estimate(config: dict[str, Any]) -> None:
    config = {key: value for key, value in config.items() if config["model_type"] != "moshi" or key[:5] != "inter"}
    assert len(architecture_of(config).reasons) == 1
