"""The model: stacks and a head. ``build`` makes it from an Architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from txcalc import architecture as arch
from txcalc.errors import RequestError
from txcalc.reference.backends import Backend, Name
from txcalc.reference.cache import CacheSpec, DecoderCache
from txcalc.reference.connector import Connector
from txcalc.reference.context import Context, Source
from txcalc.reference.heads import Head
from txcalc.reference.initialise import initialise
from txcalc.reference.padding import Rows
from txcalc.reference.stack import Stack
from txcalc.reference.support import not_built


@dataclass
class Output:
    """What a pass returns: ``hidden_BTD`` [B, T, D] after the final norm, and what the head makes of it.

    ``logits`` [B, T, V], or [B, 1, V] where only the last were asked for, or [B, labels] of a pooled head.
    ``weights``: (depth, "self" or "cross") -> attention weights [B, N, T, S], where asked for.
    """

    hidden_BTD: Tensor
    logits: Tensor | None = None
    pooled_BD: Tensor | None = None
    pooled_logits: Tensor | None = None
    weights: dict[tuple[int, str], Tensor] = field(default_factory=dict)


class Transformer(nn.Module):
    """Every model that an Architecture describes: decoder, encoder, or both, and its head."""

    def __init__(self, model: arch.Model, *, backend: Backend, dropout: float = 0.0) -> None:
        super().__init__()
        self.model, self.backend, self.dropout = model, backend, dropout
        self.stacks = nn.ModuleDict({stack.role: Stack(stack) for stack in model.stacks})
        self.connectors = nn.ModuleDict({each.tower: Connector(each) for each in model.connectors})
        self.head = Head(model.head) if model.head else None
        self.pooled_head = Head(model.pooled_head) if model.pooled_head else None
        self.unused = nn.ParameterDict(
            {
                f"{each.name.replace('.', '_')}_{i}": torch.empty(each.shape)
                for each in model.unused
                for i in range(each.count)
            }
        )

    def stack(self, role: arch.Role) -> Stack:
        """The stack of that role."""
        stack = self.stacks[role]
        assert isinstance(stack, Stack)
        return stack

    @property
    def main(self) -> Stack:
        """The stack that the head reads: the decoder, else the first."""
        return self.stack(self.model.main.role)

    def table(self, role: arch.Role) -> Tensor:
        """A stack's token table [V, embedding_size], its own or the one that it shares."""
        embedding = self.stack(role).stack.embedding
        assert isinstance(embedding, arch.TokenEmbedding)
        owner = embedding.shared_with or role
        table: Tensor = self.stack(owner).embedding.tokens.weight  # type: ignore[union-attr, assignment]  # a token embedding's
        return table

    def forward(
        self,
        inputs: Tensor,
        *,
        lengths: Sequence[int] | None = None,
        padding: Literal["left", "right"] = "right",
        token_types_BT: Tensor | None = None,
        source: Tensor | None = None,
        source_lengths: Sequence[int] | None = None,
        encoded: Source | None = None,
        seen_MD: Tensor | None = None,
        seen_BT: Tensor | None = None,
        cache: DecoderCache | None = None,
        last_only: bool = False,
        weights: bool = False,
        length: int = 0,
        starts_B: Tensor | None = None,
        global_BT: Tensor | None = None,
        together_BT: Tensor | None = None,
    ) -> Output:
        """Tokens [B, T] (a vision model: images [B, channels, height, width]) -> hidden states and logits.

        ``lengths``: real tokens of each row, padded on the side that ``padding`` names. ``source``: the encoder's
        input, or ``encoded``: what ``encode`` made of it. ``seen_MD``: what ``tower`` made of images or sound, put in
        the places of the tokens where ``seen_BT`` is true. ``cache``: what came before; these tokens are added to it.
        ``last_only``: logits of each row's last token alone. ``weights``: return attention weights (eager only).
        ``length``: how long the sequence may become, for rotary settings that depend on it. ``starts_B``: see
        ``graph.StepGraph``. ``global_BT``: tokens that see everything and that all see (Longformer). ``together_BT``:
        numbers of blocks, whose tokens see each other whatever their order (an image's in Gemma 3, see
        ``masks.blocks_of``); -1 for tokens of none.

        Raises:
            RequestError: inputs that do not fit each other, the cache or the backend.
        """
        stack = self.main
        x_BTD, rows, context = self._enter(stack, inputs, lengths, padding, token_types_BT, cache, length, starts_B)
        context.source = self._source(source, source_lengths, encoded)
        context.weights = {} if weights else None
        context.global_BT = None if global_BT is None else rows.to_right(global_BT)
        context.together_BT = None if together_BT is None else rows.to_right(together_BT)
        if together_BT is not None and any(context.starts):
            raise RequestError("tokens that see each other must come in one piece, before any others are cached")
        if seen_MD is not None and seen_BT is not None:
            if not seen_BT.is_meta and int(seen_BT.sum()) != len(seen_MD):
                raise RequestError(f"{len(seen_MD)} vectors of images or sound for {int(seen_BT.sum())} tokens of them")
            x_BTD = x_BTD.masked_scatter(rows.to_right(seen_BT)[..., None], seen_MD.to(x_BTD.dtype))
        hidden_BTD = stack(x_BTD, context, cache)
        if cache is not None and starts_B is None:
            cache.advance(context.counts)
        return self._output(hidden_BTD, rows, context, last_only)

    def encode(self, source: Tensor, lengths: Sequence[int] | None = None) -> Source:
        """The encoder's output for a source: tokens [B, S], padded on the right, or mel frames [B, mels, frames]."""
        stack = self.stack("encoder" if "encoder" in self.stacks else "audio")
        x_BSD, _, context = self._enter(stack, source, lengths)
        states_BSD = stack(x_BSD, context)
        return Source(states_BSD, context.real_positions(), context.padded)

    def tower(self, role: arch.Role, inputs: Tensor) -> Tensor:
        """What the decoder sees of images or sound: [all tokens of all inputs, decoder's hidden_size]."""
        stack = self.stack(role)
        x_BSD, _, context = self._enter(stack, inputs)
        states_BSD = stack(x_BSD, context)
        connected: Tensor = self.connectors[role](states_BSD) if role in self.connectors else states_BSD
        return connected.flatten(0, 1)

    def new_cache(
        self, *, batch: int, ctx: int, dtype: torch.dtype | None = None, source: int = 0, int8: bool = False
    ) -> DecoderCache:
        """An empty cache for ``batch`` rows of up to ``ctx`` tokens, and ``source`` source tokens.

        Raises:
            RequestError: the model has no decoder.
        """
        if self.model.stack("decoder") is None:
            raise RequestError(f"{self.model.name} has no decoder, so nothing to cache")
        parameter = next(self.parameters())
        spec = CacheSpec(batch, ctx, parameter.device, dtype or parameter.dtype, source, int8)
        return self.main.new_cache(spec)

    def checkpoint_layers(self, on: bool = True) -> None:
        """Keep only each layer's input for the backward pass, and compute the rest again (Chen et al. 2016)."""
        for role in self.model.stacks:
            self.stack(role.role).gradient_checkpointing = on

    def _enter(
        self,
        stack: Stack,
        inputs: Tensor,
        lengths: Sequence[int] | None = None,
        padding: Literal["left", "right"] = "right",
        types_BT: Tensor | None = None,
        cache: DecoderCache | None = None,
        length: int = 0,
        starts_B: Tensor | None = None,
    ) -> tuple[Tensor, Rows, Context]:
        """Inputs of a stack as its first hidden states [B, T, D], their rows, and the pass that they begin."""
        if not isinstance(stack.stack.embedding, arch.TokenEmbedding):
            x_BTD = stack.embedding(inputs)
            rows = Rows.of(x_BTD[..., 0], None, "right")
            return x_BTD, rows, self._context(rows, cache, length)
        rows = Rows.of(inputs, lengths, padding)
        context = self._context(rows, cache, length)
        context.starts_B = starts_B
        types_BT = None if types_BT is None else rows.to_right(types_BT)
        return stack.embedding(rows.tokens_BT, types_BT, context, self.table(stack.stack.role)), rows, context

    def _context(self, rows: Rows, cache: DecoderCache | None, length: int) -> Context:
        B, T = rows.tokens_BT.shape
        starts = tuple(cache.lengths) if cache is not None else (0,) * B
        if len(starts) != B:
            raise RequestError(f"{B} rows of tokens and a cache of {len(starts)}")
        return Context(
            starts=starts,
            counts=rows.counts,
            tokens=T,
            device=rows.tokens_BT.device,
            backend=self.backend,
            length=length or (cache.spec.ctx if cache is not None else T),
            dropout=self.dropout if self.training else 0.0,
            constants={} if cache is None else cache.constants,
        )

    def _source(self, source: Tensor | None, lengths: Sequence[int] | None, encoded: Source | None) -> Source | None:
        if encoded is not None or source is None:
            if encoded is None and self._needs_source():
                raise RequestError(f"{self.model.name} reads a source: give source= or encoded=")
            return encoded
        return self.encode(source, lengths)

    def _needs_source(self) -> bool:
        layers = self.main.stack.layers
        sublayers = (each for layer in layers for each in layer.sublayers())
        return any(isinstance(each, arch.CrossAttention) and not each.optional for each in sublayers)

    def _output(self, hidden_BTD: Tensor, rows: Rows, context: Context, last_only: bool) -> Output:
        stack = self.main
        pooled_BD = stack.pooled(hidden_BTD, context)
        out = Output(rows.from_right(hidden_BTD), pooled_BD=pooled_BD)
        out.weights = context.weights or {}
        if self.head is not None:
            head = self.head.head
            table_VD = self.table(head.tied_to) if head.tied else None
            if head.every_position and not last_only:
                out.logits = self._summary(self.head(hidden_BTD, table_VD), None, rows)
            elif head.pooled:
                out.logits = self.head(self._summary(hidden_BTD, pooled_BD, rows), table_VD)
            elif last_only:
                out.logits = self.head(rows.last(hidden_BTD)[:, None], table_VD)
            else:
                out.logits = self.head(out.hidden_BTD, table_VD)
        if self.pooled_head is not None:
            out.pooled_logits = self.pooled_head(self._summary(hidden_BTD, pooled_BD, rows))
        return out

    def _summary(self, hidden_BTD: Tensor, pooled_BD: Tensor | None, rows: Rows) -> Tensor:
        """One vector a row: the pooler's, else the first token's of an encoder and the last one's of a decoder."""
        if pooled_BD is not None:
            return pooled_BD
        return rows.last(hidden_BTD) if self.main.stack.role == "decoder" else hidden_BTD[:, 0]


def build(
    model: arch.Model,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    backend: Name | Backend = "auto",
    dropout: float = 0.0,
    seed: int = 0,
) -> Transformer:
    """The torch model of an Architecture, with starting values; on the meta device shapes alone, at no cost.

    Raises:
        RequestError: the Architecture has something that is not built yet, or the backend is not known.
    """
    not_built(model)
    chosen = backend if isinstance(backend, Backend) else Backend(backend)
    with torch.device("meta"):
        module = Transformer(model, backend=chosen, dropout=dropout)
    module = module.to(dtype or torch.float32)
    if torch.device(device).type != "meta":
        module = module.to_empty(device=device)
        initialise(module, seed)
    return module.eval()
