"""The attention product alone: FLOPs a second of each kernel over length and head size, causal or not.

Rows and columns as in the tables of FlashAttention-2 (Dao 2023, arXiv 2307.08691, section 4.1): hidden size 2,048 over
heads of 64 or 128, and batch times length kept the same; FLOPs are 4 * S * S * head_dim * heads, half of it if causal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from txcalc.errors import RequestError
from txcalc.measure.figures import Figure
from txcalc.measure.timing import in_turns
from txcalc.reference.backends import Backend, Name, Product, attend
from txcalc.reference.device import Device


def attention_flops(*, batch: int, heads: int, length: int, head_dim: int, causal: bool) -> int:
    """FLOPs of scores and values as the papers count them."""
    return 4 * length * length * head_dim * heads * batch // (2 if causal else 1)


def attention_figures(
    device: Device,
    *,
    lengths: Sequence[int],
    backends: Sequence[Name],
    dtype: torch.dtype,
    seconds: float,
    width: int = 2048,
    head_dims: Sequence[int] = (64, 128),
    tokens: int = 2048,
) -> Iterator[Figure]:
    """Forward passes, all kernels of one shape in turns; a kernel that cannot run the shape is a row that says why."""
    for head_dim in head_dims:
        for causal in (False, True):
            for length in lengths:
                shape = {"batch": max(tokens // length, 1), "heads": width // head_dim, "length": length}
                yield from _shape(device, backends, dtype, seconds, head_dim=head_dim, causal=causal, **shape)


def _shape(
    device: Device, backends: Sequence[Name], dtype: torch.dtype, seconds: float, **shape: Any
) -> Iterator[Figure]:
    work = attention_flops(**shape)
    product = _product(device, dtype, **shape)
    steps: dict[str, Callable[[], Any]] = {}
    mask = "causal" if shape["causal"] else "full"
    what = f"seq {shape['length']}, head {shape['head_dim']}, {mask}"
    for name in backends:
        try:
            attend(product, Backend(name))
        except RequestError as refused:
            yield Figure(name="attention", unit="FLOP/s", what=f"{what}, {name}", note=refused.message)
            continue
        steps[name] = _step(product, name)
    if steps:
        with torch.no_grad():
            spreads = in_turns(device, steps, seconds=seconds)
        for ran, spread in spreads.items():
            yield Figure(
                name="attention", unit="FLOP/s", what=f"{what}, {ran}", measured=work / spread.median, spread=spread
            )


def _step(product: Product, name: Name) -> Callable[[], Any]:
    backend = Backend(name)
    return lambda: attend(product, backend)


def _product(
    device: Device, dtype: torch.dtype, *, batch: int, heads: int, length: int, head_dim: int, causal: bool
) -> Product:
    q, k, v = (torch.full((batch, heads, length, head_dim), 0.01, dtype=dtype, device=device.name) for _ in range(3))
    return Product(q, k, v, mask="causal" if causal else "none", scale=head_dim**-0.5)
