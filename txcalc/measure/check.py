"""One model's formulas held against the reference model, quantity by quantity.

The two share the Architecture and nothing else: the reference never sees a formula. Lengths and batches differ between
the passes of one model, so that a figure that ignores one of them cannot agree twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Final

from txcalc import architecture as arch
from txcalc.errors import RequestError
from txcalc.formulas.dtypes import config_dtype
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params
from txcalc.measure import counting
from txcalc.measure.comparing import Comparison, Quantity, compared, skipped
from txcalc.measure.counting import Work
from txcalc.measure.shrink import at_depth, layers_of
from txcalc.reference import Transformer, build

_DEPTHS: Final = (1, 2)
_PASSES: Final = ((2, 11), (3, 17))  # batch and tokens at each depth
_CACHES: Final = ((2, 3), (3, 40))  # batch and ctx; the second is added to the longest window
_SOURCE: Final = 5  # tokens that the encoder's input has more than the decoder's


class Subject:
    """A model that is checked: the whole of it on the meta device, or few layers.

    ``full``: every layer. ``light``: at one depth instead of two, where another of its kind was checked at both.
    """

    def __init__(self, model: arch.Model, *, full: bool = False, light: bool = False) -> None:
        self.model, self.name, self.full, self.light = model, model.name, full, light

    @cached_property
    def whole(self) -> Transformer:
        """Every layer: parameters and cache cost little to count."""
        return _built(self.model)

    def depths(self) -> Iterator[tuple[arch.Model, Transformer, tuple[int, int]]]:
        """The model with few layers at two depths, or with all of them; batch and tokens of a pass."""
        if self.full:
            yield self.model, self.whole, _PASSES[0]
            return
        for times, work in tuple(zip(_DEPTHS, _PASSES, strict=True))[self.light :]:
            small = at_depth(self.model, times)
            yield small, _built(small), work

    def layers(self, small: arch.Model | None = None) -> str:
        """How many layers a comparison is about."""
        whole = layers_of(self.model)
        number = layers_of(small) if small else whole
        return f"{number}/{whole} layers" if number != whole else f"all {number} layers"


def check_model(
    model: arch.Model, quantities: tuple[Quantity, ...], *, full: bool = False, light: bool = False
) -> list[Comparison]:
    """Every comparison of these quantities; one that says why, where the reference cannot build the model."""
    subject = Subject(model, full=full, light=light)
    return [each for quantity in quantities for each in _of(subject, quantity)]


def _of(subject: Subject, quantity: Quantity) -> list[Comparison]:
    try:
        return list(CHECKERS[quantity](subject))
    except RequestError as refused:
        return [skipped(subject.name, quantity, refused.message)]


def _built(model: arch.Model) -> Transformer:
    return build(model, device="meta", dtype=counting.DTYPES[config_dtype(model.dtype).name])


# ---- parameters and cache -------------------------------------------------------------------------------------------


def check_params(subject: Subject) -> Iterator[Comparison]:
    """The elements of every layer of the whole model."""
    predicted = int(params(subject.model).figures()["params.total"])
    measured = counting.num_params(subject.whole)
    yield compared(subject.name, "params", "params.total", subject.layers(), predicted=predicted, measured=measured)


def check_kv(subject: Subject) -> Iterator[Comparison]:
    """The tensors of the decoder's own cache, below every window and beyond the longest, and what a token adds."""
    beyond = _longest_window(subject.model)
    for (batch, ctx), window in zip(_CACHES, (0, beyond), strict=True):
        yield from _cache(subject, batch, ctx + window)
    yield _growth(subject, "kv_cache.bytes_per_token", 1)
    yield _growth(subject, "kv_cache.marginal_bytes_per_token", beyond + _CACHES[1][1])


def _cache(subject: Subject, batch: int, ctx: int) -> Iterator[Comparison]:
    source = _source_of(subject.model, ctx)
    figures = kv_cache(subject.model, ctx=ctx, batch=batch, source_ctx=source).figures()
    places, state = counting.cache_bytes(subject.whole, batch=batch, ctx=ctx, source=source)
    work = f"batch {batch}, ctx {ctx:,}" + (f", source {source:,}" if source else "")
    figure, predicted = "kv_cache.total_bytes", int(figures["kv_cache.total_bytes"])
    yield compared(subject.name, "kv", figure, work, predicted=predicted, measured=places)
    figure, predicted = "kv_cache.state_bytes", batch * int(figures["kv_cache.state_bytes"])
    if predicted or state:
        yield compared(subject.name, "kv", figure, work, predicted=predicted, measured=state)


def _growth(subject: Subject, figure: str, ctx: int) -> Comparison:
    """What one token more takes, after ``ctx``."""
    source = _source_of(subject.model, ctx)
    before, after = (counting.cache_bytes(subject.whole, batch=1, ctx=at, source=source)[0] for at in (ctx, ctx + 1))
    predicted = int(kv_cache(subject.model, ctx=ctx, source_ctx=source).figures()[figure])
    work = f"token {ctx + 1:,}"
    return compared(subject.name, "kv", figure, work, predicted=predicted, measured=after - before)


# ---- FLOPs ----------------------------------------------------------------------------------------------------------


def check_flops(subject: Subject) -> Iterator[Comparison]:
    """Forward, backward and one decode step, at two depths or over every layer."""
    _require_counted_alike(subject.model)
    for small, built, (batch, tokens) in subject.depths():
        yield from _passes(subject, small, built, _work(small, batch, tokens))
        if small.main.role == "decoder" and not small.main.looks_ahead:
            for window in sorted({0, _longest_window(small)}):
                yield _decode_step(subject, small, built, batch, tokens + window)


def _passes(subject: Subject, small: arch.Model, built: Transformer, work: Work) -> Iterator[Comparison]:
    figures = flops(
        small,
        seq=work.tokens,
        batch=work.batch,
        source_seq=work.source,
        images=work.images or None,
        phase="train",
        scan="recurrent",
    ).figures()
    text = f"{subject.layers(small)}, {work.batch} x {work.tokens:,}"
    text += f", source {work.source:,}" if work.source else f", images {work.images}" if work.images else " tokens"
    names = ("flops.forward", "flops.backward")
    for figure, measured in zip(names, counting.forward_and_backward(built, work), strict=True):
        yield compared(subject.name, "flops", figure, text, predicted=int(figures[figure]), measured=measured)


def _decode_step(subject: Subject, small: arch.Model, built: Transformer, batch: int, ctx: int) -> Comparison:
    """One token after ``ctx``; the reference absorbs the matrices of latent attention then."""
    source = _source_of(small, ctx)
    question = {"ctx": ctx, "batch": batch, "source_seq": source, "mask": "exact", "mla": "absorbed"}
    predicted = int(flops(small, phase="decode", **question).figures()["flops.matmul"])  # type: ignore[arg-type]  # its own
    measured = counting.decode(built, batch=batch, ctx=ctx, source=source)
    text = f"{subject.layers(small)}, {batch} x 1 after {ctx:,}" + (f", source {source:,}" if source else "")
    return compared(subject.name, "flops", "flops.decode", text, predicted=predicted, measured=measured)


def _require_counted_alike(model: arch.Model) -> None:
    """Refuse what the reference computes by other products than the formulas count.

    Raises:
        RequestError: naming it.
    """
    for stack in model.stacks:
        for sublayer in (each for layer in stack.layers for each in layer.sublayers()):
            if isinstance(sublayer, arch.LatentAttention) and sublayer.indexer is not None:
                raise RequestError("the reference sums the scores of a sparse-attention indexer elementwise")


# ---- activations ----------------------------------------------------------------------------------------------------


def check_memory(subject: Subject) -> Iterator[Comparison]:
    """Saved activations and peaks (``check_activations``)."""
    from txcalc.measure.check_activations import check_activations  # here: fake tensors load half of torch

    yield from check_activations(subject.model, full=subject.full, light=subject.light)


Checker = Callable[[Subject], Iterator[Comparison]]
CHECKERS: Final[dict[Quantity, Checker]] = {
    "params": check_params,
    "kv": check_kv,
    "flops": check_flops,
    "activations": check_memory,
}


# ---- lengths --------------------------------------------------------------------------------------------------------


def _work(model: arch.Model, batch: int, tokens: int) -> Work:
    """A pass that reaches every stack: an encoder's input, an image in each row where there is a tower."""
    tokens = model.main.fixed_length or tokens
    seen = sum(each.tokens or 0 for each in model.connectors if each.tower == "vision")
    return Work(batch, tokens + seen, _source_of(model, tokens), images=1 if seen else 0)


def _source_of(model: arch.Model, tokens: int) -> int | None:
    """Length of the encoder's input: its own, or unlike the decoder's; None without an encoder beside a decoder."""
    encoder = model.stack("encoder")
    if encoder is None or encoder is model.main:
        return None
    return encoder.fixed_length or tokens + _SOURCE


def _longest_window(model: arch.Model) -> int:
    """Of the main stack's layers, windows and chunks alike; 0 where there is none."""
    limits = [
        limit
        for layer in model.main.layers
        for each in layer.sublayers()
        if isinstance(each, arch.SelfAttention)
        for limit in (each.window, each.chunk)
        if limit is not None
    ]
    return max(limits, default=0)
