"""Softmax attention of a sequence over itself, and of a decoder over an encoder.

MultiHead(x) = Concat(head_1, ..., head_N) W_O, head_i = Attention(x W_Q, x W_K, x W_V) (Vaswani et al. 2017, section
3.2.2). Several query heads may share one key and value head: K = N is multi-head, K < N grouped-query (Ainslie et al.
2023), K = 1 multi-query attention (Shazeer 2019).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.backends import Product, attend
from txcalc.reference.cache import CacheSpec, PlaceCache, SourceCache
from txcalc.reference.chosen_keys import BlockIndexer, DynamicMask
from txcalc.reference.content_positions import DisentangledScores, RelativeKeyScores
from txcalc.reference.context import Context, Keys
from txcalc.reference.differential import Difference
from txcalc.reference.global_tokens import GlobalProjections
from txcalc.reference.masks import Mask, dense_mask, mask_for
from txcalc.reference.norms import HeadNorm, normalise, optional_norm
from txcalc.reference.positions import RelativeBias, alibi_bias, alibi_slopes
from txcalc.reference.rotary import rotate
from txcalc.reference.sublayer import Sublayer
from txcalc.reference.support import not_built


class SelfAttention(Sublayer):
    """[B, T, hidden_size] -> the same; N query heads over K key and value heads."""

    def __init__(self, a: arch.SelfAttention) -> None:
        super().__init__()
        not_built(a)
        self.a = a
        D, N, K, H, Hv = a.hidden_size, a.num_attention_heads, a.num_key_value_heads, a.head_dim, a.v_head_dim
        self.q_proj = nn.Linear(D, N * H, bias=a.q_bias)
        if a.kv_source is None:
            self.k_proj = nn.Linear(D, K * H, bias=a.k_bias)
            self.v_proj = None if a.k_equals_v else nn.Linear(D, K * Hv, bias=a.v_bias)
        self.o_proj = nn.Linear(N * Hv, D, bias=a.o_bias)
        self.q_norm = None if a.qk_norm is None else HeadNorm(a.qk_norm, N, H)
        self.k_norm = None if a.qk_norm is None or a.kv_source is not None else HeadNorm(a.qk_norm, K, H)
        self.sinks_N = nn.Parameter(torch.empty(N)) if a.sinks else None
        self.gate_proj = _gate(a)
        self.gate_biases_N = nn.Parameter(torch.empty(N)) if a.gate_head_bias else None
        self.chooser = BlockIndexer(a.block_indexer, D) if a.block_indexer else None
        self.dynamic_mask = DynamicMask(a.dynamic_mask, K, Hv) if a.dynamic_mask else None
        self.out_norm = optional_norm(a.out_norm)
        per_layer = isinstance(a.position, arch.RelativeBias) and a.position.table == "layer"
        self.relative_bias = RelativeBias(a.position, N) if per_layer else None  # type: ignore[arg-type]  # as tested
        self.content_scores = _content_scores(a)
        self.difference = Difference(a.differential, H) if a.differential else None
        self.global_tokens = GlobalProjections(a.global_tokens, D) if a.global_tokens else None
        self.keeps_keys = False  # a later layer reads this one's keys and values (kv_source)
        self.turn: Callable[[Tensor, arch.Rotary, Context], Tensor] = turned  # see ``lean``

    def forward(self, x_BTD: Tensor, context: Context, kept: PlaceCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        q_BNTH = self.queries(x_BTD, context)
        keys = self.keys(x_BTD, context, kept)
        self._choose(x_BTD, keys, context)
        out_BNTH = self.product(q_BNTH, keys, context)
        if self.global_tokens is not None and context.global_BT is not None:
            out_BNTH = self._global(x_BTD, out_BNTH, context.global_BT, context)
        out_BTNH = self.gated(out_BNTH.transpose(1, 2), x_BTD)
        out_BTD: Tensor = self.o_proj(self.out_norm(out_BTNH.flatten(-2)))
        return out_BTD

    def queries(self, x_BTD: Tensor, context: Context) -> Tensor:
        """[B, N, T, H], normalised and turned."""
        q_BTNH = self._heads(self.q_proj(x_BTD), self.a.num_attention_heads)
        q_BTNH = self._placed(q_BTNH, self.q_norm, context)
        if self.a.temperature is not None:
            q_BTNH = q_BTNH * temperature(self.a.temperature, context).to(q_BTNH.dtype)
        return q_BTNH.transpose(1, 2)

    def keys(self, x_BTD: Tensor, context: Context, kept: PlaceCache | None) -> Keys:
        """Keys [B, K, S, H] and values [B, K, S, Hv] of these tokens and of those before them."""
        if self.a.kv_source is not None:
            return context.kept_keys[self.a.kv_source]
        k_BTKH = self._heads(self.k_proj(x_BTD), self.a.num_key_value_heads)
        v_BTKH = k_BTKH if self.v_proj is None else self._heads(self.v_proj(x_BTD), self.a.num_key_value_heads)
        v_BTKH = self._clamped(v_BTKH)
        if self.a.qk_norm is not None and self.a.qk_norm.v_norm:
            v_BTKH = normalise(v_BTKH, "rmsnorm", self.a.qk_norm.eps).to(v_BTKH.dtype)
        if self.a.value_scale != 1.0:
            v_BTKH = v_BTKH * self.a.value_scale
        k_BTKH = self._placed(k_BTKH, self.k_norm, context)
        new: tuple[Tensor, ...] = (k_BTKH.transpose(1, 2), v_BTKH.transpose(1, 2))
        if self.chooser is not None:
            new = (*new, self.chooser.keys(x_BTD, self.a.position, context))
        keys = kept.extend(new, context) if kept is not None else fresh_keys(new, context, causal=self.a.causal)
        if self.keeps_keys:
            context.kept_keys[context.layer] = keys
        return keys

    def product(self, q_BNTH: Tensor, keys: Keys, context: Context) -> Tensor:
        """softmax(q k^T scale + bias) v under the layer's mask: [B, N, T, Hv]."""
        a, (k_BKSH, v_BKSH) = self.a, keys.tensors[:2]
        product = Product(
            q_BNTH,
            k_BKSH,
            v_BKSH,
            mask=self._mask(keys, context),
            scale=self.scale,
            bias=self._bias(q_BNTH, keys, context),
            softcap=a.softcap,
            sinks_N=self.sinks_N,
            dropout=context.dropout,
        )
        if self.difference is None:
            return attend(product, context.backend, keeper(context))
        return self._difference(product, context)

    def gated(self, out_BTNH: Tensor, x_BTD: Tensor) -> Tensor:
        """The heads' output times a gate made of the input, by channel or by head, where the layer has one."""
        if self.gate_proj is None:
            return out_BTNH
        gate_BTG = self.gate_proj(x_BTD)
        if self.gate_biases_N is not None:
            gate_BTG = gate_BTG + self.gate_biases_N.repeat_interleave(self.a.v_head_dim)
        gate_BTG = torch.sigmoid(gate_BTG) if self.a.gate_activation == "sigmoid" else F.softplus(gate_BTG)
        return out_BTNH * (gate_BTG[..., None] if self.a.gate == "head" else gate_BTG.view_as(out_BTNH))

    def new_cache(self, spec: CacheSpec) -> PlaceCache | None:
        """Keys and values of ctx tokens, or of the window or chunk; none where another layer's are read."""
        a = self.a
        if a.kv_source is not None or not a.causal:
            return None
        widths = [(a.num_key_value_heads, a.head_dim), (a.num_key_value_heads, a.v_head_dim)]
        widths += [(1, a.block_indexer.head_dim)] if a.block_indexer else []
        return PlaceCache(spec, widths, window=a.window, chunk=a.chunk)

    def _heads(self, x_BTC: Tensor, heads: int) -> Tensor:
        return split_heads(x_BTC, heads)

    def _clamped(self, x: Tensor) -> Tensor:
        return x if self.a.clip_qkv is None else x.clamp(-self.a.clip_qkv, self.a.clip_qkv)

    def _placed(self, x_BTNH: Tensor, norm: HeadNorm | None, context: Context) -> Tensor:
        """Normalised and turned, in the order that the architecture says."""
        after = self.a.qk_norm is not None and self.a.qk_norm.after_rotary
        if norm is not None and not after:
            x_BTNH = norm(x_BTNH)
        x_BTNH = self._clamped(x_BTNH)
        if isinstance(self.a.position, arch.Rotary):
            x_BTNH = self.turn(x_BTNH, self.a.position, context)
        if norm is not None and after:
            x_BTNH = norm(x_BTNH)
        return x_BTNH

    def _difference(self, product: Product, context: Context) -> Tensor:
        """Two maps over two halves of the values; the weights of both, one after the other."""
        assert self.difference is not None
        kept: list[Tensor] = []
        keep = None if context.weights is None else kept.append

        def half(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attend(product._replace(q_BNTH=q, k_BKSH=k, v_BKSH=v), context.backend, keep)

        out_BNTH = self.difference(*product[:3], half)
        if context.weights is not None:
            context.weights[context.layer, "self"] = torch.cat(kept[::2], dim=1)
        return out_BNTH

    def _choose(self, x_BTD: Tensor, keys: Keys, context: Context) -> None:
        """Let what depends on the content say which keys are seen; the mask then is that."""
        context.chosen, a = None, self.a
        if self.chooser is not None or self.dynamic_mask is not None:
            visible = dense_mask(context, keys, causal=a.causal, window=a.window, chunk=a.chunk)
            if self.chooser is not None:
                context.chosen = self.chooser.choose(
                    x_BTD, keys, visible, a.position, a.num_attention_heads, context
                )  # fmt: skip
            if self.dynamic_mask is not None:
                context.chosen = self.dynamic_mask.choose(keys.tensors[1], visible, a.num_attention_heads)

    def _mask(self, keys: Keys, context: Context) -> Mask:
        if context.chosen is not None:
            return context.chosen
        mask = mask_for(context, keys, causal=self.a.causal, window=self.a.window, chunk=self.a.chunk)
        if context.global_BT is None or self.global_tokens is None or isinstance(mask, str):
            return mask
        return mask | (context.global_BT & (keys.positions_BS >= 0))[:, None, None, :]

    def _global(self, x_BTD: Tensor, local: Tensor, global_BT: Tensor, context: Context) -> Tensor:
        """Global tokens look at all real tokens through projections of their own."""
        assert self.global_tokens is not None

        def everywhere(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
            product = Product(q, k, v, mask=mask, scale=self.scale, dropout=context.dropout)
            return attend(product, context.backend, keeper(context, "global"))

        real_BT = context.real_positions().expand_as(global_BT) >= 0
        return self.global_tokens(x_BTD, local, global_BT, real_BT, everywhere)

    @property
    def scale(self) -> float:
        """Of the scores: 1 / sqrt(head_dim) unless the architecture says otherwise, less where scores are sums."""
        if self.a.scale is not None:
            return self.a.scale
        position, terms = self.a.position, 1
        if isinstance(position, arch.Disentangled):
            terms += position.content_to_position + position.position_to_content
        return float((self.a.head_dim * terms) ** -0.5)

    def _bias(self, q_BNTH: Tensor, keys: Keys, context: Context) -> Tensor | None:
        """What positions add to the scores, [1 or B, N, T, S]; shared by the layers that add the same."""
        position = self.a.position
        if self.dynamic_mask is not None:
            return self.dynamic_mask.bias(keys.tensors[1], self.a.num_attention_heads)
        if position is None or isinstance(position, arch.Rotary):
            return None
        q_BT, k_BS = context.positions_BT, keys.positions_BS
        match position:
            case arch.Alibi():
                heads = self.a.num_attention_heads
                slopes_N = context.constant((position, heads), lambda: alibi_slopes(heads, position.max_bias))
                bias = context.once((position, keys.layout), lambda: alibi_bias(position, slopes_N, q_BT, k_BS))
                return bias * self.scale if position.before_scaling else bias
            case arch.RelativeBias(table="layer"):
                assert self.relative_bias is not None
                bias = self.relative_bias(q_BT, k_BS)
                return bias
            case arch.RelativeBias():
                table = context.tables["relative_bias"]
                bias = context.once((position, keys.layout), lambda: table(q_BT, k_BS))
                return bias
            case arch.ProjectedDistances():
                raise AssertionError("refused by ``support`` before a model is built")
            case arch.Disentangled() | arch.RelativeKeys():
                return self.scale * self._content_bias(q_BNTH, keys, context)

    def _content_bias(self, q_BNTH: Tensor, keys: Keys, context: Context) -> Tensor:
        """Scores of queries and keys with vectors of their distance, unscaled: [B, N, T, S]."""
        k_BNSH = keys.tensors[0].repeat_interleave(q_BNTH.shape[1] // keys.tensors[0].shape[1], dim=1)
        offset_BTS = context.positions_BT[:, :, None] - keys.positions_BS[:, None, :]
        if isinstance(self.content_scores, DisentangledScores):
            table_RD = context.once("disentangled", context.tables["disentangled"])
            return self.content_scores(q_BNTH, k_BNSH, table_RD, (self.q_proj, self.k_proj), offset_BTS)
        assert self.content_scores is not None
        return self.content_scores(q_BNTH, k_BNSH, offset_BTS)


class CrossAttention(Sublayer):
    """Queries from the decoder [B, T, hidden_size], keys and values from the encoder's output [B, S, source_size].

    Vaswani et al. 2017, section 3.2.3: every target token may look at every source token.
    """

    def __init__(self, a: arch.CrossAttention) -> None:
        super().__init__()
        not_built(a)
        self.a = a
        N, K = a.num_attention_heads, a.num_key_value_heads
        self.q_proj = nn.Linear(a.hidden_size, N * a.head_dim, bias=a.q_bias)
        self.k_proj = nn.Linear(a.source_size, K * a.head_dim, bias=a.k_bias)
        self.v_proj = nn.Linear(a.source_size, K * a.v_head_dim, bias=a.v_bias)
        self.o_proj = nn.Linear(N * a.v_head_dim, a.hidden_size, bias=a.o_bias)
        self.q_norm = nn.Identity() if a.qk_norm is None else HeadNorm(a.qk_norm, N, a.head_dim)
        self.k_norm = nn.Identity() if a.qk_norm is None else HeadNorm(a.qk_norm, K, a.head_dim)

    def forward(self, x_BTD: Tensor, context: Context, kept: SourceCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        a, source = self.a, context.source
        assert source is not None  # the model refuses a decoder with cross-attention that gets no source
        k_BKSH, v_BKSH = (
            self.keys(source.states_BSD) if kept is None else kept.once(lambda: self.keys(source.states_BSD))
        )
        q_BTNH = self.q_norm(split_heads(self.q_proj(x_BTD), a.num_attention_heads))
        mask = source.positions_BS[:, None, None, :] >= 0 if source.padded else "none"
        scale = a.head_dim**-0.5 if a.scale is None else a.scale
        product = Product(
            q_BTNH.transpose(1, 2),
            k_BKSH,
            v_BKSH,
            mask=mask,  # type: ignore[arg-type]  # the conditional widens the literal
            scale=scale,
            softcap=a.softcap,
            dropout=context.dropout,
        )
        out_BNTH = attend(product, context.backend, keeper(context, "cross"))
        out_BTD: Tensor = self.o_proj(out_BNTH.transpose(1, 2).flatten(-2))
        return out_BTD

    def keys(self, source_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys [B, K, S, H] and values [B, K, S, Hv] of the source."""
        k_BSKH = self.k_norm(split_heads(self.k_proj(source_BSD), self.a.num_key_value_heads))
        v_BSKH = split_heads(self.v_proj(source_BSD), self.a.num_key_value_heads)
        return k_BSKH.transpose(1, 2), v_BSKH.transpose(1, 2)

    def new_cache(self, spec: CacheSpec) -> SourceCache:
        """Keys and values of every source token."""
        K = self.a.num_key_value_heads
        return SourceCache(spec, ((K, self.a.head_dim), (K, self.a.v_head_dim)))


def fresh_keys(new: tuple[Tensor, ...], context: Context, *, causal: bool) -> Keys:
    """The keys of a pass without a cache. Padding is named where a mask cannot tell it from what came before."""
    return Keys(new, lambda: context.positions_BT if causal else context.real_positions(), fresh=True)


def turned(x_BTNH: Tensor, rotary: arch.Rotary, context: Context) -> Tensor:
    """Heads turned to where their tokens stand, [B, T, N, H] -> the same."""
    return rotate(x_BTNH, context.turns(rotary, x_BTNH.dtype), rotary.interleaved)


def temperature(t: arch.LengthTemperature, context: Context) -> Tensor:
    """1 + factor ln(1 + floor((position + first) / length)), [1 or B, T, 1, 1]: far queries are sharper."""
    if t.power:
        return ((1 + (context.positions_BT + t.first) / t.length) ** t.factor)[:, :, None, None]
    steps_BT = torch.floor((context.positions_BT + t.first) / t.length)
    return (1 + t.factor * torch.log1p(steps_BT))[:, :, None, None]


def split_heads(x_BTC: Tensor, heads: int) -> Tensor:
    """[B, T, heads * width] -> [B, T, heads, width]: a view."""
    return x_BTC.view(*x_BTC.shape[:-1], heads, -1)


def keeper(context: Context, kind: str = "self") -> Callable[[Tensor], None] | None:
    """Where attention weights go that somebody asked for."""
    if context.weights is None:
        return None
    weights, key = context.weights, (context.layer, kind)
    return lambda weights_BNTS: weights.__setitem__(key, weights_BNTS)


def _content_scores(a: arch.SelfAttention) -> DisentangledScores | RelativeKeyScores | None:
    match a.position:
        case arch.Disentangled():
            return DisentangledScores(a.position, a.hidden_size, a.num_attention_heads)
        case arch.RelativeKeys():
            return RelativeKeyScores(a.position, a.head_dim)
        case _:
            return None


def _gate(a: arch.SelfAttention) -> nn.Linear | None:
    match a.gate:
        case "none":
            return None
        case "channel":
            bias = a.q_bias if a.gate_bias is None else a.gate_bias
            return nn.Linear(a.hidden_size, a.num_attention_heads * a.v_head_dim, bias=bias)
        case "head":
            return nn.Linear(a.hidden_size, a.num_attention_heads, bias=False)
