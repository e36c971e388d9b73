"""Bytes of a model's weights, tensor by tensor, in the formats that they are kept in.

Matrices of the layers take the format that is asked for; input tables, the head, norms, biases, routers and whatever
else is small stay in the model's own dtype, unless ``keep`` says otherwise for a module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from txcalc.architecture import Model
from txcalc.errors import RequestError
from txcalc.expression import Expression, exact
from txcalc.formulas.dtypes import config_dtype
from txcalc.formulas.params import total_params
from txcalc.formulas.weight_formats import WeightFormat, weight_format
from txcalc.record import Record
from txcalc.result import Node, leaf

SOURCE: Final = "derived: every tensor's elements in its format; formats: ggml's block layouts, GPTQ, AWQ, QLoRA"
_HIGH: Final = frozenset({"embedding", "head", "pooled_head", "router", "head_weights", "relative_bias", "conv"})
_ALIASES: Final = {
    "lm_head": "head", "embed_tokens": "tokens", "embeddings": "embedding", "self_attn": "attention",
    "mlp": "feed_forward", "norms": "norm",
}  # fmt: skip
_TABLES: Final = frozenset({"tokens", "positions", "token_types", "other_types"})


class Formats(Record):
    """Which format each module's matrices are in; ``high``: what is kept high."""

    matrices: WeightFormat
    high: WeightFormat
    keep: tuple[tuple[str, WeightFormat], ...] = ()


class Matrix(NamedTuple):
    """A tensor [size_in, size_out] that a product reads row by row, and its bias."""

    size_in: Expression
    size_out: Expression
    biased: bool


def formats_of(
    model: Model, dtype: str | None = None, *, group_size: int | None = None, keep: Mapping[str, str] | None = None
) -> Formats:
    """The formats that a request names; by default everything is in the model's own dtype.

    Raises:
        RequestError: an unknown format.
    """
    own = weight_format(config_dtype(model.dtype).name)
    matrices = weight_format(dtype, group_size) if dtype else own
    high = matrices if matrices.plain and dtype else own
    kept = tuple((_ALIASES.get(name, name), weight_format(text)) for name, text in (keep or {}).items())
    return Formats(matrices=matrices, high=high, keep=kept)


def weight_bytes(model: Model, formats: Formats) -> Node:
    """Bytes of all weights, as the parameters are arranged; ``memory.weights``.

    Raises:
        RequestError: a module of ``keep`` that the model has not, rows that do not fill a format's blocks.
    """
    parameters = total_params(model)[0]
    _require_modules(parameters, formats)
    tree = _converted(parameters, formats, ())
    convention = f"matrices of the layers in {formats.matrices.name}, everything else in {formats.high.name}"
    kept = "".join(f", {name} in {each.name}" for name, each in formats.keep)
    return tree.replace(name="weights", key="memory.weights", source=SOURCE, convention=convention + kept)


def _converted(node: Node, formats: Formats, path: tuple[str, ...]) -> Node:
    path = (*path, node.name)
    if node.expression is None:
        children = tuple(_converted(child, formats, path) for child in node.children if not child.aside)
        return Node(name=node.name, unit="bytes", children=children, count=node.count, source=node.source)
    if formats.matrices is formats.high and formats.high.plain and not formats.keep:
        return leaf(node.name, "bytes", node.expression * (formats.high.bits // 8), note=f"in {formats.high.name}")
    matrix = matrix_of(node)
    chosen = _format(path, matrix, formats)
    return leaf(node.name, "bytes", _bytes(node, matrix, chosen, formats), note=f"in {chosen.name}")


def _bytes(node: Node, matrix: Matrix | None, chosen: WeightFormat, formats: Formats) -> Expression:
    assert node.expression is not None
    if chosen.plain or matrix is None:
        plain = chosen if chosen.plain else formats.high
        return exact(node.expression) * (plain.bits // 8)
    size = chosen.bytes_of(matrix.size_in, matrix.size_out)
    return size + matrix.size_out * (formats.high.bits // 8) if matrix.biased else size


def _format(path: tuple[str, ...], matrix: Matrix | None, formats: Formats) -> WeightFormat:
    """The format of the innermost module that ``keep`` names, else by what the tensor is."""
    kept = dict(formats.keep)
    for name in reversed(path):
        if name in kept:
            return kept[name]
    high = matrix is None or any(name in _HIGH or "norm" in name for name in path)
    return formats.high if high else formats.matrices


def matrix_of(node: Node) -> Matrix | None:
    """The matrix that a parameter leaf counts; None where it is a vector or a small tensor.

    A linear map's leaf is ``in * out``, or ``in * out + out`` with its bias; a table's is ``rows * width``.
    """
    found = node.expression
    if found is None or not (node.name.endswith("_proj") or node.name in _MATRICES | _TABLES):
        return None
    biased = found.operator == "+"
    product = found.operands[0] if biased else found
    if not isinstance(product, Expression) or product.operator != "*":
        return None
    first, second = exact(product.operands[0]), exact(product.operands[1])
    if biased and int(found.operands[1]) != int(second):
        return None
    return Matrix(second, first, biased) if node.name in _TABLES else Matrix(first, second, biased)


_MATRICES: Final = frozenset({"router", "matrix", "dense", "projection", "out_projection", "pooler", "head_weights"})


def modules(parameters: Node) -> Iterator[str]:
    """Names that ``keep`` may use: every module and tensor of the tree."""
    yield from dict.fromkeys(node.name for depth, node in parameters.walk() if depth)


def _require_modules(parameters: Node, formats: Formats) -> None:
    if not formats.keep:
        return
    known = list(modules(parameters))
    for name, _ in formats.keep:
        if name not in known:
            from difflib import get_close_matches  # here: only an error needs it

            near = get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(known)}"
            raise RequestError(f"--keep: the model has no module {name!r}", hint)
