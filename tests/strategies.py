"""Shapes for hypothesis, and the comparison that every adapter's test ends in: our count ``==`` transformers' own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from tests.oracles import transformers_meta
from txcalc.architecture import Model, SelfAttention
from txcalc.configs import architecture_of
from txcalc.formulas.params import params

#: For a test that builds one model of transformers an example.
few = settings(max_examples=25, deadline=None)


def configs(model_type: str, **strategies: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Configs of one type: each key drawn from its strategy, or fixed where a plain value is given.

    A key is left out where its strategy draws ``ABSENT``.
    """
    drawn = {
        key: value if isinstance(value, st.SearchStrategy) else st.just(value) for key, value in strategies.items()
    }
    return st.fixed_dictionaries({"model_type": st.just(model_type), **drawn}).map(
        lambda config: {key: value for key, value in config.items() if value is not ABSENT}
    )


ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "ABSENT"})()


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The strategy's values, or no such key at all."""
    return st.one_of(st.just(ABSENT), strategy)


@st.composite
def heads(draw: st.DrawFn, *, most: int = 6) -> tuple[int, int]:
    """(query heads, KV heads): the second divides the first."""
    kv_heads = draw(st.integers(1, most))
    return kv_heads * draw(st.integers(1, most)), kv_heads


@st.composite
def shapes(
    draw: st.DrawFn,
    model_type: str,
    *,
    heads_key: str = "num_attention_heads",
    kv_heads_key: str | None = "num_key_value_heads",
    width_key: str = "hidden_size",
    width_step: int = 2,
    **strategies: Any,
) -> dict[str, Any]:
    """Configs whose width is a multiple of the heads (``width_step`` channels or a multiple each), KV heads dividing.

    The keys are the type's own; ``kv_heads_key=None`` for a type without grouped heads. More keys as in ``configs``.
    """
    query_heads, kv_heads = draw(heads())
    config = draw(configs(model_type, **strategies))
    config[heads_key] = query_heads
    config.setdefault(width_key, query_heads * width_step * draw(st.integers(1, 6)))
    if kv_heads_key:
        config[kv_heads_key] = kv_heads
    return config


small = st.integers(1, 64)  # a width, a vocabulary
layer_counts = st.integers(1, 4)
even_widths = st.integers(1, 6).map(lambda half: 2 * half)  # a head that rotary turns

DECODER_TASKS = ("ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def classes(prefix: str, *tasks: str) -> st.SearchStrategy[list[str]]:
    """``architectures``: one of a type's published classes (all of ``DECODER_TASKS`` where none are named)."""
    return st.sampled_from([[prefix + task] for task in tasks or DECODER_TASKS])


def attention_of(model: Model, layer: int = 0) -> SelfAttention:
    """The self-attention of one decoder layer."""
    found = [each for each in list(model.main.sequence())[layer].sublayers() if isinstance(each, SelfAttention)]
    assert len(found) == 1
    return found[0]


def read(config: Mapping[str, Any]) -> Model:
    """The Model of a config that must be understood in full."""
    model = architecture_of(config)
    assert model.reasons == (), f"{dict(config)}: {model.reasons}"
    return model


def assert_params_equal_meta(config: dict[str, Any]) -> None:
    """Our exact total equals the elements of transformers' model on the meta device."""
    ours = params(read(config)).figures()["params.total"]
    assert ours == transformers_meta.num_params(config), config


def assert_params_differ_from_meta(config: dict[str, Any], built: dict[str, Any]) -> None:
    """Negative control: the count of ``config`` is not that of transformers' model of ``built``."""
    assert params(architecture_of(config)).figures()["params.total"] != transformers_meta.num_params(built), config
