"""The list of a model's tensors equals the reference model's own, for every type whose checkpoint names are known."""

from __future__ import annotations

from math import prod

import pytest

from tests.reference import published, published_encoders, published_hybrids, published_seq2seq, published_width
from txcalc.cards import load
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.reference import build
from txcalc.reference.parts import parts
from txcalc.stored.tensors import is_buffer, tensors_of

_LISTS = (published, published_width, published_hybrids, published_encoders, published_seq2seq)
EVERY = {name: config for each in _LISTS for name, config in each.every().items()}


@pytest.mark.parametrize("name", EVERY)
def test_the_list_is_the_reference_models(name: str) -> None:
    """Names, shapes, sublayers and numbers; which of them are buffers."""
    model = architecture_of(EVERY[name])
    try:
        ours = tensors_of(model)
    except RequestError as refused:
        pytest.skip(refused.message)  # a newer part, whose files are then compared by their total alone
    built = build(model, device="meta")
    theirs = {key: part._replace(path="") for key, part in parts(built).items()}
    assert ours == theirs
    buffers = {path for path, _ in built.named_buffers()}
    held = {key for key, part in parts(built).items() if part.path in buffers}
    assert {key for key, part in ours.items() if is_buffer(model, key, part)} == held


def test_most_types_are_listed() -> None:
    """Negative control of the skips above."""
    listed = 0
    for config in EVERY.values():
        try:
            listed += bool(tensors_of(architecture_of(config)))
        except RequestError:
            continue
    assert listed >= 115


def test_a_large_model_is_listed_as_it_is() -> None:
    """DeepSeek-V3 without multi-token prediction: 671,026,404,352 parameters (design's truth for single models)."""
    model = load("deepseek-v3")
    found = tensors_of(model)
    assert sum(prod(part.shape) for name, part in found.items() if not is_buffer(model, name, part)) == 671_026_404_352
    assert found["decoder.layers.60.moe.experts.down_proj"].shape == (256, 7168, 2048)


def test_a_part_that_is_not_listed_is_refused_not_left_out() -> None:
    """Negative control: transient global attention has a norm of its own, which has no name here."""
    with pytest.raises(RequestError, match="not listed by name"):
        tensors_of(architecture_of({"model_type": "longt5", "encoder_attention_type": "transient-global"}))
