"""The package's face: what ``import txcalc`` offers, and nothing else."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize(
    "name", ["params", "kv_cache", "flops", "attention", "memory", "training_memory", "conventions"]
)
def test_a_name_where_a_model_is_meant_is_refused(name: str) -> None:
    lengths: dict[str, dict[str, int]] = {
        "params": {},
        "kv_cache": {"ctx": 8},
        "attention": {"ctx": 8},
        "memory": {"ctx": 8},
    }
    with pytest.raises(txcalc.RequestError, match="'gpt2', which is no Model"):
        getattr(txcalc, name)("gpt2", **lengths.get(name, {"seq": 8}))


def test_a_config_where_a_name_is_meant_is_refused() -> None:
    with pytest.raises(txcalc.ModelError, match="expected a string") as raised:
        txcalc.load({"model_type": "llama"})  # type: ignore[arg-type]
    assert "architecture_of" in raised.value.hint
