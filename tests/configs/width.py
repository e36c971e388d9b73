"""What the tests of the wider types share: default, minimal and drawn configs against transformers on meta."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.oracles.transformers_meta import default_config
from tests.strategies import assert_params_equal_meta, classes, layer_counts, shapes, small

CAUSAL, BARE = "ForCausalLM", "Model"
SEQUENCE, TOKEN, QUESTION = "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"
ALL = (CAUSAL, BARE, SEQUENCE, TOKEN, QUESTION)


def drawn(
    model_type: str, prefix: str, tasks: tuple[str, ...] = (CAUSAL, BARE), **keys: Any
) -> st.SearchStrategy[dict[str, Any]]:
    """Small configs of a decoder type; ``keys`` beyond the usual sizes, or in their place (None: no such key)."""
    usual = {
        "num_hidden_layers": layer_counts,
        "intermediate_size": small,
        "vocab_size": small,
        "tie_word_embeddings": st.booleans(),
        "pad_token_id": 0,
        "num_labels": st.integers(1, 5),
        "architectures": classes(prefix, *tasks),
    }
    keys = {**usual, **keys}
    options = {
        name: keys.pop(name) for name in ("heads_key", "kv_heads_key", "width_key", "width_step") if name in keys
    }
    return shapes(model_type, **options, **{name: value for name, value in keys.items() if value is not None})


def four(*values: Any) -> st.SearchStrategy[list[Any]]:
    """One of the values for each of four layers."""
    return st.lists(st.sampled_from(values), min_size=4, max_size=4)


def assert_default_and_minimal(model_type: str, **needed: Any) -> None:
    """The type's default config and one of a few keys; ``needed``: what transformers cannot build the type without."""
    assert_params_equal_meta({**default_config(model_type), "architectures": None, **needed})
    assert_params_equal_meta({"model_type": model_type, **needed})
    assert_params_equal_meta({"model_type": model_type, "num_hidden_layers": 2, **needed})
