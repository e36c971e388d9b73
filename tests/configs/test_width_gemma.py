"""Gemma 3n and 4: counts equal transformers' on the meta device; what their layers share and keep; FLOPs.

What is computed is held by their logits (tests/reference).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.configs.width import CAUSAL, drawn, four
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
from txcalc.architecture import Model, SelfAttention
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache

LOCAL, GLOBAL = "sliding_attention", "full_attention"
width = st.integers(1, 12)
# Of four layers the second is local and the third and last are global, so that two may share.
KINDS = four(LOCAL, GLOBAL).map(lambda kinds: [kinds[0], LOCAL, GLOBAL, GLOBAL])
SHARED = {"num_hidden_layers": 4, "layer_types": KINDS, "head_dim": even_widths, "attention_bias": st.booleans()}
GEMMA4 = {**SHARED, "global_head_dim": maybe(even_widths), "attention_k_eq_v": st.booleans(),
          "num_global_key_value_heads": maybe(st.none() | st.just(1)), "use_double_wide_mlp": st.booleans(),
          "num_kv_shared_layers": st.integers(0, 1),
          "use_bidirectional_attention": st.sampled_from([None, "vision", "all"])}  # fmt: skip
INPUTS = {"vocab_size_per_layer_input": width, "hidden_size_per_layer_input": width}
SHAPES = {
    "gemma4_text": drawn(
        "gemma4_text", "Gemma4", (CAUSAL, "TextModel"), **GEMMA4, **{**INPUTS, "hidden_size_per_layer_input":
        st.integers(0, 5)}, enable_moe_block=st.booleans(), num_experts=st.integers(2, 4), top_k_experts=2,
        moe_intermediate_size=width),
    "gemma4_unified_text": drawn("gemma4_unified_text", "Gemma4Unified", (CAUSAL, "TextModel"), **GEMMA4),
    "gemma3n_text": drawn(
        "gemma3n_text", "Gemma3n", (CAUSAL, "TextModel"), **SHARED, **INPUTS, laurel_rank=width,
        num_kv_shared_layers=st.integers(0, 1), altup_num_inputs=st.integers(2, 4),
        altup_correct_scale=st.booleans(), intermediate_size=width | four(3, 5, 7),
        activation_sparsity_pattern=maybe(four(0.0, 0.5))),
}  # fmt: skip
VISION = st.fixed_dictionaries(
    {
        "hidden_size": width,
        "num_attention_heads": st.sampled_from([2, 4]),
        "num_key_value_heads": st.integers(1, 2),
        "head_dim": st.just(4),
        "intermediate_size": width,
        "num_hidden_layers": st.integers(1, 3),
        "patch_size": st.integers(1, 4),
        "position_embedding_size": width,
        "standardize": st.booleans(),
        "use_clipped_linears": st.booleans(),
    }
)
AUDIO = st.fixed_dictionaries(
    {
        "hidden_size": width.map(lambda n: n + 3),
        "num_attention_heads": st.integers(1, 3),
        "num_hidden_layers": st.integers(1, 3),
        "subsampling_conv_channels": st.tuples(st.integers(4, 12), width).map(list),
        "conv_kernel_size": st.integers(1, 5),
        "output_proj_dims": width,
    }
)
PIXELS = st.fixed_dictionaries(
    {
        "patch_size": st.integers(1, 3),
        "pooling_kernel_size": st.integers(1, 3),
        "mm_embed_dim": width,
        "mm_posemb_size": width,
        "output_proj_dims": width,
    }
)
FRAMES = st.sampled_from(["audio_embed_dim", "hidden_size", "output_proj_dims"]).map(lambda name: {name: 24})
TINY: dict[str, Any] = {
    "hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "vocab_size": 50,
    "num_hidden_layers": 6, "intermediate_size": 10, "layer_types": [LOCAL, GLOBAL] * 3, "pad_token_id": 0,
    "sliding_window": 8, "num_kv_shared_layers": 2, "vocab_size_per_layer_input": 40, "hidden_size_per_layer_input": 6,
}  # fmt: skip
TINY4 = {**TINY, "model_type": "gemma4_text", "architectures": ["Gemma4ForCausalLM"], "global_head_dim": 8}
TINY3N = {**TINY, "model_type": "gemma3n_text", "architectures": ["Gemma3nForCausalLM"], "laurel_rank": 5,
          "altup_num_inputs": 3}  # fmt: skip
EXPERTS = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 6}
UNIFIED = {key: value for key, value in TINY4.items() if "per_layer" not in key} | {
    "model_type": "gemma4_unified_text", "architectures": ["Gemma4UnifiedForCausalLM"]
}  # fmt: skip


@pytest.mark.parametrize("model_type", SHAPES)
def test_default_and_minimal_configs(model_type: str) -> None:
    assert_params_equal_meta({"model_type": model_type})
    written = {**default_config(model_type), "architectures": None}
    if model_type != "gemma3n_text":
        del written["per_layer_config"]
    cut = {"num_hidden_layers": 6, "num_kv_shared_layers": 0, "layer_types": None, "intermediate_size": 64,
           "activation_sparsity_pattern": None}  # fmt: skip
    assert_params_equal_meta({key: value for key, value in {**written, **cut}.items() if key in written})


def test_a_config_as_transformers_writes_it_lists_unlike_heads() -> None:
    assert_params_equal_meta({**default_config("gemma4_text"), "architectures": None})
    written = {key: value for key, value in TINY4.items() if key != "global_head_dim"}
    assert_params_equal_meta({**written, "per_layer_config": {"01": {"head_dim": 6}, "3": {"head_dim": 6}, "5": {
        "head_dim": 6}}})  # fmt: skip
    assert_params_equal_meta({**written, "per_layer_config": {}})


@pytest.mark.parametrize("model_type", SHAPES)
@few
@given(data=st.data())
def test_shapes(model_type: str, data: st.DataObject) -> None:
    config = data.draw(SHAPES[model_type])
    assert_params_equal_meta(config)


@few
@given(
    vision=maybe(st.none() | VISION), audio=maybe(st.none() | AUDIO), tied=maybe(st.booleans()),
    name=st.sampled_from(["ForConditionalGeneration", "Model"]),
)  # fmt: skip
def test_gemma4_with_its_towers(vision: Any, audio: Any, tied: Any, name: str) -> None:
    """The outer config ties; a tower is there where the config describes one."""
    whole = {"vision_config": vision, "audio_config": audio, "tie_word_embeddings": tied}
    kept = {key: value for key, value in whole.items() if repr(value) != "ABSENT"}
    text = {key: value for key, value in TINY4.items() if key != "architectures"}
    assert_params_equal_meta({"model_type": "gemma4", "architectures": [f"Gemma4{name}"], "text_config": text, **kept})


@few
@given(
    vision=maybe(st.none() | PIXELS), audio=maybe(st.none() | FRAMES),
    name=st.sampled_from(["ForConditionalGeneration", "Model"]),
)  # fmt: skip
def test_gemma4_unified_with_its_maps(vision: Any, audio: Any, name: str) -> None:
    whole = {"vision_config": vision, "audio_config": audio}
    kept = {key: value for key, value in whole.items() if repr(value) != "ABSENT"}
    text = {key: value for key, value in UNIFIED.items() if key != "architectures"}
    assert_params_equal_meta(
        {"model_type": "gemma4_unified", "architectures": [f"Gemma4Unified{name}"], "text_config": text, **kept}
    )


def test_default_towers() -> None:
    text = {"num_hidden_layers": 1, "hidden_size_per_layer_input": 0}
    whole = {"vision_config": {}, "audio_config": {}, "architectures": ["Gemma4ForConditionalGeneration"]}
    assert_params_equal_meta({"model_type": "gemma4", "text_config": text, **whole})


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (TINY4, {"attention_k_eq_v": True}),
        (TINY4, {"num_kv_shared_layers": 0}),
        (TINY4, {"use_double_wide_mlp": True}),
        (TINY4, EXPERTS),
        (TINY3N, {"altup_num_inputs": 4}),
        (TINY3N, {"num_kv_shared_layers": 0}),
    ],
)
def test_the_comparison_notices(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert_params_differ_from_meta(ours, {**ours, **theirs})


# ---- cache ----------------------------------------------------------------------------------------------------------


def sources(model: Model) -> list[int | None]:
    found = [attention_of(model, i) for i in range(model.main.num_hidden_layers)]
    return [each.kv_source for each in found]


def test_the_last_layers_read_the_last_of_their_kind() -> None:
    assert sources(read(TINY4)) == [None] * 4 + [2, 3]
    assert sources(read(TINY3N)) == [None] * 4 + [2, 3]


def test_a_layer_that_reads_anothers_keys_keeps_nothing() -> None:
    """Two local layers of 2 * 2 * 4 elements, 8 of 10 tokens; two global ones of 2 * 2 * 8. The others read theirs."""
    figures = kv_cache(read(TINY4), ctx=10, kv_dtype="bf16").figures()
    assert figures["kv_cache.total_bytes"] == 2 * (2 * 16 * 8 + 2 * 32 * 10)
    assert figures["kv_cache.reserved_bytes"] == 2 * (2 * 16 * 10 + 2 * 32 * 10)
    figures = kv_cache(read(TINY3N), ctx=10, kv_dtype="bf16").figures()
    assert figures["kv_cache.total_bytes"] == 2 * (2 * 16 * 8 + 2 * 16 * 10)


def test_keys_that_serve_as_values_are_kept_twice() -> None:
    """Keys are normed with a weight and turned, values are not: both are needed. One global head of 8 channels."""
    model = read({**TINY4, "attention_k_eq_v": True, "num_global_key_value_heads": 1, "num_kv_shared_layers": 0})
    figures = kv_cache(model, ctx=10, kv_dtype="bf16").figures()
    assert figures["kv_cache.total_bytes"] == 2 * (3 * 16 * 8 + 3 * 16 * 10)


def test_a_bidirectional_model_keeps_nothing() -> None:
    assert kv_cache(read({**TINY4, "use_bidirectional_attention": "all"}), ctx=10).figures()[
        "kv_cache.total_bytes"] == 0  # fmt: skip


# ---- FLOPs ----------------------------------------------------------------------------------------------------------

_THREE = {"num_hidden_layers": 3, "layer_types": [LOCAL, GLOBAL, GLOBAL], "num_kv_shared_layers": 1}
COUNTED = {
    "gemma4": {**TINY4, **_THREE, **EXPERTS, "use_double_wide_mlp": True},
    "gemma4 keys as values": {
        **TINY4, **_THREE, "attention_k_eq_v": True, "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0,
    },
    "gemma3n": {**TINY3N, **_THREE},
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTED)
def test_flops_of_forward_backward_and_decode(name: str) -> None:
    config = COUNTED[name]
    model, ours = flop_counter.model_of(config), read(config)
    inputs = flop_counter.inputs_of(model, batch=2, seq=9)
    found = flops(ours, batch=2, seq=9, phase="train").figures()
    assert found["flops.forward"] == flop_counter.forward(model, **inputs)
    assert found["flops.backward"] == flop_counter.backward(model, **inputs)[0]
    decoded = flops(ours, batch=2, ctx=12, phase="decode").figures()["flops.matmul"]
    assert decoded == flop_counter.decode(model, batch=2, ctx=12)


def test_the_counter_notices_a_stream_less() -> None:
    model = flop_counter.model_of(COUNTED["gemma3n"])
    counted = flop_counter.forward(model, **flop_counter.inputs_of(model, batch=1, seq=9))
    assert flops(read({**COUNTED["gemma3n"], "altup_num_inputs": 2}), seq=9).figures()["flops.matmul"] != counted


# ---- what is not built ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "keys", "words"),
    [
        (TINY4, {"num_kv_shared_layers": 6}, "num_kv_shared_layers is 6 of 6 layers"),
        (TINY4, {"num_kv_shared_layers": 5}, "no full_attention layer is left that holds keys and values"),
        (TINY4, {"per_layer_config": {"7": {"head_dim": 8}}}, "there are 6 layers"),
        (TINY4, {"per_layer_config": {"1": {"head_dim": 8}}}, "gives full_attention layers unlike heads"),
        (TINY4, {"per_layer_config": {"1": {"head_dim": "8"}}}, "for layer 1; expected whole numbers"),
        (TINY4, {"use_bidirectional_attention": True}, "use_bidirectional_attention is true"),
        (TINY4, {"enable_moe_block": True}, "num_experts is missing"),
        (TINY4, {"global_head_dim": 8, "num_key_value_heads": 3}, "num_key_value_heads is 3"),
        (TINY3N, {"altup_active_idx": 3}, "altup_active_idx is 3; there are 3 streams"),
        (TINY3N, {"intermediate_size": [3, 4]}, "intermediate_size has 2 entries for 6 layers"),
        (TINY3N, {"activation_sparsity_pattern": [0.5]}, "activation_sparsity_pattern has 1 entries"),
    ],
)
def test_bad_values(config: dict[str, Any], keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of({**config, **keys})


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gemma3n", "architectures": ["Gemma3nForConditionalGeneration"], "text_config": TINY3N},
        {**TINY4, "architectures": ["Gemma4ForSequenceClassification"]},
        {**TINY4, "per_layer_config": {"1": {"head_dim": 4, "rope": 1}}},
    ],
)
def test_what_is_not_known_makes_an_estimate(config: dict[str, Any]) -> None:
    assert len(architecture_of(config).reasons) == 1


def test_the_text_part_of_gemma3n_alone_is_exact() -> None:
    alone = architecture_of({"model_type": "gemma3n", "architectures": ["Gemma3nForCausalLM"], "text_config": TINY3N})
    assert alone.reasons == ()


def test_the_last_layer_is_global_whatever_the_list_says() -> None:
    model = read({**TINY4, "layer_types": [GLOBAL, LOCAL] * 3, "num_kv_shared_layers": 0})
    last = [each for each in list(model.main.sequence())[-1].sublayers() if isinstance(each, SelfAttention)]
    assert last[0].window is None
    assert "the last layer is built with full attention, whatever layer_types says" in model.notes
