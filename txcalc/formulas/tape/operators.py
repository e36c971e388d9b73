"""Operators as memory sees them: what each allocates, keeps for its backward, and allocates there.

Source: torch's derivative formulas (``tools/autograd/derivatives.yaml``) and its CPU kernels, torch 2.13; every
operator is held against a tracker and against the profiler. Inputs stay with the caller, who drops them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from txcalc.expression import Expression
from txcalc.formulas.tape.core import Grad, Tape, Value

Grads = list[tuple[Value, Grad]]
Combine = Callable[[Tape, Value, Value, str], Value]


# ---- one input ------------------------------------------------------------------------------------------------------


def cast(t: Tape, x: Value, width: int, name: str) -> Value:
    """``x.to(dtype)``: the same tensor where it has that width; its gradient is cast back."""
    if x.width == width:
        return t.again(x)
    out = t.new(name, x.elements, width, needs_grad=x.needs_grad)
    t.record(out, [x], [], lambda _: [(x, t.new_grad(x))])
    return out


def copy(t: Tape, x: Value, name: str) -> Value:
    """A contiguous clone, or ``x + number``: keeps nothing, and its gradient passes through."""
    out = t.new(name, x.elements, x.width, needs_grad=x.needs_grad)
    t.record(out, [x], [], lambda g: [(x, t.passed(g))])
    return out


def scaled(t: Tape, x: Value, name: str, *, by_table: bool = False) -> Value:
    """``x * number``: keeps nothing; its gradient is scaled too. ``by_table``: times a table that all layers share."""
    out = t.new(name, x.elements, x.width, needs_grad=x.needs_grad)
    t.record(out, [x], [], lambda _: [(x, t.new_grad(x))], reads_tables=by_table)
    return out


def function(t: Tape, x: Value, name: str, *, keep: Value | None = None, temporaries: int = 0) -> Value:
    """A function of each element whose backward reads ``keep`` (its own output where None).

    ``temporaries``: tensors of the same size that its backward makes beside its result.
    """
    out = t.new(name, x.elements, x.width, needs_grad=x.needs_grad)

    def backward(_: Grad) -> Grads:
        between = [t.new_grad(x) for _ in range(temporaries)]
        grad = t.new_grad(x)
        for each in between:
            t.release(each.store)
        return [(x, grad)]

    t.record(out, [x], [out if keep is None else keep], backward)
    return out


def square(t: Tape, x: Value, name: str) -> Value:
    """``x ** 2``: its backward makes x ** 1 and 2 x on the way."""
    return function(t, x, name, keep=x, temporaries=2)


def reciprocal_root(t: Tape, x: Value, name: str) -> Value:
    """``rsqrt(x)``: its backward makes y ** 3 and a multiple of it on the way."""
    return function(t, x, name, temporaries=2)


def mean(t: Tape, x: Value, rows: Expression, name: str) -> Value:
    """The mean of each row: its gradient is spread over the row again."""
    out = t.new(name, rows, x.width, needs_grad=x.needs_grad)
    t.record(out, [x], [], lambda _: [(x, t.new_grad(x))])
    return out


def row_sum(t: Tape, x: Value, rows: Expression, name: str) -> Value:
    """The sum of each row: its gradient is a view, the same for the whole row."""
    out = t.new(name, rows, x.width, needs_grad=x.needs_grad)
    t.record(out, [x], [], lambda g: [(x, Grad(t.hold(g.store), view=True))])
    return out


def row_norm(t: Tape, x: Value, rows: Expression, name: str) -> Value:
    """The p-norm of each row: keeps x and the norms."""
    out = t.new(name, rows, x.width, needs_grad=x.needs_grad)
    t.record(out, [x], [x, out], lambda _: [(x, t.new_grad(x))])
    return out


def repeated(t: Tape, x: Value, elements: Expression, name: str) -> Value:
    """Each head several times: the gradients of the copies are summed."""
    out = t.new(name, elements, x.width, needs_grad=x.needs_grad)
    t.record(out, [x], [], lambda _: [(x, t.new_grad(x))])
    return out


def dropout(t: Tape, x: Value, *, fused: bool) -> Value:
    """Zeroes elements and keeps which: a mask of a byte each where it is fused (CUDA), else noise as wide as x."""
    noise = t.new("dropout mask" if fused else "dropout noise", x.elements, 1 if fused else x.width)
    out = t.new(f"{x.store.name} after dropout", x.elements, x.width, needs_grad=x.needs_grad)
    t.record(out, [x], [noise], lambda _: [(x, t.new_grad(x))])
    t.drop(noise)
    return out


# ---- views ----------------------------------------------------------------------------------------------------------


def _alias(t: Tape, x: Value, elements: Expression) -> Value:
    return Value(t.hold(x.store), elements, x.width, x.needs_grad)


def transposed(t: Tape, x: Value, *, copied: bool) -> Value:
    """The same storage with its axes in another order; ``copied``: its gradient has to be put back in order."""
    out = _alias(t, x, x.elements)
    t.record(out, [x], [], lambda g: [(x, t.new_grad(x) if copied else t.passed(g))])
    return out


def split(t: Tape, x: Value, parts: Sequence[Expression]) -> tuple[Value, ...]:
    """Views that together are x (``split``, ``chunk``): their gradients are put together in a new tensor."""
    views = tuple(_alias(t, x, part) for part in parts)
    t.record(views, [x], [], lambda *_: [(x, t.new_grad(x))])
    return views


def sliced(t: Tape, x: Value, elements: Expression) -> Value:
    """A part of x by indexing: its gradient is written into zeros as large as x."""
    out = _alias(t, x, elements)
    t.record(out, [x], [], lambda _: [(x, t.new_grad(x))])
    return out


def expanded(t: Tape, x: Value, elements: Expression) -> Value:
    """x seen several times along a new or unit axis: its gradient is summed over it."""
    out = _alias(t, x, elements)
    t.record(out, [x], [], lambda _: [(x, t.new_grad(x))])
    return out


def joined(t: Tape, parts: Sequence[Value], elements: Expression, name: str) -> Value:
    """``cat`` or ``stack``, in the widest dtype: each part's gradient is a view of the whole's, or cast from it."""
    width = max(part.width for part in parts)
    out = t.new(name, elements, width, needs_grad=any(part.needs_grad for part in parts))

    def backward(g: Grad) -> Grads:
        return [
            (part, t.new_grad(part) if part.width != width else Grad(t.hold(g.store), view=True))
            for part in parts
            if part.needs_grad
        ]

    t.record(out, parts, [], backward)
    return out


# ---- two inputs -----------------------------------------------------------------------------------------------------


def product(t: Tape, x: Value, y: Value, name: str) -> Value:
    """``x * y``, y as large as x or broadcast to it: each factor is kept for the other's gradient."""
    out = t.new(name, x.elements, max(x.width, y.width), needs_grad=x.needs_grad or y.needs_grad)

    def backward(_: Grad) -> Grads:
        grads: Grads = [(x, t.new_grad(x))] if x.needs_grad else []
        return [*grads, (y, _broadcast(t, y, x.elements))] if y.needs_grad else grads

    t.record(out, [x, y], [*([x] if y.needs_grad else []), *([y] if x.needs_grad else [])], backward)
    return out


def _broadcast(t: Tape, value: Value, elements: Expression) -> Grad:
    """A gradient as large as the output, to be summed where ``value`` was broadcast to it."""
    return t.new_grad(value, elements=elements)._replace(summed=int(elements) != int(value.elements))


def add(t: Tape, x: Value, y: Value, name: str) -> Value:
    """``x + y``: keeps nothing; one gradient serves both, cast for a narrower and summed for a broadcast term."""
    out = t.new(name, x.elements, max(x.width, y.width), needs_grad=x.needs_grad or y.needs_grad)

    def backward(g: Grad) -> Grads:
        return [(term, _as_term(t, g, term, out)) for term in (x, y) if term.needs_grad]

    t.record(out, [x, y], [], backward)
    return out


def _as_term(t: Tape, g: Grad, term: Value, out: Value) -> Grad:
    if term.width != out.width:
        return t.new_grad(term)
    return t.passed(g)._replace(summed=int(term.elements) != int(out.elements))


def subtract(t: Tape, x: Value, y: Value, name: str) -> Value:
    """``x - y``: the gradient of y is a new tensor, summed where y was broadcast."""
    out = t.new(name, x.elements, x.width, needs_grad=x.needs_grad or y.needs_grad)

    def backward(g: Grad) -> Grads:
        grads: Grads = [(x, t.passed(g))] if x.needs_grad else []
        return [*grads, (y, _broadcast(t, y, x.elements))] if y.needs_grad else grads

    t.record(out, [x, y], [], backward)
    return out


def matmul(t: Tape, x: Value, y: Value, elements: Expression, name: str) -> Value:
    """A batched product of two activations: both are kept; the second one's gradient is made first."""
    out = t.new(name, elements, x.width, needs_grad=x.needs_grad or y.needs_grad)

    def backward(_: Grad) -> Grads:
        return [(each, t.new_grad(each, view=True)) for each in (y, x) if each.needs_grad]

    t.record(out, [x, y], [*([x] if y.needs_grad else []), *([y] if x.needs_grad else [])], backward)
    return out


# ---- with parameters ------------------------------------------------------------------------------------------------


def linear(
    t: Tape, x: Value, weight: Value, bias: Value | None, elements: Expression, name: str, *, folded: bool = True
) -> Value:
    """``x W^T + b``: keeps x for the weight's gradient. ``folded``: x has a batch axis, folded into the rows.

    Without a bias the weight's gradient is made first; a folded x's gradient is a view.
    """
    terms = [each for each in (x, weight, bias) if each is not None]
    out = t.new(name, elements, x.width, needs_grad=any(each.needs_grad for each in terms))

    def backward(g: Grad) -> Grads:
        order = [x, weight] if bias is not None else [weight, x]
        grads: Grads = [
            (each, t.new_grad(each, view=each is weight or (folded and each is x))) for each in order if each.needs_grad
        ]
        return [(bias, t.passed(g)._replace(summed=True)), *grads] if bias is not None and bias.needs_grad else grads

    t.record(out, terms, [*([x] if weight.needs_grad else []), *([weight] if x.needs_grad else [])], backward)
    return out


def layer_norm(t: Tape, x: Value, parameters: Sequence[Value], rows: Expression, width: int) -> Value:
    """``F.layer_norm``: keeps its input and weight, a mean and a reciprocal deviation of ``width`` bytes a row."""
    terms = [x, *parameters]
    out = t.new("normalised", x.elements, x.width, needs_grad=any(each.needs_grad for each in terms))
    statistics = [t.new(name, rows, width) for name in ("row means", "row deviations")]
    kept = [x, *parameters[:1], *statistics]
    t.record(out, terms, kept, lambda _: [(each, t.new_grad(each)) for each in terms if each.needs_grad])
    t.drop(*statistics)
    return out


def lookup(t: Tape, table: Value, indices: Value, elements: Expression, name: str) -> Value:
    """Rows of a table: keeps the indices; its backward makes a gradient of the whole table."""
    out = t.new(name, elements, table.width, needs_grad=table.needs_grad)
    t.record(out, [table], [indices], lambda _: [(table, t.new_grad(table))])
    return out


def gathered(t: Tape, x: Value, indices: Value, elements: Expression, name: str, *, keep: Value | None = None) -> Value:
    """Elements or rows of x by index: keeps the indices (``gather`` x too); the gradient is scattered into zeros."""
    out = t.new(name, elements, x.width, needs_grad=x.needs_grad)
    t.record(out, [x], [indices, *([keep] if keep is not None else [])], lambda _: [(x, t.new_grad(x))])
    return out


def indexed_add(t: Tape, x: Value, rows: Value, indices: Value, name: str) -> Value:
    """x with rows added at indices: keeps both."""
    out = t.new(name, x.elements, x.width, needs_grad=x.needs_grad or rows.needs_grad)

    def backward(g: Grad) -> Grads:
        return [(each, t.new_grad(each) if each is rows else t.passed(g)) for each in (x, rows) if each.needs_grad]

    t.record(out, [x, rows], [indices, rows], backward)
    return out


# ---- attention and loss ---------------------------------------------------------------------------------------------


def masked(t: Tape, scores: Value, mask: Value, name: str) -> Value:
    """``masked_fill``: keeps the mask."""
    return function(t, scores, name, keep=mask)


def flash(t: Tape, inputs: Sequence[Value], bias: Value | None, elements: Expression, rows: Expression) -> Value:
    """A fused attention over (q, k, v): keeps them, its output, and one fp32 number a row (log-sum-exp)."""
    needs_grad = any(each.needs_grad for each in inputs)
    out = t.new("attention output", elements, inputs[0].width, needs_grad=needs_grad)
    sums = t.new("log-sum-exp", rows, 4)

    saved = [*inputs, out, sums, *([bias] if bias is not None else [])]
    t.record(out, inputs, saved, lambda _: [(each, t.new_grad(each)) for each in inputs])
    t.drop(sums)
    return out


def safe_softmax(t: Tape, scores: Value, rows: Expression) -> Value:
    """``_safe_softmax``: inside, a byte a score and a byte a row say which rows are wholly masked."""
    out = t.new("softmax", scores.elements, scores.width, needs_grad=scores.needs_grad)
    t.scratch(scores.elements * 1, rows * 1)
    t.record(out, [scores], [out], lambda _: [(scores, t.new_grad(scores))])
    return out


def log_likelihood(t: Tape, log_probabilities: Value, targets: Value, one: Expression) -> Value:
    """``nll_loss``: a scalar; keeps its input, the targets and how many there were."""
    out = t.new("loss", one, 4, needs_grad=log_probabilities.needs_grad)
    count = t.new("number of targets", one, 4)
    t.record(
        out,
        [log_probabilities],
        [log_probabilities, targets, count],
        lambda _: [(log_probabilities, t.new_grad(log_probabilities))],
    )
    t.drop(count)
    return out
