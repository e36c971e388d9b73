"""The package's face: what ``import txcalc`` offers, and nothing else."""

from __future__ import annotations

import txcalc


def test_all_is_sorted_and_every_name_is_there() -> None:
    assert txcalc.__all__ == sorted(txcalc.__all__)
    assert all(getattr(txcalc, name) is not None for name in txcalc.__all__)


def test_dir_shows_the_public_names() -> None:
    assert dir(txcalc) == sorted(txcalc.__all__)


def test_every_public_name_is_documented() -> None:
    assert all(getattr(txcalc, name).__doc__ for name in txcalc.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(txcalc, "no_such_name")


def test_the_docstring_example_holds() -> None:
    model = txcalc.load("llama3-8b")
    assert txcalc.params(model).find("params.total").value == 8_030_261_248
    assert txcalc.kv_cache(model, ctx=8192).find("kv_cache.total_bytes").value == 1_073_741_824
