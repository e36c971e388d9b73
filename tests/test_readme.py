"""README tells the truth of today: every command in it is run, and prints what is shown."""

from __future__ import annotations

import pytest

from tests.readme import README, Example, agrees, examples, run, with_types
from tests.type_table import held_by_logits

EXAMPLES = examples(README.read_text(encoding="utf-8"))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example.command))
def test_a_command_prints_what_readme_shows(example: Example) -> None:
    real = run(example.command)
    assert agrees(example.output, real), real


def test_every_model_type_is_listed_and_what_is_not_built() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.count("<!-- types -->") == text.count("<!-- not built -->") == 1
    assert with_types(text) == text


def test_types_held_by_logits_are_found_in_the_tests_that_hold_them() -> None:
    """One of each table, and none that stands in a table that is compared in another way, or in none."""
    held = held_by_logits()
    one_each = "llama apertus mamba2 xglm esm umt5 glm4v_text kimi_k2 vit clip_text_model siglip_vision_model gemma3"
    assert held >= set(one_each.split())
    assert held.isdisjoint({"clip", "mllama", "llava", "transformer"})


def test_a_changed_figure_is_noticed() -> None:
    """Negative control: one digit off does not agree; dots stand for lines, not for digits."""
    assert agrees("a 1\n...\nb 2", "a 1\nx\ny\nb 2")
    assert not agrees("a 1\n...\nb 3", "a 1\nx\ny\nb 2")
    assert not agrees("a 1", "a 1\nb 2")
