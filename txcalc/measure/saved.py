"""What autograd keeps for a backward pass: the storages that its nodes hold, each once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from txcalc.measure.tracker import key_of


def saved_bytes(run: Callable[[], object], apart: Iterable[Tensor] = ()) -> int:
    """Bytes of the distinct storages that ``run`` leaves for its backward; those of ``apart`` (parameters) are not
    counted."""
    held = {key_of(tensor): tensor for tensor in apart}
    apart_keys = set(held)

    def pack(tensor: Tensor) -> Tensor:
        held.setdefault(key_of(tensor), tensor)  # kept alive, so that its key stays its own
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    size = sum(tensor.untyped_storage().nbytes() for key, tensor in held.items() if key not in apart_keys)
    del result
    return size
