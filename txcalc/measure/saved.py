"""What autograd keeps for a backward pass: the storages that its nodes hold, each once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from weakref import WeakSet

import torch
from torch import Tensor

from txcalc.measure.tracker import key_of


class _Kept:
    """What a node of the graph holds instead of a tensor: it ends with the node."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def saved_bytes(run: Callable[[], object], apart: Iterable[Tensor] = ()) -> int:
    """Bytes of the distinct storages that ``run`` leaves for its backward, of nodes that something leads back to.

    Those of ``apart`` are not counted: parameters, and what the run made for others, which is asked for after it.
    """
    nodes = WeakSet[_Kept]()

    def pack(tensor: Tensor) -> _Kept:
        kept = _Kept(tensor)
        nodes.add(kept)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        result = run()
    others = {key_of(tensor): tensor for tensor in apart}
    held = {key_of(kept.tensor): kept.tensor for kept in nodes}
    size = sum(tensor.untyped_storage().nbytes() for key, tensor in held.items() if key not in others)
    del result
    return size
