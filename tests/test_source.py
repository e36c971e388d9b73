"""What no linter here sees: a key that a dict literal gives twice, of which Python keeps the last in silence."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "txcalc"


def twice(source: str) -> list[str]:
    """Keys that one literal gives more than once, names and attributes among them."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Dict):
            keys = [ast.unparse(key) for key in node.keys if key is not None]
            found += [key for key in set(keys) if keys.count(key) > 1]
    return found


def test_no_key_is_given_twice() -> None:
    found = {str(path): twice(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    assert {path: keys for path, keys in found.items() if keys} == {}


def test_a_repeated_attribute_is_noticed() -> None:
    assert twice("{a.B: 1, a.C: 2, a.B: 3}") == ["a.B"]
    assert twice("{a.B: {a.B: 1}, a.C: 2}") == []
