"""One decoding step recorded once and played back: a CUDA graph launches it without Python in between.

A recorded step may not depend on numbers that the host knows: where the token goes in the cache is read from a tensor,
and attention runs over all places of the cache with a mask.
"""

from __future__ import annotations

import torch
from torch import Tensor

from txcalc.errors import RequestError
from txcalc.reference.cache import DecoderCache, StateCache
from txcalc.reference.device import Device
from txcalc.reference.experts import MixtureOfExperts
from txcalc.reference.model import Transformer


class StepGraph:
    """Decoding of one token a row with a given cache, which must hold the prompt already.

    Raises:
        RequestError: a model whose step asks the host what to do next (a mixture of experts).
    """

    def __init__(self, model: Transformer, cache: DecoderCache, device: Device) -> None:
        if any(isinstance(module, MixtureOfExperts) for module in model.modules()):
            raise RequestError("a mixture of experts picks experts on the host: its step cannot be recorded")
        self.cache = cache
        B, where = cache.spec.batch, cache.spec.device
        self.tokens_B1 = torch.zeros(B, 1, dtype=torch.long, device=where)
        self.starts_B = torch.tensor(cache.lengths, device=where)
        states = [(x, x.clone()) for entry in cache.entries() if isinstance(entry, StateCache) for x in entry.tensors()]
        self.play = device.capture(
            lambda: model(self.tokens_B1, cache=cache, starts_B=self.starts_B, last_only=True).logits
        )
        for state, before in states:  # what recording did to them; places are written again by the next step
            state.copy_(before)

    def __call__(self, tokens_B1: Tensor) -> Tensor:
        """The next token of every row [B, 1] -> logits [B, 1, V], which the next call overwrites.

        Raises:
            RequestError: the cache is full.
        """
        longest = max(self.cache.lengths) + 1
        if longest > self.cache.spec.ctx:
            raise RequestError(f"token {longest} does not fit a cache made for {self.cache.spec.ctx}")
        self.tokens_B1.copy_(tokens_B1)
        self.starts_B.copy_(torch.tensor(self.cache.lengths))
        logits: Tensor = self.play()
        self.cache.advance([1] * self.cache.spec.batch)
        return logits
