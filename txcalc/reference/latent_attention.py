"""Multi-head latent attention: keys and values are one small latent per token until the moment they are used.

c = x W_DKV (what is cached), k = c W_UK, v = c W_UV, and one rotary key shared by all heads (DeepSeek-V2, arXiv
2405.04434, section 2.1, equations 9 to 19). Decoding absorbs W_UK into the query and W_UV into the output, so that the
heads attend over the latents themselves and nothing is expanded (section 2.1.2): (q W_UK^T) c = q (c W_UK).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from txcalc import architecture as arch
from txcalc.reference.attention import fresh_keys, keeper, split_heads, temperature, turned
from txcalc.reference.backends import Product, attend
from txcalc.reference.cache import CacheSpec, PlaceCache
from txcalc.reference.context import Context, Keys
from txcalc.reference.indexer import Indexer
from txcalc.reference.masks import dense_mask, mask_for
from txcalc.reference.norms import Norm
from txcalc.reference.sublayer import Sublayer
from txcalc.reference.support import not_built


class LatentAttention(Sublayer):
    """[B, T, hidden_size] -> the same; the cache holds [kv_lora_rank + qk_rope_head_dim] a token."""

    def __init__(self, a: arch.LatentAttention) -> None:
        super().__init__()
        not_built(a)
        self.a = a
        D, N, R, rope = a.hidden_size, a.num_attention_heads, a.kv_lora_rank, a.qk_rope_head_dim
        width = a.qk_nope_head_dim + rope
        if a.q_lora_rank is None:
            self.q_proj = nn.Linear(D, N * width, bias=False)
        else:
            self.q_a_proj = nn.Linear(D, a.q_lora_rank, bias=a.bias)
            self.q_a_norm = Norm(arch.Norm(kind="rmsnorm", width=a.q_lora_rank, eps=a.norm_eps))
            self.q_b_proj = nn.Linear(a.q_lora_rank * (2 if a.gate == "latent" else 1), N * width, bias=False)
        self.kv_a_proj = nn.Linear(D, R + rope, bias=a.bias)
        self.kv_a_norm = Norm(arch.Norm(kind="rmsnorm", width=R, eps=a.norm_eps))
        self.kv_b_proj = nn.Linear(R, N * (a.qk_nope_head_dim + a.v_head_dim), bias=False)
        self.key_norm = Norm(arch.Norm(kind="rmsnorm", width=rope, eps=a.norm_eps)) if a.key_norm else None
        self.o_proj = nn.Linear(N * a.v_head_dim, D, bias=a.bias)
        self.gate_proj = _gate(a)
        self.sinks_N = nn.Parameter(torch.empty(N)) if a.sinks else None
        own = a.indexer is not None and not a.indexer.shared
        self.indexer = Indexer(a.indexer, D) if own else None  # type: ignore[arg-type]  # it is not None

    def forward(self, x_BTD: Tensor, context: Context, kept: PlaceCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        compressed_BTQ = self.compressed(x_BTD)
        read_BTQ = self.twice(x_BTD, compressed_BTQ) if self.a.gate == "latent" else compressed_BTQ
        q_BNTH = self.queries(read_BTQ, context)
        new: tuple[Tensor, ...] = (self.latents(x_BTD, context),)
        if self.indexer is not None:
            new = (*new, self.indexer.keys(x_BTD, self.a.position, context))
        keys = kept.extend(new, context) if kept is not None else fresh_keys(new, context, causal=self.a.causal)
        self._choose(x_BTD, compressed_BTQ, keys, context)
        absorb = context.backend.absorb and context.tokens == 1 and kept is not None
        out_BNTH = self.absorbed(q_BNTH, keys, context) if absorb else self.expanded(q_BNTH, keys, context)
        out_BTNH = self.gated(out_BNTH.transpose(1, 2), read_BTQ if self.a.gate == "latent" else x_BTD)
        out_BTD: Tensor = self.o_proj(out_BTNH.flatten(-2))
        return out_BTD

    def twice(self, x_BTD: Tensor, compressed_BTQ: Tensor) -> Tensor:
        """The queries' latent, normed and as it is, side by side: [B, T, 2 * q_lora_rank]."""
        return torch.cat((compressed_BTQ, self.q_a_proj(x_BTD)), dim=-1)

    def gated(self, out_BTNH: Tensor, read_BTC: Tensor) -> Tensor:
        """The heads' output times a sigmoid gate, by channel or by head, where the layer has one."""
        if self.gate_proj is None:
            return out_BTNH
        gate_BTG = torch.sigmoid(self.gate_proj(read_BTC))
        return out_BTNH * (gate_BTG[..., None] if self.a.gate == "head" else gate_BTG.view_as(out_BTNH))

    def compressed(self, x_BTD: Tensor) -> Tensor:
        """The queries' own latent [B, T, q_lora_rank], or the input where there is none."""
        return x_BTD if self.a.q_lora_rank is None else self.q_a_norm(self.q_a_proj(x_BTD))

    def queries(self, compressed_BTQ: Tensor, context: Context) -> Tensor:
        """[B, N, T, qk_nope_head_dim + qk_rope_head_dim], the last part turned."""
        if self.a.q_lora_rank is None:
            q_BTC = self.q_proj(compressed_BTQ)
        else:
            q_BTC = self.q_b_proj(compressed_BTQ * self.a.q_lora_scale)
        nope, rope = split_heads(q_BTC, self.a.num_attention_heads).split(
            [self.a.qk_nope_head_dim, self.a.qk_rope_head_dim], dim=-1
        )
        q_BTNH = torch.cat((nope, self._turned(rope, context)), dim=-1)
        if self.a.temperature is not None:
            q_BTNH = q_BTNH * temperature(self.a.temperature, context).to(q_BTNH.dtype)
        return q_BTNH.transpose(1, 2)

    def latents(self, x_BTD: Tensor, context: Context) -> Tensor:
        """[B, 1, T, kv_lora_rank + qk_rope_head_dim]: the latent of keys and values, and the shared rotary key."""
        latent, rope = self.kv_a_proj(x_BTD).split([self.a.kv_lora_rank, self.a.qk_rope_head_dim], dim=-1)
        latent = self.kv_a_norm(latent) * self.a.kv_lora_scale
        rope = rope if self.key_norm is None else self.key_norm(rope)
        return torch.cat((latent, self._turned(rope[:, :, None], context)[:, :, 0]), dim=-1)[:, None]

    def expanded(self, q_BNTH: Tensor, keys: Keys, context: Context) -> Tensor:
        """Every head's keys and values made from the latents, then plain attention: [B, N, T, v_head_dim]."""
        latent, rope = self._parts(keys)
        kv_BNSH = split_heads(self.kv_b_proj(latent[:, 0]), self.a.num_attention_heads).transpose(1, 2)
        k_nope, v_BNSH = kv_BNSH.split([self.a.qk_nope_head_dim, self.a.v_head_dim], dim=-1)
        k_BNSH = torch.cat((k_nope, rope.expand(-1, self.a.num_attention_heads, -1, -1)), dim=-1)
        return self._attend(q_BNTH, k_BNSH, v_BNSH, keys, context)

    def absorbed(self, q_BNTH: Tensor, keys: Keys, context: Context) -> Tensor:
        """The same in the space of the latents, one key head for all: [B, N, T, v_head_dim]."""
        a = self.a
        latent, _ = self._parts(keys)
        up_NHR = self.kv_b_proj.weight.view(a.num_attention_heads, -1, a.kv_lora_rank)
        k_up_NHR, v_up_NHR = up_NHR.split([a.qk_nope_head_dim, a.v_head_dim], dim=1)
        nope, rope = q_BNTH.split([a.qk_nope_head_dim, a.qk_rope_head_dim], dim=-1)
        q_BNTR = torch.cat((nope @ k_up_NHR, rope), dim=-1)
        out_BNTR = self._attend(q_BNTR, keys.tensors[0], latent, keys, context)
        return out_BNTR @ v_up_NHR.mT

    def new_cache(self, spec: CacheSpec) -> PlaceCache:
        """One latent and one rotary key a token, and an indexer's key."""
        latent = (1, self.a.kv_lora_rank + self.a.qk_rope_head_dim)
        widths = (latent, (1, self.indexer.i.head_dim)) if self.indexer else (latent,)
        return PlaceCache(spec, widths, window=self.a.window)

    def _choose(self, x_BTD: Tensor, compressed_BTQ: Tensor, keys: Keys, context: Context) -> None:
        """Let the indexer pick keys; layers whose indexer is shared go by the last choice."""
        if self.indexer is not None:
            visible = dense_mask(context, keys, causal=self.a.causal)
            context.chosen = self.indexer.choose(
                x_BTD, compressed_BTQ, keys.tensors[1], visible, self.a.position, context
            )

    def _parts(self, keys: Keys) -> tuple[Tensor, Tensor]:
        latent, rope = keys.tensors[0].split([self.a.kv_lora_rank, self.a.qk_rope_head_dim], dim=-1)
        return latent, rope

    def _turned(self, x_BTNH: Tensor, context: Context) -> Tensor:
        return x_BTNH if self.a.position is None else turned(x_BTNH, self.a.position, context)

    def _attend(self, q_BNTH: Tensor, k: Tensor, v: Tensor, keys: Keys, context: Context) -> Tensor:
        width = self.a.qk_nope_head_dim + self.a.qk_rope_head_dim
        mask = mask_for(context, keys, causal=self.a.causal, window=self.a.window, chunk=None)
        if self.a.indexer is not None and context.chosen is not None:
            mask = context.chosen
        scale = width**-0.5 if self.a.scale is None else self.a.scale
        product = Product(q_BNTH, k, v, mask=mask, scale=scale, sinks_N=self.sinks_N, dropout=context.dropout)
        return attend(product, context.backend, keeper(context))


def _gate(a: arch.LatentAttention) -> nn.Linear | None:
    widths = {
        "none": 0, "channel": a.hidden_size, "head": a.hidden_size, "latent": 2 * (a.q_lora_rank or 0),
    }  # fmt: skip
    outputs = a.num_attention_heads * (1 if a.gate == "head" else a.v_head_dim)
    return nn.Linear(widths[a.gate], outputs, bias=False) if a.gate != "none" else None
