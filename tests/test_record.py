"""Records behave as frozen keyword-only dataclasses."""

from __future__ import annotations

import copy
import pickle

import pytest

from txcalc.architecture import Norm, SelfAttention

NORM = Norm(kind="rmsnorm", width=8)


def test_equal_by_value_and_hashable() -> None:
    assert Norm(kind="rmsnorm", width=8) == NORM
    assert hash(Norm(kind="rmsnorm", width=8)) == hash(NORM)
    assert Norm(kind="rmsnorm", width=9) != NORM
    assert len({NORM, Norm(kind="rmsnorm", width=8)}) == 1


def test_immutable() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        NORM.width = 9  # type: ignore[misc]  # that this is refused is the point


def test_replace_changes_one_field() -> None:
    assert NORM.replace(width=9) == Norm(kind="rmsnorm", width=9)
    with pytest.raises(TypeError, match="nonsense"):
        NORM.replace(nonsense=1)


@pytest.mark.parametrize("fields", [{}, {"kind": "rmsnorm"}, {"kind": "rmsnorm", "widht": 8}])
def test_missing_and_unknown_fields_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="missing fields"):
        Norm(**fields)  # type: ignore[arg-type]  # that this is refused is the point


def test_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(NORM) == "Norm(kind='rmsnorm', width=8)"


def test_copies_and_pickles() -> None:
    assert pickle.loads(pickle.dumps(NORM)) == NORM
    assert copy.deepcopy(NORM) == NORM


def test_positional_match_on_kind() -> None:
    match NORM:
        case Norm(kind="rmsnorm", width=width):
            assert width == 8
        case SelfAttention():
            pytest.fail("matched another kind")
