"""How sublayers make a layer.

A layer is a sequence of residual steps; a step adds one or several branches that read the same input:

    x = norm_after(x + sum of branches)         branch(x) = norm_out(sublayer(norm_in(x)))

Pre-norm (GPT-2, Llama) sets only ``norm_in``; post-norm (the 2017 Transformer, BERT) only ``norm_after``; sandwich
norm (Gemma 2) ``norm_in`` and ``norm_out``; OLMo 2 ``norm_out`` alone. GPT-J, GPT-NeoX and Falcon are one step of two
branches.
"""

from __future__ import annotations

from txcalc.architecture.attention import CrossAttention, LatentAttention, SelfAttention
from txcalc.architecture.compressed import CompressedAttention
from txcalc.architecture.feed_forward import FeedForward, LinearMap, MixtureOfExperts
from txcalc.architecture.norms import Norm
from txcalc.architecture.recurrent import (
    FourierMixing,
    GatedDeltaNet,
    LinearAttention,
    Mamba,
    Mamba2,
    RealGatedRecurrence,
    ShortConvolution,
    TokenConvolution,
)
from txcalc.architecture.relative_attention import DepthAttention, RelativeAttention
from txcalc.architecture.side_streams import AltUp, LowRankResidual, PerLayerInput
from txcalc.record import Record

Attention = SelfAttention | LatentAttention | CompressedAttention | RelativeAttention | CrossAttention
Mixer = (
    Mamba
    | Mamba2
    | GatedDeltaNet
    | LinearAttention
    | RealGatedRecurrence
    | ShortConvolution
    | TokenConvolution
    | FourierMixing
    | PerLayerInput
    | LowRankResidual
)
Sublayer = Attention | FeedForward | LinearMap | MixtureOfExperts | Mixer


class Branch(Record):
    """One sublayer with its own norms. ``defer``: its output joins the stream that many steps later (LongCat)."""

    sublayer: Sublayer
    norm_in: Norm | None = None
    norm_out: Norm | None = None
    scale: float = 1.0  # constant multiplier of the output (Granite)
    layer_scale: bool = False  # learned multiplier per channel (DINOv2)
    scalar_gate: bool = False  # times tanh of one learned number (Llama 3.2 Vision)
    out_conv: int | None = None  # and a causal depthwise convolution of that many taps of the output is added (Inkling)
    defer: int = 0
    shared: str = ""  # branches with the same name hold one set of parameters, but for their adapters (Zamba)


class HyperConnection(Record):
    """A step between ``streams`` copies of the residual stream (Zhu et al. 2025, arXiv 2409.19606).

    Of all streams, normed without a weight, a matrix [streams * D, 2 * streams] makes for every token the weights with
    which they are read, sigmoid + eps, and those with which the step's output is written to each, ``magnitude`` *
    sigmoid + ``write_eps``. ``mixing``: and [streams, streams] more by which the old streams are mixed, made doubly
    stochastic by that many rounds of Sinkhorn and Knopp (DeepSeek-V4, section 2.2); 0: each keeps its own.
    """

    streams: int
    hidden_size: int
    eps: float
    norm_eps: float
    magnitude: float = 2.0
    write_eps: float = 0.0
    mixing: int = 0


class StreamHead(Record):
    """Where the streams become one again: weights as for reading in a step, [streams * D, streams]."""

    streams: int
    hidden_size: int
    eps: float
    norm_eps: float


class Residual(Record):
    """One residual step: ``norm_in`` is shared by all its branches, ``norm_after`` normalises the new stream.

    ``residual=False`` drops the addition of x, ``skip_scale`` multiplies that x by a constant (MiniMax). A step without
    branches only normalises the stream (BLOOM's ``apply_residual_connection_post_layernorm``).

    Steps ``aside`` leave the stream as it is: the first reads it joined with the embedded tokens, [2 * D], each of the
    others what the one before gave; the next step of the stream reads the sum of both (Zamba).
    """

    branches: tuple[Branch, ...]
    norm_in: Norm | None = None
    norm_out: Norm | None = None
    norm_after: Norm | None = None
    residual: bool = True
    skip_scale: float = 1.0
    aside: bool = False  # see above
    affine: bool = False  # x and what is added have a learned shift and scale by channel each (ZAYA)
    learned_skip: bool = False  # that x is multiplied by a learned vector (Doge)
    mixes_input: bool = False  # what is read is x and the embedded tokens, each times a learned number (NeoMME)
    streams: HyperConnection | None = None
    depth: DepthAttention | None = None  # what is read in place of x


class Bottleneck(Record):
    """A layer whose steps run in a narrower width than the stream's (MobileBERT, Sun et al. 2020, arXiv 2004.02984,
    section 3.1).

    [hidden_size] -> [width], normed, before the first step; [width] -> [hidden_size] after the last, added to the
    stream and normed. ``queries``: a second such map makes what queries and keys read.
    """

    hidden_size: int
    width: int
    norm_in: Norm
    norm_out: Norm
    queries: bool


class Layer(Record):
    """A sequence of residual steps. Layers with the same ``shared`` name hold one set of parameters (ALBERT).

    ``scalar``: a stored number, no parameter, multiplies the stream that leaves the layer (Gemma 4).
    """

    steps: tuple[Residual, ...]
    shared: str = ""
    altup: AltUp | None = None
    scalar: bool = False
    bottleneck: Bottleneck | None = None

    def sublayers(self) -> tuple[Sublayer, ...]:
        """Every sublayer in order of execution."""
        return tuple([branch.sublayer for step in self.steps for branch in step.branches])
