"""Scores, what backends hold of them, crossings, and the table of ways to mix a sequence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formulas.test_tape import LLAMA, OTHERS, llamas
from tests.formulas.test_training import LLAMA3_8B
from tests.oracles import torch_memory
from txcalc.architecture import Alibi, SelfAttention
from txcalc.cards import load
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.formulas.attention import attention, kinds_of, product_tape
from txcalc.formulas.attention_curves import flops_curves, memory_curves
from txcalc.formulas.flops import flops
from txcalc.formulas.memory import asked_pass, fallbacks
from txcalc.measure.saved import saved_bytes
from txcalc.measure.tracker import Tracker
from txcalc.reference.backends import Backend, Product, attend
from txcalc.result import Node


def figures(config: dict[str, Any], **asked: Any) -> dict[str, int | float]:
    return attention(architecture_of(config), **{"ctx": 64, **asked}).figures()


def test_llama3_8b_by_hand() -> None:
    """At 32,768 tokens 2**30 pairs a head, 32 heads, 32 layers; two bytes each. Scores and values cost 4 * 2**30 * 32 *
    128 FLOPs a layer, half of what all products together cost: 4 * 32,768 * ... is written out in the FLOPs tests.
    """
    found = figures(LLAMA3_8B, ctx=32 * 1024)
    assert found["attention.scores_per_head"] == 2**30
    assert found["attention.scores_per_layer"] == 32 * 2**30
    assert found["attention.scores"] == 32 * 32 * 2**30
    assert found["attention.score_bytes"] == 2 * 32 * 32 * 2**30
    products = 32 * 4 * 2**30 * 32 * 128
    matrices = 2 * 32 * 1024 * (8_030_261_248 - 128256 * 4096 - 65 * 4096)
    assert found["attention.flops_share"] == products / (products + matrices)


def test_the_crossing_is_where_the_flops_cross() -> None:
    """3 * 4,096 * 14,336 parameters of a feed-forward against 32 * (128 + 128) channels: 21,504 tokens."""
    assert figures(LLAMA3_8B)["attention.crossover_ctx"] == 21_504
    model = architecture_of(LLAMA3_8B)
    fed = 32 * 3 * 4096 * 14336
    for ctx in (21_503, 21_504, 21_505):
        products = flops(model, seq=ctx).figures()["flops.attention"]
        assert (products >= 2 * fed * ctx) == (ctx >= 21_504)


@given(config=llamas())
@settings(max_examples=25, deadline=None)
def test_the_crossing_holds_for_any_shape(config: dict[str, Any]) -> None:
    model = architecture_of(config)
    crossing = int(attention(model, ctx=8).find("attention.crossover_ctx").value)
    fed = config["num_hidden_layers"] * 3 * config["hidden_size"] * config["intermediate_size"]
    for ctx in (crossing, max(crossing - 1, 1)):
        products = flops(model, seq=ctx).figures()["flops.attention"]
        assert (products >= 2 * fed * ctx) == (ctx >= crossing)


# ---- what a backend holds -------------------------------------------------------------------------------------------


def torch_product(config: dict[str, Any], ctx: int, batch: int, dtype: torch.dtype, grad: bool) -> Product:
    """Queries, keys and values as the reference model has them: by token, seen by head, turned or not."""
    N, K, H = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    q, k, v = (torch.randn(batch, ctx, n, H, dtype=dtype, requires_grad=grad).transpose(1, 2) for n in (N, K, K))
    return Product(q, k, v, mask="causal", scale=H**-0.5)


@pytest.mark.parametrize("kv_heads", [2, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", ["eager", "math", "flash"])
def test_what_a_backend_holds_equals_the_tracker(backend: str, dtype: torch.dtype, kv_heads: int) -> None:
    """One causal product on tensors that are there: storages live at once, and those that its nodes keep.

    ``observed``: without the byte a score that ``math``'s softmax makes inside its kernel, where no tracker sees it.
    """
    config = {**LLAMA, "num_key_value_heads": kv_heads}
    config["torch_dtype"] = {torch.float32: "float32", torch.bfloat16: "bfloat16"}[dtype]
    model = architecture_of(config)
    tree = attention(model, ctx=24, batch=2, backend=backend)  # type: ignore[arg-type]
    product = torch_product(config, 24, 2, dtype, grad=False)
    with torch.no_grad(), Tracker(product[:3]) as tracker:
        attend(product, Backend(backend))  # type: ignore[arg-type]
    asked = asked_pass(model, ctx=24, batch=2, backend=backend)  # type: ignore[arg-type]
    [kind] = kinds_of(model.main, asked, None)
    assert product_tape(kind, asked, "inference", observed=True).peak().bytes == tracker.peak
    if backend != "math":
        assert tree.find("attention.materialised").value == tracker.peak
    kept = torch_product(config, 24, 2, dtype, grad=True)
    truth = saved_bytes(lambda: attend(kept, Backend(backend)), kept[:3])  # type: ignore[arg-type]
    assert tree.find("attention.saved_for_backward").value == truth


@pytest.mark.parametrize("backend", ["eager", "math"])
@pytest.mark.parametrize("kv_heads", [2, 6])
def test_what_a_backend_holds_equals_the_allocator(backend: str, kv_heads: int) -> None:
    """fp32, where no kernel of eager needs scratch; math's byte a score and row is in the formula. On the CPU a scalar
    operand is a tensor of 8 bytes and of 4 for a moment, before the scores are there and not at the peak.
    """
    config = {**LLAMA, "num_key_value_heads": kv_heads, "torch_dtype": "float32"}
    product = torch_product(config, 24, 2, torch.float32, grad=False)

    def run() -> None:
        with torch.no_grad():
            attend(product, Backend(backend))  # type: ignore[arg-type]

    run()
    tree = attention(architecture_of(config), ctx=24, batch=2, backend=backend)  # type: ignore[arg-type]
    scalars = 4 if backend == "math" else 8  # a scalar that says what a masked row becomes; the scale of the scores
    assert torch_memory.allocator_peak(run) - int(tree.find("attention.materialised").value) in (0, scalars)


def held(tree: Node, backend: str) -> int:
    return int(next(node for node in tree.children if node.name == f"{backend}: live at once in one layer").value)


@given(config=llamas(), ctx=st.integers(2, 200))
@settings(max_examples=30, deadline=None)
def test_flash_is_linear_and_eager_is_not(config: dict[str, Any], ctx: int) -> None:
    model = architecture_of(config)
    one, two = (attention(model, ctx=n) for n in (ctx, 2 * ctx))
    assert held(two, "flash") == 2 * held(one, "flash")
    scores = config["num_attention_heads"] * ctx * ctx
    assert held(one, "eager") >= 2 * scores
    assert held(two, "eager") - 2 * held(one, "eager") >= 2 * 2 * scores


def test_backends_are_all_there_and_one_is_the_headline() -> None:
    tree = attention(architecture_of(LLAMA3_8B), ctx=4096, backend="eager")
    assert tree.find("attention.materialised").value == held(tree, "eager") > 100 * held(tree, "flash")


# ---- masks, kinds ---------------------------------------------------------------------------------------------------


def test_masks_keep_less() -> None:
    """Mistral's window of 4 at 9 tokens: 1 + 2 + 3 + 4 * 6 = 30 of 81 pairs; 6 heads, 3 layers."""
    tree = attention(architecture_of(OTHERS["mistral"]), ctx=9)
    scores = tree.find("attention.scores")
    kept = next(node for node in scores.children if node.name == "kept_by_the_masks")
    assert scores.value == 3 * 6 * 81
    assert kept.value == 3 * 6 * 30


def test_two_stacks_have_three_kinds_of_attention() -> None:
    """T5: encoder and decoder over themselves, the decoder over the encoder's output of another length."""
    tree = attention(load("t5-small"), ctx=10, source_ctx=7)
    rows = {node.name: int(node.value) for node in tree.find("attention.scores").children if not node.aside}
    assert tree.find("attention.scores_per_head").value == 10 * 10  # the decoder's over itself
    assert rows == {
        "encoder, full attention": 6 * 8 * 7 * 7,
        "decoder, full attention": 6 * 8 * 10 * 10,
        "cross attention": 6 * 8 * 10 * 7,
    }


def test_an_encoder_of_one_length_keeps_it() -> None:
    """Whisper's encoder sees 1,500 positions, whatever is written: tiny's 4 layers of 6 heads."""
    whisper = {"model_type": "whisper", "d_model": 384, "encoder_layers": 4, "decoder_layers": 4}
    whisper |= {"encoder_attention_heads": 6, "decoder_attention_heads": 6}
    tree = attention(architecture_of(whisper), ctx=10)
    rows = [int(node.value) for node in tree.find("attention.scores").children if not node.aside]
    assert rows == [24 * 1500 * 1500, 24 * 10 * 10, 24 * 10 * 1500]


def test_equal_kinds_are_one_row() -> None:
    """DeepSeek-V3's 3 dense and 58 sparse layers have the same attention."""
    rows = [node for node in attention(load("deepseek-v3"), ctx=10).find("attention.scores").children if not node.aside]
    assert [(row.name, row.value) for row in rows] == [("latent attention", 61 * 128 * 100)]


@pytest.mark.parametrize(
    ("name", "backend", "runs"),
    [
        ("deepseek-v3", "flash", "math: torch's flash kernel takes keys and values of one width"),
        ("deepseek-v3", "math", ""),
        ("gpt-oss-20b", "flash", "eager: torch's fused product has no sinks beside the scores"),
        ("gpt-oss-20b", "math", "eager: torch's fused product has no sinks beside the scores"),
        ("gemma-2-2b", "flash", "eager: torch's fused product has no caps on the scores"),
        ("llama3-8b", "flash", ""),
        ("gemma-3-27b", "flash", ""),
    ],
)
def test_a_backend_that_cannot_run_says_what_does(name: str, backend: Any, runs: str) -> None:
    """The figures are those of what runs, and say so; so does memory."""
    tree = attention(load(name), ctx=64, backend=backend)
    own = tree.find("attention.materialised")
    assert own.note == (f"runs as {runs}" if runs else "")
    if runs:
        assert own.value == held(tree, runs.partition(":")[0])
    asked = asked_pass(load(name), ctx=64, batch=1, backend=backend)
    assert fallbacks(load(name), asked) == ([f"attention asked as {backend} runs as {runs}"] if runs else [])


def test_the_reference_refuses_what_falls_back() -> None:
    """Negative control: torch itself cannot run these products in its flash kernel."""
    q, k, v = (torch.randn(1, 2, 8, width) for width in (6, 6, 4))
    product = Product(q, k, v, mask="causal", scale=1.0)
    for each in (product, product._replace(v_BKSH=k, softcap=2.0), product._replace(v_BKSH=k, sinks_N=torch.ones(2))):
        with pytest.raises((RequestError, RuntimeError)):
            attend(each, Backend("flash"))
    attend(product._replace(v_BKSH=k), Backend("flash"))


@pytest.mark.parametrize("backend", ["eager", "math", "flash"])
def test_a_bias_of_the_scores_is_what_flash_holds(backend: Any) -> None:
    """ALiBi: a table [N, T, T] that is there; flash makes one of its dtype with the mask in it: n squared too."""
    config = {**LLAMA, "num_key_value_heads": 6, "torch_dtype": "bfloat16"}
    attention_layer = architecture_of(config).main.layers[0].sublayers()[0]
    assert isinstance(attention_layer, SelfAttention)
    biased = attention_layer.replace(position=Alibi(max_bias=8.0))
    asked = asked_pass(architecture_of(config), ctx=24, batch=2, backend=backend)
    kind = next(kinds_of(architecture_of(config).main, asked, None))._replace(attention=biased)
    plain = torch_product(config, 24, 2, torch.bfloat16, grad=False)
    q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in plain[:3])
    product = Product(q, k, v, mask="causal", scale=plain.scale, bias=torch.randn(1, 6, 24, 24))
    with torch.no_grad(), Tracker((q, k, v, product.bias)) as tracker:  # type: ignore[arg-type]
        attend(product, Backend(backend))
    found = product_tape(kind, asked, "inference", observed=True).peak().bytes
    assert found == tracker.peak


def test_a_model_without_attention_is_refused() -> None:
    mamba = {"model_type": "mamba", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 50}
    with pytest.raises(RequestError, match="has no attention"):
        attention(architecture_of(mamba), ctx=8)


@pytest.mark.parametrize("wrong", [{"ctx": 0}, {"batch": 0}, {"window": 0}, {"backend": "triton"}])
def test_bad_requests(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        figures(LLAMA, **wrong)


# ---- ways to mix a sequence -----------------------------------------------------------------------------------------


def test_ways_to_mix_by_hand() -> None:
    """Table 1 of the 2017 paper with n = 1,000, d = 48, 6 heads of 10 over 2 key heads, a window of 100.

    Self-attention 2 * 2 * n^2 * 60; a window 2 * 2 * n * 100 * 60, its path 10; an LSTM 8 d^2 multiply-adds a token; a
    convolution of 4 taps 4 d^2; linear attention an update and a reading of 10 x 10 in each of 6 heads.
    """
    tree = attention(architecture_of(LLAMA), ctx=1000, window=100)
    table = next(node for node in tree.children if node.name == "ways_to_mix_a_sequence")
    found = {row.name: (row.value, *(child.value for child in row.children)) for row in table.children}
    assert found == {
        "self-attention": (4 * 1000**2 * 60, 1, 1, 1000 * 2 * 20),
        "sliding window": (4 * 1000 * 100 * 60, 1, 10, 100 * 2 * 20),
        "local with global tokens": (4 * 1000 * (100 + 2 * 64) * 60, 1, 2, 164 * 2 * 20),
        "linear attention": (4 * 1000 * 6 * 10 * 10, 1, 1, 6 * 10 * 10),
        "recurrent (LSTM)": (16 * 1000 * 48**2, 1000, 1000, 2 * 48),
        "convolution": (2 * 4 * 1000 * 48**2, 1, 250, 3 * 48),
    }


def test_an_lstm_of_that_width_has_as_many_parameters_as_it_multiplies() -> None:
    """torch's own LSTM: 8 d^2 weights, each used once a token: 16 n d^2 FLOPs."""
    lstm = torch.nn.LSTM(48, 48, bias=False)
    tree = attention(architecture_of(LLAMA), ctx=7)
    row = next(row for _, row in tree.walk() if row.name == "recurrent (LSTM)")
    assert row.value == 2 * 7 * sum(p.numel() for p in lstm.parameters())


# ---- curves ---------------------------------------------------------------------------------------------------------


def test_curves_are_the_figures() -> None:
    model = architecture_of(LLAMA3_8B)
    curves = memory_curves(model, (1024, 4096))
    assert curves["eager"] == [held(attention(model, ctx=ctx), "eager") for ctx in (1024, 4096)]
    assert curves["KV cache, all layers"] == [131_072 * 1024, 131_072 * 4096]
    shares = flops_curves(model, (1024, 4096))
    assert [sum(pair) for pair in zip(*shares.values(), strict=True)] == [
        flops(model, seq=ctx).figures()["flops.matmul"] for ctx in (1024, 4096)
    ]


# ---- negative control -----------------------------------------------------------------------------------------------


def test_the_tracker_notices_a_forgotten_copy() -> None:
    """Keys that are not repeated for grouped heads: the reference holds more than that."""
    product = torch_product({**LLAMA, "num_key_value_heads": 2}, 24, 2, torch.float32, grad=False)
    with torch.no_grad(), Tracker(product[:3]) as tracker:
        attend(product, Backend("eager"))
    alike = attention(architecture_of({**LLAMA, "num_key_value_heads": 6, "torch_dtype": "float32"}), ctx=24, batch=2)
    assert held(alike, "eager") != tracker.peak
