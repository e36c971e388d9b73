"""What runs beside the residual stream: inputs of each layer's own, low-rank residuals, several streams (Gemma 3n, 4).

Sources: the Gemma 3n model card (per-layer embeddings); LAuReL (Menghani et al. 2024, arXiv 2411.07501); AltUp (Baykal
et al. 2023, arXiv 2301.13310).
"""

from __future__ import annotations

from txcalc.architecture.feed_forward import Activation
from txcalc.record import Record


class PerLayerTable(Record):
    """A second token table, [vocab_size, layers * width]: a vector of ``width`` for each token and layer.

    A projection of the embedded token, [hidden_size, layers * width] times 1 / sqrt(hidden_size) and normed, is added
    to the row times sqrt(width); the sum is divided by sqrt(2).
    """

    vocab_size: int
    width: int
    layers: int
    norm_eps: float


class PerLayerInput(Record):
    """Where a layer reads its vector: [hidden_size, width], an activation, times the vector, [width, hidden_size]."""

    hidden_size: int
    width: int
    activation: Activation


class LowRankResidual(Record):
    """LAuReL: x + norm(x A B), A [hidden_size, rank], B [rank, hidden_size]."""

    hidden_size: int
    rank: int
    norm_eps: float


class AltUp(Record):
    """``streams`` hidden states of a token, of which a layer runs on one and predicts the others.

    Before the layer every stream is predicted from all of them, and the layer's steps run on stream ``active``; after
    it every stream is corrected by what the layer changed. The layer's last step reads the corrected active stream,
    times a learned scale per channel where ``scaled``, and is added to all streams but the first. Parameters: a norm
    and a router [hidden_size, streams], [streams, streams^2] to predict, [streams, streams] to correct, the scale.
    """

    hidden_size: int
    streams: int
    active: int
    scaled: bool
    norm_eps: float
