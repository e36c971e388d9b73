"""Many model types under the same tests: a table of their classes and keys, and what every adapter must satisfy.

A family's test module makes a list of ``Width``; what is particular to a type has a test of its own beside that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.oracles import transformers_meta
from tests.strategies import assert_params_equal_meta, maybe

#: Names of depths, cut down where a default model is built for its heads alone.
_DEPTH = re.compile(r"(^n_|num_|_)?(encoder_|decoder_|hidden_)?layers?$")


class Width(NamedTuple):
    """One model type: its classes, main one first, and how its keys may be varied.

    ``keys``: key -> strategy or plain value; ``kin``: keys that must stay together, drawn as one mapping.
    """

    model_type: str
    classes: tuple[str, ...]
    keys: Mapping[str, Any]
    kin: st.SearchStrategy[dict[str, Any]] = st.just({})


def width(model_type: str, prefix: str, tasks: str, *, kin: st.SearchStrategy[dict[str, Any]], **keys: Any) -> Width:
    """A row of the table: ``tasks`` are the endings of the class names, as in ``Model ForMaskedLM``."""
    return Width(model_type, tuple(prefix + task for task in tasks.split()), keys, kin)


def shallow(config: Mapping[str, Any], layers: int = 2) -> dict[str, Any]:
    """The same config with few layers, so that a class can be built for its head."""
    cut = {key: layers for key, value in config.items() if _is_depth(key, value)}
    return {key: value for key, value in config.items() if not isinstance(value, list)} | cut


def _is_depth(key: str, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 2 and bool(_DEPTH.search(key))


def assert_default(row: Width) -> None:
    """The default config as transformers writes it, with the type's main class; and the type's name alone."""
    default = transformers_meta.default_config(row.model_type)
    assert_params_equal_meta({**default, "architectures": [row.classes[0]]})
    assert_params_equal_meta({"model_type": row.model_type, "architectures": [row.classes[0]]})


def assert_heads(row: Width) -> None:
    """Every other class of the type, on the default widths."""
    default = shallow(transformers_meta.default_config(row.model_type))
    for name in row.classes[1:]:
        assert_params_equal_meta({**default, "model_type": row.model_type, "architectures": [name]})


def varied(row: Width) -> st.SearchStrategy[dict[str, Any]]:
    """Small configs of the type, of any class, each key varied, or left out where its strategy allows that."""
    drawn = {key: value if isinstance(value, st.SearchStrategy) else st.just(value) for key, value in row.keys.items()}
    return st.tuples(st.fixed_dictionaries(drawn), row.kin, st.sampled_from(row.classes)).map(
        lambda parts: {
            "model_type": row.model_type,
            "architectures": [parts[2]],
            **{key: value for key, value in {**parts[0], **parts[1]}.items() if repr(value) != "ABSENT"},
        }
    )


@st.composite
def split_width(
    draw: st.DrawFn, hidden: str = "hidden_size", heads: str = "num_attention_heads", step: int = 1
) -> dict[str, int]:
    """A width that its heads divide; ``step``: a multiple that each head's width keeps."""
    count = draw(st.integers(1, 6))
    return {heads: count, hidden: count * step * draw(st.integers(1, 6))}


flags = maybe(st.booleans())
labels = maybe(st.integers(1, 7))
