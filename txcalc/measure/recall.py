"""Operators on tensors without values, each distinct call asked of torch once.

Without values, what an operator returns depends on the shapes, strides, dtypes and numbers that it is given, and torch
takes up to ten milliseconds to say it: nearly all that a pass costs. The second such call is answered from the first.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, ClassVar, Final, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, in_kernel_invocation_manager
from torch.utils._python_dispatch import TorchDispatchMode

_UNSAFE_VIEW: Final = torch.ops.aten._unsafe_view.default  # a view that its schema calls new
MOST: Final = 30_000  # calls that a process remembers, about 1 KiB each


class Made(NamedTuple):
    """A tensor to make again."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class _Answer(NamedTuple):
    made: tuple[Made | None, ...]
    several: bool
    weight: int


class Recall:
    """What each call returned, by operator and arguments, and the ``weight`` that was found for it.

    Kept are operators that change nothing and return new tensors: a view belongs to what it is a view of.
    """

    def __init__(self, weight: Callable[..., int] | None = None) -> None:
        self._weight = weight or (lambda *_: 0)
        self._answers: dict[Hashable, _Answer] = {}
        self._pure: dict[Any, bool] = {}

    def __call__(
        self, func: Any, args: tuple[Any, ...], named: dict[str, Any], again: Callable[[Made], Tensor]
    ) -> tuple[Any, int]:
        """(What ``func`` returns, its weight); ``again`` makes a tensor that was returned before."""
        pure = self._pure.get(func)
        if pure is None:
            pure = self._pure[func] = _is_pure(func)
        key = (func, _key(args), tuple((name, _key(value)) for name, value in named.items())) if pure else None
        known = self._answers.get(key) if pure else None
        if known is not None:
            made = tuple(None if each is None else again(each) for each in known.made)
            return made if known.several else made[0], known.weight
        out = func(*args, **named)
        weight = self._weight(func, args, named, out)
        if pure:
            self._remember(key, [*_tensors(args), *_tensors(tuple(named.values()))], out, weight)
        return out, weight

    def _remember(self, key: Hashable, given: list[Tensor], out: Any, weight: int) -> None:
        several = isinstance(out, tuple)
        outs: tuple[Tensor | None, ...] = out if several else (out,)
        tensors = [each for each in outs if each is not None]
        if any(_has_values(each) for each in (*given, *tensors)):
            return
        storages = {_storage(each) for each in tensors}
        if len(storages) < len(tensors) or storages & {_storage(each) for each in given}:
            return  # new by its schema, and not in fact
        if len(self._answers) >= MOST:
            self._answers.clear()
        self._answers[key] = _Answer(tuple(None if each is None else _made(each) for each in outs), several, weight)


def _is_pure(func: Any) -> bool:
    schema = func._schema
    return not schema.is_mutable and all(
        each.alias_info is None and str(each.type) == "Tensor" for each in schema.returns
    )


def _key(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, (tuple, list)):
        return tuple(map(_key, value))
    return type(value), value  # 1, 1.0 and True are unlike


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _tensors(each)


def _has_values(tensor: Tensor) -> bool:
    """Real, or a fake one of which torch knows the numbers."""
    return tensor.constant is not None if isinstance(tensor, FakeTensor) else not tensor.is_meta


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _made(tensor: Tensor) -> Made:
    return Made(tensor.shape, tensor.stride(), tensor.dtype, tensor.device)


# ---- who makes them again -------------------------------------------------------------------------------------------


def on_meta(made: Made) -> Tensor:
    """The tensor on the meta device."""
    return torch.empty_strided(made.shape, made.stride, dtype=made.dtype, device=made.device)


class RecalledFakes(TorchDispatchMode):
    """Inside a ``FakeTensorMode``: its tensors, of calls that any such mode answered before."""

    _recall: ClassVar[Recall] = Recall()

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()
        self._mode = mode

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator, or make what it returned before; a view of shapes is made without the mode's rules."""
        if (func.is_view or func is _UNSAFE_VIEW) and self._is_ours(args) and len(func._schema.returns) == 1:
            with in_kernel_invocation_manager(self._mode):
                view = func(*args, **(kwargs or {}))
            if isinstance(view, Tensor):
                return FakeTensor(self._mode, view, args[0].fake_device)
            return type(view)(FakeTensor(self._mode, each, args[0].fake_device) for each in view)
        return self._recall(func, args, kwargs or {}, self._again)[0]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled: no guard around every operator."""
        return False

    def _is_ours(self, args: Any) -> bool:
        """Whether the first argument alone is a tensor, and a fake one of this mode without known numbers."""
        first = args[0]
        return isinstance(first, FakeTensor) and first.fake_mode is self._mode and first.constant is None

    def _again(self, made: Made) -> Tensor:
        with torch._C._DisableTorchDispatch():
            empty = torch.empty_strided(made.shape, made.stride, dtype=made.dtype, device="meta")
        return FakeTensor(self._mode, empty, made.device)
