"""Choosing tokens: against transformers' own processors, by hand, and by what must always hold."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.oracles import transformers_tiny
from tests.reference.published import config
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.reference import Transformer, build
from txcalc.reference.generate import Sampling, distribution, generate
from txcalc.reference.weights import load_state_dict_from


def theirs(logits_V: Tensor, s: Sampling, seen: list[int]) -> Tensor:
    """transformers' processors in the order in which its generate applies them."""
    ids, scores = torch.tensor([seen]), logits_V[None].clone()
    processors = [
        RepetitionPenaltyLogitsProcessor(s.repetition_penalty) if s.repetition_penalty != 1 else None,
        TemperatureLogitsWarper(s.temperature) if s.temperature != 1 else None,
        TopKLogitsWarper(s.top_k) if s.top_k else None,
        TopPLogitsWarper(s.top_p) if s.top_p < 1 else None,
    ]
    for processor in processors:
        scores = scores if processor is None else processor(ids, scores)
    return scores[0].softmax(-1)


settings_of = st.builds(
    Sampling,
    temperature=st.sampled_from([0.3, 0.7, 1.0, 1.9]),
    top_k=st.integers(0, 30),
    top_p=st.sampled_from([0.11, 0.5, 0.73, 0.95, 1.0]),
    repetition_penalty=st.sampled_from([0.8, 1.0, 1.3]),
)


@settings(max_examples=60, deadline=None)
@given(sampling=settings_of, seed=st.integers(0, 1000))
def test_the_distribution_is_transformers(sampling: Sampling, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits_V = torch.randn(25, generator=generator) * 3
    seen = torch.randint(0, 25, (4,), generator=generator).tolist()
    torch.testing.assert_close(distribution(logits_V, sampling, seen), theirs(logits_V, sampling, seen))


def test_by_hand() -> None:
    """Probabilities 0.5, 0.3, 0.2: the nucleus of 0.6 is the first two, 5/8 and 3/8; the best two likewise."""
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    expected = torch.tensor([0.625, 0.375, 0.0])
    torch.testing.assert_close(distribution(logits, Sampling(temperature=1.0, top_p=0.6)), expected)
    torch.testing.assert_close(distribution(logits, Sampling(temperature=1.0, top_k=2)), expected)
    squared = torch.tensor([25, 9, 4]) / 38  # temperature 1/2 squares them
    torch.testing.assert_close(distribution(logits, Sampling(temperature=0.5)), squared)
    assert distribution(logits, Sampling()).tolist() == [1, 0, 0]


def test_the_penalty_by_hand() -> None:
    """CTRL's: 2 becomes 1, -1 becomes -2; what was not there stays."""
    logits = torch.tensor([2.0, -1.0, 3.0])
    expected = torch.tensor([1.0, -2.0, 3.0]).softmax(-1)
    penalised = distribution(logits, Sampling(temperature=1.0, repetition_penalty=2.0), [0, 1, 1])
    torch.testing.assert_close(penalised, expected)


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -0.1}, {"temperature": float("nan")}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1},
     {"repetition_penalty": 0.0}],
)  # fmt: skip
def test_values_out_of_range_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]  # the point


# ---- whole texts ----------------------------------------------------------------------------------------------------


@cache
def pair(model_type: str) -> tuple[Transformer, transformers.PreTrainedModel]:
    fields = config(model_type)
    other = transformers_tiny.made(fields)
    other.generation_config.eos_token_id = None  # random weights mean nothing by it
    model = architecture_of(fields)
    return load_state_dict_from(build(model), model, other.state_dict()), other


PROMPT = [5, 9, 33, 4, 60]


@pytest.mark.parametrize("model_type", ["llama", "mistral", "gpt2", "gemma2", "qwen3_next", "deepseek_v3"])
def test_greedy_text_is_transformers_token_for_token(model_type: str) -> None:
    """With a penalty for repetition: random weights repeat themselves otherwise, and a dull text proves little."""
    ours, other = pair(model_type)
    written = list(generate(ours, PROMPT, max_new_tokens=20, sampling=Sampling(repetition_penalty=1.5)))
    expected = other.generate(
        torch.tensor([PROMPT]),
        max_new_tokens=20,
        do_sample=False,
        repetition_penalty=1.5,
        pad_token_id=0,
    )
    assert written == expected[0, len(PROMPT) :].tolist()
    assert len(set(written)) > 5, "too dull a text to tell right from wrong"


def test_greedy_text_of_an_encoder_decoder_is_transformers() -> None:
    ours, other = pair("t5")
    source = torch.tensor([[7, 8, 9, 10, 11]])
    with torch.no_grad():
        encoded = ours.encode(source)
    written = list(generate(ours, [0], max_new_tokens=12, encoded=encoded))
    expected = other.generate(source, max_new_tokens=12, do_sample=False, decoder_start_token_id=0, pad_token_id=0)
    assert written == expected[0, 1:].tolist()


def test_a_long_prompt_may_run_in_chunks() -> None:
    ours, _ = pair("llama")
    prompt = [(7 * i) % 60 + 3 for i in range(37)]
    assert list(generate(ours, prompt, max_new_tokens=9, chunk=5)) == list(generate(ours, prompt, max_new_tokens=9))


def test_a_seed_fixes_the_text() -> None:
    ours, _ = pair("llama")

    def drawn(seed: int) -> list[int]:
        return list(generate(ours, PROMPT, max_new_tokens=20, sampling=Sampling(temperature=1.0, seed=seed)))

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_draws_follow_the_distribution() -> None:
    """400 first tokens: each of the three likeliest within four standard deviations of its expected count."""
    ours, _ = pair("llama")
    with torch.no_grad():
        logits = ours(torch.tensor([PROMPT]), last_only=True).logits
    assert logits is not None
    expected = distribution(logits[0, -1] * 8, Sampling(temperature=1.0))
    drawn = torch.zeros(len(expected))
    for seed in range(400):
        sampling = Sampling(temperature=1 / 8, seed=seed)
        drawn[next(generate(ours, PROMPT, max_new_tokens=1, sampling=sampling))] += 1
    best = expected.topk(3).indices
    deviation = (400 * expected * (1 - expected)).sqrt()
    assert ((drawn - 400 * expected).abs() < 4 * deviation)[best].all()


def test_a_stop_token_ends_the_text_and_is_not_part_of_it() -> None:
    ours, _ = pair("llama")
    whole = list(generate(ours, PROMPT, max_new_tokens=20))
    stop = whole[4]
    assert list(generate(ours, PROMPT, max_new_tokens=20, stop=[stop])) == whole[: whole.index(stop)]


def test_tokens_come_as_they_are_made() -> None:
    """The second is not computed before it is asked for."""
    ours, _ = pair("llama")
    calls = []
    handle = ours.register_forward_pre_hook(lambda *_: calls.append(1))
    tokens = generate(ours, PROMPT, max_new_tokens=20)
    next(tokens)
    handle.remove()
    assert len(calls) == 1


def test_a_penalty_above_one_repeats_less() -> None:
    ours, _ = pair("llama")
    plain = list(generate(ours, PROMPT, max_new_tokens=30))
    varied = list(generate(ours, PROMPT, max_new_tokens=30, sampling=Sampling(repetition_penalty=10.0)))
    assert len(set(varied)) > len(set(plain))


@pytest.mark.parametrize(
    ("model_type", "prompt", "count", "part"),
    [
        ("bert", [5], 4, "writes no text"),
        ("llama", [], 4, "no tokens"),
        ("llama", [5], 0, "max_new_tokens is 0"),
        ("llama", [67], 4, "outside the vocabulary of 67"),
        ("gpt2", [5] * 60, 6, "need 65 positions; gpt2 has 64"),
        ("opt", [5] * 60, 6, "need 65 positions; opt has 64"),
    ],
)
def test_what_cannot_be_written_is_refused(model_type: str, prompt: list[int], count: int, part: str) -> None:
    model = build(architecture_of(config(model_type)))
    with pytest.raises(RequestError, match=part):
        next(generate(model, prompt, max_new_tokens=count))


def test_the_last_position_can_be_used() -> None:
    model = build(architecture_of(config("gpt2")))
    assert len(list(generate(model, [5] * 60, max_new_tokens=5))) == 5
