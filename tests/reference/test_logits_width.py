"""Logits of the wider types equal transformers', as in test_logits: the link from a config to what is computed."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from tests.oracles import transformers_tiny
from tests.reference.controls import unnoticed
from tests.reference.published import V
from tests.reference.published_gpt_kin import every as gpt_kin
from tests.reference.published_hybrids import every as hybrids
from tests.reference.published_width import every
from txcalc.configs import architecture_of
from txcalc.reference import build
from txcalc.reference.weights import load_state_dict_from

EVERY = {**every(), **hybrids(), **gpt_kin()}
T, PROMPT, LIMIT = 13, 6, 1e-5  # of the largest logit, fp32: both sides do the same sums in another order


@cache
def pair(name: str) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Our model with their weights, tokens [2, T], their logits [2, T, V]."""
    model, theirs = architecture_of(EVERY[name]), transformers_tiny.made(EVERY[name])
    assert model.reasons == ()
    ours = load_state_dict_from(build(model), model, theirs.state_dict())
    tokens_BT = torch.randint(3, V, (2, T), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return ours, tokens_BT, theirs(input_ids=tokens_BT).logits


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("name", EVERY)
def test_logits_equal_transformers(name: str) -> None:
    """The whole sequence at once, and token by token through the cache."""
    ours, tokens_BT, expected_BTV = pair(name)
    assert expected_BTV.std() > 0.05, "too even to tell right from wrong"
    with torch.no_grad():
        assert error(ours(tokens_BT).logits, expected_BTV) < LIMIT
        cache = ours.new_cache(batch=2, ctx=T)
        pieces = [tokens_BT[:, :PROMPT], *tokens_BT[:, PROMPT:].split(1, dim=1)]
        logits = torch.cat([ours(piece, cache=cache).logits for piece in pieces], dim=1)
    assert error(logits, expected_BTV) < LIMIT


@pytest.mark.parametrize("name", EVERY)
def test_the_comparison_notices_a_wrong_tensor(name: str) -> None:
    """Negative control: one tensor of each kind moved, and the logits no longer agree.

    A key bias without rotary positions cannot show: it adds the same to every score of a query.
    """
    ours, tokens_BT, _ = pair(name)
    found = unnoticed(ours, lambda: ours(tokens_BT).logits, 5 * LIMIT)
    assert [kind for kind in found if not kind.endswith("k_proj.bias")] == []
