"""Types that are Llama but for a switch or two: counts equal transformers' on the meta device.

What is computed, and where norms, rotations and windows stand, is held by their logits (tests/reference).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.configs.width import ALL, BARE, CAUSAL, SEQUENCE, TOKEN, assert_default_and_minimal, drawn, four
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

BIAS = {"attention_bias": st.booleans()}
BOTH = {**BIAS, "mlp_bias": st.booleans()}
WIDE = {"head_dim": maybe(even_widths)}
KINDS = {
    "layer_types": maybe(four("full_attention", "sliding_attention")),
    "num_hidden_layers": 4,
    "sliding_window": st.integers(1, 9),
}

SHAPES = {
    "ministral": drawn("ministral", "Ministral", ALL, head_dim=even_widths, **KINDS),
    "ministral3": drawn("ministral3", "Ministral3", ALL, **WIDE, sliding_window=st.none() | st.integers(1, 9)),
    "internlm3": drawn("internlm3", "Llama", ALL, **WIDE, bias=True, qkv_bias=True),
    "iquestcoder": drawn("iquestcoder", "Llama", ALL, **WIDE, **BOTH),
    "seed_oss": drawn("seed_oss", "SeedOss", ALL, **WIDE, **BOTH, attention_out_bias=st.booleans()),
    "arcee": drawn("arcee", "Arcee", ALL, **WIDE, **BOTH),
    "apertus": drawn("apertus", "Apertus", (CAUSAL, BARE, TOKEN), **WIDE, **BIAS, hidden_act=maybe(st.just("relu2"))),
    "bitnet": drawn("bitnet", "BitNet", **BIAS),
    "hunyuan_v1_dense": drawn("hunyuan_v1_dense", "HunYuanDenseV1", (CAUSAL, BARE, SEQUENCE), **BIAS,
                              head_dim=even_widths),
    "helium": drawn("helium", "Helium", (CAUSAL, BARE, SEQUENCE, TOKEN), **BOTH, head_dim=4, width_step=4),
    "ernie4_5": drawn("ernie4_5", "Ernie4_5", **WIDE, use_bias=st.booleans()),
    "smollm3": drawn("smollm3", "SmolLM3", ALL, **BOTH, no_rope_layer_interval=st.integers(1, 3)),
    "cwm": drawn("cwm", "Cwm", **WIDE, mlp_bias=st.booleans(), **KINDS),
    "exaone4": drawn("exaone4", "Exaone4", ALL, **KINDS),
}  # fmt: skip
# What transformers cannot build the type without.
NEEDED: dict[str, dict[str, Any]] = {"ministral": {"head_dim": 128}, "hunyuan_v1_dense": {"head_dim": 128}}


@pytest.mark.parametrize("model_type", SHAPES)
def test_default_and_minimal_configs(model_type: str) -> None:
    assert_default_and_minimal(model_type, **NEEDED.get(model_type, {}))


@pytest.mark.parametrize("model_type", SHAPES)
@few
@given(data=st.data())
def test_shapes(model_type: str, data: st.DataObject) -> None:
    config = data.draw(SHAPES[model_type])
    if model_type == "helium":  # its output matrix is [hidden_size, hidden_size], whatever the heads
        config["hidden_size"] = 4 * config["num_attention_heads"]
    assert_params_equal_meta(config)


TINY = {"hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "num_hidden_layers": 4,
        "intermediate_size": 10, "vocab_size": 30, "pad_token_id": 0}  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "ours", "theirs"),
    [
        ("seed_oss", {"attention_out_bias": False}, {"attention_out_bias": True}),
        ("apertus", {"hidden_act": "relu2"}, {"hidden_act": "xielu"}),  # two scalars a layer
        ("ernie4_5", {"use_bias": False}, {"use_bias": True}),
    ],
)
def test_the_comparison_notices(model_type: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    tiny = {"model_type": model_type, **TINY, "head_dim": 4}
    assert_params_differ_from_meta({**tiny, **ours}, {**tiny, **theirs})


def layers(model_type: str, **keys: Any) -> list[tuple[int | None, bool]]:
    """(window, whether it turns) of every layer."""
    model = read({"model_type": model_type, **TINY, **keys})
    found = [attention_of(model, index) for index in range(model.main.num_hidden_layers)]
    return [(each.window, each.position is not None) for each in found]


def test_windows_and_rotation_by_layer() -> None:
    """From the types' config classes: which layers have a window, and which of them turn queries and keys."""
    assert layers("ministral", sliding_window=7) == [(7, True)] * 4
    assert layers("ministral", sliding_window=None) == [(None, True)] * 4
    assert layers("cwm", sliding_window=7) == [(None, True), (7, True), (7, True), (7, True)]
    assert layers("smollm3") == [(None, True), (None, True), (None, True), (None, False)]
    assert layers("smollm3", use_sliding_window=True, sliding_window=7)[2:] == [(None, True), (7, False)]
    assert layers("smollm3", no_rope_layers=[0, 1, 1, 0]) == [(None, turns) for turns in (False, True, True, False)]
    assert layers("exaone4", sliding_window=7) == [(7, True), (7, True), (7, True), (None, False)]
    assert layers("exaone4", sliding_window=7, sliding_window_pattern="LG") == [(7, True), (None, False)] * 2
    assert layers("exaone4", sliding_window=None) == [(None, True)] * 4


def test_ministral3_queries_grow_with_the_position() -> None:
    """Its default rotary settings: beta 0.1 over 16,384 trained positions."""
    temperature = attention_of(read({"model_type": "ministral3"})).temperature
    assert temperature is not None
    assert (temperature.factor, temperature.length, temperature.first) == (0.1, 16_384, 0)
    assert attention_of(read({"model_type": "ministral3", "rope_parameters": {"rope_theta": 1e4}})).temperature is None


@pytest.mark.parametrize(
    ("model_type", "keys", "words"),
    [
        ("smollm3", {"no_rope_layers": [1]}, "no_rope_layers has 1 entries for 4 layers"),
        ("smollm3", {"layer_types": 5}, "layer_types is 5; expected a list"),
        ("exaone4", {"layer_types": ["chunked_attention"] * 4}, "layer_types holds 'chunked_attention'"),
        ("arcee", {"hidden_act": "xielu"}, "hidden_act is 'xielu'"),
        ("internlm3", {"bias": "yes"}, 'bias is "yes"; expected true or false'),
    ],
)
def test_bad_values(model_type: str, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of({"model_type": model_type, **TINY, **keys})


@pytest.mark.parametrize(
    ("model_type", "keys"),
    [
        ("internlm3", {"bias": True}),
        ("iquestcoder", {"clip_qkv": 8.0}),
        ("helium", {"head_dim": 8}),
        ("hunyuan_v1_dense", {"use_cla": True}),
        ("smollm3", {"layer_types": ["sliding_attention"] * 4}),
        ("cwm", {"attention_bias": True}),
        ("seed_oss", {"architectures": ["SeedOssForRewardModel"]}),
        ("bitnet", {"architectures": ["BitNetForSequenceClassification"]}),
    ],
)
def test_what_is_not_known_makes_an_estimate(model_type: str, keys: dict[str, Any]) -> None:
    tiny = (
        {"model_type": model_type, **TINY, "head_dim": 4}
        if model_type != "smollm3"
        else {"model_type": "smollm3", **TINY}
    )
    assert len(architecture_of({**tiny, **keys}).reasons) == 1
