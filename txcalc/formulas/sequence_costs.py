"""What mixing a sequence costs in one layer: attention and its rivals, with this layer's numbers put in.

Source: Vaswani et al. 2017 (arXiv 1706.03762), section 4 and table 1: complexity a layer, sequential operations,
maximum path length; the state is what a decoder keeps of the past. Operations are FLOPs, two a multiply-add, of the
mixing itself: a recurrent layer and a convolution mix with their matrices, attention's projections are not counted.
"""

from __future__ import annotations

from typing import Final

from txcalc.architecture import CrossAttention, LatentAttention, SelfAttention
from txcalc.expression import Expression, ceil_div, exact, minimum, symbol
from txcalc.formulas.letters import head_widths
from txcalc.result import Node, Unit, deferred, leaf

SOURCE: Final = "Vaswani et al. 2017 (arXiv 1706.03762), table 1"
WINDOW, GLOBALS, KERNEL = 1024, 64, 4  # where the model has none of its own


def sequence_costs(
    a: SelfAttention | LatentAttention | CrossAttention, *, T: Expression, window: int | None = None
) -> Node:
    """A row for each way to mix T tokens: FLOPs, steps one after the other, longest path, elements kept of the past."""
    return deferred(
        "ways_to_mix_a_sequence",
        "",
        lambda: _rows(a, T, window),
        aside=True,
        source=SOURCE,
        convention="one layer, one sequence; every pair of the square or band; paths of dilated convolutions: log n",
    )


def _rows(a: SelfAttention | LatentAttention | CrossAttention, T: Expression, window: int | None) -> list[Node]:
    D, N = symbol("D", a.hidden_size), symbol("N", a.num_attention_heads)
    H, Hv, kept = _widths(a)
    W = symbol("window", window or getattr(a, "window", None) or WINDOW)
    near, g, k = minimum(T, W), symbol("global_tokens", GLOBALS), symbol("kernel", KERNEL)
    each = 2 * N * (H + Hv)
    one = exact(1)
    return [
        _row("self-attention", "n^2 d", T * T * each, one, one, T * kept),
        _row("sliding window", "w n d", T * near * each, one, ceil_div(T, W), near * kept),
        _row("local with global tokens", "(w+g) n d", T * (near + 2 * g) * each, one, exact(2), (near + g) * kept),
        _row("linear attention", "n d^2 / h", 4 * T * N * H * Hv, one, one, N * H * Hv),
        _row("recurrent (LSTM)", "n d^2", 16 * T * D * D, T, T, 2 * D),
        _row("convolution", "k n d^2", 2 * k * T * D * D, one, ceil_div(T, k), (k - 1) * D),
    ]


def _widths(a: SelfAttention | LatentAttention | CrossAttention) -> tuple[Expression, Expression, Expression]:
    """(query width, value width, elements that a token leaves behind) of one layer."""
    if isinstance(a, LatentAttention):
        rope = symbol("qk_rope_head_dim", a.qk_rope_head_dim)
        H, Hv = symbol("qk_nope_head_dim", a.qk_nope_head_dim) + rope, symbol("v_head_dim", a.v_head_dim)
        return H, Hv, symbol("kv_lora_rank", a.kv_lora_rank) + rope
    H, Hv = head_widths(a.head_dim, a.v_head_dim)
    return H, Hv, symbol("K", a.num_key_value_heads) * (H + Hv)


def _row(name: str, order: str, operations: Expression, steps: Expression, path: Expression, state: Expression) -> Node:
    figures: tuple[tuple[str, Unit, Expression], ...] = (
        ("sequential_steps", "", steps),
        ("path_length", "", path),
        ("state", "elements", state),
    )
    children = tuple(leaf(label, unit, value, aside=True) for label, unit, value in figures)
    return leaf(name, "FLOPs", operations, children=children, note=f"O({order})", aside=True)
