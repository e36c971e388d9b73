from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.transformers_meta import default_config
from tests.oracles.transformers_modules import inverse_frequencies, model_of, modules
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
from txcalc.architecture import FeedForward, LinearScaling, Rotary, SelfAttention, TokenEmbedding
from txcalc.configs import architecture_of
from txcalc.errors import ModelError

BASE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 50,
}
GEMMA = {"model_type": "gemma", **BASE}
GEMMA2 = {"model_type": "gemma2", **BASE, "sliding_window": 5, "query_pre_attn_scalar": 9}
GEMMA3 = {"model_type": "gemma3_text", **BASE, "sliding_window": 5, "query_pre_attn_scalar": 9}
TYPES = ["gemma", "gemma2", "gemma3_text"]
ALL = pytest.mark.parametrize("config", [GEMMA, GEMMA2, GEMMA3], ids=TYPES)


def attentions(config: dict[str, Any]) -> list[SelfAttention]:
    found = [layer.sublayers()[0] for layer in read(config).main.sequence()]
    return [each for each in found if isinstance(each, SelfAttention)]


# ---- counts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", TYPES)
def test_default_config_equals_transformers(model_type: str) -> None:
    assert_params_equal_meta(default_config(model_type))


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("extra", [{}, {"num_hidden_layers": 3}, {"head_dim": 64}, {"tie_word_embeddings": False}])
def test_a_minimal_config_takes_transformers_defaults(model_type: str, extra: dict[str, Any]) -> None:
    assert_params_equal_meta({"model_type": model_type, **extra})


COMMON: dict[str, Any] = {
    "intermediate_size": small,
    "num_hidden_layers": layer_counts,
    "vocab_size": small,
    "head_dim": st.sampled_from([2, 8, 10]),
    "attention_bias": maybe(st.booleans()),
    "tie_word_embeddings": maybe(st.booleans()),
}
WINDOWED: dict[str, Any] = {
    **COMMON,
    "sliding_window": maybe(st.just(16)),
    "final_logit_softcapping": maybe(st.sampled_from([None, 30.0])),
    "attn_logit_softcapping": maybe(st.sampled_from([None, 50.0])),
}


def classes(prefix: str, *tasks: str) -> st.SearchStrategy[Any]:
    return maybe(st.sampled_from([[f"{prefix}{task}"] for task in tasks]))


@few
@given(
    shapes(
        "gemma",
        **COMMON,
        hidden_act=maybe(st.sampled_from(["gelu", "silu"])),
        architectures=classes("Gemma", "ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification"),
    )
)
def test_varied_gemma_equal_transformers(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@few
@given(
    shapes(
        "gemma2",
        **WINDOWED,
        architectures=classes("Gemma2", "ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification"),
    )
)
def test_varied_gemma2_equal_transformers(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@few
@given(
    shapes(
        "gemma3_text",
        **WINDOWED,
        sliding_window_pattern=maybe(st.integers(1, 4)),
        use_bidirectional_attention=maybe(st.booleans()),
        architectures=classes("Gemma3", "ForCausalLM", "TextModel", "TextForSequenceClassification"),
    )
)
def test_varied_gemma3_equal_transformers(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@ALL
@pytest.mark.parametrize("change", [{"attention_bias": True}, {"tie_word_embeddings": False}])
def test_the_oracle_notices_a_difference(config: dict[str, Any], change: dict[str, Any]) -> None:
    assert_params_differ_from_meta({**config, **change}, config)


# ---- what the reference model runs ----------------------------------------------------------------------------------


@ALL
def test_norms_add_one_to_their_weight_and_embeddings_are_scaled(config: dict[str, Any]) -> None:
    stack = read(config).main
    branches = [branch for layer in stack.layers for step in layer.steps for branch in step.branches]
    norms = [norm for branch in branches for norm in (branch.norm_in, branch.norm_out) if norm is not None]
    assert all(norm.unit_offset for norm in norms)
    assert len(norms) == len(branches) * (1 if config is GEMMA else 2)
    assert stack.final_norm is not None
    assert stack.final_norm.unit_offset
    assert isinstance(stack.embedding, TokenEmbedding)
    assert stack.embedding.scale == modules(model_of(config), "ScaledWordEmbedding")[0].scalar_embed_scale


@pytest.mark.parametrize(
    "kinds", [None, ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]]
)
@pytest.mark.parametrize("config", [GEMMA2, GEMMA3, {**GEMMA3, "sliding_window_pattern": 2}])
def test_windows_and_scales_equal_those_of_transformers_modules(
    config: dict[str, Any], kinds: list[str] | None
) -> None:
    config = {**config, "layer_types": kinds}
    ours, theirs = attentions(config), modules(model_of(config), "Attention")
    assert [each.window for each in ours] == [module.sliding_window for module in theirs]
    assert [each.scale for each in ours] == [module.scaling for module in theirs]


def test_softcaps() -> None:
    """Gemma 2 caps scores and logits; Gemma 3 carries both settings and applies the logits' alone."""
    second, third = {"attn_logit_softcapping": 7.0, "final_logit_softcapping": 3.0}, {"final_logit_softcapping": 3.0}
    for config, said, score in ((GEMMA2, second, 7.0), (GEMMA3, {**third, "attn_logit_softcapping": 7.0}, None)):
        head = read({**config, **said}).head
        assert head is not None
        assert head.softcap == 3.0
        assert {each.softcap for each in attentions({**config, **said})} == {score}
    assert {each.softcap for each in attentions({**GEMMA2, "attn_logit_softcapping": None})} == {None}


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"rope_theta": 5e5, "rope_local_base_freq": 2e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 7e5}, "sliding_attention": None}},
        {"rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 3e4}}},
    ],
)
def test_local_and_global_rotary_equal_transformers_tables(said: dict[str, Any]) -> None:
    config = {**GEMMA3, "num_hidden_layers": 6, **said}
    table = model_of(config).model.rotary_emb
    for attention in attentions(config):
        position = attention.position
        assert isinstance(position, Rotary)
        factor = position.scaling.factor if isinstance(position.scaling, LinearScaling) else 1.0
        theirs = table.full_attention_inv_freq if attention.window is None else table.sliding_attention_inv_freq
        assert torch.allclose(theirs, inverse_frequencies(position.theta, position.rotary_dim, factor), rtol=1e-6)


def test_gelu_means_its_tanh_form_in_the_first_gemma_alone() -> None:
    for config, act in (
        ({**GEMMA, "hidden_act": "gelu"}, "gelu_tanh"),
        ({**GEMMA2, "hidden_activation": "gelu"}, "gelu"),
    ):
        feed_forward = read(config).main.layers[0].sublayers()[1]
        assert isinstance(feed_forward, FeedForward)
        assert feed_forward.activation == act


def test_bidirectional_gemma3_sees_half_its_window_to_each_side() -> None:
    """An embedding model's window of 512 is 256 tokens to each side: transformers keeps 257, exclusive."""
    config = {**GEMMA3, "sliding_window": 512, "use_bidirectional_attention": True}
    local = attentions(config)[0]
    assert (local.causal, local.window) == (False, 512)
    assert modules(model_of(config), "Attention")[0].sliding_window - 1 == 512 // 2


# ---- Gemma 3 with its tower -----------------------------------------------------------------------------------------

VISION: dict[str, Any] = {
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 32,
    "patch_size": 4,
}
WHOLE: dict[str, Any] = {
    "model_type": "gemma3",
    "text_config": BASE,
    "vision_config": VISION,
    "mm_tokens_per_image": 16,
}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"text_config": {"num_hidden_layers": 2}},
        {"vision_config": {"num_hidden_layers": 2, "vision_use_head": False}},
        {"text_config": None, "vision_config": None},
        {"tie_word_embeddings": False, "text_config": {"tie_word_embeddings": True}},
    ],
)
def test_a_minimal_gemma3_takes_transformers_defaults(config: dict[str, Any]) -> None:
    assert_params_equal_meta({"model_type": "gemma3", **config})


def test_default_gemma3_equals_transformers() -> None:
    assert_params_equal_meta(default_config("gemma3"))


@few
@given(
    shapes("gemma3_text", **WINDOWED),
    st.booleans(),
    st.integers(1, 3),
    classes("Gemma3", "ForConditionalGeneration", "Model", "ForSequenceClassification"),
    st.booleans(),
)
def test_varied_gemma3_with_towers_equal_transformers(
    text: dict[str, Any], pooled: bool, depth: int, names: Any, tied: bool
) -> None:
    vision = {**VISION, "num_hidden_layers": depth, "vision_use_head": pooled, "num_channels": depth}
    config = {**WHOLE, "text_config": text, "vision_config": vision, "tie_word_embeddings": tied}
    assert_params_equal_meta({**config, "architectures": names} if isinstance(names, list) else config)


def test_the_oracle_notices_a_missing_pooling_head() -> None:
    changed = {**WHOLE, "vision_config": {**VISION, "vision_use_head": False}}
    assert_params_differ_from_meta(changed, WHOLE)


def test_connector_of_the_tower() -> None:
    """8 x 8 patches averaged over squares of 2 x 2 make 16 tokens; their norm is a Gemma norm of the tower's width."""
    model = read(WHOLE)
    (connector,) = model.connectors
    assert (connector.tower, connector.tokens, connector.pool) == ("vision", 16, 2)
    assert connector.norm is not None
    assert (connector.norm.kind, connector.norm.width, connector.norm.unit_offset) == ("rmsnorm", 12, True)
    assert [(each.in_size, each.out_size, each.bias) for each in connector.projections] == [(12, 32, False)]
    tower = model.stack("vision")
    assert tower is not None
    assert tower.fixed_length == 64
    assert modules(model_of({**WHOLE}), "MultiModalProjector")[0].kernel_size == connector.pool


def test_the_conditional_class_caps_no_logits() -> None:
    model = read({**WHOLE, "text_config": {**BASE, "final_logit_softcapping": 3.0}})
    assert model.head is not None
    assert model.head.softcap is None


@pytest.mark.parametrize(
    ("config", "change", "named"),
    [
        (GEMMA2, {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0"),
        (GEMMA2, {"layer_types": ["full_attention"]}, "layer_types has 1 entries for 4 layers"),
        (GEMMA3, {"sliding_window_pattern": 0}, "sliding_window_pattern is 0"),
        (GEMMA3, {"layer_types": ["chunked_attention"] * 4}, "layer_types holds 'chunked_attention'"),
        (WHOLE, {"text_config": [1]}, "text_config is [1]"),
        (WHOLE, {"text_config": {**BASE, "hidden_size": "32"}}, 'text_config.hidden_size is "32"'),
        (WHOLE, {"vision_config": {**VISION, "num_attention_heads": 5}}, "vision_config.hidden_size is 12"),
        (WHOLE, {"vision_config": {**VISION, "image_size": 3}}, "vision_config.image_size is 3"),
        (WHOLE, {"vision_config": {"model_type": "clip_vision_model"}}, "vision_config.model_type is"),
        (WHOLE, {"mm_tokens_per_image": 0}, "mm_tokens_per_image is 0"),
    ],
)
def test_bad_values_are_named(config: dict[str, Any], change: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({**config, **change})
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("config", "change"),
    [
        (GEMMA, {"sliding_window": 4}),
        (GEMMA, {"architectures": ["GemmaForQuestionAnswering"]}),
        (GEMMA3, {"_sliding_window_pattern": 3}),
        (GEMMA3, {"architectures": ["Gemma3ForTokenClassification"]}),
        (GEMMA3, {"architectures": ["Gemma3ForConditionalGeneration"]}),
        (WHOLE, {"architectures": ["Gemma3ForCausalLM"]}),
        (WHOLE, {"text_config": {**BASE, "model_type": "llama"}}),
        (WHOLE, {"vision_config": {**VISION, "num_registers": 4}}),
        (WHOLE, {"audio_config": {}}),
    ],
)
def test_what_is_not_understood_is_a_reason(config: dict[str, Any], change: dict[str, Any]) -> None:
    assert architecture_of(config).reasons == ()
    assert architecture_of({**config, **change}).reasons
