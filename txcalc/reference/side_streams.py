"""What runs beside the residual stream: inputs of each layer's own, low-rank residuals, several streams (Gemma 3n, 4).

See ``architecture.side_streams`` for what each computes and where it is published.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from txcalc import architecture as arch
from txcalc.reference.context import Context
from txcalc.reference.feed_forward import ACTIVATIONS
from txcalc.reference.norms import Norm
from txcalc.reference.sublayer import Sublayer

SMALLEST = 1e-5  # mean square below which a new stream is not scaled up any further


def rms_norm(width: int, eps: float) -> Norm:
    """An RMSNorm with a weight."""
    return Norm(arch.Norm(kind="rmsnorm", width=width, eps=eps))


# ---- inputs of each layer's own -------------------------------------------------------------------------------------


class PerLayerTable(nn.Module):
    """A vector for each token and layer: a row of a table of its own, and a projection of the embedded token."""

    def __init__(self, p: arch.PerLayerTable, hidden_size: int) -> None:
        super().__init__()
        self.p, self.hidden_size = p, hidden_size
        self.tokens = nn.Embedding(p.vocab_size, p.layers * p.width)
        self.projection = nn.Linear(hidden_size, p.layers * p.width, bias=False)
        self.norm = rms_norm(p.width, p.norm_eps)

    def forward(self, tokens_BT: Tensor, x_BTD: Tensor) -> Tensor:
        """[B, T] and [B, T, D] -> [B, T, layers, width]; tokens past the table take its first row."""
        shape = (self.p.layers, self.p.width)
        rows_BT = torch.where(tokens_BT < self.p.vocab_size, tokens_BT, 0)
        row_BTLP = self.tokens(rows_BT).unflatten(-1, shape) * self.p.width**0.5
        seen_BTLP: Tensor = self.norm((self.projection(x_BTD) * self.hidden_size**-0.5).unflatten(-1, shape))
        return (seen_BTLP + row_BTLP) * 2**-0.5


class PerLayerInput(Sublayer):
    """[B, T, D] -> the same: narrowed, times the layer's vector, widened."""

    def __init__(self, p: arch.PerLayerInput) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(p.hidden_size, p.width, bias=False)
        self.up_proj = nn.Linear(p.width, p.hidden_size, bias=False)
        self.activation = ACTIVATIONS[p.activation]

    def forward(self, x_BTD: Tensor, context: Context, kept: None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        vectors_BTLP = context.per_layer_BTLP
        assert vectors_BTLP is not None  # the embedding made them
        out_BTD: Tensor = self.up_proj(self.activation(self.gate_proj(x_BTD)) * vectors_BTLP[:, :, context.layer])
        return out_BTD


# ---- low-rank residuals ---------------------------------------------------------------------------------------------


class LowRankResidual(Sublayer):
    """x + norm(x A B), [B, T, D] -> the same."""

    def __init__(self, r: arch.LowRankResidual) -> None:
        super().__init__()
        self.down_proj = nn.Linear(r.hidden_size, r.rank, bias=False)
        self.up_proj = nn.Linear(r.rank, r.hidden_size, bias=False)
        self.norm = rms_norm(r.hidden_size, r.norm_eps)

    def forward(self, x_BTD: Tensor, context: Context | None = None, kept: None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        out_BTD: Tensor = x_BTD + self.norm(self.up_proj(self.down_proj(x_BTD)))
        return out_BTD


# ---- several streams ------------------------------------------------------------------------------------------------


class AltUp(nn.Module):
    """What a layer does with the streams that it does not run on; X is the axis of streams."""

    def __init__(self, a: arch.AltUp) -> None:
        super().__init__()
        self.a = a
        self.router_norm = rms_norm(a.hidden_size, a.norm_eps)
        self.router = nn.Linear(a.hidden_size, a.streams, bias=False)
        self.prediction = nn.Linear(a.streams, a.streams**2, bias=False)
        self.correction = nn.Linear(a.streams, a.streams, bias=False)
        self.scale_D = nn.Parameter(torch.empty(a.hidden_size))

    def predict(self, x_XBTD: Tensor) -> Tensor:
        """Each stream plus a mixture of all of them, whose weights the active one decides: [X, B, T, D] -> the same."""
        weights_BTXX = self.prediction(self._routed(x_XBTD[self.a.active])).unflatten(-1, (self.a.streams, -1))
        mixed_BTDX = x_XBTD.permute(1, 2, 3, 0) @ weights_BTXX.mT
        return x_XBTD + mixed_BTDX.permute(3, 0, 1, 2)

    def correct(self, predicted_XBTD: Tensor, out_BTD: Tensor) -> Tensor:
        """Each prediction plus its share of what the layer changed in the active one: [X, B, T, D]."""
        shares_BTX = self.correction(self._routed(out_BTD)) + 1.0
        change_BTD = out_BTD - predicted_XBTD[self.a.active]
        return predicted_XBTD + change_BTD * shares_BTX.permute(2, 0, 1)[..., None]

    def scaled(self, x_BTD: Tensor) -> Tensor:
        """What the layer's last step reads of the active stream."""
        return x_BTD * self.scale_D if self.a.scaled else x_BTD

    def _routed(self, x_BTD: Tensor) -> Tensor:
        return torch.tanh(self.router(self.router_norm(x_BTD) * self.a.hidden_size**-1.0).float()).to(x_BTD.dtype)


class Streams(nn.Module):
    """From one stream to several before the first layer, and back after the last."""

    def __init__(self, hidden_size: int, streams: int) -> None:
        super().__init__()
        self.in_proj, self.out_proj = (
            nn.ModuleList(nn.Linear(hidden_size, hidden_size, bias=False) for _ in range(streams - 1)) for _ in "io"
        )

    def split(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] -> [X, B, T, D]."""
        return torch.stack([x_BTD, *(as_large_as(x_BTD, project(x_BTD)) for project in self.in_proj)])

    def join(self, x_XBTD: Tensor) -> Tensor:
        """[X, B, T, D] -> [B, T, D], their mean."""
        first, *others = x_XBTD.unbind(0)
        projected = [project(x) for project, x in zip(self.out_proj, others, strict=True)]
        return torch.stack([first, *(as_large_as(first, x) for x in projected)]).mean(0)


def as_large_as(model_BTD: Tensor, x_BTD: Tensor) -> Tensor:
    """x with the root mean square of another stream's vector, token by token."""
    wanted = model_BTD.square().mean(-1, keepdim=True).sqrt()
    found = x_BTD.square().mean(-1, keepdim=True).clamp_min(SMALLEST).sqrt()
    return x_BTD * wanted / found
