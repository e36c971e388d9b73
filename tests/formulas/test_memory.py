"""Memory of inference: the sum of what is stored and the highest moment, against the reference model as it runs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formulas.test_tape import GPT2, LLAMA, gpts, llamas
from tests.formulas.test_training import LLAMA3_8B
from tests.oracles import torch_memory
from txcalc.cards import load
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.formulas.memory import memory

FIGURES = ("total", "weights", "kv_cache", "activations", "logits", "allowances", "with_allowances")


def figures(config: dict[str, Any], **asked: Any) -> dict[str, int | float]:
    return memory(architecture_of(config), **{"ctx": 64, **asked}).figures()


@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
@pytest.mark.parametrize(("backend", "dtype"), [("flash", "float32"), ("eager", "float32"), ("flash", "bfloat16")])
def test_total_equals_what_the_reference_holds(config: dict[str, Any], backend: str, dtype: str) -> None:
    """Bytes of parameters and cache as torch allocates them, and the tracker's peak of prefill beside them.

    In fp32 and without scores the two ways of looking agree; the cache holds rotary frequencies besides.
    """
    model = architecture_of({**config, "torch_dtype": dtype})
    precision = {"float32": "fp32", "bfloat16": "bf16"}[dtype]
    whole = torch_memory.built(model, precision, backend).eval()
    cache = whole.new_cache(batch=2, ctx=20)
    stored = sum(p.nbytes for p in whole.parameters()) + cache.nbytes
    peak = torch_memory.prefill_peak(model, 2, 20, precision=precision, backend=backend, last=True, cached=True)
    assert memory(model, ctx=20, batch=2, backend=backend).find("memory.total").value == stored + peak  # type: ignore[arg-type]


def test_llama3_8b_by_hand() -> None:
    """At 8,192 tokens: 16,060,522,496 of weights, 1 GiB of cache, and in the feed-forward the first states, the layer's
    input, the stream and the norm's output (4 * 4,096), gate, up, their activation and product (4 * 14,336), 2 bytes;
    cosines and sines 2 * 64 * 2 and positions 8 a token; 64 frequencies of 4 bytes.
    """
    found = figures(LLAMA3_8B, ctx=8192)
    assert found["memory.weights"] == 16_060_522_496
    assert found["memory.kv_cache"] == 1_073_741_824
    assert found["memory.activations"] == 8192 * (2 * (4 * 4096 + 4 * 14336) + 2 * 64 * 2 + 8) + 64 * 4
    assert found["memory.total"] == sum(found[f"memory.{name}"] for name in ("weights", "kv_cache", "activations"))
    assert found["memory.logits"] == 2 * 128256


def test_allowances_never_enter_the_exact_sum() -> None:
    tree = memory(architecture_of(LLAMA3_8B), ctx=1024)
    assert tree.find("memory.total").basis == "exact"
    for key in ("memory.allowances", "memory.with_allowances"):
        node = tree.find(key)
        assert (node.basis, bool(node.reason), node.aside) == ("estimated", True, True)
    for row in tree.find("memory.allowances").children:
        assert row.basis == "estimated"
        assert row.source
        assert row.reason
    found = tree.figures()
    assert found["memory.with_allowances"] == found["memory.total"] + found["memory.allowances"]


def test_eager_holds_scores_and_flash_none() -> None:
    """32 heads * 8,192 * 8,192 scores: masked in bf16, their softmax in fp32 and in bf16: 8 bytes each, 16 GiB."""
    eager, flash = (figures(LLAMA3_8B, ctx=8192, backend=name)["memory.activations"] for name in ("eager", "flash"))
    assert eager > 8 * 32 * 8192 * 8192 > 7 * flash


@given(config=st.one_of(llamas(), gpts()), ctx=st.integers(2, 50), batch=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_batched_tokens_are_what_flash_counts(config: dict[str, Any], ctx: int, batch: int) -> None:
    """So many tokens in one sequence need no less than in several: tables are shared by sequences, logits are not."""
    one = figures(config, ctx=ctx, batch=1, batched_tokens=ctx * batch)["memory.activations"]
    several = figures(config, ctx=ctx, batch=batch)["memory.activations"]
    rows = figures(config, ctx=ctx, batch=batch)["memory.logits"]
    assert one >= several - rows


def test_decoding_needs_little() -> None:
    decode, prefill = (figures(LLAMA3_8B, ctx=8192, phase=name) for name in ("decode", "prefill"))
    assert decode["memory.activations"] * 1000 < prefill["memory.activations"]
    assert decode["memory.kv_cache"] == prefill["memory.kv_cache"]


def test_quantised_weights_leave_cache_and_activations_alone() -> None:
    packed, plain = figures(LLAMA3_8B, dtype="q4_k"), figures(LLAMA3_8B)
    assert packed["memory.kv_cache"] == plain["memory.kv_cache"]
    assert packed["memory.activations"] == plain["memory.activations"]
    assert packed["memory.weights"] < plain["memory.weights"] / 2.5


def test_every_figure_is_there() -> None:
    assert set(figures(LLAMA3_8B)) >= {f"memory.{name}" for name in FIGURES}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("qwen3-next-80b-a3b", "no memory formula yet for gated delta nets"),
        ("t5-small", "no memory formula yet for cross-attention"),
        ("mixtral-8x7b", "how many tokens an expert gets depends on the data"),
    ],
)
def test_what_is_not_known_is_an_estimate_beside_the_sum(name: str, reason: str) -> None:
    tree = memory(load(name), ctx=256)
    activations = tree.find("memory.activations")
    assert (activations.basis, activations.aside) == ("estimated", True)
    assert reason in activations.reason
    found = tree.figures()
    exact = found["memory.weights"] + found["memory.kv_cache"]
    assert tree.find("memory.total").basis == "exact"
    assert found["memory.total"] >= exact  # recurrent state, where there is one


@pytest.mark.parametrize(
    "wrong", [{"ctx": 0}, {"batch": 0}, {"backend": "cudnn"}, {"phase": "train"}, {"batched_tokens": 0}, {"dtype": "x"}]
)
def test_bad_requests(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        figures(LLAMA, **wrong)


def test_the_comparison_notices_a_copy_that_is_not_counted() -> None:
    """Negative control: one hidden state a token less, and the sum is not what torch holds."""
    model = architecture_of({**LLAMA, "torch_dtype": "float32"})
    truth = torch_memory.prefill_peak(model, 2, 20, precision="fp32", backend="flash", last=True, cached=True)
    smaller = architecture_of({**LLAMA, "torch_dtype": "float32", "intermediate_size": 79})
    assert memory(smaller, ctx=20, batch=2).find("memory.activations").value != truth
