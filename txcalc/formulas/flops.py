"""How many FLOPs: matmul-type operations exactly, attention among them, elementwise operations as an estimate.

A multiply-add is 2 FLOPs. Source: ``derived:`` a product of [m, k] and [k, n] is 2 * m * k * n; the parts are those of
each paper. Training is the forward pass and a backward pass of twice its products: one for the gradient of the input
and one for that of the weight (a convolution on the input itself needs only the second).
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import Head, Model, PatchEmbedding, Stack
from txcalc.expression import Expression, symbol
from txcalc.formulas.flops_attention import PRODUCTS
from txcalc.formulas.flops_elementwise import elementwise
from txcalc.formulas.flops_parts import (
    INPUT_CONVOLUTIONS,
    beside_flops,
    connector_flops,
    head_flops,
    input_flops,
    output_flops,
    runs,
    similarity_flops,
)
from txcalc.formulas.flops_question import Question, question
from txcalc.formulas.flops_side import altup_flops, streams_flops
from txcalc.formulas.flops_sublayers import sublayer_flops
from txcalc.formulas.flops_work import Latent, Logits, Mask, Phase, Routing, Scan, Work
from txcalc.result import Node, deferred, leaf, times, total

SOURCE: Final = "derived: a product of [m, k] and [k, n] is m * n * k multiply-adds of 2 FLOPs"
NO_GRADIENT: Final = frozenset({"indexer"})  # what it picks has no gradient, and it runs without one
FIXED: Final = frozenset({"feature_map", "pooling"})  # random directions and shares, which nobody trains


def flops(
    model: Model,
    *,
    seq: int | None = None,
    ctx: int | None = None,
    batch: int = 1,
    phase: Phase = "forward",
    mask: Mask = "full",
    logits: Logits | None = None,
    source_seq: int | None = None,
    images: int | None = None,
    moe: Routing = "routed",
    mla: Latent = "expanded",
    scan: Scan = "chunked",
) -> Node:
    """FLOPs of one forward pass, prefill, decode step or training step of ``batch`` sequences.

    ``seq`` tokens each (``ctx`` is the same, except for ``decode``: one new token after ``ctx`` cached ones). Headline
    figures: ``flops.matmul``, ``flops.attention``, ``flops.elementwise``, ``flops.per_token``; in training also
    ``flops.forward`` and ``flops.backward``. ``logits``: at every position or the last (default: last for prefill and
    decode). ``images``: per sequence, through the vision tower. ``scan``: how recurrent mixers run a whole sequence, in
    chunks by matrix products or step by step without them (see ``flops_recurrent``).

    Raises:
        RequestError: no length, a length below 1, an option that the model has no use for, an unknown choice.
    """
    asked = question(
        model,
        seq=seq,
        ctx=ctx,
        batch=batch,
        phase=phase,
        mask=mask,
        logits=logits,
        source_seq=source_seq,
        images=images,
        moe=moe,
        mla=mla,
        scan=scan,
    )
    forward = forward_flops(model, asked)
    training = asked.phase == "train"
    matmul = training_flops(forward) if training else forward.replace(key="flops.matmul")
    views = [
        _attention_view(forward, training=training),
        elementwise(model, asked),
        _per_token(matmul, asked),
    ]
    tree = total("flops", "FLOPs", [matmul, *views], source=SOURCE, convention=asked.convention(model))
    without_gradient = training and any(stack.cycles for stack in model.stacks)
    return tree.estimated((*model.reasons, *([_CYCLES] if without_gradient else [])))


_CYCLES: Final = "the first of its cycles run without a gradient: the backward pass is less than is counted here"


def forward_flops(model: Model, asked: Question) -> Node:
    """The forward pass by stack, layer and component."""
    parts: list[Node | None] = []
    for stack in model.stacks:
        work = asked.work(model, stack)
        if work is not None:
            parts.append(stack_flops(stack, work))
    parts += _connectors(model, asked)
    parts += [_head(model, asked, model.head, "head"), _head(model, asked, model.pooled_head, "pooled_head")]
    parts.append(_similarity(model, asked))
    return total("matmul", "FLOPs", parts)


def stack_flops(stack: Stack, work: Work) -> Node:
    """One stack: input, each kind of layer times how often it runs, output."""
    several = len(stack.layers) > 1
    layers = [
        times(
            f"layers of kind {index + 1}" if several else "layers",
            "FLOPs",
            symbol("L", count if runs(layer, work) else 0),
            [
                *(sublayer_flops(sublayer, work) for sublayer in layer.sublayers()),
                altup_flops(layer.altup, work) if layer.altup else None,
                *beside_flops(layer, work),
            ],
        )
        for index, (layer, count) in enumerate(zip(stack.layers, stack.counts(), strict=True))
    ]
    parts = [
        input_flops(stack.embedding, work),
        streams_flops("streams_in", stack.hidden_size, stack.altup_streams, work),
        *layers,
        streams_flops("streams_out", stack.hidden_size, stack.altup_streams, work),
        *output_flops(stack, work),
    ]
    return total(stack.role, "FLOPs", parts)


def _connectors(model: Model, asked: Question) -> list[Node]:
    made = []
    for connector in model.connectors:
        tower = model.stack(connector.tower)
        work = asked.work(model, tower) if tower is not None else None
        if work is not None:
            made.append(connector_flops(connector, work.B, int(work.T)))
    return made


def _head(model: Model, asked: Question, head: Head | None, name: str) -> Node | None:
    work = asked.work(model, model.main) if head is not None else None
    if head is None or work is None:
        return None
    every = head.kind == "lm" or head.every_position
    one_a_sequence = (head.pooled and not every) or (every and asked.logits == "last")
    rows = work.B if one_a_sequence else work.B * symbol("T", asked.tokens)  # none for a prompt that is always there
    embedding = model.main.embedding
    if head.reads == "patches" and isinstance(embedding, PatchEmbedding):
        rows = work.B * (work.T - symbol("extra_tokens", embedding.extra_tokens))
    return head_flops(head, rows, name=name)


def _similarity(model: Model, asked: Question) -> Node | None:
    """Texts against images, where a question has both."""
    if model.similarity is None:
        return None
    tower = model.stack("vision")
    texts, images = asked.work(model, model.main), asked.work(model, tower) if tower else None
    if texts is None or images is None:
        return None
    return similarity_flops(model.similarity, texts.B, images.B)


# ---- training and other views ---------------------------------------------------------------------------------------


def training_flops(forward: Node) -> Node:
    """Forward and backward; the loss and the optimizer's step are elementwise."""
    value = symbol("forward", int(forward.value))
    backward: Expression = 2 * value
    for name, share, names in (
        ("input_convolutions", 1, INPUT_CONVOLUTIONS),
        ("fixed", 1, FIXED),
        ("indexer", 2, NO_GRADIENT),
    ):
        without = pruned(forward, names)
        if without is not None:
            backward = backward - share * symbol(name, int(without.value))
    parts = [
        forward.replace(name="forward", key="flops.forward"),
        leaf("backward", "FLOPs", backward, key="flops.backward", convention=_BACKWARD),
    ]
    return total("matmul", "FLOPs", parts, key="flops.matmul")


_BACKWARD: Final = "two products for each of the forward pass: the gradients of its input and of its weight"


def _attention_view(forward: Node, *, training: bool) -> Node:
    """The score and value products alone, which are taken out when they are looked at."""
    view: dict[str, Any] = {"key": "flops.attention", "aside": True, "convention": "score and value products"}
    if holds(forward, PRODUCTS):
        view |= {"basis": forward.basis, "reason": forward.reason}

    def products() -> tuple[Node, ...]:
        kept = pruned(forward, PRODUCTS) or total("forward", "FLOPs", [])
        return (kept.replace(name="forward"),) if training else kept.children

    if training:
        view["count"] = symbol("forward_and_backward", 3)
    return deferred("attention", "FLOPs", products, **view)


def _per_token(matmul: Node, asked: Question) -> Node:
    """A ratio, of the main stack's tokens; a whole number wherever it is one."""
    whole, tokens = int(matmul.value), symbol("B", asked.batch) * symbol("T", asked.tokens)
    view: dict[str, Any] = {"key": "flops.per_token", "aside": True, "convention": "over the tokens of the main stack"}
    if whole % int(tokens):
        return Node(name="per_token", unit="FLOPs", number=whole / int(tokens), **view)
    return leaf("per_token", "FLOPs", symbol("matmul", whole) // tokens, **view)


def holds(node: Node, names: frozenset[str]) -> bool:
    """Whether a node of one of those names is in the tree."""
    return node.name in names or any(holds(child, names) for child in node.children)


def value_of(node: Node, names: frozenset[str]) -> int:
    """The value of what ``pruned`` leaves of a tree of sums."""
    if node.name in names:
        return int(node.value)
    size = 0
    for child in node.children:
        if not child.aside:
            size += value_of(child, names)
    return size * int(node.count) if node.count is not None else size


def pruned(node: Node, names: frozenset[str]) -> Node | None:
    """The tree with nothing but the nodes of those names, and what is above and below them; None without any."""
    if node.name in names:
        return node
    children = tuple(kept for child in node.children if (kept := pruned(child, names)) is not None)
    return node.replace(children=children, source="", note="") if children else None
