"""Delta networks, lightning attention and LongCat's double layers against transformers on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import transformers_meta
from tests.strategies import (
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    heads,
    layer_counts,
    maybe,
    read,
    small,
)
from tests.width import Width, assert_default, assert_heads, flags, varied, width
from txcalc.architecture import FeedForward, GatedDeltaNet, LatentAttention, LinearAttention, SelfAttention
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params

USUAL = "ForCausalLM Model"
few = settings(max_examples=10, deadline=None)


@st.composite
def grouped(draw: st.DrawFn, *names: str, least: int = 1) -> dict[str, Any]:
    """Attention heads and their widths; ``layer_types`` out of ``names``, where there are any, each at least once."""
    query_heads, kv_heads = draw(heads(most=3))
    layers = draw(st.integers(least, 4))
    kinds = draw(st.permutations([*names, *draw(st.lists(st.sampled_from(names), min_size=4, max_size=4))][:layers]))
    config = {"num_attention_heads": query_heads, "num_key_value_heads": kv_heads, "num_hidden_layers": layers,
              "hidden_size": query_heads * 2 * draw(st.integers(1, 4)), "layer_types": kinds}  # fmt: skip
    return config if draw(st.booleans()) else {k: v for k, v in config.items() if k != "layer_types"}


@st.composite
def value_heads(draw: st.DrawFn) -> dict[str, int]:
    """Value heads of a delta network: a multiple of the key heads."""
    keys = draw(st.integers(1, 3))
    return {"linear_num_key_heads": keys, "linear_num_value_heads": keys * draw(st.integers(1, 3))}


def both(*strategies: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*strategies).map(lambda parts: {key: value for part in parts for key, value in part.items()})


def _wide_enough(config: dict[str, Any]) -> bool:
    """Where no width is given a key has three quarters of hidden_size / heads channels, at least one."""
    return int(0.75 * config["hidden_size"]) >= int(config["linear_num_key_heads"])


MIXED = ("linear_attention", "full_attention")
PLAIN: dict[str, Any] = {"vocab_size": small, "pad_token_id": 0, "tie_word_embeddings": flags}
LATENT: dict[str, Any] = {
    "kv_lora_rank": small, "qk_nope_head_dim": small, "qk_rope_head_dim": st.sampled_from([2, 4]), "v_head_dim": small,
    "attention_bias": flags,
}  # fmt: skip
WIDTHS = [
    width(
        "olmo_hybrid", "OlmoHybrid", USUAL, kin=both(grouped(*MIXED, least=2), value_heads()).filter(_wide_enough),
        **PLAIN, intermediate_size=small, attention_bias=flags, linear_key_head_dim=maybe(small),
        linear_value_head_dim=maybe(small), linear_conv_kernel_dim=st.integers(1, 5),
    ),
    width(
        "kimi_linear", "KimiLinear", USUAL, kin=grouped(*MIXED),
        **PLAIN, **LATENT, intermediate_size=small, q_lora_rank=maybe(st.none() | small), linear_head_dim=small,
        linear_num_heads=small, linear_conv_kernel_dim=st.integers(1, 5), num_experts=st.integers(2, 5),
        num_experts_per_token=st.integers(1, 2), moe_intermediate_size=small, num_shared_experts=st.integers(1, 2),
        first_k_dense_replace=maybe(st.integers(0, 4)),
    ),
    width(
        "minimax", "MiniMax", f"{USUAL} ForSequenceClassification ForTokenClassification ForQuestionAnswering",
        kin=grouped(*MIXED),
        **PLAIN, intermediate_size=small, head_dim=maybe(st.sampled_from([4, 6])), num_local_experts=st.integers(2, 5),
        sliding_window=maybe(st.integers(1, 9)),
    ),
]  # fmt: skip
LONGCAT = width(
    "longcat_flash", "LongcatFlash", USUAL, kin=st.just({}),
    **PLAIN, **LATENT, hidden_size=small, num_layers=layer_counts, num_attention_heads=st.integers(1, 4),
    ffn_hidden_size=small, q_lora_rank=small, moe_topk=st.integers(1, 2), n_routed_experts=st.integers(2, 5),
    zero_expert_num=0, expert_ffn_hidden_size=small, router_bias=flags,
)  # fmt: skip
by_type = pytest.mark.parametrize("row", WIDTHS, ids=lambda row: str(row.model_type))


@by_type
def test_default_and_minimal(row: Width) -> None:
    assert_default(row)


@by_type
def test_every_class(row: Width) -> None:
    assert_heads(row)


@pytest.mark.parametrize("row", [*WIDTHS, LONGCAT], ids=lambda row: str(row.model_type))
@few
@given(data=st.data())
def test_varied(row: Width, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(varied(row)))


# ---- what tells one from another ------------------------------------------------------------------------------------

OLMO: dict[str, Any] = {
    "model_type": "olmo_hybrid", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "vocab_size": 50, "pad_token_id": 0,
}  # fmt: skip
KIMI: dict[str, Any] = {
    "model_type": "kimi_linear", "vocab_size": 50, "pad_token_id": 0, "hidden_size": 32, "num_hidden_layers": 4,
    "num_attention_heads": 4, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
    "num_experts": 4, "num_experts_per_token": 2, "moe_intermediate_size": 16,
}  # fmt: skip
PUBLISHED_KIMI = {
    "linear_attn_config": {
        "full_attn_layers": [4], "kda_layers": [1, 2, 3], "head_dim": 16, "num_heads": 2, "short_conv_kernel_size": 3,
    },
    "first_k_dense_replace": 1, "moe_layer_freq": 1, "mla_use_nope": True, "moe_router_activation_func": "sigmoid",
}  # fmt: skip
CAT: dict[str, Any] = {
    "model_type": "longcat_flash", "vocab_size": 50, "hidden_size": 32, "num_layers": 2, "num_attention_heads": 4,
    "ffn_hidden_size": 24, "q_lora_rank": 12, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
    "v_head_dim": 8, "moe_topk": 2, "n_routed_experts": 3, "expert_ffn_hidden_size": 10, "zero_expert_num": 0,
    "pad_token_id": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "config"),
    [
        ({"linear_key_head_dim": 8}, OLMO),
        ({"num_key_value_heads": 2}, OLMO),
        ({"linear_num_heads": 3}, KIMI),
        ({"q_lora_rank": 9}, {**KIMI, "num_hidden_layers": 5}),
        ({"layer_types": ["linear_attention"] * 4}, {**OLMO, "model_type": "minimax", "num_key_value_heads": 4}),
        ({"num_layers": 3}, CAT),
        ({"router_bias": True}, CAT),
    ],
)
def test_the_comparison_notices(change: dict[str, Any], config: dict[str, Any]) -> None:
    """Negative control: another width of keys, fewer heads, a bottleneck, another kind of layer."""
    assert_params_differ_from_meta({**config, **change}, config)


def test_kimi_files_as_published() -> None:
    """Layers counted from one, widths in an object of their own."""
    config = {**KIMI, **PUBLISHED_KIMI}
    assert_params_equal_meta(config)
    kinds = [type(layer.sublayers()[0]) for layer in read(config).main.sequence()]
    assert kinds == [GatedDeltaNet] * 3 + [LatentAttention]


def test_layers_of_longcat() -> None:
    """Two attentions and two feed-forwards; what the experts give out joins two steps later than they read."""
    (layer,) = read(CAT).main.layers
    kinds = [[type(branch.sublayer).__name__ for branch in step.branches] for step in layer.steps]
    latent, dense = "LatentAttention", "FeedForward"
    assert kinds == [[latent], [dense, "MixtureOfExperts"], [latent], [dense]]
    assert [branch.defer for step in layer.steps for branch in step.branches] == [0, 0, 2, 0, 0]


def test_longcat_caches_two_latents_a_layer() -> None:
    """28 layers of two attentions, each keeping 512 + 64 elements of 2 bytes a token."""
    figures = kv_cache(architecture_of({"model_type": "longcat_flash"}), ctx=1000, kv_dtype="bf16").figures()
    assert figures["kv_cache.bytes_per_token"] == 28 * 2 * 576 * 2


def test_zero_experts_are_an_estimate() -> None:
    """The rows that transformers sets aside: zero experts * gate and up * width * hidden size, a layer."""
    model = architecture_of({**CAT, "zero_expert_num": 3})
    aside = 2 * 3 * 2 * 10 * 32
    theirs = transformers_meta.num_params({**CAT, "zero_expert_num": 3})
    assert theirs - params(model).figures()["params.total"] == aside
    assert f"{aside:,}" in model.reasons[0]
    default = architecture_of({"model_type": "longcat_flash"})
    assert params(default).figures()["params.total"] == 560_664_958_976
    assert "180,388,626,432" in default.reasons[0]


def test_states() -> None:
    """OLMo Hybrid: 30 heads of [96, 192] in 24 layers; lightning: 64 heads of [128, 128]; fp32.

    Windows: 30 * (96 + 96 + 192) channels * 3 in 2 bytes; lightning has none.
    """

    def state(config: dict[str, Any]) -> int | float:
        return kv_cache(architecture_of({**config, "dtype": "bfloat16"}), ctx=8).figures()["kv_cache.state_bytes"]

    assert state({"model_type": "olmo_hybrid"}) == 24 * (30 * 96 * 192 * 4 + 30 * 384 * 3 * 2)
    lightning = {"model_type": "minimax", "num_hidden_layers": 8, "num_attention_heads": 64, "head_dim": 128}
    assert state({**lightning, "layer_types": ["linear_attention"] * 7 + ["full_attention"]}) == 7 * 64 * 128 * 128 * 4


def test_lightning_forgets_less_with_every_layer() -> None:
    config = {"model_type": "minimax", "num_hidden_layers": 3, "layer_types": ["linear_attention"] * 3}
    mixers = [layer.sublayers()[0] for layer in read(config).main.sequence()]
    assert [each.decay_scale for each in mixers if isinstance(each, LinearAttention)] == pytest.approx(
        [1.0, 0.5, 0.0], abs=2e-5
    )


def test_where_olmo_norms() -> None:
    """Delta networks behind a norm, attention before one; without rope_theta there is no rotation."""
    linear, full = (read(OLMO).main.layers[i] for i in (0, 1))
    assert isinstance(full.sublayers()[0], SelfAttention)
    assert isinstance(full.sublayers()[1], FeedForward)
    for layer, before in ((linear, True), (full, False)):
        for step in layer.steps:
            assert (step.branches[0].norm_in is not None) == before
            assert (step.branches[0].norm_out is not None) != before
    still = read({**OLMO, "rope_parameters": {"rope_theta": None, "rope_type": "default"}}).main.layers[1]
    assert vars(still.sublayers()[0])["position"] is None


@pytest.mark.parametrize(
    "config",
    [
        {**KIMI, "moe_layer_freq": 2},
        {**KIMI, "mla_use_nope": False},
        {**CAT, "num_hidden_layers": 2},
        {**CAT, "qk_head_dim": 9},
        {**CAT, "zero_expert_type": "copy"},
        {"model_type": "minimax", "attention_bias": True},
    ],
)
def test_what_is_not_described_is_an_estimate(config: dict[str, Any]) -> None:
    assert architecture_of(config).reasons


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**OLMO, "layer_types": ["linear_attention"] * 4}, "layer_types are all linear_attention"),
        ({**OLMO, "linear_num_value_heads": 3}, "linear_num_value_heads is 3"),
        ({**OLMO, "linear_num_key_heads": 40}, "linear_num_value_heads is 4"),
        ({**KIMI, "linear_attn_config": {"full_attn_layers": [1], "kda_layers": [1, 2]}}, "must name each of the 4"),
        ({**CAT, "moe_topk": 4}, "moe_topk is 4"),
        ({"model_type": "minimax", "layer_types": ["chunked"] * 32}, "layer_types holds 'chunked'"),
    ],
)
def test_what_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of(config)
    assert message in str(caught.value)
