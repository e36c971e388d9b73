"""What introductions say: each verdict, and our number beside it, computed and not written down."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from txcalc.formulas import claims as module
from txcalc.formulas.claims import Claim, claims

FOUND = {claim.says: claim for claim in claims()}

# says: (verdict, {label: our number, by hand})
EXPECTED: dict[str, tuple[str, dict[str, float]]] = {
    "4,096 tokens make 16M scores per head": ("true", {"per head": 4096**2}),
    "GPT-3 at 2,048 tokens makes 4M scores in a layer": (
        "true under a condition", {"per layer": 96 * 2048**2, "per head": 2048**2},
    ),
    "32k tokens make a billion scores per head": ("true", {"per head": 2**30}),
    "Flash attention needs memory linear in the context, not n squared": ("true", {"twice the context, times": 2}),
    "Flash attention makes attention linear in time": ("false", {"FLOPs at twice the context, times": 4}),
    "The KV cache turns n squared work per token into n": (
        "true", {"scores without a cache over those with one, at n = 8,192": 8192},
    ),
    # 1 + 2 + ... + 4,096 + 4,096 * 28,672 = 125,831,168 of 134,217,728; alone (4,096 + 1) / (2 * 4,096)
    "A sliding window of 4,096 costs n * W": (
        "true under a condition", {"pairs over n W at 32k": 125_831_168 / 2**27, "and at 4,096": 4097 / 8192},
    ),
    "Grouped heads make Llama-3-8B's cache four times smaller": ("true", {"times": 4}),
    "Grouped heads make Llama-3's cache eight times smaller": (
        "true under a condition", {"8B, times": 4, "70B, times": 8},
    ),
    "Attention has 4 d^2 parameters in a layer of Llama-3-8B": (
        "false", {"its attention": 41_943_040, "4 d^2": 67_108_864},
    ),
    # GPT-2: 8 d^2 + 5 d of 12 d^2 + 9 d; Llama-3-8B: 3 * 4,096 * 14,336 of it and 41,943,040
    "The feed-forward is two thirds of a layer": (
        "true under a condition",
        {"GPT-2": (8 * 768**2 + 5 * 768) / (12 * 768**2 + 9 * 768), "Llama-3-8B": 176_160_768 / 218_103_808},
    ),
    "A 7B model's feed-forward has 134M parameters a layer": (
        "true under a condition",
        {"two matrices of width 4 d": 8 * 4096**2, "Llama-2-7B's three": 3 * 4096 * 11008},
    ),
    "GPT-2 small has 117M parameters": ("false", {"GPT-2": 124_439_808}),
    # rank 64: 64 * 32 * (4 * 4,096 + 2 * (4,096 + 1,024) + 3 * (4,096 + 14,336)) = 167,772,160
    "LoRA shrinks the trainable state 10 to 100 times": (
        "true under a condition",
        {
            "Llama-3-8B, rank 64 on every projection, times": 8_030_261_248 / 167_772_160,
            "rank 16 on queries and values, times": 8_030_261_248 / 6_815_744,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("says", EXPECTED)
def test_verdict_and_number(says: str) -> None:
    claim, (verdict, numbers) = FOUND[says], EXPECTED[says]
    ours = {label: value for label, _, value in claim.figures}
    assert claim.verdict == verdict
    assert {label: ours[label] for label in numbers} == numbers


def test_the_table_is_whole() -> None:
    assert set(FOUND) == set(EXPECTED)


@pytest.mark.parametrize("claim", FOUND.values(), ids=FOUND)
def test_a_condition_is_said_and_figures_are_shown(claim: Claim) -> None:
    assert claim.figures
    assert bool(claim.condition) == (claim.verdict != "true") or claim.verdict == "false"
    node = claim.node()
    assert [child.value for child in node.children] == [value for _, _, value in claim.figures]
    assert claim.shown()
    assert claim.plain()["verdict"] == claim.verdict


def test_our_numbers_are_computed() -> None:
    """No large number stands in the module: each comes from a card and a formula."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    numbers = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    assert max(value for value in numbers if isinstance(value, int)) <= 10**6  # a million, to read millions by
