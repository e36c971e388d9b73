"""A stack: an embedding, layers in order, a final norm. A decoder and an encoder are both stacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from txcalc import architecture as arch
from txcalc.reference.attention import SelfAttention
from txcalc.reference.blocks import Layer
from txcalc.reference.cache import CacheSpec, DecoderCache
from txcalc.reference.content_positions import DisentangledTable
from txcalc.reference.context import Context
from txcalc.reference.embeddings import Projection, make_embedding
from txcalc.reference.heads import AttentionPooling, Pooler
from txcalc.reference.norms import optional_norm
from txcalc.reference.positions import RelativeBias
from txcalc.reference.side_streams import Streams
from txcalc.reference.streams import StreamHead


class Stack(nn.Module):
    """Layers between an embedding and a final norm.

    ``layers`` holds every set of parameters once; ``order`` says which of them runs at each depth, so that layers that
    share their parameters (ALBERT) are one module that runs many times.
    """

    def __init__(self, stack: arch.Stack) -> None:
        super().__init__()
        self.stack = stack
        self.embedding = make_embedding(stack.embedding)
        self.streams = Streams(stack.hidden_size, stack.altup_streams) if stack.altup_streams > 1 else None
        self.layers, self.order = _layers(stack)
        self.stream_head = StreamHead(stack.stream_head) if stack.stream_head else None
        self.final_norm = optional_norm(stack.final_norm)
        self.out_projection = Projection(stack.out_projection) if stack.out_projection else None
        bias = stack.relative_bias
        self.relative_bias = RelativeBias(bias, stack.relative_bias_heads) if bias else None
        table = stack.disentangled
        norm = optional_norm(stack.disentangled_norm)
        self.disentangled = DisentangledTable(table, stack.hidden_size, norm) if table else None
        self.pooler = Pooler(stack.pooler) if stack.pooler else None
        pooling = stack.attention_pooling
        self.attention_pooling = AttentionPooling(pooling) if pooling else None
        self.gradient_checkpointing = False
        _mark_read_keys(self)

    def depths(self) -> Iterator[Layer]:
        """The layer of every depth, in order of execution."""
        for index in self.order:
            layer = self.layers[index]
            assert isinstance(layer, Layer)
            yield layer

    def forward(self, x_BTD: Tensor, context: Context, cache: DecoderCache | None = None) -> Tensor:
        """Embedded tokens [B, T, D] -> last hidden states [B, T, D], after the final norm."""
        context.tables = self.tables()
        if self.stream_head is not None:
            x_BTD = x_BTD[:, :, None].repeat(1, 1, self.stream_head.h.streams, 1)
        if self.streams is not None:
            x_BTD = self.streams.split(x_BTD)
        for depth, layer in enumerate(self.depths()):
            if self.gradient_checkpointing and cache is None and torch.is_grad_enabled():
                x_BTD = checkpoint(_run, layer, depth, x_BTD, context, None, use_reentrant=False)
            else:
                x_BTD = _run(layer, depth, x_BTD, context, cache)
        if self.stream_head is not None:
            x_BTD = self.stream_head(x_BTD)
        if self.streams is not None:
            x_BTD = self.streams.join(x_BTD)
        x_BTD = self.final_norm(x_BTD)
        return x_BTD if self.out_projection is None else self.out_projection(x_BTD)

    def pooled(self, x_BTD: Tensor, context: Context) -> Tensor | None:
        """One vector a row, [B, D], where the stack has a pooler."""
        if self.attention_pooling is not None:
            return self.attention_pooling(x_BTD, context)
        return None if self.pooler is None else self.pooler(x_BTD)

    def tables(self) -> dict[str, Any]:
        """What all layers of the stack read."""
        found = {"relative_bias": self.relative_bias, "disentangled": self.disentangled}
        return {name: table for name, table in found.items() if table is not None}

    def new_cache(self, spec: CacheSpec) -> DecoderCache:
        """An empty cache: an entry for every sublayer of every depth (layers that share parameters do not share it)."""
        return DecoderCache(spec, [layer.new_cache(spec) for layer in self.depths()])


def _run(layer: Layer, depth: int, x_BTD: Tensor, context: Context, cache: DecoderCache | None) -> Tensor:
    context.layer = depth  # here, so that a layer that is computed again knows which it is
    return layer(x_BTD, context, None if cache is None else cache.layers[depth])


def _layers(stack: arch.Stack) -> tuple[nn.ModuleList, list[int]]:
    """(modules, which of them runs at each depth)."""
    modules, order, shared = nn.ModuleList(), list[int](), dict[str, int]()
    for layer in stack.sequence():
        index = shared.get(layer.shared, len(modules)) if layer.shared else len(modules)
        if index == len(modules):
            modules.append(Layer(layer))
        if layer.shared:
            shared[layer.shared] = index
        order.append(index)
    return modules, order


def _mark_read_keys(stack: Stack) -> None:
    """Tell the layers whose keys and values later layers read to hand them on."""
    attentions = [
        [module for module in layer.modules() if isinstance(module, SelfAttention)] for layer in stack.depths()
    ]
    for module in (module for layer in attentions for module in layer):
        if module.a.kv_source is not None:
            attentions[module.a.kv_source][0].keeps_keys = True
