"""What one sublayer keeps of the past: elements a token, and for how many tokens; or a state of fixed size.

Both functions are a match over every kind of sublayer that mypy proves complete.
"""

from __future__ import annotations

from txcalc.architecture import (
    Branch,
    CompressedAttention,
    CrossAttention,
    FeedForward,
    FourierMixing,
    GatedDeltaNet,
    LatentAttention,
    LinearAttention,
    LinearMap,
    LowRankResidual,
    Mamba,
    Mamba2,
    MixtureOfExperts,
    PerLayerInput,
    RealGatedRecurrence,
    RelativeAttention,
    SelfAttention,
    ShortConvolution,
    Sublayer,
    TokenConvolution,
)
from txcalc.expression import Expression, exact, symbol
from txcalc.formulas.letters import head_widths
from txcalc.record import Record


class CacheRow(Record):
    """One kind of cache entry: ``elements`` a token, in ``L`` layers, for at most ``limit`` tokens.

    ``row_widths`` are the contiguous rows that a block format must fill; ``cross`` entries are per source token.
    """

    name: str
    L: Expression
    elements: Expression
    row_widths: tuple[int, ...]
    limit: int | None = None
    cross: bool = False
    every: int = 1  # one entry for that many tokens, none for the last few
    latent: bool = False


class StateShape(Record):
    """Elements of a fixed state: the recurrence itself, and the window of its convolution."""

    name: str
    state: Expression
    window: Expression


def cache_rows(sublayer: Sublayer, count: int) -> tuple[CacheRow, ...]:
    """What ``count`` layers with this sublayer cache per token."""
    match sublayer:
        case SelfAttention():
            return _self_attention(sublayer, count)
        case CrossAttention():
            K = symbol("K", sublayer.num_key_value_heads)
            H, Hv = head_widths(sublayer.head_dim, sublayer.v_head_dim)
            return (_row("cross attention", count, K, H, Hv, cross=True),)
        case LatentAttention():
            return _latent(sublayer, count)
        case CompressedAttention():
            return _compressed(sublayer, count)
        case RelativeAttention():
            K, H = symbol("K", sublayer.num_key_value_heads), symbol("H", sublayer.head_dim)
            kind = "full attention" if sublayer.window is None else "sliding window"
            return (_row(kind, count, K, H, H, limit=sublayer.window),)
        case (
            FeedForward()
            | LinearMap()
            | MixtureOfExperts()
            | Mamba()
            | Mamba2()
            | GatedDeltaNet()
            | LinearAttention()
            | RealGatedRecurrence()
            | ShortConvolution()
            | TokenConvolution()
            | FourierMixing()
            | PerLayerInput()
            | LowRankResidual()
        ):
            return ()


def _row(name: str, count: int, K: Expression, H: Expression, Hv: Expression, **fields: object) -> CacheRow:
    elements = 2 * K * H if H is Hv else K * (H + Hv)
    widths = (int(K) * int(H), int(K) * int(Hv))
    return CacheRow(name=name, L=symbol("L", count), elements=elements, row_widths=widths, **fields)  # type: ignore[arg-type]  # CacheRow's own


def _self_attention(a: SelfAttention, count: int) -> tuple[CacheRow, ...]:
    """Bidirectional attention is computed at once and keeps nothing; a layer that reads another's cache has none."""
    if not a.causal or a.kv_source is not None:
        return ()
    limits = [limit for limit in (a.window, a.chunk) if limit is not None]
    kind = "sliding window" if a.window is not None else "chunked" if a.chunk is not None else "full attention"
    H, Hv = head_widths(a.head_dim, a.v_head_dim)
    K = symbol("K", a.num_key_value_heads)
    row = _row(kind, count, K, H, Hv, limit=min(limits) if limits else None)
    if a.joins_source:
        return (row, _row("cross attention", count, K, H, Hv, cross=True))
    return (row,) if a.block_indexer is None else (row, _indexer_keys(a.block_indexer.head_dim, row.L))


def _indexer_keys(width: int, L: Expression) -> CacheRow:
    """One key more a token, by which keys are chosen."""
    elements = 1 * symbol("index_head_dim", width)
    return CacheRow(name="indexer keys", L=L, elements=elements, row_widths=(width,), latent=True)


def _latent(a: LatentAttention, count: int) -> tuple[CacheRow, ...]:
    latent, rope = symbol("kv_lora_rank", a.kv_lora_rank), symbol("qk_rope_head_dim", a.qk_rope_head_dim)
    width = a.kv_lora_rank + a.qk_rope_head_dim
    L = symbol("L", count)
    kind = "latent" if a.window is None else "latent, sliding window"
    row = CacheRow(name=kind, L=L, elements=latent + rope, row_widths=(width,), latent=True, limit=a.window)
    own_keys = a.indexer is not None and not a.indexer.shared
    return (row, _indexer_keys(a.indexer.head_dim, L)) if a.indexer and own_keys else (row,)


def _compressed(a: CompressedAttention, count: int) -> tuple[CacheRow, ...]:
    """Keys that are values too, so one row a token in the window; then entries for many tokens each."""
    L, H = symbol("L", count), symbol("H", a.head_dim)
    rows = [CacheRow(name="sliding window", L=L, elements=1 * H, row_widths=(a.head_dim,), limit=a.window)]
    if a.compressor is not None:
        every, i = a.compressor.rate, a.compressor.indexer
        rows.append(CacheRow(name=f"compressed {every}:1", L=L, elements=1 * H, row_widths=(a.head_dim,), every=every))
        rows += [_indexer_keys(i.head_dim, L).replace(every=every)] if i else []
    return tuple(rows)


def _open_entries(a: CompressedAttention) -> StateShape | None:
    """Values and weights of the tokens whose entry is not complete, and of the block before where entries overlap."""
    if a.compressor is None:
        return None
    rate, widths = symbol("rate", a.compressor.rate), symbol("H", a.head_dim)
    if a.compressor.indexer is not None:
        widths = widths + symbol("index_head_dim", a.compressor.indexer.head_dim)
    series = 2 if a.compressor.overlapping else 1
    open_ones = 2 * series * (rate - 1) * widths
    window = open_ones + 2 * rate * widths if a.compressor.overlapping else open_ones
    return StateShape(name="open entries", state=exact(0), window=window)


def state_of(sublayer: Sublayer) -> StateShape | None:
    """The fixed state of a recurrent sublayer; a convolution keeps kernel - 1 inputs. None for the others."""
    match sublayer:
        case Mamba():
            F, taps = symbol("F", sublayer.intermediate_size), _taps(sublayer.conv_kernel)
            return StateShape(name="mamba", state=F * symbol("state_size", sublayer.state_size), window=F * taps)
        case Mamba2():
            return _mamba2(sublayer)
        case GatedDeltaNet():
            return _gated_delta_net(sublayer)
        case LinearAttention():
            return _linear_attention(sublayer)
        case RealGatedRecurrence():
            W = symbol("lru_width", sublayer.lru_width)
            return StateShape(name="recurrence", state=1 * W, window=W * _taps(sublayer.conv_kernel))
        case ShortConvolution():
            window = symbol("D", sublayer.hidden_size) * _taps(sublayer.conv_kernel)
            return StateShape(name="short convolution", state=exact(0), window=window)
        case CompressedAttention():
            return _open_entries(sublayer)
        case RelativeAttention():
            channels = 2 * symbol("K", sublayer.num_key_value_heads) * symbol("H", sublayer.head_dim)
            return StateShape(name="keys and values", state=exact(0), window=channels * _taps(sublayer.conv_kernel))
        case SelfAttention():
            return _convolved(sublayer)
        case (
            CrossAttention()
            | LatentAttention()
            | FeedForward()
            | LinearMap()
            | MixtureOfExperts()
            | TokenConvolution()
            | FourierMixing()
            | PerLayerInput()
            | LowRankResidual()
        ):
            return None


def _convolved(a: SelfAttention) -> StateShape | None:
    """Inputs of the two filters, and the half of the last token's values that the next one takes."""
    if a.convolved is None:
        return None
    K, H = symbol("K", a.num_key_value_heads), symbol("H", a.head_dim)
    taps = symbol("depthwise_taps", a.convolved.depthwise) - 1 + (symbol("grouped_taps", a.convolved.grouped) - 1)
    window = (symbol("N", a.num_attention_heads) + K) * H * taps + K * H // 2
    return StateShape(name="convolved heads", state=exact(0), window=window)


def state_of_branch(branch: Branch) -> StateShape | None:
    """The window of a convolution over what a branch gives out."""
    if branch.out_conv is None:
        return None
    window = symbol("D", branch.sublayer.hidden_size) * _taps(branch.out_conv)
    return StateShape(name="output convolution", state=exact(0), window=window)


def _taps(kernel: int) -> Expression:
    return symbol("conv_kernel", kernel) - 1


def _mamba2(m: Mamba2) -> StateShape:
    inner = symbol("num_heads", m.num_heads) * symbol("head_dim", m.head_dim)
    state = symbol("state_size", m.state_size)
    channels = inner + 2 * symbol("n_groups", m.n_groups) * state
    return StateShape(name="mamba2", state=inner * state, window=channels * _taps(m.conv_kernel))


def _gated_delta_net(g: GatedDeltaNet) -> StateShape:
    keys, values = symbol("head_k_dim", g.head_k_dim), symbol("head_v_dim", g.head_v_dim)
    key_heads, heads = symbol("num_k_heads", g.num_k_heads), symbol("num_v_heads", g.num_v_heads)
    channels = 2 * key_heads * keys + heads * values
    return StateShape(name="gated delta net", state=heads * keys * values, window=channels * _taps(g.conv_kernel))


def _linear_attention(a: LinearAttention) -> StateShape:
    """One matrix a head; kernel feature maps also keep the normaliser."""
    N, H = symbol("N", a.num_heads), symbol("H", a.head_dim)
    features = symbol("features", a.features) if a.features else H
    state = N * H * H if a.feature_map == "lightning" else N * features * (H + 1)
    return StateShape(name="linear attention", state=state, window=exact(0))
