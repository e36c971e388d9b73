"""From the last hidden states to what the model is asked for: logits over a vocabulary or over labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.attention import CrossAttention
from txcalc.reference.context import Context, Source
from txcalc.reference.embeddings import Projection
from txcalc.reference.feed_forward import ACTIVATIONS, FeedForward
from txcalc.reference.norms import Norm, optional_norm


class Head(nn.Module):
    """[.., input_size] -> [.., output_size]; a tied head multiplies by the token table (Press and Wolf 2017)."""

    def __init__(self, head: arch.Head) -> None:
        super().__init__()
        self.head = head
        transform = head.transform
        self.dense = Projection(transform.dense) if transform else nn.Identity()
        self.second = Projection(transform.second) if transform and transform.second else nn.Identity()
        self.norm = optional_norm(transform.norm if transform else None)
        width = (transform.second or transform.dense).out_size if transform else head.input_size
        self.matrix = None if head.tied else nn.Parameter(torch.empty(head.output_size, width))
        self.bias = nn.Parameter(torch.empty(head.output_size)) if head.bias else None
        self.fixed_bias: Tensor | None
        self.register_buffer("fixed_bias", torch.zeros(head.output_size) if head.fixed_bias else None)
        self.linear: Callable[[Tensor, Tensor, Tensor | None], Tensor] = F.linear  # see ``packing``

    def forward(self, x_BTD: Tensor, table_VD: Tensor | None = None) -> Tensor:
        """[.., input_size] -> logits [.., output_size]; ``table_VD`` is the token table of a tied head."""
        matrix_VD = table_VD if self.matrix is None else self.matrix
        assert matrix_VD is not None
        logits_BTV = self.linear(self.norm(self.second(self.dense(x_BTD))), matrix_VD, self.bias)
        if self.fixed_bias is not None:
            logits_BTV.add_(self.fixed_bias)  # in place: as much memory as without
        if self.head.scale != 1.0:
            logits_BTV = logits_BTV * self.head.scale
        if self.head.softcap is not None:
            logits_BTV = self.head.softcap * torch.tanh(logits_BTV / self.head.softcap)
        return logits_BTV


class AttentionPooling(nn.Module):
    """One vector an input: a learned query attends over all tokens, then a feed-forward (SigLIP)."""

    def __init__(self, pooling: arch.AttentionPooling) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, pooling.attention.hidden_size))
        self.attention = CrossAttention(pooling.attention)
        self.norm = Norm(pooling.norm)
        self.feed_forward = FeedForward(pooling.feed_forward)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        """[B, T, D] -> [B, D]."""
        seen = Source(x_BTD, context.real_positions(), context.padded)
        y_B1D = self.attention(self.probe.expand(x_BTD.shape[0], 1, -1), replace(context, source=seen))
        return (y_B1D + self.feed_forward(self.norm(y_B1D)))[:, 0]


class Pooler(nn.Module):
    """One vector a sequence: the first token's, through a matrix and tanh (BERT) or another activation."""

    def __init__(self, pooler: arch.Pooler) -> None:
        super().__init__()
        self.dense = nn.Linear(pooler.hidden_size, pooler.out_size or pooler.hidden_size, bias=pooler.bias)
        self.activation = ACTIVATIONS[pooler.activation]

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] -> [B, out_size]."""
        return self.activation(self.dense(x_BTD[:, 0]))
