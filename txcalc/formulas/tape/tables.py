"""What a pass makes once and all its layers share: positions, cosines and sines, dense masks, biases of the scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from txcalc.architecture import (
    Alibi,
    LatentAttention,
    Layer,
    LearnedPositions,
    RelativeBias,
    Rotary,
    SelfAttention,
    Sinusoidal,
    Stack,
    TokenEmbedding,
)
from txcalc.expression import Expression, exact, symbol
from txcalc.formulas.tape.attention import is_dense
from txcalc.formulas.tape.core import Store
from txcalc.formulas.tape.ends import INDEX
from txcalc.formulas.tape.walk import Pass


class Table(NamedTuple):
    """A storage that layers share; ``first``: the depth of the first layer that reads it."""

    store: Store
    first: int


def tables(stack: Stack, asked: Pass) -> tuple[tuple[Table, ...], tuple[Store, ...]]:
    """(tables that the backward pass reads, those that end with the forward pass)."""
    attentions = [(depth, a) for depth, layer in _first_depths(stack) for a in _attentions(layer)]
    rotary: dict[tuple[Rotary, int], int] = {}
    for depth, a in attentions:
        if isinstance(a.position, Rotary):
            rotary.setdefault((a.position, _width(a, asked)), depth)
    shared = [Table(store, first) for (kind, width), first in rotary.items() for store in _turns(kind, asked, width)]
    return tuple(shared), tuple(_passing(stack, asked, [a for _, a in attentions]))


def _first_depths(stack: Stack) -> Iterator[tuple[int, Layer]]:
    """(depth of the first one, layer) of every kind of layer, in order of execution."""
    depth, seen = 0, set[int]()
    for index, count in stack.runs:
        if index not in seen:
            yield depth, stack.layers[index]
        seen.add(index)
        depth += count


def _attentions(layer: Layer) -> list[SelfAttention | LatentAttention]:
    return [each for each in layer.sublayers() if isinstance(each, SelfAttention | LatentAttention)]


def _passing(stack: Stack, asked: Pass, attentions: list[SelfAttention | LatentAttention]) -> Iterator[Store]:
    pairs = asked.T * asked.S
    plain = [a for a in attentions if isinstance(a, SelfAttention)]
    rotary = dict.fromkeys(a.position for a in attentions if isinstance(a.position, Rotary))
    masks = dict.fromkeys((a.window, a.chunk, a.causal) for a in plain if is_dense(asked, a))
    biases = dict.fromkeys(
        (a.position, a.num_attention_heads) for a in plain if isinstance(a.position, Alibi | RelativeBias)
    )
    for kind in rotary if not asked.cached else ():  # a cache holds these for all its passes
        yield Store("rotary frequencies", exact(kind.rotary_dim // 2) * 4)
    for _ in masks:
        yield Store("mask of all layers", pairs * 1)
    for _, heads in biases:
        yield Store("bias of all layers", symbol("N", heads) * pairs * 4)
    for _ in {heads for position, heads in biases if isinstance(position, Alibi) and not asked.cached}:
        yield Store("slopes", symbol("N", plain[0].num_attention_heads) * 4)
    if biases and asked.cached:
        yield Store("position numbers of the keys", asked.S * INDEX)
    if rotary or masks or biases or _placed(stack):
        yield Store("position numbers", asked.T * INDEX)


def _turns(rotary: Rotary, asked: Pass, width: int) -> tuple[Store, Store]:
    size: Expression = asked.T * (symbol("rotary_dim", rotary.rotary_dim) // 2) * width
    return Store("cosines", size), Store("sines", size)


def _width(a: SelfAttention | LatentAttention, asked: Pass) -> int:
    """Of the vectors that are turned: as wide as the matrices' output, or as a norm in the stream's dtype made them."""
    if isinstance(a, SelfAttention) and a.qk_norm is not None and a.qk_norm.weight and not a.qk_norm.after_rotary:
        return asked.precision.compute if a.qk_norm.unit_offset else asked.precision.parameter
    return asked.precision.compute


def _placed(stack: Stack) -> bool:
    embedding = stack.embedding
    return isinstance(embedding, TokenEmbedding) and isinstance(embedding.positions, LearnedPositions | Sinusoidal)
