"""ZAYA against transformers on the meta device: convolved heads, a router of several layers, scaled streams."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import flop_counter
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, heads, maybe, read, small
from tests.width import assert_default, assert_heads, flags, varied, width
from txcalc.architecture import MixtureOfExperts, SelfAttention
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache
from txcalc.reference import build


@st.composite
def shape(draw: st.DrawFn) -> dict[str, Any]:
    query_heads, kv_heads = draw(heads(most=3))
    layers = draw(st.integers(1, 4))
    kinds = draw(st.lists(st.sampled_from(["hybrid", "hybrid_sliding"]), min_size=layers, max_size=layers))
    config = {"num_attention_heads": query_heads, "num_key_value_heads": kv_heads, "num_hidden_layers": layers}
    return {**config, "layer_types": kinds, "sliding_window": 4} if draw(st.booleans()) else config


ROW = width(
    "zaya", "Zaya", "ForCausalLM Model", kin=shape(),
    vocab_size=small, hidden_size=small, pad_token_id=0, head_dim=st.sampled_from([4, 8]), moe_intermediate_size=small,
    num_experts=st.integers(1, 4), router_hidden_size=small, cca_time0=st.integers(1, 4), cca_time1=st.integers(1, 4),
    attention_bias=flags, lm_head_bias=flags, tie_word_embeddings=maybe(st.booleans()),
)  # fmt: skip
TINY: dict[str, Any] = {
    "model_type": "zaya", "architectures": ["ZayaForCausalLM"], "vocab_size": 50, "pad_token_id": 0, "hidden_size": 32,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "moe_intermediate_size": 16, "num_experts": 4, "router_hidden_size": 6, "cca_time0": 3, "cca_time1": 2,
}  # fmt: skip


def test_default_minimal_and_every_class() -> None:
    assert_default(ROW)
    assert_heads(ROW)


@settings(max_examples=12, deadline=None)
@given(varied(ROW))
def test_varied(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@pytest.mark.parametrize(
    "change", [{"cca_time0": 4}, {"cca_time1": 3}, {"router_hidden_size": 7}, {"num_experts": 3}, {"head_dim": 4}]
)
def test_the_comparison_notices(change: dict[str, Any]) -> None:
    """Negative control: a tap more in either filter, a wider router, an expert less, narrower heads."""
    assert_params_differ_from_meta({**TINY, **change}, TINY)


@pytest.mark.parametrize("tokens", [1, 9, 20])
def test_forward_flops(tokens: int) -> None:
    """transformers projects a row of zeros for the value before the first token, [32] to half of 16 channels in each
    of 2 sequences and 3 layers; the model needs no such product."""
    model = flop_counter.model_of(TINY)
    counted = flop_counter.forward(model, input_ids=flop_counter.tokens(2, tokens), use_cache=False)
    tree = flops(read(TINY), batch=2, seq=tokens)
    assert counted - tree.figures()["flops.matmul"] == 3 * 2 * 2 * 32 * 8
    guessed = [node for _, node in tree.find("flops.matmul").walk() if node.basis == "estimated"]
    causes = {node.name for node in guessed if not any(part.basis == "estimated" for part in node.children)}
    assert causes == {"mixture_of_experts"}  # a token may be sent to no expert


def test_cache_and_state() -> None:
    """3 layers of 2 * 2 * 8 elements a token; 3 - 1 + 2 - 1 inputs of (4 + 2) * 8 channels and 8 values beside it."""
    figures = kv_cache(read({**TINY, "dtype": "bfloat16"}), ctx=10).figures()
    assert figures["kv_cache.bytes_per_token"] == 3 * 32 * 2
    assert figures["kv_cache.state_bytes"] == 3 * (3 * 48 + 8) * 2
    windowed = {**TINY, "layer_types": ["hybrid", "hybrid_sliding", "hybrid"], "sliding_window": 4}
    found = kv_cache(read(windowed), ctx=10, kv_dtype="bf16").figures()
    assert found["kv_cache.total_bytes"] == (10 + 4 + 10) * 32 * 2


def test_the_first_router_carries_nothing() -> None:
    first, *rest = (layer.sublayers() for layer in read(TINY).main.sequence())
    networks = [each[1].router.network for each in (first, *rest) if isinstance(each[1], MixtureOfExperts)]
    assert [network.carries for network in networks if network] == [False, True, True]
    attention = first[0]
    assert isinstance(attention, SelfAttention)
    assert attention.position is not None
    assert vars(attention.position)["rotary_dim"] == 4


def test_what_is_refused() -> None:
    for config, message in (
        ({**TINY, "num_experts_per_tok": 2}, "num_experts_per_tok is 2"),
        ({**TINY, "head_dim": 3, "num_key_value_heads": 1}, "head_dim is 3"),
        ({**TINY, "layer_types": ["full_attention"] * 3}, "layer_types holds 'full_attention'"),
    ):
        with pytest.raises(ModelError, match=message):
            architecture_of(config)
    with pytest.raises(RequestError, match="scaled and shifted streams"):
        build(read(TINY), device="meta")
