"""Logits equal transformers' own, type by type, on tiny random models whose weights went through ``weights``.

The limit is 1e-5 of the largest logit, in fp32: both sides do the same sums in another order, and the largest
difference seen is 1e-6. No type needs more.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.oracles import transformers_tiny
from tests.reference.controls import unnoticed
from tests.reference.published import TYPES, V, config, every
from txcalc.architecture import Model
from txcalc.configs import architecture_of
from txcalc.reference import Transformer, build
from txcalc.reference.weights import load_state_dict_from

T, PROMPT, S, LIMIT = 13, 6, 9, 1e-5
EVERY = every()


class Pair(NamedTuple):
    """One model twice, tokens for it, and transformers' logits of them: [2, T], [2, S], [2, T, V]."""

    model: Model
    ours: Transformer
    theirs: Any
    tokens: Tensor
    source: Tensor | None
    logits: Tensor


@cache
def pair(name: str) -> Pair:
    model, theirs = architecture_of(EVERY[name]), transformers_tiny.made(EVERY[name])
    assert model.reasons == ()
    ours = load_state_dict_from(build(model), model, theirs.state_dict())
    generator = torch.Generator().manual_seed(1)
    tokens_BT = torch.randint(3, V, (2, T), generator=generator)
    both = model.stack("encoder") and model.stack("decoder")
    source_BS = torch.randint(3, V, (2, S), generator=generator) if both else None
    inputs = {"input_ids": tokens_BT} if source_BS is None else {"input_ids": source_BS, "decoder_input_ids": tokens_BT}
    with torch.no_grad():
        logits_BTV = theirs(**inputs).logits
    return Pair(model, ours, theirs, tokens_BT, source_BS, logits_BTV)


def error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("name", EVERY)
def test_logits_equal_transformers(name: str) -> None:
    p = pair(name)
    with torch.no_grad():
        logits_BTV = p.ours(p.tokens, source=p.source).logits
    assert p.logits.std() > 0.05, "too even to tell right from wrong"
    cap = p.model.head.softcap if p.model.head else None
    assert cap is None or p.logits.abs().max() < 0.9 * cap, "capped, so that a difference would not show"
    assert error(logits_BTV, p.logits) < LIMIT


@pytest.mark.parametrize("name", [name for name in EVERY if architecture_of(EVERY[name]).stack("decoder")])
def test_cached_decoding_equals_transformers_full_pass(name: str) -> None:
    p = pair(name)
    encoder = {} if p.source is None else {"encoded": p.ours.encode(p.source)}
    with torch.no_grad():
        cache = p.ours.new_cache(batch=2, ctx=T, source=S if encoder else 0)
        pieces = [p.tokens[:, :PROMPT], *p.tokens[:, PROMPT:].split(1, dim=1)]
        logits = [p.ours(piece, cache=cache, **encoder).logits for piece in pieces]
    assert error(torch.cat(logits, dim=1), p.logits) < LIMIT


@pytest.mark.parametrize("name", ["llama", "bert", "albert", "distilbert", "mamba", "qwen3_next"])
def test_padded_rows_equal_transformers_on_each_row_alone(name: str) -> None:
    """Rows of 13 and 8 tokens in one batch."""
    p = pair(name)
    with torch.no_grad():
        both = p.ours(p.tokens, lengths=[T, 8]).logits[1:, :8]
        alone = p.theirs(p.tokens[1:, :8]).logits
    assert error(both, alone) < LIMIT


@pytest.mark.parametrize("model_type", TYPES)
def test_the_comparison_notices_a_wrong_tensor(model_type: str) -> None:
    """Negative control: one tensor of each kind moved on our side, and the logits no longer agree.

    Two kinds cannot show: a vision tower, which text never reaches; a key bias without rotary positions, which adds the
    same to every score of a query, so that the softmax drops it.
    """
    p = pair(model_type)
    found = unnoticed(p.ours, lambda: p.ours(p.tokens, source=p.source).logits, 5 * LIMIT)
    assert [name for name in found if "vision" not in name and not name.endswith("k_proj.bias")] == []


def test_the_pair_is_one_model_only_with_its_own_weights() -> None:
    """Negative control: another seed, and nothing agrees."""
    p = pair("llama")
    other = transformers_tiny.made(config("llama"), seed=1)
    with torch.no_grad():
        assert error(p.ours(p.tokens).logits, other(p.tokens).logits) > 0.1
