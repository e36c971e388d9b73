"""Writing text one token at a time: choose a token, add it, ask for the next.

p(x_t | x_<t) is the model's; what is chosen from it is decided here: the likeliest (greedy), or a draw from a
distribution that temperature, top-k and top-p have narrowed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from txcalc import architecture as arch
from txcalc.errors import RequestError
from txcalc.reference.context import Source
from txcalc.reference.model import Transformer


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen. ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 leave the distribution whole.

    ``repetition_penalty`` (Keskar et al. 2019, section 4.1) divides the positive logits of tokens that were already
    there, and multiplies the negative ones.

    Raises:
        RequestError: a value out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        checks = (
            ("temperature", self.temperature, 0 <= self.temperature < float("inf"), "0 (greedy) or more"),
            ("top_k", self.top_k, self.top_k >= 0, "0 (all) or more"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "more than 0, at most 1"),
            ("repetition_penalty", self.repetition_penalty, 0 < self.repetition_penalty < float("inf"), "more than 0"),
        )
        for name, value, good, expected in checks:
            if not good:
                raise RequestError(f"{name} is {value}; expected {expected}")


def distribution(logits_V: Tensor, sampling: Sampling, seen: Sequence[int] = ()) -> Tensor:
    """Probabilities [V] to draw from; all on the likeliest token where the choice is greedy."""
    logits_V = penalised(logits_V.float(), seen, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return torch.zeros_like(logits_V).index_fill(0, logits_V.argmax(), 1.0)
    logits_V = logits_V / sampling.temperature
    if 0 < sampling.top_k < len(logits_V):
        logits_V = logits_V.masked_fill(logits_V < logits_V.topk(sampling.top_k).values[-1], float("-inf"))
    if sampling.top_p < 1:
        logits_V = nucleus(logits_V, sampling.top_p)
    return logits_V.softmax(-1)


def penalised(logits_V: Tensor, seen: Sequence[int], penalty: float) -> Tensor:
    """Logits [V] with those of tokens that were already there made smaller."""
    if penalty == 1 or not seen:
        return logits_V
    tokens = torch.tensor(sorted(set(seen)), device=logits_V.device)
    old = logits_V[tokens]
    return logits_V.index_copy(0, tokens, torch.where(old > 0, old / penalty, old * penalty))


def nucleus(logits_V: Tensor, share: float) -> Tensor:
    """Logits [V] of the smallest set of tokens with at least ``share`` of the probability; -inf for the others.

    Holtzman et al. 2020, section 3.1, equation 2.
    """
    probabilities, order = logits_V.softmax(-1).sort(descending=True)
    before = probabilities.cumsum(0) - probabilities
    return logits_V.index_fill(0, order[before >= share], float("-inf"))


@torch.no_grad()
def generate(
    model: Transformer,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stop: Collection[int] = (),
    encoded: Source | None = None,
    chunk: int = 512,
) -> Iterator[int]:
    """Tokens that follow ``prompt``, one by one as they are made; a token of ``stop`` ends them and is not given out.

    ``encoded``: the encoder's output, for a model that has one; ``chunk``: prompt tokens that run at once.

    Raises:
        RequestError: no decoder with a head over the vocabulary, an empty prompt, a token out of the vocabulary, or
            more tokens than the model has positions for.
    """
    sampling = sampling or Sampling()
    require_text(model.model, prompt, max_new_tokens)
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(sampling.seed)
    ctx = len(prompt) + max_new_tokens - 1
    cache = model.new_cache(batch=1, ctx=ctx, source=0 if encoded is None else encoded.states_BSD.shape[1])
    tokens, fed = list(prompt), 0
    while len(tokens) < len(prompt) + max_new_tokens:
        while fed < len(tokens):
            piece_1T = torch.tensor([tokens[fed : fed + chunk]], device=device)
            fed += piece_1T.shape[1]
            out = model(piece_1T, cache=cache, encoded=encoded, last_only=True, length=ctx)
        assert out.logits is not None
        choice = distribution(out.logits[0, -1], sampling, tokens)
        token = int(choice.argmax() if sampling.temperature == 0 else choice.multinomial(1, generator=generator))
        if token in stop:
            return
        tokens.append(token)
        yield token


def require_text(model: arch.Model, prompt: Sequence[int], max_new_tokens: int) -> None:
    """Refuse what cannot be written."""
    stack = model.stack("decoder")
    if stack is None or model.head is None or model.head.kind != "lm":
        raise RequestError(
            f"{model.name} ({model.model_type}) writes no text: it has no decoder with a head over the vocabulary",
            "txcalc inspect shows what such a model computes",
        )
    if not prompt:
        raise RequestError("the prompt has no tokens", "give at least one word")
    if max_new_tokens < 1:
        raise RequestError(f"max_new_tokens is {max_new_tokens}; expected at least 1")
    embedding = stack.embedding
    assert isinstance(embedding, arch.TokenEmbedding)
    if max(prompt) >= embedding.vocab_size:
        raise RequestError(
            f"token {max(prompt)} is outside the vocabulary of {embedding.vocab_size:,}",
            "the tokenizer is not this model's",
        )
    table = embedding.positions
    total = len(prompt) + max_new_tokens - 1
    if table is not None and total > table.rows - table.offset:
        raise RequestError(
            f"{len(prompt):,} tokens of prompt and {max_new_tokens:,} new ones need {total:,} positions; "
            f"{model.name} has {table.rows - table.offset:,}",
            "ask for fewer tokens",
        )
