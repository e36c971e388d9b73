"""Mixers whose cost is linear in the sequence: attention with a feature map, and Fourier mixing.

With phi(q)^T phi(k) in place of exp(q^T k) the sum over keys can be taken once: y_t = phi(q_t)^T S_t / phi(q_t)^T z_t,
S_t = S_(t-1) + phi(k_t) v_t^T, z_t = z_(t-1) + phi(k_t) (Katharopoulos et al. 2020, equations 18 to 20).
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
from txcalc.reference.feed_forward import ACTIVATIONS
from txcalc.reference.norms import Norm
from txcalc.reference.positions import alibi_slopes
from txcalc.reference.recurrent import empty_state, scan
from txcalc.reference.sublayer import Sublayer


class LinearAttention(Sublayer):
    """[B, T, hidden_size] -> the same; the state is [num_heads, features, head_dim (+ 1 for the normaliser)]."""

    def __init__(self, a: arch.LinearAttention) -> None:
        super().__init__()
        self.a = a
        inner, lightning = a.num_heads * a.head_dim, a.feature_map == "lightning"
        self.qkv_proj = nn.Linear(a.hidden_size, 3 * inner, bias=a.bias)
        self.gate_proj = nn.Linear(a.hidden_size, inner, bias=False) if lightning else None
        self.norm = Norm(arch.Norm(kind="rmsnorm", width=inner, eps=a.norm_eps)) if lightning else None
        self.o_proj = nn.Linear(inner, a.hidden_size, bias=a.bias)
        self.directions_HR: Tensor | None
        favor = torch.empty(a.head_dim, a.features) if a.feature_map == "favor" else None
        self.register_buffer("directions_HR", favor)

    def forward(self, x_BTD: Tensor, context: Context, kept: StateCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        q, k, v = (split_heads(x, self.a.num_heads) for x in self.qkv_proj(x_BTD).chunk(3, dim=-1))
        if self.a.feature_map == "lightning":
            y_BTNH = self.lightning(q, k, v, context, kept)
        elif self.a.causal:
            y_BTNH = self.causal(q, k, v, context, kept)
        else:
            y_BTNH = self.bidirectional(q, k, v, context)
        y_BTF = y_BTNH.flatten(-2).to(x_BTD.dtype)
        if self.norm is not None and self.gate_proj is not None:
            y_BTF = torch.sigmoid(self.gate_proj(x_BTD)) * self.norm(y_BTF)
        out_BTD: Tensor = self.o_proj(y_BTF)
        return out_BTD

    def features(self, x_BTNH: Tensor) -> Tensor:
        """phi(x) > 0, in fp32: [.., head_dim] -> [.., features].

        ``elu``: elu(x) + 1 (Katharopoulos et al. 2020, equation 7). ``favor``: exp(w^T x - |x|^2 / 2) / sqrt(features)
        for random w, whose products estimate exp(q^T k / sqrt(H)) without bias (Choromanski et al. 2021, equation 5).
        """
        x = x_BTNH.float()
        if self.directions_HR is None:
            return F.elu(x) + 1
        x = x * self.a.head_dim**-0.25
        logs = x @ self.directions_HR.float() - x.square().sum(-1, keepdim=True) / 2
        return logs.exp() * self.a.features**-0.5

    def causal(self, q: Tensor, k: Tensor, v: Tensor, context: Context, kept: StateCache | None) -> Tensor:
        """The recurrence: [B, T, N, H] in fp32. The normaliser z is one more column of the state."""
        q_BTNR, k_BTNR = self.features(q), self.features(k)
        v_BTNH = F.pad(v.float(), (0, 1), value=1.0)

        def step(s_BNRH: Tensor, t: int) -> tuple[Tensor, Tensor]:
            s_BNRH = s_BNRH + k_BTNR[:, t, ..., None] * v_BTNH[:, t, :, None]
            return s_BNRH, (s_BNRH * q_BTNR[:, t, ..., None]).sum(-2)

        empty = v_BTNH.new_zeros(q.shape[0], self.a.num_heads, k_BTNR.shape[-1], v_BTNH.shape[-1])
        if context.in_chunks:
            read = scan_in_chunks(q_BTNR, k_BTNR, v_BTNH, torch.ones_like(q_BTNR[..., 0]), empty, context, kept)
        else:
            read = scan(step, empty, context, kept)
        return read[..., :-1] / read[..., -1:]

    def bidirectional(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        """All keys summed at once: [B, T, N, H] in fp32."""
        k_BTNR, v_BTNH = self.features(k), F.pad(v.float(), (0, 1), value=1.0)
        if context.padded:
            k_BTNR = k_BTNR * context.real_BT[..., None, None]
        state_BNRH = torch.einsum("btnr,btnh->bnrh", k_BTNR, v_BTNH)
        read = torch.einsum("btnr,bnrh->btnh", self.features(q), state_BNRH)
        return read[..., :-1] / read[..., -1:]

    def lightning(self, q: Tensor, k: Tensor, v: Tensor, context: Context, kept: StateCache | None) -> Tensor:
        """A fixed decay a head and no normaliser (MiniMax-01, arXiv 2501.08313, section 2.2): [B, T, N, H] in fp32."""
        act = ACTIVATIONS[self.a.activation]
        q_BTNH, k_BTNH, v_BTNH = (act(x).float() for x in (q, k, v))
        slopes = context.constant(("slopes", self.a.num_heads), lambda: alibi_slopes(self.a.num_heads, 8.0))
        decay_N11 = (-slopes * self.a.decay_scale).exp()[:, None, None]

        def step(s_BNHH: Tensor, t: int) -> tuple[Tensor, Tensor]:
            s_BNHH = decay_N11 * s_BNHH + k_BTNH[:, t, ..., None] * v_BTNH[:, t, :, None]
            return s_BNHH, (s_BNHH * q_BTNH[:, t, ..., None]).sum(-2)

        empty = q_BTNH.new_zeros(q.shape[0], self.a.num_heads, self.a.head_dim, self.a.head_dim)
        if context.in_chunks:
            decay_BTN = decay_N11[:, 0, 0].expand(q_BTNH.shape[:3])
            return scan_in_chunks(q_BTNH, k_BTNH, v_BTNH, decay_BTN, empty, context, kept)
        return scan(step, empty, context, kept)

    def new_cache(self, spec: CacheSpec) -> StateCache | None:
        """The state, with the normaliser where there is one."""
        a = self.a
        if not a.causal:
            return None
        if a.feature_map == "lightning":
            return StateCache(state=empty_state(spec, a.num_heads, a.head_dim, a.head_dim))
        return StateCache(state=empty_state(spec, a.num_heads, a.features or a.head_dim, a.head_dim + 1))

    def initialise(self) -> None:
        """Random directions for FAVOR+: orthogonal, with the lengths of Gaussian vectors (section 3.2)."""
        if self.directions_HR is None:
            return
        generator = torch.Generator().manual_seed(0)
        H, R = self.directions_HR.shape
        q_GHH, r_GHH = torch.linalg.qr(torch.randn(-(-R // H), H, H, generator=generator))
        blocks = q_GHH * r_GHH.diagonal(dim1=-2, dim2=-1).sign()[:, None]  # so that every direction is as likely
        lengths = torch.randn(R, H, generator=generator).norm(dim=-1)
        self.directions_HR.copy_(torch.cat(tuple(blocks), dim=1)[:, :R] * lengths)


class FourierMixing(Sublayer):
    """The real part of a Fourier transform over the width and the sequence (Lee-Thorp et al. 2021, equation 3)."""

    def __init__(self, mixing: arch.FourierMixing) -> None:
        super().__init__()

    def forward(self, x_BTD: Tensor, context: Context, kept: None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        return torch.fft.fft(torch.fft.fft(x_BTD.float(), dim=-1), dim=-2).real.to(x_BTD.dtype)
