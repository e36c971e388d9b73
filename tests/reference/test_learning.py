"""The models learn: a character-level GPT and a small masked-language BERT, on text made here.

The text: words drawn from a list of eight, each with one chance in eight, separated by spaces. Nothing inside a word is
left to chance but which of the words it is, so a model that has learned the list needs ln 8 nats a word and no more.
"""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch

from txcalc.architecture import (
    Branch,
    FeedForward,
    Head,
    HeadTransform,
    Layer,
    LearnedPositions,
    Model,
    Norm,
    Projection,
    Residual,
    SelfAttention,
    Stack,
    TokenEmbedding,
)
from txcalc.reference import Transformer, build

WORDS = "apple river stone cloud tiger maple ocean lemon".split()
LETTERS = sorted(set(" ".join(WORDS)))
MASK = len(LETTERS)
D, LENGTH, BATCH = 48, 24, 32


def text(words: int, seed: int) -> torch.Tensor:
    made = " ".join(random.Random(seed).choices(WORDS, k=words))
    return torch.tensor([LETTERS.index(letter) for letter in made])


def entropy() -> float:
    """Nats a character that no model can do without: ln 8 a word, over its five letters and the space behind it."""
    return math.log(len(WORDS)) / (sum(map(len, WORDS)) / len(WORDS) + 1)


def model(kind: str) -> Model:
    """GPT: pre-norm, causal, a tied head. BERT: post-norm, both directions, a transform before its head."""
    causal = kind == "gpt"
    norm = Norm(kind="layernorm", width=D, bias=True)
    attention = SelfAttention(
        hidden_size=D, num_attention_heads=4, num_key_value_heads=4, head_dim=12, v_head_dim=12, causal=causal,
        q_bias=True, k_bias=True, v_bias=True, o_bias=True,
    )  # fmt: skip
    feed_forward = FeedForward(
        hidden_size=D, intermediate_size=4 * D, activation="gelu", gated=False, up_bias=True, down_bias=True
    )
    steps = tuple(
        Residual(
            branches=(Branch(sublayer=each, norm_in=norm if causal else None),), norm_after=None if causal else norm
        )
        for each in (attention, feed_forward)
    )
    embedding = TokenEmbedding(
        vocab_size=len(LETTERS) + 1, embedding_size=D, positions=LearnedPositions(rows=LENGTH, width=D),
        norm=None if causal else norm,
    )  # fmt: skip
    stack = Stack(
        role="decoder" if causal else "encoder", hidden_size=D, embedding=embedding, layers=(Layer(steps=steps),),
        runs=((0, 2),), final_norm=norm if causal else None,
    )  # fmt: skip
    transform = HeadTransform(dense=Projection(in_size=D, out_size=D, bias=True, activation="gelu"), norm=norm)
    head = Head(
        kind="lm" if causal else "masked_lm", input_size=D, output_size=len(LETTERS) + 1, tied=True, bias=not causal,
        transform=None if causal else transform, tied_to=stack.role,
    )  # fmt: skip
    return Model(name=kind, model_type=kind, stacks=(stack,), head=head)


def batch_of(data: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    starts = torch.randint(0, len(data) - LENGTH - 1, (BATCH,), generator=generator)
    return torch.stack([data[start : start + LENGTH + 1] for start in starts])


def loss_of(built: Transformer, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The next character (GPT), or the 15% of characters that are masked (BERT)."""
    if built.model.name == "gpt":
        return torch.nn.functional.cross_entropy(
            built(rows[:, :-1]).logits.float().flatten(0, 1), rows[:, 1:].flatten()
        )
    rows = rows[:, :-1]
    hidden = torch.rand(rows.shape, generator=generator) < 0.15
    logits = built(rows.masked_fill(hidden, MASK)).logits
    return torch.nn.functional.cross_entropy(logits[hidden].float(), rows[hidden])


def trained(kind: str, steps: int, *, parts: int = 1, checkpoint: bool = False, autocast: bool = False) -> list[float]:
    """Losses of a training run; the same batches whatever the options."""
    built = build(model(kind)).train()
    built.checkpoint_layers(checkpoint)
    data, generator = text(4000, seed=1), torch.Generator().manual_seed(2)
    optimizer = torch.optim.AdamW(built.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=max(steps, 10))
    losses = []
    for _ in range(steps):
        rows, total = batch_of(data, generator), 0.0
        for part in rows.chunk(parts):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                loss = loss_of(built, part, generator) / parts
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(built.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(total)
    return losses


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """Products this small are slower on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", ["gpt", "bert"])
def test_a_model_learns_the_words(kind: str) -> None:
    """The frequencies of the letters alone carry 2.6 nats; the entropy is ln 8 / 6 = 0.347 nats a character.

    The GPT must come within a quarter of the entropy: a row of 24 begins inside a word, which the entropy does not
    count. The BERT is asked for 15% of the letters, learns from as few, and must be well below the frequencies.
    """
    losses = trained(kind, {"gpt": 200, "bert": 600}[kind])
    shares = text(4000, seed=1).bincount() / len(text(4000, seed=1))
    unigram = -(shares * shares.log()).nansum().item()
    assert entropy() == pytest.approx(math.log(8) / 6)
    assert 2.5 < unigram < losses[0]
    last = sum(losses[-20:]) / 20
    assert last < {"gpt": 1.25 * entropy(), "bert": 0.7 * unigram}[kind]


OPTIONS: dict[str, dict[str, Any]] = {
    "checkpointing": {"checkpoint": True}, "accumulation": {"parts": 2}, "autocast": {"autocast": True},
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_curves_agree(option: str) -> None:
    """Ten steps. Checkpointing repeats the same operations: equal to the bit.

    Accumulated gradients are the same sums in another order. Autocast rounds every product to bf16, by up to 2^-9 of
    its size: a few parts in a thousand of the loss.
    """
    plain, other = trained("gpt", 10), trained("gpt", 10, **OPTIONS[option])
    tolerance = {"checkpointing": 0.0, "accumulation": 1e-4, "autocast": 2e-2}[option]
    assert max(abs(a - b) for a, b in zip(plain, other, strict=True)) <= tolerance


def test_shuffled_letters_cannot_be_learned() -> None:
    """Negative control: shuffled text has no words, and the loss stays at the letters' frequencies."""
    built, generator = build(model("gpt")).train(), torch.Generator().manual_seed(2)
    data = text(1500, seed=1)
    data = data[torch.randperm(len(data), generator=generator)]
    optimizer = torch.optim.AdamW(built.parameters(), lr=3e-3)
    for _ in range(40):
        loss = loss_of(built, batch_of(data, generator), generator)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() > 2.5
