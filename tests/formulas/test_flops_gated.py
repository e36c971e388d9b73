"""Forward FLOPs of types with gates, streams and indexers: equal to torch's counter over transformers' models."""

from __future__ import annotations

from typing import Any

import pytest

from tests.oracles import flop_counter
from tests.reference.published_width import every
from txcalc.configs import architecture_of
from txcalc.formulas.flops import flops

_EVERY = every()
CONFIGS: dict[str, dict[str, Any]] = {
    **{name: _EVERY[name] for name in ("axk2", "hy_v4", "dots3_note_text", "doge", "flint", "beam")},
    "minimax_m3_vl_text": _EVERY["minimax_m3_vl_text"],
    "doge experts": {**_EVERY["doge"], "is_moe": True, "num_experts": 20, "num_experts_per_tok": 3},
}


def counted(config: dict[str, Any]) -> int:
    model = flop_counter.model_of(config)
    return flop_counter.forward(model, **flop_counter.inputs_of(model, batch=3, seq=13))


@pytest.mark.parametrize("name", CONFIGS)
def test_forward(name: str) -> None:
    assert flops(architecture_of(CONFIGS[name]), batch=3, seq=13).figures()["flops.matmul"] == counted(CONFIGS[name])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("axk2", {"gated_norm_rank": 7}),
        ("hy_v4", {"hc_mult": 4}),
        ("dots3_note_text", {"index_head_dim": 8}),
        ("doge experts", {"num_experts_per_tok": 4}),
        ("minimax_m3_vl_text", {"index_n_heads": 4}),
    ],
)
def test_the_comparison_notices(name: str, change: dict[str, Any]) -> None:
    ours = flops(architecture_of({**CONFIGS[name], **change}), batch=3, seq=13).figures()["flops.matmul"]
    assert ours != counted(CONFIGS[name])


@pytest.mark.parametrize(("window", "met"), [(4, 4), (None, 12)])
def test_a_dynamic_mask_is_made_again_of_the_values_that_are_kept(window: int | None, met: int) -> None:
    """Doge, 11 tokens and a new one, each layer: 2 * K * Hv * K for each value that is kept, and a window keeps 4."""
    doge = {**_EVERY["doge"], "sliding_window": window}
    tree = flops(architecture_of(doge), ctx=11, phase="decode")
    masks = {node.value for _, node in tree.walk() if node.name == "dynamic_mask"}
    K, H = doge["num_key_value_heads"], doge["hidden_size"] // doge["num_attention_heads"]
    assert masks == {met * 2 * (K * doge.get("head_dim", H)) * K}
