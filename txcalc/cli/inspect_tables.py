"""The tensors of a pass as tables, as a tree of sizes and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from txcalc import architecture as arch
from txcalc.expression import exact
from txcalc.report.document import Row, Section
from txcalc.result import Node, leaf, total

if TYPE_CHECKING:
    from txcalc.reference.flow import Caught

MOST_TOKENS = 64


def sections(tensors: Sequence[Caught], pieces: Sequence[tuple[int, str]], *, every: bool) -> tuple[Section, ...]:
    """A table of tokens and a table of tensors for each stack."""
    made = [_tokens(pieces)] if pieces else []
    columns = ("tensor", "shape", "rms")
    for stack, caught in _by_stack(tensors):
        rows = _rows(caught, every=every)
        made.append(Section(columns=columns, rows=tuple(rows), heading=stack or "output"))
    return tuple(made)


def _by_stack(tensors: Sequence[Caught]) -> list[tuple[str, list[Caught]]]:
    stacks = list(dict.fromkeys(each.stack for each in tensors))
    return [(stack, [each for each in tensors if each.stack == stack]) for stack in stacks]


def _tokens(pieces: Sequence[tuple[int, str]]) -> Section:
    rows = [Row(cells=(str(i), str(token), repr(text))) for i, (token, text) in enumerate(pieces[:MOST_TOKENS])]
    if len(pieces) > MOST_TOKENS:
        rows.append(Row(cells=("...", "", f"{len(pieces) - MOST_TOKENS:,} more")))
    return Section(columns=("position", "token", "text"), rows=tuple(rows), heading="tokens")


def _rows(caught: Sequence[Caught], *, every: bool) -> list[Row]:
    """Layers in order; one whose tensors are those of the layer before it is closed unless ``every``."""
    rows: list[Row] = []
    before: list[tuple[str, tuple[int, ...]]] = []
    for layer, group in groupby(caught, key=lambda each: each.layer):
        inside = list(group)
        shapes = [(each.name, each.shape) for each in inside]
        closed = layer is not None and shapes == before and not every
        rows += [_row(each, like=layer - 1 if closed and layer else None) for each in inside[: 1 if closed else None]]
        before = shapes if layer is not None else []
    return rows


def _row(caught: Caught, like: int | None) -> Row:
    name = caught.name or f"layer {caught.layer}"
    if like is not None and not caught.name:
        name += f" (as layer {like})"
    what = _meaning(caught)
    depth = 0 if caught.layer is None or not caught.name else 1 + caught.name.replace(".norm_", "_").count(".")
    rms = "" if caught.rms is None else f"{caught.rms:.3g}"
    cells = (f"{name} ({what})" if what else name, str(list(caught.shape)), rms)
    return Row(cells=cells, depth=depth, strong=not caught.name)


def _meaning(caught: Caught) -> str:
    """What the width of a tensor consists of."""
    part, sublayer = caught.name.rpartition(".")[2], caught.sublayer
    if part == "weights":
        return "batch, heads, queries, keys"
    match sublayer:
        case arch.SelfAttention() | arch.CrossAttention():
            heads, keys = sublayer.num_attention_heads, sublayer.num_key_value_heads
            shared = f", each for {heads // keys} query heads" if keys != heads else ""
            return {
                "q_proj": f"{heads} heads of {sublayer.head_dim}",
                "k_proj": f"{keys} heads of {sublayer.head_dim}{shared}",
                "v_proj": f"{keys} heads of {sublayer.v_head_dim}{shared}",
            }.get(part, "")
        case arch.LatentAttention() if part == "kv_a_proj":
            return f"a latent of {sublayer.kv_lora_rank} and a rotary key of {sublayer.qk_rope_head_dim}"
        case arch.MixtureOfExperts() if part == "router":
            return f"tokens, {sublayer.num_experts_per_tok} of {sublayer.num_experts} experts"
    return ""


# ---- as data --------------------------------------------------------------------------------------------------------


def flow_tree(tensors: Sequence[Caught]) -> Node:
    """Elements of every tensor, by stack and layer."""
    stacks = [
        total(stack or "output", "elements", [_leaf(each) for each in caught]) for stack, caught in _by_stack(tensors)
    ]
    return total("tensors", "elements", stacks, source="caught as they left their modules")


def _leaf(caught: Caught) -> Node:
    value = exact(1)
    for size in caught.shape:
        value = value * exact(size)
    where = "" if caught.layer is None else f"layer {caught.layer} "
    return leaf((where + caught.name).strip(), "elements", value)


def tensor_facts(tensors: Sequence[Caught], pieces: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """Tokens and tensors as JSON holds them."""
    return {
        "tokens": [{"token": token, "text": text} for token, text in pieces],
        "tensors": [
            {"stack": each.stack, "layer": each.layer, "name": each.name, "shape": list(each.shape), "rms": each.rms}
            for each in tensors
        ],
    }
