"""DeepSeek-V4: counts and FLOPs equal transformers' on the meta device; its caches by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.configs.width import assert_default_and_minimal, drawn
from tests.oracles import flop_counter
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, few, maybe, read, small
from txcalc.architecture import CompressedAttention
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache
from txcalc.reference import build

LOCAL, SPARSE, HEAVY = "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"
KINDS = st.lists(st.sampled_from([LOCAL, SPARSE, HEAVY]), min_size=4, max_size=5)
RATES = st.fixed_dictionaries({SPARSE: st.integers(1, 4), HEAVY: st.integers(1, 6)})
SHAPES = drawn(
    "deepseek_v4", "DeepseekV4", num_hidden_layers=4, intermediate_size=None, moe_intermediate_size=small,
    head_dim=st.sampled_from([8, 16]), q_lora_rank=small, o_groups=st.sampled_from([1, 2]), o_lora_rank=small,
    n_routed_experts=st.integers(2, 5), num_experts_per_tok=st.integers(1, 2), n_shared_experts=st.integers(0, 2),
    mlp_bias=st.booleans(), hc_mult=st.integers(1, 4), index_n_heads=st.integers(1, 3), index_head_dim=8,
    layer_types=maybe(KINDS), compress_rates=maybe(RATES), compress_rate_csa=maybe(st.integers(1, 4)),
    compress_ratios=maybe(st.lists(st.sampled_from([0, 4, 128]), min_size=4, max_size=5)),
    num_hash_layers=maybe(st.integers(0, 4)), scoring_func=st.sampled_from(["sqrtsoftplus", "sigmoid"]),
)  # fmt: skip
TINY: dict[str, Any] = {
    "model_type": "deepseek_v4", "architectures": ["DeepseekV4ForCausalLM"], "hidden_size": 32,
    "num_attention_heads": 4, "head_dim": 16, "num_hidden_layers": 4, "moe_intermediate_size": 24, "vocab_size": 67,
    "q_lora_rank": 12, "num_experts_per_tok": 2, "n_routed_experts": 6, "o_groups": 2, "o_lora_rank": 10,
    "index_n_heads": 3, "index_head_dim": 8, "index_topk": 2, "sliding_window": 5, "pad_token_id": 0,
    "compress_rates": {SPARSE: 2, HEAVY: 4}, "layer_types": [HEAVY, SPARSE, LOCAL, SPARSE],
}  # fmt: skip


def test_default_and_minimal_configs() -> None:
    assert_default_and_minimal("deepseek_v4")


@few
@given(config=SHAPES)
def test_shapes(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


@pytest.mark.parametrize("other", [{"layer_types": [HEAVY, SPARSE, SPARSE, SPARSE]}, {"hc_mult": 3}, {"o_groups": 4}])
def test_the_comparison_notices(other: dict[str, Any]) -> None:
    assert_params_differ_from_meta(TINY, {**TINY, **other})


@pytest.mark.parametrize("seq", [13, 3, 1])
def test_forward_flops(seq: int) -> None:
    """With whole blocks of tokens, with none."""
    model = flop_counter.model_of(TINY)
    counted = flop_counter.forward(model, **flop_counter.inputs_of(model, batch=3, seq=seq))
    assert flops(read(TINY), batch=3, seq=seq).figures()["flops.matmul"] == counted
    assert flops(read({**TINY, "index_n_heads": 4}), batch=3, seq=seq).figures()["flops.matmul"] != counted


@pytest.mark.parametrize("tokens", [1, 3, 7, 10])
def test_pairs_that_masks_keep(tokens: int) -> None:
    """Query t, counted from 1, meets floor(t / 4) entries, or in sparse layers floor(t / 2), at most 2."""
    queries = range(1, tokens + 1)
    expected = {sum(min(t // 2, 2) for t in queries), sum(t // 4 for t in queries)}
    tree = flops(read(TINY), seq=tokens, mask="exact")
    found = {int(node.value) // (2 * 4 * 16) for _, node in tree.walk() if node.name == "summary_scores"}
    assert found == expected


def figures(ctx: int, **changes: Any) -> dict[str, int | float]:
    return kv_cache(read({**TINY, **changes}), ctx=ctx, kv_dtype="bf16").figures()


def test_cache_by_hand() -> None:
    """11 tokens, 2 bytes. Windows: 4 layers * 5 * 16 = 320. Entries of 16: 11 // 4 = 2, twice 11 // 2 = 5, so 192.

    Indexers: 2 * 5 * 8 = 80. Together 592 elements. The twelfth token completes an entry everywhere: 3 * 16 + 2 * 8.
    """
    found = figures(11)
    assert found["kv_cache.total_bytes"] == 592 * 2
    assert found["kv_cache.marginal_bytes_per_token"] == (3 * 16 + 2 * 8) * 2
    assert figures(12)["kv_cache.total_bytes"] == (592 + 64) * 2
    assert figures(12)["kv_cache.marginal_bytes_per_token"] == 0
    assert found["kv_cache.bytes_per_token"] == (4 * 16 + 16 // 4 + 2 * (16 + 8) // 2) * 2


def test_tokens_whose_entry_is_open() -> None:
    """Values and weights: of 3 tokens, 16 channels; in sparse layers of 1 token, twice 16 + 8, and of the 2 before."""
    heavy, sparse = 2 * 3 * 16, 2 * 1 * 2 * 24 + 2 * 2 * 24
    assert figures(11)["kv_cache.state_bytes"] == (heavy + 2 * sparse) * 2


def test_an_entry_that_is_no_whole_number_of_bytes_a_token() -> None:
    model = read({**TINY, "compress_rates": {SPARSE: 2, HEAVY: 5}})
    tree = kv_cache(model, ctx=11, kv_dtype="bf16")
    assert tree.find("kv_cache.bytes_per_token").basis == "estimated"
    assert tree.find("kv_cache.total_bytes").basis == "exact"


def test_ratios_of_published_files() -> None:
    """0, 4 and 128; a list longer than the model, for a block that predicts ahead."""
    ratios = {**TINY, "layer_types": None, "compress_ratios": [0, 0, 4, 128, 0]}
    made = [each for layer in read(ratios).main.sequence() for each in layer.sublayers()]
    found = [each.compressor for each in made if isinstance(each, CompressedAttention)]
    assert [each.rate if each else 0 for each in found] == [0, 0, 2, 4]


def test_the_reference_refuses_it_by_name() -> None:
    with pytest.raises(RequestError, match="does not build compressed attention"):
        build(read(TINY))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"o_groups": 3}, "o_groups is 3; it must divide 4 heads of 16"),
        ({"layer_types": ["full_attention"] * 4}, "layer_types holds 'full_attention'"),
        ({"layer_types": None, "compress_ratios": [0, 7, 4, 0]}, "must say 0, 4 or 128 for each of 4 layers"),
        ({"mlp_layer_types": ["dense"] * 4}, "layers are hash_moe or moe"),
        ({"compress_rates": {SPARSE: 0, HEAVY: 4}}, "compress_rates has 0 for compressed_sparse_attention"),
        ({"scoring_func": "tanh"}, "scoring_func is 'tanh'"),
    ],
)
def test_bad_values(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of({**TINY, **keys})
