"""Recurrent types and hybrids against transformers on the meta device: every class, default and varied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from txcalc.architecture import FeedForward, Mamba2, MixtureOfExperts, RealGatedRecurrence, SelfAttention
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.params import params

USUAL = "ForCausalLM Model"


@st.composite
def mixer(draw: st.DrawFn, heads_key: str, head_dim: str, groups_key: str, inner: str) -> dict[str, Any]:
    """Heads of a Mamba 2 mixer, their channels, the groups that divide them, and the inner width that they make."""
    groups, channels = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    count = groups * draw(st.integers(1, 3))
    layers = draw(layer_counts)
    return {
        heads_key: count, head_dim: channels, groups_key: groups, inner: count * channels, "num_hidden_layers": layers
    }  # fmt: skip


MIXER_KEYS: dict[str, Any] = {
    "vocab_size": small,
    "mamba_d_state": small,
    "mamba_d_conv": st.integers(1, 5),
    "mamba_conv_bias": flags,
    "mamba_proj_bias": flags,
    "attention_bias": flags,
    "mlp_bias": flags,
    "tie_word_embeddings": flags,
    "pad_token_id": 0,
}


def kinds(*names: str) -> Callable[[st.DrawFn, int], dict[str, Any]]:
    """``layer_types`` with one of the names for every layer."""
    return lambda draw, layers: {
        "layer_types": draw(st.lists(st.sampled_from(names), min_size=layers, max_size=layers))
    }


@st.composite
def attention(draw: st.DrawFn, step: int = 2, *, listed: Any = None) -> dict[str, Any]:
    query_heads, kv_heads = draw(heads(most=3))
    layers = draw(layer_counts)
    widths = {"num_attention_heads": query_heads, "num_key_value_heads": kv_heads, "num_hidden_layers": layers}
    hidden = query_heads * step * draw(st.integers(1, 4))
    return {**widths, "hidden_size": hidden, **(listed(draw, layers) if listed else {})}


def as_wide(config: dict[str, Any]) -> dict[str, Any]:
    """The same with a mixer of as many heads as the attention has, as wide as the hidden states."""
    count, hidden = config["num_attention_heads"], config["hidden_size"]
    groups = config["num_key_value_heads"]  # divides the heads
    mixer = {"mamba_n_heads": count, "mamba_d_head": hidden // count, "mamba_n_groups": groups, "mamba_expand": 1}
    return {**config, **mixer}


LFM2_KINDS = kinds("conv", "full_attention")
LFM3_KINDS = kinds("conv", "full_attention", "sliding_attention")
NEMOTRON: dict[str, Any] = {
    "vocab_size": small, "hidden_size": small, "intermediate_size": small, "head_dim": small, "mlp_bias": flags,
    "use_bias": flags, "use_conv_bias": flags, "ssm_state_size": small, "moe_intermediate_size": small,
    "moe_shared_expert_intermediate_size": small, "moe_latent_size": maybe(st.none() | small),
    "n_routed_experts": st.integers(2, 5), "num_experts_per_tok": st.integers(1, 2), "tie_word_embeddings": flags,
}  # fmt: skip


@st.composite
def nemotron(draw: st.DrawFn) -> dict[str, Any]:
    query_heads, kv_heads = draw(heads(most=3))
    groups = draw(st.integers(1, 3))
    pattern = draw(st.text("ME*-", min_size=1, max_size=5))
    return {
        "num_attention_heads": query_heads,
        "num_key_value_heads": kv_heads,
        "n_groups": groups,
        "mamba_num_heads": groups * draw(st.integers(1, 3)),
        "mamba_head_dim": draw(small),
        "hybrid_override_pattern": pattern,
    }


beside = st.tuples(attention(), mixer("mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_ssm")).map(
    lambda both: {**both[0], **both[1]}
)
WIDTHS = [
    width(
        "mamba2", "Mamba2", USUAL,
        kin=mixer("num_heads", "head_dim", "n_groups", "hidden_size").map(lambda config: {**config, "expand": 1}),
        vocab_size=small, state_size=small, conv_kernel=st.integers(1, 5), use_bias=flags, use_conv_bias=flags,
        tie_word_embeddings=flags,
    ),
    width(
        "falcon_mamba", "FalconMamba", USUAL, kin=st.just({}),
        vocab_size=small, hidden_size=small, num_hidden_layers=layer_counts, state_size=small, expand=st.integers(1, 3),
        conv_kernel=st.integers(1, 5), time_step_rank=maybe(small | st.just("auto")), use_bias=flags,
        intermediate_size=maybe(small), tie_word_embeddings=flags,
    ),
    width(
        "recurrent_gemma", "RecurrentGemma", USUAL, kin=attention(4),
        vocab_size=small, intermediate_size=small.map(lambda half: 2 * half), conv1d_width=st.integers(1, 5),
        block_types=maybe(st.sampled_from([["attention"], ["recurrent", "attention"]])), attention_bias=flags,
    ),
    width(
        "lfm2", "Lfm2", USUAL, kin=attention(listed=LFM2_KINDS),
        vocab_size=small, intermediate_size=small.map(lambda third: 3 * third), conv_bias=flags,
        conv_L_cache=st.integers(1, 4), block_multiple_of=maybe(st.integers(1, 9)), tie_word_embeddings=flags,
        block_auto_adjust_ff_dim=flags, block_ffn_dim_multiplier=maybe(st.sampled_from([0.75, 1.0, 1.3])),
    ),
    width(
        "lfm3", "Lfm3", USUAL, kin=attention(listed=LFM3_KINDS),
        vocab_size=small, intermediate_size=small, head_dim=maybe(st.sampled_from([4, 6])), conv_bias=flags,
        conv_L_cache=st.integers(1, 4), tie_word_embeddings=flags, attention_bias=flags, use_sandwich_norm=flags,
        use_attention_gate=flags, sliding_window=maybe(st.integers(1, 9)), pad_token_id=0,
    ),
    width(
        "bamba", "Bamba", USUAL,
        kin=attention(
            listed=lambda draw, layers: {"attn_layer_indices": draw(st.lists(st.integers(0, layers - 1)))}
        ).map(as_wide),
        **MIXER_KEYS, intermediate_size=small,
    ),
    width(
        "falcon_h1", "FalconH1", USUAL, kin=beside,
        **MIXER_KEYS, intermediate_size=small, mamba_rms_norm=flags, projectors_bias=flags,
    ),
    width(
        "granitemoehybrid", "GraniteMoeHybrid", USUAL,
        kin=attention(listed=kinds("mamba", "attention", "linear_attention", "full_attention")).map(as_wide),
        **{**MIXER_KEYS, "mlp_bias": False}, intermediate_size=small, shared_intermediate_size=small,
        num_local_experts=st.sampled_from([0, 2, 3, 4]), num_experts_per_tok=st.integers(1, 2),
    ),
    width("nemotron_h", "NemotronH", USUAL, kin=nemotron(), **NEMOTRON),
]  # fmt: skip
LFM2_MOE = width(
    "lfm2_moe", "Lfm2Moe", USUAL, kin=attention(listed=LFM2_KINDS),
    vocab_size=small, intermediate_size=small, moe_intermediate_size=small, num_dense_layers=st.integers(0, 3),
    num_experts=st.integers(2, 5), num_experts_per_tok=st.integers(1, 2), conv_bias=flags, conv_L_cache=small,
    tie_word_embeddings=flags,
)  # fmt: skip
by_type = pytest.mark.parametrize("row", WIDTHS, ids=lambda row: str(row.model_type))


@by_type
def test_default_and_minimal(row: Width) -> None:
    assert_default(row)


@by_type
def test_every_class(row: Width) -> None:
    assert_heads(row)


@pytest.mark.parametrize("row", [*WIDTHS, LFM2_MOE], ids=lambda row: str(row.model_type))
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_varied(row: Width, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(varied(row)))


# ---- what tells one from another ------------------------------------------------------------------------------------

GRIFFIN: dict[str, Any] = {"model_type": "recurrent_gemma", "hidden_size": 32, "num_attention_heads": 4}
NEMOTRON_H: dict[str, Any] = {"model_type": "nemotron_h", "hidden_size": 64, "mamba_num_heads": 8}
H1: dict[str, Any] = {
    "model_type": "falcon_h1", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
    "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "config"),
    [
        ({"lru_width": 40}, GRIFFIN),
        ({"moe_latent_size": 16}, NEMOTRON_H),
        ({"mamba_rms_norm": True}, H1),
    ],
)
def test_the_comparison_notices(change: dict[str, Any], config: dict[str, Any]) -> None:
    """Negative control: the recurrence as wide as the stream, experts in it, a mixer without its norm."""
    assert_params_differ_from_meta({**config, **change}, config)


def test_layers_stand_where_they_are_named() -> None:
    griffin = [type(layer.sublayers()[0]) for layer in read(GRIFFIN).main.sequence()]
    assert griffin[:6] == [RealGatedRecurrence, RealGatedRecurrence, SelfAttention] * 2
    pattern = {"M": Mamba2, "E": MixtureOfExperts, "-": FeedForward, "*": SelfAttention}
    named = read({**NEMOTRON_H, "hybrid_override_pattern": "MM*-E"}).main
    assert [type(each) for layer in named.sequence() for each in layer.sublayers()] == [pattern[k] for k in "MM*-E"]
    both = read(H1).main.layers[0]
    assert [type(each) for each in both.sublayers()] == [Mamba2, SelfAttention, FeedForward]
    assert [len(step.branches) for step in both.steps] == [2, 1]  # the first two read the same input


def test_lfm2_feed_forward_is_two_thirds_rounded_up() -> None:
    """12,288 * 2 / 3 = 8,192 is a multiple of 256; of 1,000 it is 666, and 768 the next multiple."""

    def inner(**fields: Any) -> int:
        found = read({"model_type": "lfm2", **fields}).main.layers[0].sublayers()[1]
        assert isinstance(found, FeedForward)
        return found.intermediate_size

    assert (inner(), inner(intermediate_size=1000)) == (8192, 768)
    assert inner(intermediate_size=1000, block_auto_adjust_ff_dim=False) == 1000


def test_lfm3_windows_and_what_turns() -> None:
    """24 layers: full attention at 2, 6, ..., windows of 256 at 4, 8, ...; in full layers half of the 64
    pairs turn, at the rates of the whole head."""
    sequence = [layer.sublayers()[0] for layer in read({"model_type": "lfm3"}).main.sequence()]
    windows = {i: each.window for i, each in enumerate(sequence) if isinstance(each, SelfAttention)}
    assert windows == {i: None if i % 4 == 2 else 256 for i in range(2, 24, 2)}
    full, windowed = (vars(sequence[i])["position"] for i in (2, 4))
    assert (full.theta, full.rotary_dim, full.still_pairs) == (1e6, 128, 32)
    assert (windowed.theta, windowed.rotary_dim, windowed.still_pairs) == (1e4, 128, 0)


def test_the_pattern_counts_and_not_the_number() -> None:
    model = architecture_of({**NEMOTRON_H, "hybrid_override_pattern": "ME", "num_hidden_layers": 9})
    assert model.main.num_hidden_layers == 2
    assert any("num_hidden_layers = 9" in note for note in model.notes)


def test_latent_experts_hold_two_projections() -> None:
    """One layer of experts in 16 channels instead of 64: 2 projections of 16 * 64, and matrices a quarter as large.

    2 experts of 2 * 64 * 10 elements lose three quarters of 2,560, and 2,048 come on top: 128 more.
    """
    one = {**NEMOTRON_H, "hybrid_override_pattern": "E", "n_routed_experts": 2, "moe_intermediate_size": 10}
    whole, latent = read(one), read({**one, "moe_latent_size": 16})
    totals = [params(model).figures()["params.total"] for model in (whole, latent)]
    assert totals[1] - totals[0] == 2048 - 1920


@pytest.mark.parametrize(
    "config",
    [
        {**H1, "attention_bias": True, "attention_in_multiplier": 0.5},
        {**H1, "mamba_proj_bias": True, "ssm_in_multiplier": 0.5},
        {"model_type": "mamba2", "rms_norm": False},
        {**NEMOTRON_H, "sliding_window": 9},
    ],
)
def test_what_is_not_described_is_an_estimate(config: dict[str, Any]) -> None:
    assert architecture_of(config).reasons


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "mamba2", "num_heads": 7}, "num_heads is 7"),
        ({"model_type": "lfm2_moe"}, "layer_types is missing"),
        ({**NEMOTRON_H, "hybrid_override_pattern": "MX"}, "layers_block_type holds ['X']"),
        ({**NEMOTRON_H, "n_groups": 3}, "n_groups is 3"),
        ({**GRIFFIN, "block_types": ["mamba"]}, "block_types is ['mamba']"),
        ({**GRIFFIN, "lru_width": 30}, "lru_width is 30"),
        ({"model_type": "mamba2", "time_step_limit": [1]}, "time_step_limit is [1]"),
    ],
)
def test_what_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of(config)
    assert message in str(caught.value)
