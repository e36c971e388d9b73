"""What a pass is asked for, and the parts that blocks are made of: projections, norms, rotary turns.

A walk mirrors the Python of the reference model: a function's inputs and locals live until it returns, a temporary
until it has been used. Each method takes the inputs of an operation and returns its output, held once for the caller.
"""

from __future__ import annotations

from typing import Final, Literal

from txcalc.architecture import Norm, QKNorm, Rotary
from txcalc.expression import Expression, exact, symbol
from txcalc.formulas.tape import operators as ops
from txcalc.formulas.tape.core import Store, Tape, Value
from txcalc.record import Record

Backend = Literal["eager", "math", "flash"]
BACKENDS: Final[tuple[Backend, ...]] = ("eager", "math", "flash")


class Precision(Record):
    """Bytes of a parameter, and of what matrices compute with."""

    name: str
    parameter: int
    compute: int

    @property
    def autocast(self) -> bool:
        """Whether matrices run in a narrower dtype than their parameters have."""
        return self.compute != self.parameter


PRECISIONS: Final = {
    "fp32": Precision(name="fp32", parameter=4, compute=4),
    "bf16": Precision(name="bf16", parameter=2, compute=2),
    "fp16": Precision(name="fp16", parameter=2, compute=2),
    "autocast": Precision(name="autocast", parameter=4, compute=2),
}


class Lora(Record):
    """Adapters of rank ``rank`` on the projections of these names; everything else is frozen."""

    rank: int
    projections: tuple[str, ...]


class Pass(Record):
    """One pass over B sequences: T query tokens against S keys.

    ``cached``: keys and values of S tokens lie in a cache already, and those of the T tokens are written into it.
    ``cuda``: as CUDA's kernels keep things: a byte an element for dropout, fp32 statistics of a LayerNorm.
    """

    B: Expression
    T: Expression
    S: Expression
    precision: Precision
    backend: Backend = "flash"
    dropout: bool = False
    recompute_scores: bool = False  # the attention product keeps its inputs alone and runs again (selective)
    lora: Lora | None = None
    cached: bool = False
    cuda: bool = False


GENERATOR_STATE: Final = 5056  # bytes that torch.get_rng_state() holds on the CPU; a checkpoint keeps one


class Walk:
    """Operators of the parts that sublayers share, on one tape."""

    def __init__(self, tape: Tape, asked: Pass) -> None:
        self.tape, self.asked = tape, asked
        self.n = asked.B * asked.T
        self.casts: list[Value] = []  # parameters that autocast holds in the narrower dtype until its context ends

    def generator_states(self) -> tuple[Store, ...]:
        """What a checkpoint keeps to draw the same random numbers again: on the CPU, where an allocator sees it."""
        if self.asked.cuda or self.tape.observed:
            return ()
        return (self.tape.store("generator state", exact(GENERATOR_STATE)),)

    # ---- projections ------------------------------------------------------------------------------------------------

    def parameter(self, name: str, elements: Expression) -> Value:
        """A parameter, which is trained unless adapters are."""
        return self.tape.given(name, elements, self.asked.precision.parameter, trainable=self.asked.lora is None)

    def project(
        self,
        x: Value,
        name: str,
        size_in: int,
        size_out: int,
        *,
        bias: bool = False,
        rows: Expression | None = None,
        folded: bool = True,
        copies: Expression | None = None,
    ) -> Value:
        """``x W^T + b``, with an adapter where one is asked for: [.., size_in] -> [.., size_out].

        ``copies``: that many matrices of the shape share the rows (experts).
        """
        rows = self.n if rows is None else rows
        wide = exact(size_out) if copies is None else copies * size_out
        weight = self.parameter(f"{name} weight", wide * size_in)
        offset = self.parameter(f"{name} bias", wide) if bias else None
        if self.asked.lora is None or name not in self.asked.lora.projections:
            return self.linear(x, weight, offset, rows * size_out, name, folded=folded)
        return self._adapted(x, weight, offset, name, (rows, exact(size_in), exact(size_out)), folded=folded)

    def linear(
        self, x: Value, weight: Value, bias: Value | None, elements: Expression, name: str, *, folded: bool = True
    ) -> Value:
        """A linear map in the dtype of the matrices; under autocast its arguments are cast, the last one first."""
        t = self.tape
        offset = None if bias is None else self._kept_narrow(bias)
        matrix = self._kept_narrow(weight)
        inner = self.narrowed(x)
        out = ops.linear(t, inner, matrix, offset, elements, name, folded=folded)
        casts = ((matrix, weight), (offset, bias))
        t.drop(inner, *(made for made, own in casts if made is not None and made is not own))
        return out

    def narrowed(self, x: Value) -> Value:
        """x as a matrix product takes it: autocast casts it."""
        precision = self.asked.precision
        width = precision.compute if precision.autocast else x.width
        return ops.cast(self.tape, x, width, f"{x.store.name}, cast")

    def _kept_narrow(self, parameter: Value) -> Value:
        """The parameter as a matrix product takes it; autocast keeps copies of trained ones until its context ends."""
        if not self.asked.precision.autocast:
            return parameter
        made = ops.cast(self.tape, parameter, self.asked.precision.compute, f"{parameter.store.name}, cast")
        if parameter.needs_grad:
            self.casts.append(self.tape.again(made))
        return made

    def _adapted(
        self,
        x: Value,
        weight: Value,
        bias: Value | None,
        name: str,
        sizes: tuple[Expression, Expression, Expression],
        *,
        folded: bool,
    ) -> Value:
        """x W^T + (alpha / r) x A^T B^T with W frozen (Hu et al. 2022, equation 3); ``sizes``: rows, in, out."""
        t, width = self.tape, self.asked.precision.parameter
        assert self.asked.lora is not None
        (rows, size_in, size_out), r = sizes, symbol("r", self.asked.lora.rank)
        down = t.given(f"{name} A", r * size_in, width, trainable=True)
        up = t.given(f"{name} B", size_out * r, width, trainable=True)
        inner = self.linear(x, down, None, rows * r, f"{name} adapter", folded=folded)
        added = self.linear(inner, up, None, rows * size_out, f"{name} adapter output", folded=folded)
        t.drop(inner)
        frozen = self.linear(x, weight, bias, rows * size_out, f"{name} frozen", folded=folded)
        scaled = ops.scaled(t, added, f"{name} adapter output, scaled")
        out = ops.add(t, frozen, scaled, name)
        t.drop(frozen, scaled, added)
        return out

    # ---- norms ------------------------------------------------------------------------------------------------------

    def norm(self, x: Value, norm: Norm | None, rows: Expression) -> Value:
        """A norm over the last axis, or x itself."""
        if norm is None:
            return self.tape.again(x)
        weights = self._norm_parameters(symbol("D", norm.width), weight=norm.weight, bias=norm.bias)
        if norm.kind == "layernorm":
            width = 4 if self.asked.cuda else max(x.width, *(each.width for each in weights)) if weights else x.width
            if not (norm.unit_offset and norm.weight):
                return ops.layer_norm(self.tape, x, weights, rows, width)
            factor = ops.copy(self.tape, weights[0], "1 + norm weight")
            out = ops.layer_norm(self.tape, x, [factor, *weights[1:]], rows, width)
            self.tape.drop(factor)
            return out
        normal = self.normalised(x, norm.kind, rows)
        return self._weighted(normal, weights, x.width, unit_offset=norm.unit_offset)

    def head_norm(self, x: Value, norm: QKNorm, heads: Expression, head_dim: Expression) -> Value:
        """A norm of queries or keys [B, T, heads, head_dim], a head or all heads at a time."""
        width = head_dim if norm.scope == "head" else heads * head_dim
        rows = self.n if norm.scope == "width" else self.n * heads
        weights = self._norm_parameters(width, weight=norm.weight, bias=norm.weight and norm.bias)
        normal = self.normalised(x, norm.kind, rows)
        return self._weighted(normal, weights, x.width, unit_offset=norm.unit_offset)

    def _norm_parameters(self, width: Expression, *, weight: bool, bias: bool) -> list[Value]:
        names = [name for name, there in (("norm weight", weight), ("norm bias", bias)) if there]
        return [self.parameter(name, width) for name in names]

    def normalised(self, x: Value, kind: str, rows: Expression) -> Value:
        """x over its size, in fp32, written out operation by operation."""
        t = self.tape
        wide = ops.cast(t, x, 4, "norm input in fp32")
        if kind == "layernorm":
            wide = self._centred(wide, rows)
        squares = ops.square(t, wide, "squares")
        size = (ops.row_sum if kind == "l2" else ops.mean)(t, squares, rows, "mean squares")
        t.drop(squares)
        shifted = ops.copy(t, size, "mean squares + eps")
        t.drop(size)
        inverse = ops.reciprocal_root(t, shifted, "reciprocal sizes")
        t.drop(shifted)
        out = ops.product(t, wide, inverse, "normalised in fp32")
        t.drop(inverse, wide)
        return out

    def _centred(self, wide: Value, rows: Expression) -> Value:
        middle = ops.mean(self.tape, wide, rows, "means")
        centred = ops.subtract(self.tape, wide, middle, "centred in fp32")
        self.tape.drop(middle, wide)
        return centred

    def _weighted(self, normal: Value, weights: list[Value], width: int, *, unit_offset: bool) -> Value:
        """A normalised tensor in fp32, which is taken over, times its weight, in the dtype that came in."""
        t = self.tape
        if unit_offset and weights:
            out = self._offset_weighted(normal, weights[0], width)
        else:
            out = ops.cast(t, normal, width, "normalised")
            if weights:
                narrow, out = out, ops.product(t, out, weights[0], "normalised and weighted")
                t.drop(narrow)
        if len(weights) > 1:
            unshifted, out = out, ops.add(t, out, weights[1], "normalised and shifted")
            t.drop(unshifted)
        t.drop(normal)
        return out

    def _offset_weighted(self, normal: Value, weight: Value, width: int) -> Value:
        """Times 1 + weight, before it is rounded (Gemma)."""
        t = self.tape
        wide = ops.cast(t, weight, 4, "norm weight in fp32")
        factor = ops.copy(t, wide, "1 + norm weight")
        t.drop(wide)
        product = ops.product(t, normal, factor, "weighted in fp32")
        t.drop(factor)
        out = ops.cast(t, product, width, "normalised and weighted")
        t.drop(product)
        return out

    # ---- rotary turns -----------------------------------------------------------------------------------------------

    def turned(self, x: Value, rotary: Rotary, rows: Expression, head_dim: int) -> Value:
        """x [rows, head_dim] with ``rotary_dim`` channels turned; cosines and sines are tables of the pass."""
        t = self.tape
        if rotary.rotary_dim == head_dim:
            return self._turned(x, rotary, x.elements)
        channels = rows * rotary.rotary_dim
        part, rest = ops.sliced(t, x, channels), ops.sliced(t, x, rows * (head_dim - rotary.rotary_dim))
        turned = self._turned(part, rotary, channels)
        out = ops.joined(t, (turned, rest), x.elements, "turned, with the rest")
        t.drop(turned, rest, part)
        return out

    def _turned(self, x: Value, rotary: Rotary, channels: Expression) -> Value:
        """(a, b) -> (a cos - b sin, b cos + a sin)."""
        t, half = self.tape, channels // 2
        a, b = (ops.sliced(t, x, half), ops.sliced(t, x, half)) if rotary.interleaved else ops.split(t, x, (half, half))
        first = self._combined(a, b, ops.subtract, "a cos - b sin")
        second = self._combined(b, a, ops.add, "b cos + a sin")
        out = ops.joined(t, (first, second), channels, "turned")
        t.drop(first, second, a, b)
        return out

    def _combined(self, a: Value, b: Value, combine: ops.Combine, name: str) -> Value:
        left = ops.scaled(self.tape, a, "times cosines", by_table=True)
        right = ops.scaled(self.tape, b, "times sines", by_table=True)
        out = combine(self.tape, left, right, name)
        self.tape.drop(left, right)
        return out
