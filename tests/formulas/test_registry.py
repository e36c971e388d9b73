"""The registry of quantities: complete, true to the trees, and every oracle a test that exists."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from txcalc.architecture import Model
from txcalc.cards import load
from txcalc.errors import RequestError
from txcalc.formulas.explaining import TREES, evaluated
from txcalc.formulas.registry import QUANTITIES, Quantity, quantity
from txcalc.result import Node, Unit

ROOT = Path(__file__).parent.parent.parent
MEASURED = ("check.", "bench.", "params.stored", "params.with_extra")  # by running a model, or from its files
MODELS = ("llama3-8b", "gemma-2-2b", "bert-base", "deepseek-v3", "qwen3-next-80b-a3b", "t5-small")


@cache
def functions_in(path: str) -> frozenset[str]:
    """Names of the test functions in a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def lacking(each: Quantity) -> list[str]:
    """What an entry lacks."""
    path, _, name = each.oracle.partition("::")
    checks = {
        "unit": each.unit in get_args(Unit),
        "meaning": len(each.means) > 8,
        "source": len(each.source) > 3,
        "oracle": (ROOT / path).is_file() and name.startswith("test_") and name in functions_in(path),
        "tree": each.tree in TREES or each.key.startswith(MEASURED),
    }
    return [what for what, there in checks.items() if not there]


@pytest.mark.parametrize("key", QUANTITIES)
def test_every_quantity_is_complete(key: str) -> None:
    assert lacking(QUANTITIES[key]) == []
    assert QUANTITIES[key].key == key


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"oracle": "tests/formulas/test_memory.py::test_nothing"}, "oracle"),
        ({"oracle": "tests/formulas/test_nothing.py::test_x"}, "oracle"),
        ({"source": ""}, "source"),
        ({"means": ""}, "meaning"),
        ({"unit": "bit"}, "unit"),
    ],
)
def test_the_walk_notices_an_incomplete_entry(change: dict[str, str], what: str) -> None:
    assert lacking(QUANTITIES["memory.total"].replace(**change)) == [what]


@cache
def trees(name: str) -> tuple[Node, ...]:
    """Every tree that can be made of a model."""
    model, made = load(name), []
    for make, _ in TREES.values():
        try:
            made.append(make(model))
        except RequestError:  # no attention, two stacks, a layer without an activation formula
            continue
    return tuple(made)


@pytest.mark.parametrize("name", MODELS)
def test_every_figure_of_a_tree_is_registered_with_its_unit(name: str) -> None:
    for tree in trees(name):
        for _, node in tree.walk():
            if node.key:
                assert node.key in QUANTITIES, node.key
                assert node.unit == QUANTITIES[node.key].unit, node.key


def test_every_quantity_is_made_by_some_tree() -> None:
    made = {node.key for name in MODELS for tree in trees(name) for _, node in tree.walk() if node.key}
    assert made == {key for key in QUANTITIES if not key.startswith(MEASURED)}


@pytest.mark.parametrize("key", [key for key in QUANTITIES if not key.startswith(MEASURED)])
def test_every_quantity_can_be_explained(key: str) -> None:
    model: Model = load("deepseek-v3" if key == "params.extra" else "llama3-8b")
    node, settings = evaluated(QUANTITIES[key], model)
    assert node.key == key
    assert settings or QUANTITIES[key].tree == "params"
    assert node.formula() or node.number is not None or node.value == 0  # nothing to sum: a state that it has not


def test_names_are_forgiving() -> None:
    assert quantity("bytes_per_token").key == "kv_cache.bytes_per_token"
    with pytest.raises(RequestError, match="no quantity is named 'total'") as caught:
        quantity("total")
    assert "params.total" in caught.value.hint
    with pytest.raises(RequestError) as caught:
        quantity("memory.totl")
    assert "memory.total" in caught.value.hint


def test_what_comes_from_running_a_model_says_so() -> None:
    with pytest.raises(RequestError, match="comes from running a model"):
        evaluated(QUANTITIES["check.passed"], load("llama3-8b"))
