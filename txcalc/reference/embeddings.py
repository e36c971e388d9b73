"""From tokens, image patches or sound to the first hidden states, [B, T, hidden_size]."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.context import Context
from txcalc.reference.feed_forward import ACTIVATIONS
from txcalc.reference.norms import optional_norm
from txcalc.reference.positions import sinusoidal
from txcalc.reference.side_streams import PerLayerTable


class Projection(nn.Module):
    """[.., in_size] -> [.., out_size], then an activation where one is named."""

    def __init__(self, projection: arch.Projection) -> None:
        super().__init__()
        self.linear = nn.Linear(projection.in_size, projection.out_size, bias=projection.bias)
        self.activation = ACTIVATIONS[projection.activation] if projection.activation else None

    def forward(self, x: Tensor) -> Tensor:
        """[.., in_size] -> [.., out_size]."""
        out: Tensor = self.linear(x)
        return out if self.activation is None else self.activation(out)


class PositionTable(nn.Module):
    """Learned or sinusoidal vectors that are added to the input, by position."""

    def __init__(self, positions: arch.LearnedPositions | arch.Sinusoidal) -> None:
        super().__init__()
        self.positions = positions
        learned = isinstance(positions, arch.LearnedPositions) or positions.stored
        self.table = nn.Embedding(positions.rows, positions.width) if learned else None

    def forward(self, positions_BT: Tensor) -> Tensor:
        """[1 or B, T] -> [1 or B, T, width]."""
        rows_BT = positions_BT + self.positions.offset
        if self.table is not None:
            vectors_BTD: Tensor = self.table(rows_BT)
            return vectors_BTD
        assert isinstance(self.positions, arch.Sinusoidal)
        return sinusoidal(self.positions, rows_BT)


def optional_table(positions: arch.LearnedPositions | arch.Sinusoidal | None) -> PositionTable | None:
    """The table, or None."""
    return None if positions is None else PositionTable(positions)


class TokenEmbedding(nn.Module):
    """A row of a table for each token, times a scale, plus position and type; then a norm, a projection.

    The 2017 Transformer scales by sqrt(hidden_size) (section 3.4).
    """

    def __init__(self, e: arch.TokenEmbedding) -> None:
        super().__init__()
        self.e = e
        self.tokens = nn.Embedding(e.vocab_size, e.embedding_size) if e.shared_with is None else None
        self.positions = optional_table(e.positions)
        self.token_types = nn.Embedding(e.token_types, e.embedding_size) if e.token_types else None
        self.norm = optional_norm(e.norm)
        self.projection = Projection(e.projection) if e.projection else None
        self.per_layer = PerLayerTable(e.per_layer, e.embedding_size) if e.per_layer else None
        self.norm_last = e.norm is not None and e.norm.width != e.embedding_size
        self.positions_last = e.positions is not None and e.positions.width != e.embedding_size

    def forward(self, tokens_BT: Tensor, types_BT: Tensor | None, context: Context, table_VD: Tensor) -> Tensor:
        """[B, T] -> [B, T, hidden_size]; ``table_VD`` is this embedding's table, its own or another stack's."""
        x_BTD = F.embedding(tokens_BT, table_VD)
        if self.e.scale != 1.0:
            x_BTD = x_BTD * torch.tensor(self.e.scale, dtype=x_BTD.dtype)  # rounded as the table is
        if self.per_layer is not None:
            context.per_layer_BTLP = self.per_layer(tokens_BT, x_BTD)
        if self.token_types is not None:
            x_BTD = x_BTD + self.token_types(torch.zeros_like(tokens_BT) if types_BT is None else types_BT)
        if self.e.norm_first:
            x_BTD = self.norm(x_BTD)
        if not self.positions_last:
            x_BTD = self._placed(x_BTD, context)
        if not (self.norm_last or self.e.norm_first):
            x_BTD = self.norm(x_BTD)
        if self.projection is not None:
            x_BTD = self.projection(x_BTD)
        if self.positions_last:
            x_BTD = self._placed(x_BTD, context)
        if self.norm_last:
            x_BTD = self.norm(x_BTD)
        return F.dropout(x_BTD, context.dropout) if context.dropout else x_BTD

    def _placed(self, x_BTD: Tensor, context: Context) -> Tensor:
        if self.positions is None:
            return x_BTD
        vectors_BTD: Tensor = self.positions(context.positions_BT)
        return x_BTD + vectors_BTD.to(x_BTD.dtype)


class PatchEmbedding(nn.Module):
    """An image as a sequence: a vector for each square of pixels, after class and register tokens (ViT, eq. 1)."""

    def __init__(self, e: arch.PatchEmbedding) -> None:
        super().__init__()
        self.e = e
        patch = (e.patch_size, e.patch_width or e.patch_size)
        self.patches = nn.Conv2d(e.num_channels, e.hidden_size, patch, stride=patch, bias=e.bias)
        self.extra_tokens = nn.Parameter(torch.empty(e.extra_tokens, e.hidden_size)) if e.extra_tokens else None
        self.mask_token = nn.Parameter(torch.empty(1, e.hidden_size)) if e.mask_token else None  # training only
        self.positions = optional_table(e.positions)
        self.norm = optional_norm(e.norm)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """[B, channels, height, width] -> [B, T, hidden_size]."""
        x_BTD = self.patches(images_BCHW).flatten(2).transpose(1, 2)
        registers = x_BTD[:, :0]
        if self.extra_tokens is not None:
            extra_BTD = self.extra_tokens.expand(x_BTD.shape[0], -1, -1)
            placed = self._placed_extras(x_BTD.shape[1])
            x_BTD, registers = torch.cat((extra_BTD[:, :placed], x_BTD), dim=1), extra_BTD[:, placed:]
        if self.positions is not None:
            x_BTD = x_BTD + self.positions(torch.arange(x_BTD.shape[1], device=x_BTD.device)[None])
        if registers.shape[1]:
            x_BTD = torch.cat((x_BTD[:, :1], registers, x_BTD[:, 1:]), dim=1)
        normed: Tensor = self.norm(x_BTD)
        return normed

    def _placed_extras(self, patches: int) -> int:
        """How many extra tokens the position table has rows for: register tokens have none."""
        if self.e.positions is None:
            return self.e.extra_tokens
        return min(max(self.e.positions.rows - patches, 0), self.e.extra_tokens)


class AudioEmbedding(nn.Module):
    """Sound as a sequence: two convolutions over mel frames, the second halving their number (Whisper, section 2.2)."""

    def __init__(self, e: arch.AudioEmbedding) -> None:
        super().__init__()
        around = e.conv_kernel // 2
        self.conv1 = nn.Conv1d(e.num_mel_bins, e.hidden_size, e.conv_kernel, padding=around)
        self.conv2 = nn.Conv1d(e.hidden_size, e.hidden_size, e.conv_kernel, stride=2, padding=around)
        self.positions = PositionTable(e.positions)

    def forward(self, mel_BCT: Tensor) -> Tensor:
        """[B, num_mel_bins, frames] -> [B, frames / 2, hidden_size]."""
        x_BTD = F.gelu(self.conv2(F.gelu(self.conv1(mel_BCT)))).transpose(1, 2)
        placed: Tensor = x_BTD + self.positions(torch.arange(x_BTD.shape[1], device=x_BTD.device)[None])
        return placed


def make_embedding(embedding: arch.InputEmbedding) -> nn.Module:
    """The module that computes an input embedding."""
    match embedding:
        case arch.TokenEmbedding():
            return TokenEmbedding(embedding)
        case arch.PatchEmbedding():
            return PatchEmbedding(embedding)
        case arch.AudioEmbedding():
            return AudioEmbedding(embedding)
