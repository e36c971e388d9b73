"""Zamba and Zamba 2 against transformers on the meta device: blocks stored once that many layers run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import flop_counter
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, maybe, read, small
from tests.width import Width, assert_default, flags, varied, width
from txcalc.architecture import FeedForward, LinearMap, Mamba, Mamba2, SelfAttention
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params
from txcalc.reference import build


@st.composite
def shape(draw: st.DrawFn, *, most: int) -> dict[str, Any]:
    """Layers with at least two blocks among them, heads of twice the width, Mamba heads that divide it."""
    heads, count = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    others = draw(st.lists(st.sampled_from(["mamba", "linear_attention", "hybrid"]), max_size=most))
    kinds = draw(st.permutations(["hybrid", "hybrid", *others]))
    return {"num_attention_heads": heads, "num_key_value_heads": heads, "n_mamba_heads": count,
            "hidden_size": heads * count * 2 * draw(st.integers(1, 3)), "layers_block_type": kinds,
            "num_hidden_layers": len(kinds)}  # fmt: skip


TASKS = "ForCausalLM Model ForSequenceClassification"
PLAIN: dict[str, Any] = {
    "vocab_size": small, "pad_token_id": 0, "intermediate_size": small, "mamba_d_state": small,
    "mamba_d_conv": st.integers(1, 5), "mamba_expand": st.integers(1, 3), "num_labels": st.integers(1, 4),
}  # fmt: skip
WIDTHS = [
    width("zamba", "Zamba", TASKS, kin=shape(most=4), **PLAIN, mamba_dt_rank=maybe(small), mamba_conv_bias=flags,
          mamba_proj_bias=flags),
    width("zamba2", "Zamba2", TASKS, kin=shape(most=4), **PLAIN, add_bias_linear=flags, adapter_rank=small,
          use_shared_attention_adapter=flags, num_mem_blocks=maybe(st.integers(1, 3)), use_mem_rope=flags,
          use_conv_bias=flags),
]  # fmt: skip
by_type = pytest.mark.parametrize("row", WIDTHS, ids=lambda row: str(row.model_type))


@by_type
def test_default_and_minimal(row: Width) -> None:
    assert_default(row)


@by_type
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_varied(row: Width, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(varied(row)))


KINDS = ["mamba", "hybrid", "hybrid", "mamba", "hybrid", "mamba"]
ONE: dict[str, Any] = {
    "model_type": "zamba", "architectures": ["ZambaForCausalLM"], "vocab_size": 50, "pad_token_id": 0,
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 4, "mamba_d_state": 4, "layers_block_type": KINDS,
}  # fmt: skip
TWO: dict[str, Any] = {
    **ONE, "model_type": "zamba2", "architectures": ["Zamba2ForCausalLM"], "adapter_rank": 5, "num_mem_blocks": 2,
    "use_shared_attention_adapter": True, "chunk_size": 8,
}  # fmt: skip


@pytest.mark.parametrize("config", [ONE, TWO], ids=["zamba", "zamba2"])
def test_every_class(config: dict[str, Any]) -> None:
    prefix = config["architectures"][0].removesuffix("ForCausalLM")
    for task in ("Model", "ForSequenceClassification"):
        assert_params_equal_meta({**config, "architectures": [prefix + task], "num_labels": 3})


@pytest.mark.parametrize(
    ("change", "config"),
    [
        ({"layers_block_type": ["mamba", *["hybrid"] * 4, "mamba"]}, ONE),
        ({"mamba_d_state": 5}, ONE),
        ({"num_mem_blocks": 1}, TWO),
        ({"use_shared_attention_adapter": False}, TWO),
        ({"adapter_rank": 6}, TWO),
    ],
)
def test_the_comparison_notices(change: dict[str, Any], config: dict[str, Any]) -> None:
    """Negative control: a block more, a wider state, one set instead of two, no adapters, wider ones."""
    assert_params_differ_from_meta({**config, **change}, config)


def test_a_block_more_costs_its_own_matrix_and_adapters_alone() -> None:
    """Zamba: [32, 32] beside the stream. Zamba 2, one more layer of the first block: that, 3 pairs of [64, 5] adapters
    in the attention, and [32, 5] and [5, 96] in the feed-forward."""

    def total(config: dict[str, Any], kinds: list[str]) -> int | float:
        return params(read({**config, "layers_block_type": kinds})).figures()["params.total"]

    more = [*KINDS[:3], "hybrid", *KINDS[4:]]
    assert total(ONE, more) - total(ONE, KINDS) == 32 * 32
    assert total(TWO, more) - total(TWO, KINDS) == 32 * 32 + 3 * 2 * 64 * 5 + 32 * 5 + 5 * 96


@pytest.mark.parametrize(("config", "mixer"), [(ONE, Mamba), (TWO, Mamba2)], ids=["zamba", "zamba2"])
def test_what_runs_beside_the_stream(config: dict[str, Any], mixer: type) -> None:
    layer = list(read(config).main.sequence())[1]
    assert [type(each) for each in layer.sublayers()] == [SelfAttention, FeedForward, LinearMap, mixer]
    assert [step.aside for step in layer.steps] == [True, True, True, False]
    turns = [layer.steps[0].branches[0].shared for layer in read(config).main.sequence() if len(layer.steps) > 1]
    assert len(set(turns)) == (1 if config is ONE else 2)


@pytest.mark.parametrize("config", [ONE, TWO], ids=["zamba", "zamba2"])
@pytest.mark.parametrize("tokens", [7, 20])
def test_forward_flops(config: dict[str, Any], tokens: int) -> None:
    model = flop_counter.model_of(config)
    counted = flop_counter.forward(model, input_ids=flop_counter.tokens(2, tokens), use_cache=False)
    assert flops(read(config), batch=2, seq=tokens).figures()["flops.matmul"] == counted


def test_cache_and_state() -> None:
    """Zamba-7B: 13 blocks keep 2 * 7,424 elements a token; 76 layers a state of 7,424 * 16 and 3 inputs of 7,424."""
    figures = kv_cache(architecture_of({"model_type": "zamba", "dtype": "bfloat16"}), ctx=1000).figures()
    blocks = 1 + sum(i % 6 == 4 for i in range(73))
    assert figures["kv_cache.bytes_per_token"] == blocks * 2 * 7424 * 2
    assert figures["kv_cache.state_bytes"] == 76 * (7424 * 16 * 4 + 7424 * 3 * 2)


@pytest.mark.parametrize(
    "config",
    [
        {**ONE, "tie_word_embeddings": False},
        {**ONE, "attention_hidden_size": 32},
        {**TWO, "hybrid_layer_ids": [1]},
        {**TWO, "use_long_context": True},
        {**TWO, "attention_head_dim": 8},
    ],
)
def test_what_is_not_described_is_an_estimate(config: dict[str, Any]) -> None:
    """Among it: without tied embeddings transformers unties the blocks too."""
    assert architecture_of(config).reasons


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**ONE, "num_hidden_layers": 5}, "num_hidden_layers is 5; 6 layers are named"),
        ({**ONE, "layers_block_type": ["conv"] * 6}, "layers_block_type holds 'conv'"),
        ({**ONE, "n_mamba_heads": 5}, "n_mamba_heads is 5"),
        ({**TWO, "num_key_value_heads": 3}, "num_key_value_heads is 3"),
        ({"model_type": "zamba2", "num_hidden_layers": 2}, "num_hidden_layers is 2; 54 layers"),
    ],
)
def test_what_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of(config)
    assert message in str(caught.value)


def test_the_reference_refuses_by_name() -> None:
    with pytest.raises(RequestError, match="blocks beside the stream"):
        build(read(ONE), device="meta")
