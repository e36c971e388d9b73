"""The gated delta rule: a state that maps keys to values, corrected by what it gets wrong.

S_t = a_t S_(t-1) + b_t k_t (v_t - k_t^T a_t S_(t-1))^T,  y_t = S_t^T q_t (Yang et al. 2024, arXiv 2412.06464, equation
10): forget a little (a_t), look up what the key gives, and write the difference (b_t).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.attention import split_heads
from txcalc.reference.cache import CacheSpec, StateCache
from txcalc.reference.chunks import scan_in_chunks
from txcalc.reference.context import Context
from txcalc.reference.convolution import CausalConvolution
from txcalc.reference.feed_forward import ACTIVATIONS
from txcalc.reference.norms import normalise
from txcalc.reference.recurrent import empty_state, scan
from txcalc.reference.state_space import inverse_softplus
from txcalc.reference.sublayer import Sublayer


class GatedDeltaNet(Sublayer):
    """A state of [num_v_heads, head_k_dim, head_v_dim]; several value heads may share a key head."""

    def __init__(self, g: arch.GatedDeltaNet) -> None:
        super().__init__()
        self.g = g
        D = g.hidden_size
        self.keys, self.values = g.num_k_heads * g.head_k_dim, g.num_v_heads * g.head_v_dim
        channels = 2 * self.keys + self.values
        self.qkv_proj = nn.Linear(D, channels, bias=False)
        self.conv = CausalConvolution(channels, g.conv_kernel, bias=False)
        self.beta_proj = nn.Linear(D, g.num_v_heads, bias=False)
        decays = g.num_v_heads if g.decay == "head" else g.num_v_heads * g.head_k_dim
        rank = g.head_v_dim if g.decay == "channel" and g.decay_bottleneck else None
        self.decay_proj = bottleneck(D, rank, decays, bias=False)
        self.A_log = nn.Parameter(torch.empty(g.num_v_heads))
        self.dt_bias = nn.Parameter(torch.empty(decays))
        self.gate_proj = bottleneck(D, g.gate_rank, self.values, bias=g.gate_bias)
        self.norm_weight = nn.Parameter(torch.empty(g.head_v_dim))
        self.o_proj = nn.Linear(self.values, D, bias=False)

    def forward(self, x_BTD: Tensor, context: Context, kept: StateCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        g = self.g
        qkv = ACTIVATIONS[g.activation](self.conv(self.qkv_proj(x_BTD), context, kept))
        y_BTNH = self.delta_rule(qkv, x_BTD, context, kept).to(x_BTD.dtype)
        gate_BTNH = split_heads(self.gate_proj(x_BTD), g.num_v_heads)
        y_BTNH = normalise(y_BTNH, "rmsnorm", g.norm_eps).to(x_BTD.dtype) * self.norm_weight
        y_BTNH = (y_BTNH * ACTIVATIONS[g.gate_activation](gate_BTNH.float())).to(x_BTD.dtype)
        out_BTD: Tensor = self.o_proj(y_BTNH.flatten(-2))
        return out_BTD

    def delta_rule(self, qkv: Tensor, x_BTD: Tensor, context: Context, kept: StateCache | None) -> Tensor:
        """The recurrence, in fp32: [B, T, num_v_heads, head_v_dim]."""
        g = self.g
        q, k, v = qkv.float().split([self.keys, self.keys, self.values], dim=-1)
        q_BTNH, k_BTNH = (self._per_value_head(normalise(split_heads(x, g.num_k_heads), "l2", 1e-6)) for x in (q, k))
        q_BTNH = q_BTNH * g.head_k_dim**-0.5
        v_BTNH = split_heads(v, g.num_v_heads)
        beta_BTN = torch.sigmoid(self.beta_proj(x_BTD).float()) * g.beta_scale
        decay_BTNH = self.decays(x_BTD)

        def step(s_BNKV: Tensor, t: int) -> tuple[Tensor, Tensor]:
            s_BNKV = s_BNKV * decay_BTNH[:, t, ..., None]
            k_BNK1 = k_BTNH[:, t, ..., None]
            wrong_BNV = v_BTNH[:, t] - (s_BNKV * k_BNK1).sum(-2)
            s_BNKV = s_BNKV + k_BNK1 * (beta_BTN[:, t, :, None] * wrong_BNV)[..., None, :]
            return s_BNKV, (s_BNKV * q_BTNH[:, t, ..., None]).sum(-2)

        empty = v.new_zeros(v.shape[0], g.num_v_heads, g.head_k_dim, g.head_v_dim)
        if context.in_chunks and g.decay == "head":
            decay_BTN = decay_BTNH[..., 0]
            return scan_in_chunks(q_BTNH, k_BTNH, v_BTNH, decay_BTN, empty, context, kept, beta_BTN=beta_BTN)
        return scan(step, empty, context, kept)

    def decays(self, x_BTD: Tensor) -> Tensor:
        """How much of the state is kept, a head or a key channel at a time: [B, T, num_v_heads, 1 or head_k_dim]."""
        step_BTNH = split_heads(self.decay_proj(x_BTD).float() + self.dt_bias.float(), self.g.num_v_heads)
        rate_N1 = self.A_log.float().exp()[:, None]
        if self.g.decay_floor is not None:
            return (self.g.decay_floor * torch.sigmoid(rate_N1 * step_BTNH)).exp()
        return (-rate_N1 * F.softplus(step_BTNH)).exp()

    def new_cache(self, spec: CacheSpec) -> StateCache:
        """The state, and the convolution's last inputs."""
        g = self.g
        return StateCache(
            state=empty_state(spec, g.num_v_heads, g.head_k_dim, g.head_v_dim), window=self.conv.window(spec)
        )

    def initialise(self) -> None:
        """Rates spread from 1 to the number of heads, steps of a few hundredths."""
        rates = torch.arange(1, self.g.num_v_heads + 1, device=self.A_log.device, dtype=torch.float32)
        self.A_log.copy_(rates.log())
        self.dt_bias.fill_(inverse_softplus(0.02))
        self.norm_weight.fill_(1.0)

    def _per_value_head(self, x_BTNH: Tensor) -> Tensor:
        return x_BTNH.repeat_interleave(self.g.num_v_heads // self.g.num_k_heads, dim=2)


def bottleneck(size_in: int, rank: int | None, size_out: int, *, bias: bool) -> nn.Module:
    """A matrix, or the product of two narrow ones: [.., size_in] -> [.., size_out]."""
    if rank is None:
        return nn.Linear(size_in, size_out, bias=bias)
    return nn.Sequential(nn.Linear(size_in, rank, bias=False), nn.Linear(rank, size_out, bias=bias))
