"""The n-squared story: how many scores, what a backend really holds of them, when their FLOPs pass the feed-forward's.

Every pair of a query and a key is a score, masked or not: that is what eager attention computes and holds (Vaswani et
al. 2017, equation 1); a fused kernel computes it in tiles and never holds it (Dao et al. 2022, arXiv 2205.14135).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from txcalc.architecture import (
    CompressedAttention,
    CrossAttention,
    LatentAttention,
    Model,
    RelativeAttention,
    Rotary,
    SelfAttention,
    Stack,
    Sublayer,
)
from txcalc.errors import RequestError
from txcalc.expression import Expression, ceil_div, symbol
from txcalc.formulas.flops import forward_flops, value_of
from txcalc.formulas.flops_attention import PRODUCTS
from txcalc.formulas.flops_question import question
from txcalc.formulas.flops_work import Work
from txcalc.formulas.letters import head_widths
from txcalc.formulas.memory import asked_pass, store_rows
from txcalc.formulas.params_sublayers import sublayer_params
from txcalc.formulas.score_pairs import score_pairs
from txcalc.formulas.sequence_costs import sequence_costs
from txcalc.formulas.tape.attention import bias_width, fallback, is_dense
from txcalc.formulas.tape.core import Mode, Tape
from txcalc.formulas.tape.products import Product, attend
from txcalc.formulas.tape.support import product_unknown
from txcalc.formulas.tape.walk import BACKENDS, Backend, Pass, Walk
from txcalc.formulas.workload import prompt_of, require_model, require_positive, source_length
from txcalc.result import Node, deferred, leaf, total

SOURCE: Final = "Vaswani et al. 2017 (arXiv 1706.03762), equation 1: one score a query, key and head"
HELD: Final = "derived: storages of the attention product that are live at once; held against torch's allocator"
Attention = SelfAttention | LatentAttention | CrossAttention


class Kind(NamedTuple):
    """Layers with the same attention: how many, its heads, T queries against S keys.

    ``pairs``: what the masks keep of the whole square.
    """

    name: str
    layers: int
    attention: Attention
    N: Expression
    H: Expression
    Hv: Expression
    T: Expression
    S: Expression
    pairs: Expression

    @property
    def square(self) -> Expression:
        """Pairs of one head, masked or not."""
        return self.T * self.S


def attention(
    model: Model,
    *,
    ctx: int,
    batch: int = 1,
    backend: Backend = "flash",
    window: int | None = None,
    source_ctx: int | None = None,
) -> Node:
    """Scores of ``ctx`` tokens, what each backend holds of them, and the table of other ways to mix a sequence.

    Headline figures: ``attention.scores_per_head``, ``scores_per_layer``, ``scores``, ``score_bytes`` (in the model's
    dtype), ``materialised`` and ``saved_for_backward`` (of the backend, one layer), ``crossover_ctx``, ``flops_share``.

    Raises:
        RequestError: a length below 1, an unknown backend, a model without attention.
    """
    require_model(model)
    require_positive(ctx=ctx, batch=batch, window=window, source_ctx=source_ctx)
    asked = _behind_prompt(model, asked_pass(model, ctx=ctx, batch=batch, backend=backend))
    if any(_untold(each) for each in _sublayers(model)):
        raise RequestError(
            "the scores of this kind of attention are not told apart here yet", "txcalc flops counts them"
        )
    kinds = _all_kinds(model, asked, source_ctx)
    if not kinds:
        raise RequestError(f"{model.name} has no attention, so no scores", "txcalc flops tells what its mixers cost")
    widest = _widest(model, kinds)
    parts = [
        _scores(kinds, widest, asked),
        *_bytes(kinds, asked),
        *_held(widest, asked),
        *_crossing(model, kinds),
        *_share(model, ctx, source_ctx),
        sequence_costs(widest.attention, T=widest.T, window=window),
    ]
    return total("attention", "scores", parts, source=SOURCE).estimated(model.reasons)


def _behind_prompt(model: Model, asked: Pass) -> Pass:
    """The same with the learned tokens that stand before every sequence (CPM-Ant)."""
    prompt = prompt_of(model.main)
    if not prompt:
        return asked
    before = symbol("prompt_tokens", prompt)
    return asked.replace(T=asked.T + before, S=asked.S + before)


def _untold(sublayer: Sublayer) -> bool:
    """Whether it makes other scores than one a pair."""
    if isinstance(sublayer, SelfAttention):
        return sublayer.landmarks is not None or sublayer.weighting in ("hashes", "resolutions")
    return isinstance(sublayer, CompressedAttention | RelativeAttention)


def _all_kinds(model: Model, asked: Pass, source_ctx: int | None) -> list[Kind]:
    """Every kind of attention, equal ones together; of several stacks each says which is its own."""
    stacks, source = _text(model), source_length(model, int(asked.S), source_ctx)
    found: dict[tuple[object, ...], Kind] = {}
    for stack in stacks:
        for kind in kinds_of(stack, _of_stack(model, stack, asked, source), source):
            own = len(stacks) > 1 and not isinstance(kind.attention, CrossAttention)
            name = f"{stack.role}, {kind.name}" if own else kind.name
            key = (name, int(kind.N), int(kind.H), int(kind.Hv), int(kind.pairs), kind.attention)
            before = found[key].layers if key in found else 0
            found[key] = kind._replace(name=name, layers=kind.layers + before)
    return list(found.values())


def _widest(model: Model, kinds: list[Kind]) -> Kind:
    """The kind that a layer's figures are of: of the main stack over itself, with most heads, with most pairs."""
    own = [each for layer in model.main.layers for each in layer.sublayers()]

    def rank(kind: Kind) -> tuple[bool, bool, int, int]:
        over_itself = not isinstance(kind.attention, CrossAttention)
        return over_itself, kind.attention in own, int(kind.N), int(kind.pairs)

    return max(kinds, key=rank)


def widest_kind(model: Model, asked: Pass) -> Kind:
    """The attention that holds the most at this length."""
    return _widest(model, _all_kinds(model, asked, None))


def _of_stack(model: Model, stack: Stack, asked: Pass, source: int | None) -> Pass:
    """The pass of that stack: an encoder has a length of its own, and so has an input of one length."""
    length = stack.fixed_length if stack is model.main else source
    return asked if length is None else asked.replace(T=symbol("T", length), S=symbol("T", length))


def _text(model: Model) -> list[Stack]:
    return [stack for stack in model.stacks if stack.role in ("decoder", "encoder")] or [model.main]


def _sublayers(model: Model) -> Iterator[Sublayer]:
    return (each for stack in _text(model) for layer in stack.layers for each in layer.sublayers())


def kinds_of(stack: Stack, asked: Pass, source_ctx: int | None) -> Iterator[Kind]:
    """The attention of each layer description of a stack."""
    source = symbol("S_source", source_ctx or int(asked.S))
    T, S = asked.T, asked.S
    for layer, count in zip(stack.layers, stack.counts(), strict=True):
        for a in layer.sublayers():
            match a:
                case SelfAttention():
                    H, Hv = head_widths(a.head_dim, a.v_head_dim)
                    yield Kind(_name(a), count, a, symbol("N", a.num_attention_heads), H, Hv, T, S, _pairs(a, asked))
                case LatentAttention():
                    H = symbol("qk_nope_head_dim", a.qk_nope_head_dim) + symbol("qk_rope_head_dim", a.qk_rope_head_dim)
                    N, Hv = symbol("N", a.num_attention_heads), symbol("v_head_dim", a.v_head_dim)
                    yield Kind("latent attention", count, a, N, H, Hv, T, S, _pairs(a, asked))
                case CrossAttention() if a.optional and source_ctx is None:
                    pass  # without an image it does not run
                case CrossAttention():
                    H, Hv = head_widths(a.head_dim, a.v_head_dim)
                    N = symbol("N", a.num_attention_heads)
                    yield Kind("cross attention", count, a, N, H, Hv, T, source, T * source)
                case _:
                    pass


def _name(a: SelfAttention) -> str:
    return "sliding window" if a.window is not None else "chunked" if a.chunk is not None else "full attention"


def _pairs(a: SelfAttention | LatentAttention, asked: Pass) -> Expression:
    work = Work(B=asked.B, T=asked.T, S=asked.S, rows=asked.B * asked.T, mask="exact")
    chunk = a.chunk if isinstance(a, SelfAttention) else None
    return score_pairs(work, causal=a.causal, window=a.window, chunk=chunk)


# ---- scores ---------------------------------------------------------------------------------------------------------


def _scores(kinds: list[Kind], widest: Kind, asked: Pass) -> Node:
    """All scores of the model, and the steps there: a head, a layer."""
    rows = [leaf(kind.name, "scores", asked.B * symbol("L", kind.layers) * kind.N * kind.square) for kind in kinds]
    kept = [leaf(kind.name, "scores", asked.B * symbol("L", kind.layers) * kind.N * kind.pairs) for kind in kinds]
    square = widest.square
    views = [
        leaf("per_head", "scores", square, key="attention.scores_per_head", aside=True),
        leaf("per_layer", "scores", asked.B * widest.N * square, key="attention.scores_per_layer", aside=True),
        total("kept_by_the_masks", "scores", kept, aside=True, convention="causal, windowed and chunked pairs only"),
    ]
    whole = "every query with every key, masked or not"
    return total("scores", "scores", [*rows, *views], key="attention.scores", convention=whole)


def _bytes(kinds: list[Kind], asked: Pass) -> list[Node]:
    """The score matrices as bytes, of one layer and of all, in each dtype."""
    own = asked.precision.compute
    count = sum(int(asked.B) * kind.layers * int(kind.N) * int(kind.square) for kind in kinds)
    scores = symbol("scores", count)
    rows = []
    for name, width in (("fp32", 4), ("bf16", 2)):
        key = "attention.score_bytes" if width == own else ""
        rows.append(leaf(f"all scores in {name}", "bytes", scores * width, key=key, aside=True))
    return rows


# ---- what a backend holds -------------------------------------------------------------------------------------------


def _held(kind: Kind, asked: Pass) -> list[Node]:
    """The product of one layer under each backend: live at once, and kept for the backward pass."""
    return [node for name in BACKENDS for node in _backend(kind, asked, name)]


def _backend(kind: Kind, asked: Pass, backend: Backend) -> list[Node]:
    here, chosen = asked.replace(backend=backend), backend == asked.backend
    runs = fallback(here, kind.attention)
    shared: dict[str, Any] = {"aside": True, "source": HELD, "note": f"runs as {runs}" if runs else ""}
    held = deferred(
        f"{backend}: live at once in one layer",
        "bytes",
        lambda: store_rows(product_tape(kind, here, "inference").peak().stores),
        key="attention.materialised" if chosen else "",
        convention=f"{kind.name}, the product alone: beside queries, keys and values, its output included",
        **shared,
    )
    kept = deferred(
        f"{backend}: kept for the backward pass by one layer",
        "bytes",
        lambda: store_rows(product_tape(kind, here, "training").kept()),
        key="attention.saved_for_backward" if chosen else "",
        convention=f"{kind.name}: beside queries, keys and values",
        **shared,
    )
    return [_judged(held, kind, training=False), _judged(kept, kind, training=True)]


def _judged(node: Node, kind: Kind, *, training: bool) -> Node:
    """An estimate where the product has something that no walk covers."""
    unknown = product_unknown(kind.attention, training=training)
    return node.estimated((f"no memory formula yet for {', '.join(unknown)}",) if unknown else ())


def product_tape(kind: Kind, asked: Pass, mode: Mode, *, observed: bool = False) -> Tape:
    """The walk of one attention product on queries, keys and values that are there."""
    tape = Tape(mode, observed=observed)
    asked = asked.replace(T=kind.T, S=kind.S)
    w, a = Walk(tape, asked), kind.attention
    K = kind.N if isinstance(a, LatentAttention) else symbol("K", a.num_key_value_heads)
    width = asked.precision.compute
    shapes = ((kind.T, kind.N, kind.H), (kind.S, K, kind.H), (kind.S, K, kind.Hv))
    q, k, v = (tape.given("given", asked.B * n * heads * size, width, trainable=True) for n, heads, size in shapes)
    asked_product = Product(q, k, v, kind.N, K, kind.H, kind.Hv, kind.T, kind.S, causal=_causal(a))
    if isinstance(a, SelfAttention):
        asked_product = asked_product._replace(
            dense=is_dense(asked, a),
            bias=bias_width(a),
            softcap=a.softcap is not None,
            sinks=a.sinks,
            turned=isinstance(a.position, Rotary),
        )
    attend(w, asked_product)
    return tape


def _causal(a: Attention) -> bool:
    return not isinstance(a, CrossAttention) and a.causal


# ---- FLOPs ----------------------------------------------------------------------------------------------------------


def _crossing(model: Model, kinds: list[Kind]) -> list[Node]:
    """The context from which scores and values cost more FLOPs than the feed-forwards, everything a token passes.

    derived: 2 S N (H + width of a value head) a token and layer against 2 a parameter of a feed-forward; windows are
    ignored, as in the whole square.
    """
    growing = [kind for kind in kinds if not isinstance(kind.attention, CrossAttention)]
    rate = sum(kind.layers * int(kind.N) * _channels(kind) for kind in growing)
    fed = _feed_forward_parameters(model)
    if not fed or not rate:
        return []
    per_key, matrices = symbol("score_channels", rate), symbol("feed_forward_params", fed)
    source = "derived: multiply-adds a token: channels of scores and values times S, against feed-forward parameters"
    return [
        leaf(
            "attention_passes_feed_forward_at",
            "tokens",
            ceil_div(matrices, per_key),
            key="attention.crossover_ctx",
            aside=True,
            source=source,
            convention="the whole square, windows ignored; projections on neither side",
        ),
        leaf(
            "and_with_the_causal_triangle_at",
            "tokens",
            ceil_div(2 * matrices, per_key) - 1,
            aside=True,
            source=source,
            convention="half of the pairs: query i meets i keys",
        ),
    ]


def _channels(kind: Kind) -> int:
    """Multiply-adds a pair and head; a map of differential attention is made once for either half of its values."""
    differential = isinstance(kind.attention, SelfAttention) and kind.attention.differential is not None
    return (2 if differential else 1) * (int(kind.H) + int(kind.Hv))


def _feed_forward_parameters(model: Model) -> int:
    """Parameters of the feed-forwards that one token is multiplied by."""
    size = 0
    for stack in _text(model):
        for layer, count in zip(stack.layers, stack.counts(), strict=True):
            for sublayer in layer.sublayers():
                size += count * _multiplied(sublayer_params(sublayer), getattr(sublayer, "num_experts_per_tok", 0))
    return size


def _multiplied(node: Node, chosen: int) -> int:
    """Of a feed-forward or a mixture: its matrices, those of the chosen experts only; nothing of other sublayers."""
    if node.name not in ("feed_forward", "mixture_of_experts"):
        return 0
    size = 0
    for child in node.children:
        if child.name == "experts" and child.count is not None:
            size += int(child.value) // int(child.count) * chosen
        elif child.name != "norm":
            size += int(child.value)
    return size


def _share(model: Model, ctx: int, source_ctx: int | None) -> list[Node]:
    """Scores and values among all matrix products of a forward pass over the context."""
    if model.main.fixed_length is not None:
        return []
    forward = forward_flops(model, question(model, seq=ctx, source_seq=source_ctx))
    products = value_of(forward, PRODUCTS)
    share = products / int(forward.value) if products else 0.0
    convention = "score and value products over all matrix products of a forward pass, the whole square"
    return [
        Node(
            name="share_of_forward_flops",
            unit="ratio",
            number=share,
            key="attention.flops_share",
            aside=True,
            source="derived: flops.attention / flops.matmul",
            convention=convention,
        )
    ]
