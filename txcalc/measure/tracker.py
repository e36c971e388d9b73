"""What is live while torch runs: every storage from its first operator to its end.

A dispatch mode sees each operator's outputs; a finalizer on the storage sees its end. What a kernel allocates and frees
inside itself is not seen, and gradients are never added in place while a mode watches.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

_DEVICE: Final = torch.ops.prim.device.default


class Tracker(TorchDispatchMode):
    """Bytes of live storages: ``live`` now, ``peak`` since the start or the last ``reset``; ``given`` are not counted.

    Memory flat: nothing is kept of a storage that has ended.
    """

    def __init__(self, given: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.peak_operator = ""
        self._sizes: dict[int, int] = {}
        self._given = {key_of(tensor): tensor for tensor in given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and look at what it returns."""
        if func is _DEVICE:  # autograd asks each fake tensor again and again
            return args[0].fake_device
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, Tensor):
                self.see(tensor, str(func))
        return out

    def see(self, tensor: Tensor, operator: str = "") -> None:
        """Count a tensor's storage from now on."""
        storage, key = tensor.untyped_storage(), key_of(tensor)
        if key in self._sizes or key in self._given or not storage.nbytes():
            return
        self._sizes[key] = storage.nbytes()
        self.live += storage.nbytes()
        weakref.finalize(storage, self._end, key)
        if self.live > self.peak:
            self.peak, self.peak_operator = self.live, operator

    def reset(self) -> None:
        """Forget the peak."""
        self.peak, self.peak_operator = self.live, ""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled: no guard around every operator."""
        return False

    def _end(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)


def key_of(tensor: Tensor) -> int:
    """What identifies a tensor's storage while it lives."""
    return int(tensor.untyped_storage()._cdata)
