"""The result tree: totals are of their children, and so is how sure they are."""

from __future__ import annotations

from txcalc.result import leaf, times, total


def test_an_estimated_part_never_enters_an_exact_total() -> None:
    """A sum says so itself, with the reason, at every level; what stands aside of a sum does not count."""
    known, guessed = leaf("a", "bytes", 2), leaf("b", "bytes", 3, basis="estimated", reason="seen once")
    inner = times("two", "bytes", 2, [known, guessed])
    assert (inner.value, inner.basis, inner.reason) == (10, "estimated", "seen once")
    assert total("all", "bytes", [known, inner]).reason == "seen once"
    assert total("all", "bytes", [known, guessed.replace(aside=True)]).basis == "exact"
    assert total("all", "bytes", [known, None]).basis == "exact"


def test_a_sum_may_give_its_own_reason() -> None:
    guessed = leaf("b", "bytes", 3, basis="estimated", reason="seen once")
    assert total("all", "bytes", [guessed], basis="estimated", reason="another").reason == "another"
