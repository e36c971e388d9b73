"""Selective state spaces: Mamba and Mamba-2.

h_t = exp(dt A) h_(t-1) + dt B x_t,  y_t = C h_t + D x_t, where dt, B and C depend on the token: the state keeps or
forgets by what it reads (Gu and Dao 2023, arXiv 2312.00752, equation 2 and algorithm 2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.cache import CacheSpec, StateCache
from txcalc.reference.chunks import scan_in_chunks
from txcalc.reference.context import Context
from txcalc.reference.convolution import CausalConvolution
from txcalc.reference.feed_forward import ACTIVATIONS
from txcalc.reference.norms import normalise
from txcalc.reference.recurrent import empty_state, scan
from txcalc.reference.sublayer import Sublayer


class Mamba(Sublayer):
    """A state of [intermediate_size, state_size]: every channel has its own decays."""

    def __init__(self, m: arch.Mamba) -> None:
        super().__init__()
        self.m = m
        channels, state, rank = m.intermediate_size, m.state_size, m.time_step_rank
        self.in_proj = nn.Linear(m.hidden_size, 2 * channels, bias=m.bias)
        self.conv = CausalConvolution(channels, m.conv_kernel, bias=m.conv_bias)
        self.x_proj = nn.Linear(channels, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, channels, bias=True)
        self.A_log = nn.Parameter(torch.empty(channels, state))
        self.D_skip = nn.Parameter(torch.empty(channels))
        widths = {"dt": rank, "B": state, "C": state} if m.inner_norms == "weighted" else {}
        self.norms = nn.ParameterDict({name: torch.empty(width) for name, width in widths.items()})
        self.out_proj = nn.Linear(channels, m.hidden_size, bias=m.bias)

    def forward(self, x_BTD: Tensor, context: Context, kept: StateCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        x_BTF, gate_BTF = self.in_proj(x_BTD).chunk(2, dim=-1)
        act = ACTIVATIONS[self.m.activation]
        x_BTF = act(self.conv(x_BTF, context, kept))
        y_BTF = self.selective_scan(x_BTF, context, kept)
        out_BTD: Tensor = self.out_proj((y_BTF * act(gate_BTF.float())).to(x_BTD.dtype))
        return out_BTD

    def selective_scan(self, x_BTF: Tensor, context: Context, kept: StateCache | None) -> Tensor:
        """The recurrence, in fp32: [B, T, F] -> the same."""
        m = self.m
        parts = self.x_proj(x_BTF).split([m.time_step_rank, m.state_size, m.state_size], dim=-1)
        dt, B_BTS, C_BTS = (self._normed(name, part) for name, part in zip(("dt", "B", "C"), parts, strict=True))
        dt_BTF = F.softplus(self.dt_proj(dt).float())
        A_FS = -self.A_log.float().exp()
        x_BTF, B_BTS, C_BTS = x_BTF.float(), B_BTS.float(), C_BTS.float()

        def step(h_BFS: Tensor, t: int) -> tuple[Tensor, Tensor]:
            dt_BF = dt_BTF[:, t]
            h_BFS = (dt_BF[..., None] * A_FS).exp() * h_BFS + (dt_BF * x_BTF[:, t])[..., None] * B_BTS[:, t, None]
            return h_BFS, (h_BFS * C_BTS[:, t, None]).sum(-1)

        empty = x_BTF.new_zeros(x_BTF.shape[0], m.intermediate_size, m.state_size)
        return scan(step, empty, context, kept) + self.D_skip.float() * x_BTF

    def new_cache(self, spec: CacheSpec) -> StateCache:
        """The state, and the convolution's last inputs."""
        return StateCache(
            state=empty_state(spec, self.m.intermediate_size, self.m.state_size), window=self.conv.window(spec)
        )

    def initialise(self) -> None:
        """Decays 1 to state_size a channel, and time steps of a few hundredths (Gu and Dao 2023, section 3.6)."""
        steps = torch.arange(1, self.m.state_size + 1, device=self.A_log.device, dtype=torch.float32)
        self.A_log.copy_(steps.log().expand_as(self.A_log))
        self.D_skip.fill_(1.0)
        self.dt_proj.bias.fill_(inverse_softplus(0.02))
        for weight in self.norms.values():
            weight.fill_(1.0)

    def _normed(self, name: str, x: Tensor) -> Tensor:
        if self.m.inner_norms == "none":
            return x
        normed = normalise(x, "rmsnorm", self.m.norm_eps).to(x.dtype)
        return normed * self.norms[name] if name in self.norms else normed


class Mamba2(Sublayer):
    """A state of [num_heads, head_dim, state_size] with one decay a head (Dao and Gu 2024, arXiv 2405.21060, 7.1)."""

    def __init__(self, m: arch.Mamba2) -> None:
        super().__init__()
        self.m = m
        self.inner, self.grouped = m.num_heads * m.head_dim, m.n_groups * m.state_size
        channels = self.inner + 2 * self.grouped
        self.in_proj = nn.Linear(m.hidden_size, self.inner + channels + m.num_heads, bias=m.bias)
        self.conv = CausalConvolution(channels, m.conv_kernel, bias=m.conv_bias)
        self.A_log = nn.Parameter(torch.empty(m.num_heads))
        self.D_skip = nn.Parameter(torch.empty(m.num_heads))
        self.dt_bias = nn.Parameter(torch.empty(m.num_heads))
        self.norm_weight = nn.Parameter(torch.empty(self.inner)) if m.norm else None
        self.out_proj = nn.Linear(self.inner, m.hidden_size, bias=m.bias if m.out_bias is None else m.out_bias)

    def forward(self, x_BTD: Tensor, context: Context, kept: StateCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        widths = [self.inner, self.inner + 2 * self.grouped, self.m.num_heads]
        gate_BTF, xBC, dt_BTN = self._projected(x_BTD).split(widths, dim=-1)
        xBC = ACTIVATIONS[self.m.activation](self.conv(xBC, context, kept))
        y_BTF = self.selective_scan(xBC, dt_BTN, context, kept).to(x_BTD.dtype)
        out_BTD: Tensor = self.out_proj(self.gated(y_BTF, gate_BTF))
        return out_BTD

    def _projected(self, x_BTD: Tensor) -> Tensor:
        """Gate, input, B, C and time steps side by side, each times its constant where there is one (Falcon-H1)."""
        projected: Tensor = self.in_proj(x_BTD)
        if not self.m.multipliers:
            return projected
        widths = (self.inner, self.inner, self.grouped, self.grouped, self.m.num_heads)
        parts = projected.split(widths, dim=-1)
        return torch.cat([part * scale for part, scale in zip(parts, self.m.multipliers, strict=True)], dim=-1)

    def selective_scan(self, xBC: Tensor, dt_BTN: Tensor, context: Context, kept: StateCache | None) -> Tensor:
        """The recurrence, in fp32: [B, T, channels] -> [B, T, num_heads * head_dim]."""
        m, (B, T, _) = self.m, xBC.shape
        x, b, c = xBC.float().split([self.inner, self.grouped, self.grouped], dim=-1)
        x_BTNH = x.view(B, T, m.num_heads, m.head_dim)
        b_BTNS, c_BTNS = (self._per_head(each.view(B, T, m.n_groups, m.state_size)) for each in (b, c))
        dt_BTN = F.softplus(dt_BTN.float() + self.dt_bias.float()).clamp(*m.time_step_limit)
        decay_BTN = (-self.A_log.float().exp() * dt_BTN).exp()

        def step(h_BNHS: Tensor, t: int) -> tuple[Tensor, Tensor]:
            added = (dt_BTN[:, t, :, None] * x_BTNH[:, t])[..., None] * b_BTNS[:, t, :, None]
            h_BNHS = decay_BTN[:, t, :, None, None] * h_BNHS + added
            return h_BNHS, (h_BNHS * c_BTNS[:, t, :, None]).sum(-1)

        empty = x.new_zeros(B, m.num_heads, m.head_dim, m.state_size)
        if context.in_chunks:
            added_BTNH = dt_BTN[..., None] * x_BTNH
            y_BTNH = scan_in_chunks(c_BTNS, b_BTNS, added_BTNH, decay_BTN, empty, context, kept, turned=True)
        else:
            y_BTNH = scan(step, empty, context, kept)
        y_BTNH = y_BTNH + self.D_skip.float()[:, None] * x_BTNH
        return y_BTNH.flatten(-2)

    def gated(self, y_BTF: Tensor, gate_BTF: Tensor) -> Tensor:
        """RMSNorm over groups of channels, and the gate before or after it: [B, T, F] -> the same."""
        gate = F.silu(gate_BTF.float())
        if self.norm_weight is None:
            return (y_BTF.float() * gate).to(y_BTF.dtype)
        y = y_BTF.float() * gate if self.m.gate_first else y_BTF.float()
        grouped = y.view(*y.shape[:-1], self.m.norm_groups, -1)
        y = normalise(grouped, "rmsnorm", self.m.norm_eps).flatten(-2).to(y_BTF.dtype) * self.norm_weight
        return y if self.m.gate_first else (y.float() * gate).to(y_BTF.dtype)

    def new_cache(self, spec: CacheSpec) -> StateCache:
        """The state, and the convolution's last inputs."""
        m = self.m
        return StateCache(state=empty_state(spec, m.num_heads, m.head_dim, m.state_size), window=self.conv.window(spec))

    def initialise(self) -> None:
        """Decays 1 to num_heads, time steps of a few hundredths."""
        heads = torch.arange(1, self.m.num_heads + 1, device=self.A_log.device, dtype=torch.float32)
        self.A_log.copy_(heads.log())
        self.D_skip.fill_(1.0)
        self.dt_bias.fill_(inverse_softplus(0.02))
        if self.norm_weight is not None:
            self.norm_weight.fill_(1.0)

    def _per_head(self, x_BTGS: Tensor) -> Tensor:
        return x_BTGS.repeat_interleave(self.m.num_heads // self.m.n_groups, dim=2)


def inverse_softplus(value: float) -> float:
    """x with softplus(x) = value."""
    return float(torch.tensor(value).expm1().log())
