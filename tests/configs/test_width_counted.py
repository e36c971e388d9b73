"""Text models with towers that are counted by their tensors: counts equal transformers' on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, configs, few, maybe, read, small
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params

ROPE = {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}
TEXT = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
        "intermediate_size": 20, "vocab_size": 67, "pad_token_id": 0}  # fmt: skip
heads = st.integers(1, 3)


def vision(heads_key: str = "num_attention_heads", layers_key: str = "num_hidden_layers", **keys: Any) -> Any:
    """Small towers: a width of 24 for up to 3 heads."""
    drawn = {
        "hidden_size": 24, heads_key: heads, layers_key: st.integers(1, 3), "intermediate_size": small,
        "patch_size": st.integers(1, 4), "spatial_merge_size": st.integers(1, 3), **keys,
    }  # fmt: skip
    return st.fixed_dictionaries({k: v if isinstance(v, st.SearchStrategy) else st.just(v) for k, v in drawn.items()})


def of(*names: str) -> st.SearchStrategy[list[str]]:
    return st.sampled_from([[name] for name in names])


MLLAMA_VISION = {
    "num_global_layers": st.integers(0, 2), "vision_output_dim": small, "max_num_tiles": st.integers(1, 3),
    "image_size": st.integers(4, 9), "supported_aspect_ratios": st.sampled_from([[[1, 1]], [[1, 1], [1, 2]]]),
}  # fmt: skip
SHAPES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "cohere_compass": configs(
        "cohere_compass", architectures=of("CohereCompassForConditionalGeneration", "CohereCompassModel"),
        text_config={**TEXT, "rope_parameters": ROPE, "logit_scale": 0.5}, tie_word_embeddings=maybe(st.booleans()),
        vision_config=vision("num_heads", "depth", out_hidden_size=small, num_position_embeddings=small,
                             temporal_patch_size=st.integers(1, 2), in_channels=st.integers(1, 3),
                             deepstack_visual_indexes=st.lists(st.integers(0, 2), max_size=2))),
    "minimax_m3_vl": configs(
        "minimax_m3_vl", architectures=of("MiniMaxM3SparseForConditionalGeneration", "MiniMaxM3VLModel"),
        text_config=st.booleans().map(lambda tied: {
            **TEXT, "tie_word_embeddings": tied, "num_local_experts": 3, "num_experts_per_tok": 1, "head_dim": 8,
            "dense_intermediate_size": 10, "shared_intermediate_size": 10}),
        projector_hidden_size=small, vision_config=vision(temporal_patch_size=st.integers(1, 2))),
    "mllama": configs(
        "mllama", architectures=of("MllamaForConditionalGeneration", "MllamaModel", "MllamaForCausalLM"),
        text_config={**TEXT, "cross_attention_layers": [1]},
        vision_config=vision("attention_heads", **MLLAMA_VISION).map(
            lambda keys: {key: value for key, value in keys.items() if key != "spatial_merge_size"})),
    "inkling2": configs(
        "inkling2", architectures=of("Inkling2ForConditionalGeneration", "Inkling2Model"),
        text_config={key: value for key, value in TEXT.items() if key != "intermediate_size"}
        | {"moe_intermediate_size": 10, "n_routed_experts": 3, "num_experts_per_tok": 1, "swa_head_dim": 8},
        vision_config=vision(posemb_grid_size=st.integers(1, 5), projection_hidden_dim=small, text_hidden_size=32,
                             projector_bias=st.booleans())),
}  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "cohere_compass": {"text_config": {"rope_parameters": ROPE}},
    "minimax_m3_vl": {},
    "mllama": {},
    "inkling2": {},
}


@pytest.mark.parametrize("model_type", DEFAULTS)
def test_minimal_configs(model_type: str) -> None:
    """Without ``architectures`` the class is that of transformers' auto classes."""
    assert_params_equal_meta({"model_type": model_type, **DEFAULTS[model_type]})


@pytest.mark.parametrize("model_type", SHAPES)
@few
@given(data=st.data())
def test_shapes(model_type: str, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(SHAPES[model_type]))


MLLAMA = {"model_type": "mllama", "architectures": ["MllamaForConditionalGeneration"],
          "text_config": {**TEXT, "cross_attention_layers": [1]},
          "vision_config": {"hidden_size": 24, "attention_heads": 2, "num_hidden_layers": 1, "num_global_layers": 1,
                            "intermediate_size": 10, "vision_output_dim": 9, "image_size": 28}}  # fmt: skip


def test_the_comparison_notices() -> None:
    more = {**MLLAMA, "vision_config": {**MLLAMA["vision_config"], "num_global_layers": 2}}  # type: ignore[dict-item]
    assert_params_differ_from_meta(MLLAMA, more)


def test_a_tower_that_is_only_counted_does_not_run() -> None:
    model = read(MLLAMA)
    with pytest.raises(RequestError, match="has no vision tower beside its text model"):
        flops(model, seq=9, images=1)
    assert kv_cache(model, ctx=10, source_ctx=9, kv_dtype="bf16").figures()["kv_cache.total_bytes"] == (320 + 288) * 2


def test_emu3_is_exact_without_its_codec() -> None:
    text = {"model_type": "emu3", "text_config": TEXT}
    assert params(read(text)).basis == "exact"
    whole = architecture_of({**text, "architectures": ["Emu3ForConditionalGeneration"]})
    assert whole.reasons == ("the codec that turns images into words is not counted",)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "blt"}, "model_type 'blt' is refused: its layers run on patches of bytes"),
        ({"model_type": "inkling_mm_model"}, "is refused: the widths of its image tower are fitted"),
        (
            {**MLLAMA, "vision_config": {"hidden_size": 25, "attention_heads": 2}},
            "hidden_size is 25; it is not a",
        ),
        (
            {"model_type": "inkling2", "vision_config": {"text_hidden_size": 5}},
            "text_hidden_size is 5; the text",
        ),
    ],
)
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)


@pytest.mark.parametrize(
    "config",
    [
        {**MLLAMA, "vision_config": {**MLLAMA["vision_config"], "surprise": 3}},  # type: ignore[dict-item]
        {"model_type": "minimax_m3_vl", "architectures": ["MiniMaxM3VLForCausalLM"]},
    ],
)
def test_what_is_not_known_makes_an_estimate(config: dict[str, Any]) -> None:
    assert len(architecture_of(config).reasons) == 1
