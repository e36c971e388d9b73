"""A call that is answered from memory returns what torch would have returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from txcalc.measure.counting import Counter
from txcalc.measure.recall import Recall, RecalledFakes, on_meta

aten = torch.ops.aten


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def facts(out: Any) -> Any:
    if isinstance(out, tuple):
        return tuple(map(facts, out))
    return (out.shape, out.stride(), out.dtype, out.device, out.storage_offset())


CALLS: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (aten.mul.Tensor, (meta(2, 3, 4), meta(3, 1)), {}),
    (aten.mul.Tensor, (meta(2, 3, 4).transpose(0, 2), meta(4, 3, 2)), {}),
    (aten.mul.Tensor, (meta(2, 3, 4), 2), {}),
    (aten.add.Tensor, (meta(2, dtype=torch.long), 2), {}),
    (aten.add.Tensor, (meta(2, dtype=torch.long), 2.0), {}),
    (aten.add.Tensor, (meta(2, dtype=torch.bfloat16), meta(2)), {}),
    (aten.sum.dim_IntList, (meta(2, 3), [1], True), {}),
    (aten.sum.dim_IntList, (meta(2, 3), [1], False), {}),
    (aten.native_layer_norm.default, (meta(2, 3), [3], None, None, 1e-5), {}),
    (aten._to_copy.default, (meta(2, 3),), {"dtype": torch.float16}),
]


def test_every_call_is_answered_as_torch_answers_it() -> None:
    """Calls that are alike but for a layout, a dtype, or the kind of a number: no one's answer is another's."""
    asked: list[Any] = []
    recall = Recall(lambda func, args, named, out: asked.append(func) or 7)  # type: ignore[func-returns-value]
    for func, args, named in [*CALLS, *CALLS]:
        out, weight = recall(func, args, named, on_meta)
        assert (facts(out), weight) == (facts(func(*args, **named)), 7)
    assert asked == [func for func, _, _ in CALLS]  # each once


@pytest.mark.parametrize(
    "call",
    [
        lambda x: (aten.view.default, (x, [6])),
        lambda x: (aten._unsafe_view.default, (x, [6])),
        lambda x: (aten.add_.Tensor, (x, 1)),
    ],
)
def test_what_shares_memory_is_never_made_again(call: Callable[[Tensor], tuple[Any, Any]]) -> None:
    recall, x = Recall(), meta(2, 3)
    for _ in range(2):
        out, _weight = recall(*call(x), {}, on_meta)
        assert out.untyped_storage()._cdata == x.untyped_storage()._cdata


def test_tensors_with_values_are_never_made_again() -> None:
    recall, x = Recall(), torch.ones(2)
    for _ in range(2):
        assert recall(aten.mul.Tensor, (x, 2), {}, on_meta)[0].tolist() == [2.0, 2.0]


def test_matrix_products_are_counted_each_time() -> None:
    """Twice 2 * 3 * 4 * 5."""
    a, b = meta(3, 4), meta(4, 5)
    with Counter() as counter:
        (a @ b, a @ b)
    with FlopCounterMode(display=False) as torchs:
        (a @ b, a @ b)
    assert counter.flops == torchs.get_total_flops() == 240


def test_fakes_are_those_that_the_mode_makes() -> None:
    """Twice through a net, its gradients with it; views share the memory of what they look at."""

    def run() -> list[Any]:
        weight = torch.empty(8, 6, requires_grad=True)
        x = torch.nn.functional.gelu(torch.empty(2, 3, 6, dtype=torch.float32) @ weight.t())
        heads = x.view(2, 3, 2, 4).transpose(1, 2)
        first, second = heads.softmax(-1).chunk(2, -1)
        (first * second).sum().backward()
        assert weight.grad is not None
        assert heads.untyped_storage()._cdata == x.untyped_storage()._cdata
        return [facts(each) for each in (x, heads, first, second, weight.grad)]

    with FakeTensorMode():
        expected = run()
    with FakeTensorMode() as mode, RecalledFakes(mode):
        found = [run(), run()]
    assert found == [expected, expected]


def test_numbers_that_a_fake_tensor_knows_are_kept() -> None:
    with FakeTensorMode() as mode, RecalledFakes(mode):
        for number in (2, 3):
            known = torch.tensor(number)
            assert int(known) == number
            assert int(known.clone()) == number
