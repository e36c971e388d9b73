"""Memory of layers, whole steps and prefill: the walk ``==`` what torch really keeps and allocates."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from tests.formulas.tape_cases import ATTENTION, DENSE, MIXTURES
from tests.oracles import torch_memory
from tests.reference.tiny import D, attention, decoder, layer
from txcalc.architecture import Layer, Model
from txcalc.configs import architecture_of
from txcalc.expression import symbol
from txcalc.formulas.tape.blocks import layer as walk_layer
from txcalc.formulas.tape.core import Tape, Value
from txcalc.formulas.tape.moments import Moment, pass_moments, training_step
from txcalc.formulas.tape.parts import How
from txcalc.formulas.tape.walk import PRECISIONS, Pass, Walk
from txcalc.reference import attention as reference_attention

MODES = ("fp32", "bf16", "autocast")


def asked(batch: int, tokens: int, precision: str, backend: str) -> Pass:
    T = symbol("T", tokens)
    return Pass(B=symbol("B", batch), T=T, S=T, precision=PRECISIONS[precision], backend=backend)  # type: ignore[arg-type]


def walked(described: Layer, precision: str, backend: str, recompute: bool = False) -> torch_memory.Layer:
    """A layer of the tiny width as a dispatch mode would see it; the gradient of its output is the caller's."""
    tape = Tape(observed=True)
    w = Walk(tape, asked(2, 7, precision, backend))
    x = tape.new("input", w.n * D, PRECISIONS[precision].parameter, needs_grad=True)

    def run() -> Value:
        return walk_layer(w, described, x)

    y = tape.recompute((x,), run) if recompute else run()
    saved, forward = sum(store.bytes for store in tape.kept()), tape.peak().bytes
    tape.drop(*w.casts)
    w.casts.clear()
    gradient = tape.new_grad(y)
    tape.hold(gradient.store)
    tape.drop(y)
    tape.peak()
    tape.backward(y, gradient)
    return torch_memory.Layer(saved, forward, max(tape.with_tables.bytes, tape.peak().bytes))


def assert_layer_equals_torch(described: Layer, precision: str, backend: str, recompute: bool = False) -> None:
    truth = torch_memory.first_layer(
        decoder(described), 2, 7, precision=precision, backend=backend, recompute=recompute
    )
    ours = walked(described, precision, backend, recompute)
    if recompute:  # a checkpoint's own hooks keep its saved tensors from ours
        truth = truth._replace(saved=ours.saved)
    assert ours == truth


@pytest.mark.parametrize("precision", MODES)
@pytest.mark.parametrize("backend", ["flash", "eager", "math"])
@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str, backend: str, precision: str) -> None:
    if backend == "math" and name in ("softcap", "sinks"):
        pytest.skip("only eager has it")
    assert_layer_equals_torch(layer(attention(**ATTENTION[name])), precision, backend)


@pytest.mark.parametrize(("precision", "recompute"), itertools.product(MODES, [False, True]))
@pytest.mark.parametrize("name", DENSE)
def test_layers(name: str, precision: str, recompute: bool) -> None:
    assert_layer_equals_torch(DENSE[name], precision, "flash", recompute)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", MIXTURES)
def test_what_a_mixture_keeps_does_not_depend_on_the_routing(name: str, precision: str) -> None:
    """What is live in its backward pass does: the reference scatters each expert's gradient into all of them."""
    truth = torch_memory.first_layer(decoder(MIXTURES[name]), 2, 7, precision=precision, backend="flash")
    ours = walked(MIXTURES[name], precision, "flash")
    assert (ours.saved, ours.forward) == (truth.saved, truth.forward)


# ---- random shapes --------------------------------------------------------------------------------------------------

LLAMA: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 48, "intermediate_size": 80,
    "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": 101, "head_dim": 10,
    "max_position_embeddings": 64,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 48, "n_layer": 3, "n_head": 6,
    "vocab_size": 101, "n_positions": 64,
}  # fmt: skip


@st.composite
def llamas(draw: st.DrawFn) -> dict[str, Any]:
    kv_heads = draw(st.integers(1, 3))
    return {
        **LLAMA,
        "hidden_size": 2 * draw(st.integers(2, 30)),
        "intermediate_size": draw(st.integers(1, 90)),
        "num_attention_heads": kv_heads * draw(st.integers(1, 4)),
        "num_key_value_heads": kv_heads,
        "head_dim": 2 * draw(st.integers(1, 8)),
        "vocab_size": draw(st.integers(2, 300)),
        "num_hidden_layers": draw(st.integers(1, 4)),
        "tie_word_embeddings": draw(st.booleans()),
        "attention_bias": draw(st.booleans()),
    }


@st.composite
def gpts(draw: st.DrawFn) -> dict[str, Any]:
    heads = draw(st.integers(1, 5))
    return {
        **GPT2,
        "n_embd": heads * draw(st.integers(2, 12)),
        "n_head": heads,
        "n_inner": draw(st.integers(1, 120)),
        "vocab_size": draw(st.integers(2, 300)),
        "n_layer": draw(st.integers(1, 4)),
    }


shapes = st.one_of(llamas(), gpts()).map(architecture_of)
lengths = st.tuples(st.integers(1, 3), st.integers(2, 12))
backends = st.sampled_from(["flash", "eager"])
modes = st.sampled_from(MODES)


@given(model=shapes, length=lengths, precision=modes, backend=backends, recompute=st.booleans())
@settings(max_examples=60, deadline=None)
def test_saved_for_backward(
    model: Model, length: tuple[int, int], precision: str, backend: str, recompute: bool
) -> None:
    """Bytes that autograd's nodes hold after the forward pass of a layer, each storage once."""
    step = training_step(model.main, model.head, asked(*length, precision, backend), How(recompute, observed=True))  # type: ignore[arg-type]
    if recompute:  # a checkpoint keeps its input alone
        assert step.layers[0].kept_bytes == length[0] * length[1] * model.main.hidden_size * step.embedding.out.width
    else:
        truth = torch_memory.first_layer(model, *length, precision=precision, backend=backend)
        assert step.layers[0].kept_bytes == truth.saved


def peaks(model: Model, length: tuple[int, int], precision: str, backend: str, how: How) -> tuple[int, int]:
    """(highest moment up to the loss, highest moment after it)."""
    assert model.head is not None
    moments = training_step(model.main, model.head, asked(*length, precision, backend), how).moments()
    back = [moment.bytes for moment in moments if "backward" in moment.name]
    return max(moment.bytes for moment in moments if "backward" not in moment.name), max(back)


@given(
    model=shapes, length=lengths, precision=modes, backend=backends, recompute=st.booleans(), accumulate=st.booleans()
)
@settings(max_examples=60, deadline=None)
def test_peaks_of_a_training_step(
    model: Model, length: tuple[int, int], precision: str, backend: str, recompute: bool, accumulate: bool
) -> None:
    """The highest sum of live storages before and after the loss, as a dispatch mode sees it, to the byte."""
    truth = torch_memory.training_peaks(
        model, *length, precision=precision, backend=backend, recompute=recompute, accumulate=accumulate
    )
    assert peaks(model, length, precision, backend, How(recompute, accumulate, observed=True)) == truth


# ---- other models, whole --------------------------------------------------------------------------------------------

BERT: dict[str, Any] = {
    "model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 48, "intermediate_size": 80,
    "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 101, "max_position_embeddings": 64,
}  # fmt: skip
OTHERS: dict[str, dict[str, Any]] = {
    "mistral": {**LLAMA, "model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 4},
    "gemma2": {
        **LLAMA, "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "sliding_window": 4,
        "query_pre_attn_scalar": 10,
    },
    "qwen3": {**LLAMA, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]},
    "bert": BERT,
    "ultrabert": {
        **BERT, "model_type": "ultrabert", "architectures": ["UltrabertForMaskedLM"], "num_key_value_heads": 2,
        "sliding_window": 3, "prediction_head_size": 20,
    },
    "opt": {
        "model_type": "opt", "architectures": ["OPTForCausalLM"], "hidden_size": 48, "ffn_dim": 80,
        "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 101, "max_position_embeddings": 64,
        "word_embed_proj_dim": 24,
    },
    "bloom": {
        "model_type": "bloom", "architectures": ["BloomForCausalLM"], "hidden_size": 48, "n_layer": 3, "n_head": 6,
        "vocab_size": 101,
    },
    "gptj": {
        "model_type": "gptj", "architectures": ["GPTJForCausalLM"], "n_embd": 48, "n_layer": 3, "n_head": 6,
        "rotary_dim": 4, "vocab_size": 101, "n_positions": 64,
    },
    "deepseek_v3, dense": {
        "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "hidden_size": 48,
        "intermediate_size": 80, "moe_intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 6,
        "num_key_value_heads": 6, "q_lora_rank": 12, "kv_lora_rank": 10, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4,
        "v_head_dim": 6, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
        "first_k_dense_replace": 3, "vocab_size": 101, "max_position_embeddings": 64,
    },
}  # fmt: skip


@pytest.mark.parametrize(("precision", "recompute"), [("fp32", False), ("bf16", True), ("autocast", False)])
@pytest.mark.parametrize("name", OTHERS)
def test_other_models(name: str, precision: str, recompute: bool) -> None:
    model = architecture_of(OTHERS[name])
    truth = torch_memory.training_peaks(model, 2, 9, precision=precision, backend="flash", recompute=recompute)
    assert peaks(model, (2, 9), precision, "flash", How(recompute, observed=True)) == truth


@pytest.mark.parametrize("backend", ["flash", "eager", "math"])
@pytest.mark.parametrize("config", [LLAMA, GPT2, BERT], ids=["llama", "gpt2", "bert"])
@pytest.mark.parametrize(("recompute", "accumulate"), itertools.product([False, True], [False, True]))
def test_the_allocator_agrees(config: dict[str, Any], backend: str, recompute: bool, accumulate: bool) -> None:
    """As torch really runs, gradients added in place: the profiler's events of the allocator, in fp32.

    One difference is left, and has a name: where Python multiplies a tensor by a number (the scale of the scores, in
    eager attention), the node keeps the number as 8 bytes, which no hook sees: one a layer, four where recomputation
    overlaps them.
    """
    model = architecture_of(config)
    whole = torch_memory.built(model, "fp32", backend)
    if recompute:
        whole.checkpoint_layers()
    step = torch_memory.training_step(whole, 3, 20, "fp32")
    step.loss().backward()
    if not accumulate:
        whole.zero_grad(set_to_none=True)
    truth = torch_memory.allocator_peak(lambda: step.loss().backward())
    ours = max(peaks(model, (3, 20), "fp32", backend, How(recompute, accumulate)))
    numbers = 4 if backend == "eager" else 0
    assert truth - ours in range(0, 8 * numbers + 1, 8)


@pytest.mark.parametrize("precision", MODES)
@pytest.mark.parametrize("backend", ["flash", "eager"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "bloom"])
def test_recomputed_scores(name: str, backend: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Selective recomputation: a checkpoint around the attention product keeps q, k, v, and its mask and bias."""
    original = reference_attention.attend
    again = functools.partial(checkpoint, original, use_reentrant=False)
    monkeypatch.setattr(reference_attention, "attend", lambda *product: again(*product))
    model = architecture_of({"llama": LLAMA, "gpt2": GPT2, **OTHERS}[name])
    truth = torch_memory.training_peaks(model, 2, 9, precision=precision, backend=backend)
    how, question = How(observed=True), asked(2, 9, precision, backend).replace(recompute_scores=True)
    assert model.head is not None
    moments = training_step(model.main, model.head, question, how).moments()
    assert max(moment.bytes for moment in moments) == max(truth)


@pytest.mark.parametrize(("precision", "recompute"), itertools.product(MODES, [False, True]))
@pytest.mark.parametrize("backend", ["math", "eager"])
@pytest.mark.parametrize("config", [LLAMA, GPT2, BERT], ids=["llama", "gpt2", "bert"])
def test_dropout(config: dict[str, Any], backend: str, precision: str, recompute: bool) -> None:
    """On the CPU dropout is not fused: its noise is as wide as its input."""
    model = architecture_of(config)
    truth = torch_memory.training_peaks(
        model, 2, 9, precision=precision, backend=backend, recompute=recompute, dropout=0.1
    )
    question = asked(2, 9, precision, backend).replace(dropout=True)
    assert model.head is not None
    moments = training_step(model.main, model.head, question, How(recompute, observed=True)).moments()
    assert max(moment.bytes for moment in moments) == max(truth)


# ---- prefill --------------------------------------------------------------------------------------------------------


def highest(model: Model, length: tuple[int, int], precision: str, backend: str, *, last: bool) -> Moment:
    moments = pass_moments(model.main, model.head, asked(*length, precision, backend), last=last, observed=True)
    return max(moments, key=lambda moment: moment.bytes)


@given(
    model=shapes, length=lengths, precision=st.sampled_from(["fp32", "bf16"]), last=st.booleans(), cached=st.booleans()
)
@settings(max_examples=50, deadline=None)
def test_peak_of_prefill(model: Model, length: tuple[int, int], precision: str, last: bool, cached: bool) -> None:
    backend = "eager" if cached != last else "flash"
    truth = torch_memory.prefill_peak(model, *length, precision=precision, backend=backend, last=last, cached=cached)
    assert highest(model, length, precision, backend, last=last).bytes == truth


@pytest.mark.parametrize("backend", ["flash", "eager"])
@pytest.mark.parametrize("name", OTHERS)
def test_prefill_of_other_models(name: str, backend: str) -> None:
    model = architecture_of(OTHERS[name])
    truth = torch_memory.prefill_peak(
        model,
        2,
        9,
        precision="bf16",
        backend=backend,
        last=True,
        cached=model.main.role == "decoder" and name != "bert",
    )
    assert highest(model, (2, 9), "bf16", backend, last=True).bytes == truth


@pytest.mark.parametrize("backend", ["flash", "eager"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "qwen3", "gemma2", "bloom"])
def test_peak_of_a_decoding_step(name: str, backend: str) -> None:
    """One token a sequence against a cache, which holds keys, values and whatever never changes."""
    model = architecture_of({"llama": LLAMA, "gpt2": GPT2, **OTHERS}[name])
    truth = torch_memory.decode_peak(model, 2, 12, precision="fp32", backend=backend)
    question = asked(2, 12, "fp32", backend).replace(T=symbol("T", 1), cached=True)
    moments = pass_moments(model.main, model.head, question, last=True, observed=True)
    assert max(moment.bytes for moment in moments) == truth


# ---- by hand --------------------------------------------------------------------------------------------------------


def kept_per_token(config: dict[str, Any], precision: str, tokens: int = 8) -> float:
    model = architecture_of(config)
    assert model.head is not None
    step = training_step(model.main, model.head, asked(1, tokens, precision, "flash"), How())
    return step.layers[0].kept_bytes / tokens


def test_llama3_8b_by_hand() -> None:
    """b (2 q + 2 c + 4 f) + 4 a + 8 + 16 h with b = 2, q = 4,096, c = 1,024, f = 14,336, a = 32, h = 4,096: 200,840.

    q, k, v and the output of attention once each (q + 2 c + q); gate, up, their activation and product; a number a head
    (log-sum-exp, fp32); each of two RMSNorms: its input and its result in fp32, twice in bf16, and a number a token.
    """
    shape = {**LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32}
    shape |= {"num_key_value_heads": 8, "head_dim": 128, "num_hidden_layers": 1}
    assert kept_per_token(shape, "bf16") == 200_840


def test_gpt2_by_hand() -> None:
    """b (8 h + 2 f) + 4 a + 4 b with b = 2, h = 768, f = 3,072, a = 12: 24,632; Korthikanti's 34 h less two masks of h.

    Two LayerNorms keep input and output (4 h), attention q, k, v and its output (4 h), GELU its input and output (2 f).
    """
    assert kept_per_token({**GPT2, "n_embd": 768, "n_head": 12, "n_layer": 1}, "bf16") == 24_632
    assert 24_632 - 4 * 12 - 4 * 2 == (34 - 2) * 768


# ---- negative controls ----------------------------------------------------------------------------------------------


def test_the_comparison_notices_what_is_not_kept() -> None:
    """Multi-query instead of grouped heads: 2 * 8 fewer channels of keys and values a token."""
    truth = torch_memory.first_layer(decoder(layer(attention())), 2, 7, precision="fp32", backend="flash")
    other = walked(layer(attention(num_key_value_heads=1)), "fp32", "flash")
    assert truth.saved - other.saved == 2 * 7 * (2 * 8) * 4


def test_the_comparison_notices_a_peak_that_forgets_gradients() -> None:
    model = architecture_of(LLAMA)
    truth = torch_memory.training_peaks(model, 2, 7, precision="fp32", backend="flash", accumulate=True)
    assert peaks(model, (2, 7), "fp32", "flash", How(observed=True)) != truth


def test_the_tracker_agrees_with_the_allocator_on_prefill() -> None:
    """In fp32 no kernel of a prefill needs scratch at its peak: two ways of looking, one number."""
    model = architecture_of(LLAMA)
    whole = torch_memory.built(model, "fp32", "flash").eval()
    inputs = torch.randint(0, 101, (2, 9))

    def run() -> None:
        with torch.no_grad():
            whole(inputs, last_only=True)

    run()
    by_mode = torch_memory.prefill_peak(model, 2, 9, precision="fp32", backend="flash", last=True, cached=False)
    assert torch_memory.allocator_peak(run) == by_mode
