"""What a refusal looks like: one line that says what was wrong, with its value, and a hint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from txcalc.errors import TxcalcError


@contextmanager
def refused(*words: str, hint: str = "", kind: type[TxcalcError] = TxcalcError) -> Iterator[None]:
    """Asserts that the block is refused in one short line that holds ``words``, with ``hint`` in its hint."""
    with pytest.raises(kind) as caught:
        yield
    error = caught.value
    assert "\n" not in error.message
    assert len(error.message) < 400
    for word in words:
        assert word in error.message
    assert hint in error.hint
