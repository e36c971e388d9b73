"""From a prompt to text, piece by piece: tokenizer, model and stop texts put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import torch

from txcalc.errors import ModelError
from txcalc.reference.generate import Sampling, generate
from txcalc.reference.model import Transformer
from txcalc.reference.pretrained import Pretrained
from txcalc.reference.tokenizer import TextTokenizer

_UNFINISHED: Final = "\N{REPLACEMENT CHARACTER}"  # what the bytes of half a character decode to


def write(
    pretrained: Pretrained,
    model: Transformer,
    tokenizer: TextTokenizer,
    prompt: str,
    *,
    max_new_tokens: int,
    sampling: Sampling,
    stop: Sequence[str] = (),
    special: bool = True,
) -> Iterator[str]:
    """The text that follows a prompt; to an encoder-decoder the prompt is the source.

    ``stop``: texts before which it ends. ``special``: the tokenizer adds what the model wants at a text's beginning;
    not to a chat, which has it written out.

    Raises:
        RequestError: what cannot be written (see ``generate``).
    """
    tokens, encoded = tokenizer.encode(prompt, special=special), None
    if "encoder" in model.stacks and "decoder" in model.stacks:
        with torch.no_grad():
            encoded = model.encode(torch.tensor([tokens], device=next(model.parameters()).device))
        tokens = first_tokens(pretrained)
    new = generate(
        model, tokens, max_new_tokens=max_new_tokens, sampling=sampling, stop=pretrained.ends(), encoded=encoded
    )
    return until(as_text(new, tokenizer, tokens), stop)


def first_tokens(pretrained: Pretrained) -> list[int]:
    """What the decoder of an encoder-decoder begins with.

    Raises:
        ModelError: the config does not say.
    """
    begin = pretrained.setting("decoder_start_token_id")
    if not isinstance(begin, int):
        raise ModelError(f"{pretrained.path} does not say what its decoder begins with", "add decoder_start_token_id")
    forced = pretrained.setting("forced_bos_token_id")
    return [begin, forced] if isinstance(forced, int) else [begin]


def as_text(tokens: Iterable[int], tokenizer: TextTokenizer, before: Sequence[int] = ()) -> Iterator[str]:
    """Text as the tokens come; ``before``: tokens that it follows on."""
    stream = TextStream(tokenizer, before)
    for token in tokens:
        yield stream.add(token)
    yield stream.rest()


def until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The pieces up to the first of the ``stops``; what may be the beginning of one is held back."""
    held = ""
    for piece in pieces:
        held += piece
        found = [place for place in (held.find(stop) for stop in stops) if place >= 0]
        if found:
            yield held[: min(found)]
            return
        settled = len(held) - max((_begun(held, stop) for stop in stops), default=0)
        yield held[:settled]
        held = held[settled:]
    yield held


def _begun(text: str, stop: str) -> int:
    """Characters at the end of ``text`` with which ``stop`` begins."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


class TextStream:
    """Text from tokens that come one by one: given out as soon as it can no longer change.

    ``before``: tokens that the text follows on, so that a space between the two is not lost.
    """

    window = 16  # tokens that are decoded again with each new one, because a token's text depends on its neighbours

    def __init__(self, tokenizer: TextTokenizer, before: Sequence[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.tokens = list(before[-self.window :])
        self.given = len(tokenizer.decode(self.tokens))  # characters of the window's text that were given out

    def add(self, token: int) -> str:
        """What one more token adds; nothing while it is half a character."""
        self.tokens.append(token)
        text = self.tokenizer.decode(self.tokens)
        if text.endswith(_UNFINISHED):
            return ""
        new, self.given = text[self.given :], len(text)
        if len(self.tokens) >= 2 * self.window:
            self.tokens = self.tokens[-self.window :]
            self.given = len(self.tokenizer.decode(self.tokens))
        return new

    def rest(self) -> str:
        """What was held back, at the end."""
        return self.tokenizer.decode(self.tokens)[self.given :]
