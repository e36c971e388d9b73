"""Token mixers that are not softmax attention: state-space models, delta networks, gated recurrences, convolutions.

Each keeps a state of fixed size per sequence instead of a cache that grows.
"""

from __future__ import annotations

from typing import Literal

from txcalc.architecture.feed_forward import Activation
from txcalc.record import Record


class Mamba(Record):
    """Selective state space (Gu and Dao 2023). State: [intermediate_size, state_size] and the convolution's window.

    ``inner_norms`` normalises dt, B and C: ``weighted`` with parameters (Jamba), ``plain`` without (Falcon-Mamba).
    """

    hidden_size: int
    intermediate_size: int
    state_size: int
    conv_kernel: int
    time_step_rank: int
    conv_bias: bool = True
    bias: bool = False
    activation: Activation = "silu"
    inner_norms: Literal["none", "weighted", "plain"] = "none"
    num_heads: int = 1  # each makes its own time steps, B and C, of its own channels (Zamba)
    norm_eps: float = 1e-6


class Mamba2(Record):
    """State-space duality (Dao and Gu 2024). State: [num_heads, head_dim, state_size] and the convolution's window.

    intermediate_size = num_heads * head_dim. ``norm``: the gated RMSNorm before the output projection, over groups of
    intermediate_size / norm_groups channels; ``gate_first`` multiplies by the gate before it normalises.
    ``multipliers``: constants on what the input projection gives, for the gate, the input, B, C and the time steps
    (Falcon-H1). ``out_bias``: of the output projection, None: as the input projection has one.
    """

    hidden_size: int
    num_heads: int
    head_dim: int
    state_size: int
    n_groups: int
    conv_kernel: int
    conv_bias: bool = True
    bias: bool = False
    activation: Activation = "silu"
    norm: bool = True
    norm_groups: int = 1
    gate_first: bool = True
    norm_eps: float = 1e-5
    time_step_limit: tuple[float, float] = (0.0, float("inf"))
    out_bias: bool | None = None
    multipliers: tuple[float, ...] = ()
    chunk_size: int = 256  # of the chunked scan: no parameter, no other result, but other FLOPs


class GatedDeltaNet(Record):
    """Gated delta rule (Yang et al. 2024). State: [num_v_heads, head_k_dim, head_v_dim] and a convolution's window.

    ``decay``: ``head`` - one decay per value head from [hidden_size, heads] (Qwen3-Next); ``channel`` - one per key
    channel through a bottleneck of head_v_dim (Kimi Linear), or without one (Ling 3, ``decay_bottleneck=False``).
    ``decay_floor``: log decays lie between this and 0, floor * sigmoid(exp(A) * x). ``gate_rank``: bottleneck of the
    output gate, None: full.
    ``beta_scale`` multiplies the learning rate: 2 lets a key's value be negated (OLMo Hybrid).
    """

    hidden_size: int
    num_k_heads: int
    num_v_heads: int
    head_k_dim: int
    head_v_dim: int
    conv_kernel: int
    norm_eps: float
    activation: Activation = "silu"
    decay: Literal["head", "channel"] = "head"
    decay_bottleneck: bool = True
    decay_floor: float | None = None
    gate_rank: int | None = None
    gate_bias: bool = False
    gate_activation: Activation = "silu"
    beta_scale: float = 1.0


class LinearAttention(Record):
    """Attention with a feature map in place of the softmax. State: [num_heads, head_dim, v_head_dim].

    ``feature_map``: ``elu`` (Katharopoulos et al. 2020), ``favor`` (Performer, Choromanski et al. 2021, ``features``
    random features), ``lightning`` (MiniMax: fixed decay per head, SiLU on q, k, v, a gated RMSNorm on the output).
    ``decay_scale`` multiplies lightning's rates: 1 in the first layer, near 0 in the last.
    """

    hidden_size: int
    num_heads: int
    head_dim: int
    feature_map: Literal["elu", "favor", "lightning"]
    features: int = 0
    decay_scale: float = 1.0
    block_size: int = 256
    bias: bool = False
    causal: bool = True
    activation: Activation = "silu"
    norm_eps: float = 1e-6


class RealGatedRecurrence(Record):
    """Griffin's recurrent block with the RG-LRU (De et al. 2024). State: [lru_width] and the convolution's window."""

    hidden_size: int
    lru_width: int
    num_heads: int
    conv_kernel: int
    activation: Activation = "gelu_tanh"


class ShortConvolution(Record):
    """LFM2's gated depthwise convolution: in [hidden, 3 hidden], conv [hidden, kernel], out [hidden, hidden]."""

    hidden_size: int
    conv_kernel: int
    bias: bool = False


class TokenConvolution(Record):
    """A convolution over neighbouring tokens on both sides, then an activation (DeBERTa-v2).

    Filters [hidden_size, hidden_size / groups, conv_kernel]; it keeps no state, because it looks ahead too.
    """

    hidden_size: int
    conv_kernel: int
    groups: int
    activation: Activation
    bias: bool = True


class FourierMixing(Record):
    """FNet's parameter-free mixing: the real part of a two-dimensional Fourier transform (Lee-Thorp et al. 2021)."""

    hidden_size: int
