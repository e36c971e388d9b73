"""The negative control of a comparison of logits: a tensor that is a little off does not go unnoticed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from txcalc.reference import Transformer


def unnoticed(model: Transformer, run: Callable[[], Tensor], limit: float) -> list[str]:
    """Tensors, one of each kind, that may be moved without moving any logit by ``limit``.

    ``limit`` is a share of the largest logit; ``run`` makes the logits [B, T, V]. One logit's gradient says for all
    kinds at once how far a small random change of them, of 0.01 an element, would move it. Kinds that it does not show
    (no gradient reaches a router's or an indexer's choice) are moved in truth, by 0.3 an element.
    """
    first = {path.split(".", 4)[-1]: path for path, _ in reversed(list(model.named_parameters()))}  # of each kind
    tensors = [model.get_parameter(path) for path in first.values()]
    logits_BTV = run()
    slopes = torch.autograd.grad(logits_BTV[-1, -1, 5], tensors, allow_unused=True)
    size, generator = float(logits_BTV.detach().abs().max()), torch.Generator().manual_seed(2)
    moves = [torch.randn(tensor.shape, generator=generator) for tensor in tensors]
    shown = [
        slope is not None and float((slope * move).sum().abs()) * 0.01 > limit * size
        for slope, move in zip(slopes, moves, strict=True)
    ]
    hidden = [each for *each, seen in zip(first.values(), tensors, moves, shown, strict=True) if not seen]
    return [path for path, tensor, move in hidden if moved(tensor, 0.3 * move, run, logits_BTV) <= limit * size]


@torch.no_grad()
def moved(tensor: Tensor, by: Tensor, run: Callable[[], Tensor], before_BTV: Tensor) -> float:
    """How far the logit that moves most moves with one tensor."""
    saved = tensor.clone()
    tensor.add_(by)
    after_BTV = run()
    tensor.copy_(saved)
    return float((after_BTV - before_BTV).abs().max())
