"""KV cache by hand, in every dtype, paged, fitted; and properties that hold for any shape."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txcalc.architecture.variants import with_kv_heads
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.formulas.kv_cache import Fit, kv_cache
from txcalc.formulas.kv_variants import attention_variants

LLAMA3_8B: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}
TINY = {**LLAMA3_8B, "hidden_size": 128, "num_attention_heads": 8, "num_key_value_heads": 4, "num_hidden_layers": 3}


def figures(config: dict[str, Any], **question: Any) -> dict[str, int | float]:
    return kv_cache(architecture_of(config), **question).figures()


def test_llama3_8b_by_hand() -> None:
    """2 (K and V) * 8 heads * 128 wide * 32 layers * 2 bytes = 131,072 a token; * 8,192 tokens = 1,073,741,824."""
    found = figures(LLAMA3_8B, ctx=8192)
    assert found["kv_cache.bytes_per_token"] == 131_072
    assert found["kv_cache.marginal_bytes_per_token"] == 131_072
    assert found["kv_cache.total_bytes"] == 1_073_741_824
    assert found["kv_cache.state_bytes"] == 0


@pytest.mark.parametrize(
    ("dtype", "bits_times_two"),
    [
        ("fp32", 64), ("bf16", 32), ("fp16", 32), ("fp8", 16), ("int8", 16),
        ("q8_0", 17), ("q5_1", 12), ("q5_0", 11), ("q4_1", 10), ("q4_0", 9),
    ],
)  # fmt: skip
def test_dtypes(dtype: str, bits_times_two: int) -> None:
    """ggml: 32 elements take 34, 24, 22, 20 or 18 bytes: 8.5, 6, 5.5, 5 and 4.5 bits an element."""
    bits = {"fp32": 32.0, "bf16": 16.0, "fp16": 16.0, "fp8": 8.0, "int8": 8.0}.get(dtype, bits_times_two / 2)
    elements = 2 * 8 * 128 * 32 * 4096
    assert figures(LLAMA3_8B, ctx=4096, kv_dtype=dtype)["kv_cache.total_bytes"] == elements * bits / 8


def test_mistral_window() -> None:
    """Mistral 7B v0.1: 2 * 8 * 128 * 32 * 2 = 131,072 a token, kept for 4,096 of 32,768 tokens; one more costs 0."""
    config = {**LLAMA3_8B, "model_type": "mistral", "sliding_window": 4096}
    found = figures(config, ctx=32768)
    assert found["kv_cache.total_bytes"] == 131_072 * 4096
    assert found["kv_cache.reserved_bytes"] == 131_072 * 32768
    assert found["kv_cache.marginal_bytes_per_token"] == 0
    assert found["kv_cache.bytes_per_token"] == 131_072


def test_paging_by_hand() -> None:
    """1,000 tokens in blocks of 64: 16 blocks of 131,072 * 64 bytes; 24 tokens' worth is rounding."""
    found = figures(LLAMA3_8B, ctx=1000, block_size=64)
    assert found["kv_cache.blocks_per_sequence"] == 16
    assert found["kv_cache.block_bytes"] == 16 * 64 * 131_072
    assert found["kv_cache.block_waste_bytes"] == 24 * 131_072


def test_fit_by_hand() -> None:
    """24 GiB at 128 KiB a token: 196,608 tokens; 4 GiB a sequence of 32,768: 6 sequences."""
    fit = Fit(architecture_of(LLAMA3_8B), budget=24 * 2**30, ctx=32768)
    assert (fit.tokens, fit.sequences) == (196_608, 6)


def test_fit_of_a_windowed_model_has_no_end() -> None:
    config = {**LLAMA3_8B, "model_type": "mistral", "sliding_window": 4096}
    fit = Fit(architecture_of(config), budget=2**30, ctx=32768)
    assert fit.tokens is None
    assert fit.sequences == 2**30 // (131_072 * 4096)


def test_a_row_that_does_not_fill_blocks_is_refused() -> None:
    odd = {**TINY, "hidden_size": 80, "num_attention_heads": 8, "num_key_value_heads": 1}
    with pytest.raises(RequestError, match="a row of 10 does not fill"):
        kv_cache(architecture_of(odd), ctx=16, kv_dtype="q8_0")


@pytest.mark.parametrize("question", [{"ctx": 0}, {"ctx": -1}, {"ctx": 8, "batch": 0}, {"ctx": 8, "block_size": 0}])
def test_lengths_below_one_are_refused(question: dict[str, int]) -> None:
    with pytest.raises(RequestError, match="expected a whole number"):
        kv_cache(architecture_of(TINY), **question)


def test_unknown_dtype_is_refused() -> None:
    with pytest.raises(RequestError, match="unknown dtype 'fp7'"):
        kv_cache(architecture_of(TINY), ctx=8, kv_dtype="fp7")


def test_a_source_length_without_an_encoder_is_refused() -> None:
    with pytest.raises(RequestError, match="no encoder"):
        kv_cache(architecture_of(TINY), ctx=8, source_ctx=8)


def test_float32_config_caches_float32() -> None:
    half = figures(LLAMA3_8B, ctx=64)["kv_cache.total_bytes"]
    assert figures({**LLAMA3_8B, "torch_dtype": "float32"}, ctx=64)["kv_cache.total_bytes"] == 2 * half


def test_quantised_weights_do_not_shrink_the_cache() -> None:
    config = {**LLAMA3_8B, "torch_dtype": "float8_e4m3fn", "quantization_config": {"quant_method": "fp8"}}
    assert figures(config, ctx=64) == figures(LLAMA3_8B, ctx=64)


def test_variants_of_llama3() -> None:
    """32 query heads: MHA caches 4 times what 8 KV heads do, MQA an eighth of it."""
    mha, gqa, mqa = attention_variants(architecture_of(LLAMA3_8B), ctx=8192)
    assert mha.value == 4 * gqa.value == 32 * mqa.value
    assert [node.children[2].value for node in (mha, gqa, mqa)] == [1, 4, 32]


@given(
    ctx=st.integers(1, 10**6),
    batch=st.integers(1, 64),
    layers=st.integers(1, 200),
    window=st.none() | st.integers(1, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_linear_in_batch_and_layers_and_window_never_larger(
    ctx: int, batch: int, layers: int, window: int | None
) -> None:
    config = {**TINY, "model_type": "mistral", "sliding_window": window}
    one = figures({**config, "num_hidden_layers": 1}, ctx=ctx)
    many = figures({**config, "num_hidden_layers": layers}, ctx=ctx, batch=batch)
    assert many["kv_cache.total_bytes"] == one["kv_cache.total_bytes"] * batch * layers
    assert many["kv_cache.total_bytes"] <= many["kv_cache.reserved_bytes"]


@given(ctx=st.integers(1, 5000), window=st.none() | st.integers(1, 5000))
@settings(max_examples=60, deadline=None)
def test_marginal_is_the_difference_to_one_more_token(ctx: int, window: int | None) -> None:
    config = {**TINY, "model_type": "mistral", "sliding_window": window}
    now, then = figures(config, ctx=ctx), figures(config, ctx=ctx + 1)
    assert then["kv_cache.total_bytes"] - now["kv_cache.total_bytes"] == now["kv_cache.marginal_bytes_per_token"]


@given(budget=st.integers(1, 2**34), ctx=st.integers(1, 10**5))
@settings(max_examples=40, deadline=None)
def test_fit_is_the_largest_that_fits(budget: int, ctx: int) -> None:
    model = architecture_of(TINY)
    fit = Fit(model, budget=budget, ctx=ctx)
    assert fit.tokens is not None
    assert fit.sequences is not None

    def cost(tokens: int) -> float:
        return kv_cache(model, ctx=tokens).figures()["kv_cache.total_bytes"] if tokens else 0

    assert cost(fit.tokens) <= budget < cost(fit.tokens + 1)
    assert fit.sequences * cost(ctx) <= budget < (fit.sequences + 1) * cost(ctx)


@given(kv_heads=st.sampled_from([1, 2, 4, 8]))
@settings(max_examples=10, deadline=None)
def test_mha_equals_gqa_with_as_many_heads(kv_heads: int) -> None:
    model = architecture_of(TINY)
    direct = architecture_of({**TINY, "num_key_value_heads": kv_heads})
    assert with_kv_heads(model, kv_heads).stacks == direct.stacks
    assert with_kv_heads(model, None).stacks == architecture_of({**TINY, "num_key_value_heads": 8}).stacks
