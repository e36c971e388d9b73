"""Shapes that tables of names expect, without torch: equal to what each layout writes; and no torch is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from txcalc import architecture as arch
from txcalc.reference.layouts import LAYOUTS
from txcalc.reference.names.shapes import SHAPES, Goal

ATTENTION = arch.SelfAttention(
    hidden_size=12, num_attention_heads=6, num_key_value_heads=2, head_dim=4, v_head_dim=4, position=None
)
DELTA = arch.GatedDeltaNet(
    hidden_size=12, num_k_heads=2, num_v_heads=4, head_k_dim=3, head_v_dim=5, conv_kernel=4, norm_eps=1e-6
)
MAMBA = arch.Mamba2(hidden_size=12, num_heads=3, head_dim=4, state_size=4, n_groups=1, conv_kernel=4)
QKV = ((24, 12), (8, 12), (8, 12))
CASES: dict[str, list[Goal]] = {
    "": [Goal(((5, 3),), None), Goal(((5, 3), (2, 3)), None), Goal(((5,), (2,)), None)],
    "conv1d": [Goal(((5, 3), (2, 3)), None), Goal(((5,),), None)],
    "transposed": [Goal(((4, 5, 3),), None)],
    "experts": [Goal(((4, 5, 3), (4, 5, 3)), None), Goal(((4, 5), (4, 5)), None)],
    "experts transposed": [Goal(((4, 5, 3), (4, 5, 3)), None)],
    "each": [Goal(((4, 5, 3), (4, 2, 3)), None)],
    "alternating": [Goal(((4, 5, 3), (4, 5, 3)), None), Goal(((4, 5), (4, 5)), None)],
    "grouped": [Goal(QKV, ATTENTION), Goal(((24,), (8,), (8,)), ATTENTION)],
    "by head": [Goal(((24, 12), (24, 12), (24, 12)), ATTENTION)],
    "in four blocks": [Goal(((24, 12), (24, 12), (24, 12)), ATTENTION)],
    "by key head": [Goal(((4, 12), (8, 12)), DELTA)],
    "delta": [Goal(((6 + 6 + 20, 12), (20, 12)), DELTA)],
    "delta pieces": [Goal(((6 + 6 + 20, 12),), DELTA)],
    "qkv by head": [Goal(((36, 12),), MAMBA)],
    "one axis": [Goal(((4,),), DELTA)],
    "rotary q": [Goal(((24, 12),), ATTENTION)],
    "rotary k": [Goal(((8, 12),), ATTENTION)],
    "filter": [Goal(((5, 4),), None), Goal(((5,),), None)],
    "leading axis": [Goal(((5,),), None)],
    "without axis": [Goal(((1, 5),), None)],
    "head rows": [Goal(((12,),), MAMBA)],
    "expert rows": [Goal(((4, 5, 3),), None)],
    "expert columns": [Goal(((4, 5, 3),), None)],
}


def test_every_layout_has_a_rule_and_a_case() -> None:
    assert set(SHAPES) == set(LAYOUTS) == set(CASES)


@pytest.mark.parametrize("layout", CASES, ids=repr)
def test_a_rule_gives_the_shapes_that_the_layout_writes(layout: str) -> None:
    for goal in CASES[layout]:
        ours = [torch.empty(shape, device="meta") for shape in goal.shapes]
        written = [tuple(tensor.shape) for tensor in LAYOUTS[layout].write(ours, goal)]
        assert SHAPES[layout](goal) == written


def test_names_are_read_without_torch() -> None:
    program = (
        "import sys; from txcalc.reference.names import MODULE_OF, plan, gguf; from importlib import import_module;"
        "[import_module(f'txcalc.reference.names.{name}') for name in set(MODULE_OF.values())];"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
