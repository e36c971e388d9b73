"""A GGUF file that our table names and orders is the same model to transformers, and to us."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.oracles import transformers_gguf
from tests.reference.text import gguf_model
from txcalc.reference.pretrained import find, load


@pytest.mark.parametrize("tied", [False, True])
def test_transformers_reads_the_same_model(tied: bool, tmp_path: Path) -> None:
    """The order of query and key rows is theirs to undo: were it wrong, the logits would be."""
    path = gguf_model(tmp_path / "tiny.gguf", tie_word_embeddings=tied)
    theirs = transformers_gguf.model(path)
    ours = load(find(str(path)))
    tokens = torch.arange(3, 20)[None]
    with torch.no_grad():
        mine, other = ours(tokens).logits, theirs(tokens).logits
    assert mine is not None
    assert float((mine - other).abs().max() / other.abs().max()) < 1e-5


def test_metadata_and_ends_are_found(tmp_path: Path) -> None:
    pretrained = find(str(gguf_model(tmp_path / "tiny.gguf")))
    assert pretrained.model.name == "tiny"
    assert pretrained.model.reasons == ()
    assert pretrained.ends() == {299}
