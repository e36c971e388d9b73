"""It learns: a model that cannot is not a transformer.

The text is made here, and its entropy is known. Every line is a word of four letters out of eight, a bar, the same word
again, and a newline:

    abhd|abhd
    cfea|cfea

A model is given two lines and predicts all but the first character: 19. Seven of them are free letters and cost ln 8
each; the other twelve follow from what came before. So the best that can be done is 7 ln 8 / 19 = 0.766 nats a
character. Who sees only the character before (a bigram model) cannot tell the second words either: 15 letters cost ln 8
each, 15 ln 8 / 19 = 1.642 at the least. Only looking back five characters gets below that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import log
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from txcalc.configs import architecture_of
from txcalc.reference import Transformer, build

LETTERS, WORD, LINE, LINES = 8, 4, 10, 2
BAR, NEWLINE, MASK, V = 8, 9, 10, 11
PREDICTED = LINES * LINE - 1
BEST = (LINES * WORD - 1) * log(LETTERS) / PREDICTED
BIGRAM = (2 * LINES * WORD - 1) * log(LETTERS) / PREDICTED
MASKED = 0.25  # of the letters

GPT: dict[str, Any] = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 96, "n_layer": 2, "n_head": 4,
    "vocab_size": V, "n_positions": LINE * LINES,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 96, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": V,
}  # fmt: skip
BERT: dict[str, Any] = {
    "model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 96, "intermediate_size": 384,
    "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": V, "max_position_embeddings": LINE * LINES,
}  # fmt: skip

Loss = Callable[[Transformer, Tensor], Tensor]


def text(batch: int, generator: torch.Generator) -> Tensor:
    """Tokens [batch, LINE * LINES]."""
    words = torch.randint(0, LETTERS, (batch, LINES, WORD), generator=generator)
    bars, newlines = (torch.full((batch, LINES, 1), mark) for mark in (BAR, NEWLINE))
    return torch.cat((words, bars, words, newlines), dim=-1).flatten(1)


def next_character(model: Transformer, ids: Tensor) -> Tensor:
    """Mean loss of every character but the first of a text."""
    logits = model(ids[:, :-1]).logits
    assert logits is not None
    return functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())


def masked(seed: int) -> Loss:
    """Mean loss of masked letters."""
    generator = torch.Generator().manual_seed(seed)

    def loss(model: Transformer, ids: Tensor) -> Tensor:
        chosen = (torch.rand(ids.shape, generator=generator) < MASKED) & (ids < LETTERS)
        logits = model(ids.masked_fill(chosen, MASK)).logits
        assert logits is not None
        return functional.cross_entropy(logits[chosen].float(), ids[chosen])

    return loss


def train(
    model: Transformer,
    loss: Loss,
    steps: int,
    *,
    batch: int = 16,
    rate: float = 3e-3,
    parts: int = 1,
    checkpointing: bool = False,
    autocast: bool = False,
) -> list[float]:
    """The loss of every step; AdamW, a linear warm-up of 20 steps."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    model.train().checkpoint_layers(checkpointing)
    curve = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 20)
        ids, total = text(batch, generator), 0.0
        for part in ids.chunk(parts):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                value = loss(model, part) / parts
            value.backward()  # type: ignore[no-untyped-call]  # torch's
            total += value.item()
        optimizer.step()
        optimizer.zero_grad()
        curve.append(total)
    return curve


def made(config: dict[str, Any]) -> Transformer:
    return build(architecture_of(config))


@torch.no_grad()
def held_out(model: Transformer, loss: Loss) -> float:
    """The loss on text that was not trained on."""
    return float(loss(model.eval(), text(256, torch.Generator().manual_seed(99))))


# ---- the entropy of the text ----------------------------------------------------------------------------------------


def test_the_bounds_are_those_of_the_text() -> None:
    """Counted on 40,000 characters: what one or two characters back leave open is more, five back much less."""
    ids = text(2000, torch.Generator().manual_seed(1))
    assert pytest.approx(0.7661, abs=1e-4) == BEST
    assert pytest.approx(1.6417, abs=1e-4) == BIGRAM
    assert entropy(ids, back=[1]) > BIGRAM
    assert entropy(ids, back=[2, 1]) > 0.95 * BIGRAM
    assert entropy(ids, back=[5, 1]) < BIGRAM - 0.3


def entropy(ids: Tensor, back: list[int]) -> float:
    """Mean conditional entropy of a character given those that stand so far back."""
    start = max(back)
    pairs = torch.zeros(V ** (len(back) + 1))
    key = ids[:, start:].clone()
    for distance in back:
        key = key * V + ids[:, start - distance : ids.shape[1] - distance]
    # the character itself is the most significant digit: rows of a table by context
    pairs.scatter_add_(0, key.flatten(), torch.ones(key.numel()))
    table = pairs.view(V, -1)
    shares = table / table.sum(0).clamp_min(1)
    return float(-(table * shares.clamp_min(1e-9).log()).sum() / table.sum())


# ---- it learns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [GPT, LLAMA], ids=["gpt", "llama"])
def test_a_decoder_learns_to_look_back(config: dict[str, Any]) -> None:
    """It ends within a tenth of a nat of the text's entropy, half of what any bigram model can reach."""
    model = made(config)
    assert 1e5 < sum(parameter.numel() for parameter in model.parameters()) < 4e5
    curve = train(model, next_character, 120)
    assert curve[0] == pytest.approx(log(V), abs=0.1), "it starts by knowing nothing"
    assert held_out(model, next_character) < BEST + 0.1 < 0.6 * BIGRAM


def test_an_encoder_learns_to_look_both_ways() -> None:
    """A masked letter's twin is masked too one time in four: ln 8 / 4 = 0.52 nats at best, ln 8 = 2.08 by guessing.

    Half of the twins stand behind the masked letter: a model that only looks back cannot get below ln 8 (1/2 + 1/8).
    """
    model, best = made(BERT), MASKED * log(LETTERS)
    assert 1e5 < sum(parameter.numel() for parameter in model.parameters()) < 4e5
    train(model, masked(1), 220, batch=32, rate=2e-3)
    assert held_out(model, masked(2)) < best + 0.2 < 0.625 * log(LETTERS)


def test_a_model_that_sees_one_character_does_not_learn_it() -> None:
    """Negative control: the same model with a window of one token stays above the bigram's bound."""
    model = made({**LLAMA, "model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 1})
    train(model, next_character, 120)
    assert held_out(model, next_character) > BIGRAM - 0.05


@pytest.mark.slow
def test_a_causal_model_cannot_fill_masks_from_what_follows() -> None:
    """Negative control of the encoder: made causal, and trained as long, it does not get there."""
    model = made({**BERT, "architectures": ["BertLMHeadModel"], "is_decoder": True})
    train(model, masked(1), 220, batch=32, rate=2e-3)
    assert held_out(model, masked(2)) > 0.6 * log(LETTERS)


# ---- ways of training that change nothing ---------------------------------------------------------------------------

STEPS = 25


@cache
def plain() -> list[float]:
    """The curve that the others are held against."""
    return train(made(GPT), next_character, STEPS)


def test_checkpointing_changes_no_step() -> None:
    """The same operations on the same numbers, some of them twice: equal to the last bit."""
    assert train(made(GPT), next_character, STEPS, checkpointing=True) == plain()


def test_accumulating_gradients_changes_no_step() -> None:
    """Four parts of a batch, whose mean is the batch's: fp32 sums in another order, 1e-7 a step, grown by 25 steps."""
    assert train(made(GPT), next_character, STEPS, parts=4) == pytest.approx(plain(), rel=1e-4)


def test_autocast_follows_the_same_curve() -> None:
    """bf16 products carry 8 bits: 0.4% each, which the loss of a whole batch averages out."""
    assert train(made(GPT), next_character, STEPS, autocast=True) == pytest.approx(plain(), rel=0.01)


def test_the_curves_differ_where_training_does() -> None:
    """Negative control: another rate, and the curves part by more than any of these tolerances."""
    assert train(made(GPT), next_character, STEPS, rate=1e-3) != pytest.approx(plain(), rel=0.02)
