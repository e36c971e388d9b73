"""FLOPs of the decoders beside GPT-2 equal FlopCounterMode's over transformers' own: forward, backward, decoding."""

from __future__ import annotations

from typing import Any

import pytest

from tests.oracles import flop_counter
from tests.reference.published_gpt_kin import every
from txcalc.configs import architecture_of
from txcalc.formulas.flops import flops

READ_LENGTHS = {"xlm", "flaubert"}  # not on the meta device: their FLOPs are in tests/configs/test_width_xlm.py
EVERY = {name: config for name, config in every().items() if name not in READ_LENGTHS}
WITHOUT_CACHE = {"openai-gpt"}  # transformers' keeps none


def ours(config: dict[str, Any], **question: Any) -> dict[str, int | float]:
    return flops(architecture_of(config), **question).figures()


@pytest.mark.parametrize("name", EVERY)
def test_forward_and_backward(name: str) -> None:
    model = flop_counter.model_of(EVERY[name])
    inputs = flop_counter.inputs_of(model, batch=2, seq=7)
    found = ours(EVERY[name], batch=2, seq=7, phase="train")
    assert found["flops.forward"] == flop_counter.forward(model, **inputs)
    assert found["flops.backward"] == flop_counter.backward(model, **inputs)[0]


@pytest.mark.parametrize("name", [name for name in EVERY if name not in WITHOUT_CACHE])
def test_decode(name: str) -> None:
    """Few enough tokens for GPT-Neo's windows of 5: transformers' cache keeps every one."""
    model = flop_counter.model_of(EVERY[name])
    assert ours(EVERY[name], batch=2, ctx=4, phase="decode")["flops.matmul"] == flop_counter.decode(
        model, batch=2, ctx=4
    )


def test_the_counter_notices_another_inner_width() -> None:
    """Negative control."""
    model = flop_counter.model_of(EVERY["codegen"])
    counted = flop_counter.forward(model, **flop_counter.inputs_of(model, batch=1, seq=5))
    assert ours({**EVERY["codegen"], "n_inner": 41}, seq=5)["flops.matmul"] != counted
