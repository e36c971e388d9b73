"""CPM-Ant against transformers: a learned prompt before every text is in counts, FLOPs and cache; what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, maybe, read, small
from tests.width import Width, assert_default, assert_heads, flags, split_width, varied, width
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.attention import attention
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache
from txcalc.reference import build

TINY: dict[str, Any] = {
    "model_type": "cpmant", "architectures": ["CpmAntForCausalLM"], "vocab_size": 30, "hidden_size": 24, "dim_head": 10,
    "num_attention_heads": 3, "dim_ff": 20, "num_hidden_layers": 2, "position_bias_num_buckets": 32, "prompt_length": 4,
    "prompt_types": 5, "segment_types": 3,
}  # fmt: skip
CPMANT: Width = width(
    "cpmant",
    "CpmAnt",
    "ForCausalLM Model",
    kin=split_width(),
    vocab_size=small,
    num_hidden_layers=st.integers(1, 3),
    dim_head=maybe(st.integers(1, 9)),
    dim_ff=small,
    prompt_types=maybe(st.integers(0, 4)),
    prompt_length=maybe(st.integers(0, 6)),
    segment_types=maybe(st.integers(1, 5)),
    position_bias_num_buckets=small,
    tie_word_embeddings=flags,
)


def test_default_and_every_class() -> None:
    assert_default(CPMANT)
    assert_heads(CPMANT)


@settings(max_examples=15, deadline=None)
@given(config=varied(CPMANT))
def test_varied(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_the_comparison_notices_a_prompt() -> None:
    """Negative control."""
    assert_params_differ_from_meta({**TINY, "prompt_length": 3}, TINY)


def counted(model: Any, **inputs: Any) -> tuple[int, Any]:
    """(FLOPs, output) of one pass."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = model(**inputs, use_cache=True)
    return int(counter.get_total_flops()), output


def test_flops_and_cache() -> None:
    """7 tokens behind a prompt of 4: 11 rows in every layer and in the cache, 7 at the head; then one token more."""
    model = transformers.CpmAntForCausalLM(transformers.AutoConfig.for_model(**TINY)).eval()
    ids = torch.full((2, 7), 9)
    forward, output = counted(model, input_ids=ids)
    assert flops(read(TINY), batch=2, seq=7).figures()["flops.matmul"] == forward
    assert flops(read({**TINY, "prompt_length": 0}), batch=2, seq=7).figures()["flops.matmul"] != forward
    cache = output.past_key_values
    elements = sum(2 * layer.keys.numel() for layer in cache.layers)
    figures = kv_cache(read(TINY), ctx=7, batch=2, kv_dtype="bf16").figures()
    assert figures["kv_cache.total_bytes"] == 2 * elements
    decoded, _ = counted(model, input_ids=torch.full((2, 8), 9), past_key_values=cache)
    assert flops(read(TINY), batch=2, ctx=7, phase="decode").figures()["flops.matmul"] == decoded


def test_scores_are_of_the_prompt_too() -> None:
    """7 tokens behind a prompt of 4: transformers' softmax is over [2, heads, 11, 11], though it returns 7 * 7."""
    model = transformers.CpmAntForCausalLM(transformers.AutoConfig.for_model(**TINY)).eval()
    scores: list[torch.Tensor] = []
    for module in model.modules():
        if isinstance(module, torch.nn.Softmax):
            module.register_forward_hook(lambda *passed: scores.append(passed[2]))
    with torch.no_grad():
        model(input_ids=torch.full((2, 7), 9))
    figures = attention(read(TINY), ctx=7, batch=2).figures()
    assert figures["attention.scores"] == sum(each.numel() for each in scores)
    assert figures["attention.scores_per_head"] == 11**2
    assert attention(read({**TINY, "prompt_length": 0}), ctx=7).figures()["attention.scores_per_head"] == 7**2


def test_the_reference_names_what_it_lacks() -> None:
    with pytest.raises(RequestError, match="a learned prompt before every text"):
        build(read(TINY), device="meta")


def test_another_spelling_is_a_reason() -> None:
    config = {key: value for key, value in TINY.items() if key != "dim_ff"}
    assert len(architecture_of({**config, "intermediate_size": 9}).reasons) == 1


@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        ("encoder-decoder", "ask for each of the two configs by itself"),
        ("musicgen", "streams of sound codes"),
        ("rwkv", "not a transformer"),
        ("xlstm", "not a transformer"),
    ],
)
def test_refused_by_name(model_type: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({"model_type": model_type})
    assert f"model_type '{model_type}' is refused" in caught.value.message
    assert words in caught.value.message
