"""How large the cache is: keys and values of the past, latents, indexer keys, and the fixed state of recurrences.

Source: ``derived:`` from what each sublayer reads of earlier tokens. Softmax attention needs every kept token's keys
and values, K * (H + width of a value head) elements a token and layer (Shazeer 2019 for MQA, Ainslie et al. 2023 for
GQA); latent attention the compressed latent and one rotary key (DeepSeek-V2, section 2.1.3, table 1). A windowed or
chunked layer needs no more tokens than its window.
"""

from __future__ import annotations

from collections.abc import Iterable

from txcalc.architecture import Layer, Model, Stack
from txcalc.errors import RequestError
from txcalc.expression import Expression, ceil_div, minimum, symbol
from txcalc.formulas.cache_shapes import CacheRow, StateShape, cache_rows, state_of, state_of_branch
from txcalc.formulas.dtypes import DType, config_dtype, dtype_named
from txcalc.formulas.flops_question import require_described
from txcalc.formulas.workload import prompt_of, require_model, require_positive, source_length
from txcalc.result import Node, Unit, leaf, total

SOURCE = (
    "derived: keys and values that later tokens read; grouped heads: Ainslie et al. 2023 (arXiv 2305.13245); "
    "latents: DeepSeek-V2 (arXiv 2405.04434), section 2.1.3"
)
CONVENTION = "what the model needs at this context: windows kept to their size, heads as the checkpoint has them"


def kv_cache(
    model: Model,
    *,
    ctx: int,
    batch: int = 1,
    kv_dtype: str | None = None,
    source_ctx: int | None = None,
    state_dtype: str = "fp32",
    block_size: int | None = None,
) -> Node:
    """Bytes of the cache at ``ctx`` tokens, by kind of layer.

    Headline figures: ``kv_cache.total_bytes``, ``reserved_bytes``, ``bytes_per_token``, ``marginal_bytes_per_token``,
    ``state_bytes`` (per sequence). ``block_size`` adds what a paged engine allocates.

    Raises:
        RequestError: a length below 1, an unknown dtype, a row that does not fill whole blocks of the dtype, a
            decoder whose layers are not described.
    """
    require_model(model)
    require_positive(block_size=block_size)
    work = _work(model, ctx, batch, kv_dtype, source_ctx)
    views = [
        total("reserved", "bytes", work.rows(kept=False), key="kv_cache.reserved_bytes", aside=True, convention=_FULL),
        work.per_token(),
        total("marginal", "bytes", work.marginal(), key="kv_cache.marginal_bytes_per_token", aside=True),
        state_bytes(model, state_dtype=state_dtype),
    ]
    if block_size is not None:
        views += work.paged(block_size)
    tree = total("kv_cache", "bytes", [work.needed(), *views], convention=work.dtype.name, source=SOURCE)
    return tree.estimated(model.reasons)


def needed_bytes(
    model: Model, *, ctx: int, batch: int, kv_dtype: str | None = None, source_ctx: int | None = None
) -> tuple[Node, str]:
    """(``kv_cache.total_bytes`` alone, the name of its dtype).

    Raises:
        RequestError: as ``kv_cache`` does.
    """
    work = _work(model, ctx, batch, kv_dtype, source_ctx)
    return work.needed().estimated(model.reasons), work.dtype.name


def _work(model: Model, ctx: int, batch: int, kv_dtype: str | None, source_ctx: int | None) -> _Work:
    require_positive(ctx=ctx, batch=batch, source_ctx=source_ctx)
    if model.main.role == "decoder" and not model.main.layers:
        require_described(model)
    dtype = config_dtype(model.dtype) if kv_dtype is None else dtype_named(kv_dtype)
    return _Work(model, ctx, batch, source_length(model, ctx, source_ctx), dtype)


_FULL = "every caching layer at full length, as an engine without windows reserves it"


def state_bytes(model: Model, *, state_dtype: str = "fp32") -> Node:
    """Fixed state per sequence: recurrent state in ``state_dtype``, convolution windows (kernel - 1) in the model's.

    Raises:
        RequestError: an unknown dtype, or a block format.
    """
    state, window = dtype_named(state_dtype), config_dtype(model.dtype)
    if state.block_size > 1:
        raise RequestError(f"a recurrent state is not kept in {state.name}", "choose fp32, bf16 or fp16")
    counts: dict[StateShape, int] = {}
    for layer, count in _layers(model):
        branches = [branch for step in layer.steps for branch in step.branches]
        shapes = (shape for each in branches for shape in (state_of(each.sublayer), state_of_branch(each)))
        for shape in shapes:
            if shape is not None:
                counts[shape] = counts.get(shape, 0) + count
    parts: list[Node] = []
    for shape, count in counts.items():
        L = symbol("L", count)
        if shape.state:
            parts.append(leaf(f"{shape.name} state", "bytes", L * shape.state * _bytes("state_bytes", state)))
        if shape.window:
            parts.append(leaf(f"{shape.name} window", "bytes", L * shape.window * _bytes("conv_bytes", window)))
    convention = f"per sequence; recurrent state {state.name}, convolution window {window.name}"
    return total("state", "bytes", parts, key="kv_cache.state_bytes", aside=True, convention=convention)


def _bytes(name: str, dtype: DType) -> Expression:
    return symbol(name, dtype.block_bytes)


def _layers(model: Model) -> list[tuple[Layer, int]]:
    return [pair for stack in model.stacks for pair in zip(stack.layers, stack.counts(), strict=True)]


class _Work:
    """One question about one model: its caching rows at given lengths."""

    def __init__(self, model: Model, ctx: int, batch: int, source: int | None, dtype: DType) -> None:
        self.model, self.dtype = model, dtype
        self.batch, self.ctx = symbol("B", batch), symbol("S", ctx)
        if prompt := prompt_of(model.main):
            self.ctx = self.ctx + symbol("prompt_tokens", prompt)
        self.source = symbol("S_source", ctx if source is None else source)
        self.shapes = merged(row for stack in model.stacks for row in _stack_rows(stack))
        for row in self.shapes:
            self._check_blocks(row)

    def _check_blocks(self, row: CacheRow) -> None:
        for width in row.row_widths:
            if width % self.dtype.block_size:
                what = f"{self.dtype.name} packs {self.dtype.block_size} elements; a row of {width} does not fill them"
                raise RequestError(what, "choose fp8, int8 or bf16")

    def tokens(self, row: CacheRow, *, kept: bool) -> Expression:
        """How many tokens a row of that layer holds, or how many entries that each stand for several."""
        if row.cross:
            return self.source
        if row.every != 1:
            return self.ctx // symbol("rate", row.every)
        return minimum(self.ctx, symbol("window", row.limit)) if kept and row.limit is not None else self.ctx

    def needed(self) -> Node:
        """What the model needs at this length."""
        return total("needed", "bytes", self.rows(kept=True), key="kv_cache.total_bytes", convention=CONVENTION)

    def rows(self, *, kept: bool) -> list[Node]:
        return [
            leaf(
                row.name, "bytes", self.dtype.bytes_of(self.batch * self.tokens(row, kept=kept) * row.L * row.elements)
            )
            for row in self.shapes
        ]

    def per_token(self) -> Node:
        """One token in every layer that caches; an estimate where its share of an entry is no whole number of bytes."""
        rows = [self._per_token(row) for row in self.shapes if not row.cross]
        node = total("per_token", "bytes", rows, key="kv_cache.bytes_per_token", aside=True)
        reasons = [row.reason for row in rows if row.basis == "estimated"]
        return node.replace(basis="estimated", reason="; ".join(reasons)) if reasons else node

    def _per_token(self, row: CacheRow) -> Node:
        size = self.dtype.bytes_of(row.L * row.elements)
        if row.every == 1:
            return leaf(row.name, "bytes", size)
        whole = int(size) % row.every == 0
        return leaf(
            row.name,
            "bytes",
            size // symbol("rate", row.every),
            note=f"a share of an entry for {row.every} tokens",
            basis="exact" if whole else "estimated",
            reason="" if whole else f"an entry for {row.every} tokens is no whole number of bytes for each",
        )

    def marginal(self) -> list[Node]:
        rows = []
        for row in self.shapes:
            if row.limit is not None and row.limit <= int(self.ctx):
                rows.append(leaf(row.name, "bytes", 0, note=f"its {row.limit:,} tokens are full"))
            elif row.every != 1 and (int(self.ctx) + 1) % row.every:
                rows.append(leaf(row.name, "bytes", 0, note=f"the next entry is complete with {row.every} tokens"))
            elif not row.cross:
                rows.append(leaf(row.name, "bytes", self.dtype.bytes_of(row.L * row.elements)))
        return rows

    def paged(self, block_size: int) -> list[Node]:
        """What an engine that allocates blocks of ``block_size`` tokens takes, and how much of it is rounding."""
        block = symbol("block_size", block_size)
        rows = []
        for row in self.shapes:
            blocks = ceil_div(self.tokens(row, kept=True), block)
            rows.append(
                leaf(row.name, "bytes", self.dtype.bytes_of(self.batch * blocks * block * row.L * row.elements))
            )
        in_blocks = total("in_blocks", "bytes", rows, key="kv_cache.block_bytes", aside=True)
        needed = sum(int(node.value) for node in self.rows(kept=True))
        waste = symbol("in_blocks", int(in_blocks.value)) - symbol("needed", needed)
        per_sequence = ceil_div(self.ctx, block)
        return [
            leaf("blocks_per_sequence", "", per_sequence, key="kv_cache.blocks_per_sequence", aside=True),
            in_blocks,
            leaf("rounding_waste", "bytes", waste, key="kv_cache.block_waste_bytes", aside=True),
        ]


def merged(rows: Iterable[CacheRow]) -> list[CacheRow]:
    """One row for all layers that cache alike, whatever else differs in them."""
    found: dict[CacheRow, int] = {}
    for row in rows:
        alike = row.replace(L=symbol("L", 1))
        found[alike] = found.get(alike, 0) + int(row.L)
    return [alike.replace(L=symbol("L", count)) for alike, count in found.items()]


def _stack_rows(stack: Stack) -> list[CacheRow]:
    """Of a decoder; any other stack sees its input at once, even where later tokens are hidden (CLIP's texts)."""
    if stack.role != "decoder":
        return []
    return [
        row
        for layer, count in zip(stack.layers, stack.counts(), strict=True)
        for sublayer in layer.sublayers()
        for row in cache_rows(sublayer, count)
    ]


# ---- fit ------------------------------------------------------------------------------------------------------------

_MOST = 2**50


class Fit:
    """How much fits in ``budget`` bytes: the longest single sequence, and how many sequences of ``ctx`` tokens.

    ``tokens`` and ``sequences`` are None where any number fits: nothing grows, or nothing is kept at all.
    """

    def __init__(self, model: Model, *, budget: int, ctx: int, **options: object) -> None:
        self.budget, self.ctx = budget, ctx
        self._model, self._options = model, options
        each = self._cost(ctx)
        self.sequences = budget // each if each else None
        self.tokens = self._tokens()

    def _cost(self, tokens: int) -> int:
        return _sequence_bytes(self._model, tokens, self._options)

    def _tokens(self) -> int | None:
        if self._cost(_MOST) <= self.budget:
            return None
        low, high = 0, _MOST
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._cost(middle) <= self.budget else (low, middle)
        return low

    def nodes(self) -> list[Node]:
        """The two answers, as rows of a result."""
        return [
            _fitting("tokens_in_one_sequence", "tokens", self.tokens, "kv_cache.fit_tokens"),
            _fitting(f"sequences_of_{self.ctx:,}_tokens", "sequences", self.sequences, "kv_cache.fit_sequences"),
        ]


def _fitting(name: str, unit: Unit, value: int | None, key: str) -> Node:
    if value is None:
        return leaf(name, unit, _MOST, aside=True, note="any number: what is kept does not grow")
    return leaf(name, unit, value, key=key, aside=True, convention="cache and state of each sequence, nothing else")


def _sequence_bytes(model: Model, ctx: int, options: dict[str, object]) -> int:
    """Cache and state of one sequence; in whole blocks where a block size is among the options."""
    figures = kv_cache(model, ctx=ctx, **options).figures()  # type: ignore[arg-type]  # options are kv_cache's own
    cache = figures.get("kv_cache.block_bytes", figures["kv_cache.total_bytes"])
    return int(cache) + int(figures["kv_cache.state_bytes"])
