"""A decoder that is shown images: Gemma 3's tower, its connector, and its mask, against transformers."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.oracles import transformers_tiny
from tests.reference.published import V, config
from tests.reference.tiny import attention, awake, decoder, layer, tokens
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.reference import Transformer, build
from txcalc.reference.masks import blocks_of
from txcalc.reference.weights import load_state_dict_from

IMAGE, LIMIT = V - 1, 1e-5
# Two images of 4 tokens each, one behind the other after a token of text, beyond the window of 5.
ROW = [5, 7, 9, 11, IMAGE, IMAGE, IMAGE, IMAGE, 13, IMAGE, IMAGE, IMAGE, IMAGE, 17, 19]


@cache
def gemma3() -> tuple[Transformer, Any, Tensor, Tensor]:
    """Our model with their weights, theirs, tokens [1, T] and two images."""
    fields = {**config("gemma3"), "image_token_index": IMAGE}
    model, theirs = architecture_of(fields), transformers_tiny.made(fields)
    ours = load_state_dict_from(build(model), model, theirs.state_dict())
    images_BCHW = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    return ours, theirs, torch.tensor([ROW]), images_BCHW


def error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
def test_images_equal_transformers_full_and_decoded() -> None:
    """Tokens of one image see each other, later ones too, inside the window of a windowed layer."""
    ours, theirs, ids_BT, images_BCHW = gemma3()
    seen_BT = ids_BT == IMAGE
    expected = theirs(input_ids=ids_BT, pixel_values=images_BCHW, token_type_ids=seen_BT.long()).logits
    shown: dict[str, Any] = {"seen_MD": ours.tower("vision", images_BCHW)}
    together_BT = blocks_of(seen_BT)
    assert error(ours(ids_BT, **shown, seen_BT=seen_BT, together_BT=together_BT).logits, expected) < LIMIT
    cache = ours.new_cache(batch=1, ctx=len(ROW))
    shown |= {"seen_BT": seen_BT[:, :13], "together_BT": together_BT[:, :13]}
    pieces = [ours(ids_BT[:, :13], **shown, cache=cache).logits]
    pieces += [ours(ids_BT[:, t : t + 1], cache=cache).logits for t in (13, 14)]
    assert error(torch.cat(pieces, dim=1), expected) < LIMIT


@torch.no_grad()
def test_a_causal_image_is_noticed() -> None:
    """Negative control: without the blocks every token after the first image's first is another."""
    ours, theirs, ids_BT, images_BCHW = gemma3()
    seen_BT = ids_BT == IMAGE
    expected = theirs(input_ids=ids_BT, pixel_values=images_BCHW, token_type_ids=seen_BT.long()).logits
    causal = ours(ids_BT, seen_MD=ours.tower("vision", images_BCHW), seen_BT=seen_BT).logits
    assert error(causal, expected) > 100 * LIMIT
    assert error(causal[:, :4], expected[:, :4]) < LIMIT, "what stands before the images sees none of them"


def test_runs_are_numbered() -> None:
    marked = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 0, 1, 1]], dtype=torch.bool)
    assert blocks_of(marked).tolist() == [[-1, 0, 0, -1, 1], [0, -1, -1, 1, 1]]


def test_what_does_not_fit_is_refused() -> None:
    built, ids_BT = awake(build(decoder(layer(attention())))), tokens(1, 4)
    seen_BT = torch.tensor([[False, True, True, False]])
    with pytest.raises(RequestError, match="3 vectors of images or sound for 2 tokens"):
        built(ids_BT, seen_MD=torch.zeros(3, 32), seen_BT=seen_BT)
    cache = built.new_cache(batch=1, ctx=8)
    built(ids_BT, cache=cache)
    with pytest.raises(RequestError, match="in one piece"):
        built(ids_BT, cache=cache, together_BT=blocks_of(seen_BT))
