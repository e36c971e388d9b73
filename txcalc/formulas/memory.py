"""Memory of inference: weights, cache, the activations at their peak; what a runtime adds stands apart.

Activations are those of the plain forward pass that ``tape`` walks, operator by operator: the most that is live at one
moment, given tokens, attention backend and dtype. A fused engine needs less, never more, at the same number of tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from txcalc.architecture import LatentAttention, Model, SelfAttention, Stack, TokenEmbedding
from txcalc.errors import RequestError
from txcalc.expression import Expression, exact, mentions, symbol
from txcalc.formulas.allowances import allowances
from txcalc.formulas.dtypes import config_dtype
from txcalc.formulas.flops_question import require_described
from txcalc.formulas.guessed_activations import widest_outputs
from txcalc.formulas.kv_cache import needed_bytes, state_bytes
from txcalc.formulas.tape.attention import fallback
from txcalc.formulas.tape.core import Store
from txcalc.formulas.tape.moments import Moment, pass_and_logits
from txcalc.formulas.tape.support import depends_on_data, unwalked_in
from txcalc.formulas.tape.walk import BACKENDS, PRECISIONS, Backend, Pass
from txcalc.formulas.weights import formats_of, weight_bytes
from txcalc.formulas.workload import prompt_of, require_model, require_positive
from txcalc.result import Node, leaf, total

SOURCE: Final = "derived: storages that are live at once in a plain forward pass; held against torch's allocator"
_KEPT: Final = "weights and cache as they are stored, and the forward pass at its highest moment"


def memory(
    model: Model,
    *,
    ctx: int,
    batch: int = 1,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    group_size: int | None = None,
    keep: Mapping[str, str] | None = None,
    backend: Backend = "flash",
    phase: str = "prefill",
    batched_tokens: int | None = None,
    source_ctx: int | None = None,
    weights: Node | None = None,
) -> Node:
    """Bytes that inference takes at ``ctx`` tokens: ``memory.total`` exact, ``memory.with_allowances`` estimated.

    ``dtype``: of the layers' matrices (``weights``); ``phase``: ``prefill`` of all ctx tokens at once, or ``decode`` of
    one token a sequence. ``batched_tokens``: so many tokens in one pass instead, as an engine batches them.
    ``weights``: as files hold them, where that is known, instead of in ``dtype``.

    Headline figures: ``memory.total``, ``weights``, ``kv_cache``, ``activations``, ``logits``, ``allowances``,
    ``with_allowances``.

    Raises:
        RequestError: a length below 1, an unknown format, backend or phase.
    """
    require_model(model)
    require_positive(ctx=ctx, batch=batch, batched_tokens=batched_tokens, source_ctx=source_ctx, group_size=group_size)
    asked = asked_pass(model, ctx=ctx, batch=batch, backend=backend, phase=phase, batched_tokens=batched_tokens)
    weights = weights or weight_bytes(model, formats_of(model, dtype, group_size=group_size, keep=keep))
    cache = _cache(model, ctx=ctx, batch=batch, kv_dtype=kv_dtype, source_ctx=source_ctx)
    activations, views = _activations(model, asked)
    whole = total(
        "memory",
        "bytes",
        [weights, *cache, activations],
        key="memory.total",
        source=SOURCE,
        convention=_KEPT,
    )
    if weights.basis == "estimated":
        whole = whole.replace(basis="estimated", reason=weights.reason)
    guess = activations if activations.basis == "estimated" else None
    parts = [whole, *views, *with_allowances(whole, training=False, guess=guess)]
    return total("memory", "bytes", parts, source=SOURCE).estimated(model.reasons)


def asked_pass(
    model: Model, *, ctx: int, batch: int, backend: Backend, phase: str = "prefill", batched_tokens: int | None = None
) -> Pass:
    """The pass whose activations are asked for.

    Raises:
        RequestError: an unknown backend or phase; tokens of several sequences where the scores are held.
    """
    require_described(model)
    if backend not in BACKENDS:
        raise RequestError(f"unknown attention backend {backend!r}", f"one of {', '.join(BACKENDS)}")
    if phase not in ("prefill", "decode"):
        raise RequestError(f"unknown phase {phase!r}", "prefill or decode")
    precision = PRECISIONS[config_dtype(model.dtype).name]
    S = symbol("S", ctx)
    if batched_tokens is not None:
        if backend != "flash":
            raise RequestError(
                f"batched tokens have no scores to count for backend {backend}", "choose --backend flash"
            )
        T = symbol("T", batched_tokens)
        return Pass(B=symbol("B", 1), T=T, S=T, precision=precision, backend=backend)
    if phase == "decode":
        return Pass(B=symbol("B", batch), T=symbol("T", 1), S=S, precision=precision, backend=backend, cached=True)
    T = symbol("T", ctx)
    return Pass(B=symbol("B", batch), T=T, S=T, precision=precision, backend=backend)


def fallbacks(model: Model, asked: Pass) -> list[str]:
    """Where another attention backend runs than the one that is asked for, in words."""
    attentions = (
        each
        for layer in model.main.layers
        for each in layer.sublayers()
        if isinstance(each, SelfAttention | LatentAttention)
    )
    found = dict.fromkeys(fallback(asked, each) for each in attentions)
    return [f"attention asked as {asked.backend} runs as {text}" for text in found if text]


def _cache(model: Model, *, ctx: int, batch: int, kv_dtype: str | None, source_ctx: int | None) -> list[Node]:
    found, dtype = needed_bytes(model, ctx=ctx, batch=batch, kv_dtype=kv_dtype, source_ctx=source_ctx)
    needed = found.replace(name="kv_cache", key="memory.kv_cache", note=dtype)
    state = int(state_bytes(model).value)
    if not state:
        return [needed]
    return [needed, leaf("recurrent_state", "bytes", symbol("B", batch) * symbol("state_bytes", state))]


def with_allowances(whole: Node, *, training: bool, guess: Node | None = None) -> list[Node]:
    """The allowances, and the exact sum with them (and with activations that are a guess): an estimate."""
    extra = allowances(training=training)
    both = symbol("total", int(whole.value)) + symbol("allowances", int(extra.value))
    if guess is not None:
        both = both + symbol("activations", int(guess.value))
    reason = "allowances are" if guess is None else "allowances and activations are"
    node = leaf("with_allowances", "bytes", both, key="memory.with_allowances", aside=True)
    return [extra, node.replace(basis="estimated", reason=reason)]


# ---- activations ----------------------------------------------------------------------------------------------------


def _activations(model: Model, asked: Pass) -> tuple[Node, list[Node]]:
    """(the highest moment of the pass, or an estimate beside the sum; other views)."""
    stack = model.main
    reasons = why_estimated(stack, training=False)
    if reasons and not _walkable(stack):
        guess = _guess(model, asked)
        return guess.replace(basis="estimated", reason="; ".join(reasons), aside=True), []
    moments, logits = pass_and_logits(stack, model.head, asked, last=stack.role == "decoder")
    highest = max(moments, key=lambda moment: moment.bytes)
    node = moment_node(highest).replace(
        name="activations", key="memory.activations", note=f"at its highest in {highest.name}"
    )
    if reasons:
        node = node.estimated(tuple(reasons)).replace(aside=True)
    return node, [*_logits(model, asked, logits), *_per_token(highest, asked)]


def why_estimated(stack: Stack, *, training: bool) -> list[str]:
    """Why activations are not known to the byte; empty where they are."""
    found = [f"no memory formula yet for {what}" for what in unwalked_in(stack, training=training)]
    if not isinstance(stack.embedding, TokenEmbedding):
        found.append("no memory formula yet for towers")
    if prompt_of(stack):
        found.append("no memory formula yet for a learned prompt before every sequence")
    if stack.pooled_projection is not None:
        found.append("no memory formula yet for one vector an input, projected")
    if not training and any(depends_on_data(layer) for layer in stack.layers):
        found.append("how many tokens an expert gets depends on the data; taken as even")
    return list(dict.fromkeys(found))


def _walkable(stack: Stack) -> bool:
    return isinstance(stack.embedding, TokenEmbedding) and not unwalked_in(stack, training=False)


def moment_node(moment: Moment) -> Node:
    """What is live at a moment, a row for each storage."""
    rows = store_rows((*moment.shared, *moment.peak.stores))
    return total("peak", "bytes", rows, source=SOURCE)


def store_rows(stores: Iterable[Store]) -> list[Node]:
    """A row for each name; equal storages of a name are one row times their number."""
    kinds: dict[tuple[str, int], tuple[Expression, int]] = {}
    for store in stores:
        size, count = kinds.get((store.name, store.bytes), (store.size, 0))
        kinds[(store.name, store.bytes)] = (size, count + 1)
    return [leaf(name, "bytes", size if count == 1 else count * size) for (name, _), (size, count) in kinds.items()]


def _logits(model: Model, asked: Pass, size: int) -> list[Node]:
    stack = model.main
    if not size or model.head is None:
        return []
    rows = asked.B if stack.role == "decoder" or model.head.pooled else asked.B * asked.T
    V = symbol("V", model.head.output_size)
    width = exact(size // (int(rows) * int(V)))
    convention = "of each sequence's last token" if stack.role == "decoder" else "of every position"
    return [leaf("logits", "bytes", rows * V * width, key="memory.logits", aside=True, convention=convention)]


def _per_token(moment: Moment, asked: Pass) -> list[Node]:
    """Bytes of activations a batched token: of the storages that grow with the tokens, not of rotary frequencies."""
    tokens = int(asked.B) * int(asked.T)
    grown = [store for store in (*moment.shared, *moment.peak.stores) if mentions(store.elements, "T")]
    size = sum(store.bytes for store in grown)
    if size % tokens:
        return []
    rate = symbol("activations", size) // symbol("tokens", tokens)
    convention = "what grows with the tokens of the pass, over the tokens of all sequences"
    return [
        leaf("per_batched_token", "bytes", rate, key="memory.activations_per_token", aside=True, convention=convention)
    ]


def _guess(model: Model, asked: Pass) -> Node:
    """The stream twice and every matrix's output of the widest layer of its stacks, both of T tokens: a rough size
    where no walk exists."""
    n, width = asked.B * asked.T, asked.precision.compute
    stacks = [stack for stack in model.stacks if stack.role in ("decoder", "encoder")] or [model.main]
    outputs = max(widest_outputs(layer) for stack in stacks for layer in stack.layers)
    channels = 2 * symbol("D", max(stack.hidden_size for stack in stacks)) + symbol("outputs", outputs)
    return leaf("activations", "bytes", n * channels * width, key="memory.activations")
