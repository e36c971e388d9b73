"""A model to look at and something to put into it: real weights where there are some, else random ones that fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor

from txcalc import architecture as arch
from txcalc.architecture.shrinking import with_layers, with_scale
from txcalc.errors import ModelError, RequestError
from txcalc.reference.model import Transformer, build
from txcalc.reference.pretrained import Pretrained, load, require_memory

BUDGET: Final = 2**30  # bytes of random weights that are made without being asked for
TEXT: Final = "The cat sat on the mat."


class Specimen(NamedTuple):
    """A model, its inputs (tokens [1, T], an image or sound), the tokens as text, and what must be said about it."""

    model: Transformer
    inputs: Tensor
    source: Tensor | None
    pieces: list[tuple[int, str]]
    weights: str
    notes: list[str]


def real(pretrained: Pretrained, text: str, *, device: str = "cpu", dtype: torch.dtype | None = None) -> Specimen:
    """A model with its own weights and tokenizer.

    Raises:
        RequestError: it does not fit, or the text is too long for it.
    """
    notes = []
    try:
        pieces = pretrained.tokenizer().pieces(text)
    except ModelError as error:
        pieces = _bytes(pretrained.model, text)
        notes.append(f"{error.message}: the text is put in byte by byte")
    model = load(pretrained, device=device, dtype=dtype)
    return _specimen(model, pieces, "real", notes)


def random(
    model: arch.Model, text: str, *, layers: int | None = None, scale: int | None = None, full: bool = False
) -> Specimen:
    """A model with random weights, made smaller where it is too large and nothing else was asked for; says how.

    ``full``: the whole shape on the meta device, without any values.

    Raises:
        RequestError: what was asked for does not fit, or the text is too long for it.
    """
    if full:
        whole = build(model, device="meta")
        return _specimen(whole, _bytes(model, text), "no", ["shapes alone: nothing was computed"])
    smaller, notes = _fitting(model, layers, scale)
    require_memory(smaller, build(smaller, device="meta"), "cpu")
    notes.append("random weights, and no tokenizer: the text is put in byte by byte")
    return _specimen(build(smaller), _bytes(smaller, text), "random", notes)


# ---- how small ------------------------------------------------------------------------------------------------------


def _fitting(model: arch.Model, layers: int | None, scale: int | None) -> tuple[arch.Model, list[str]]:
    """The model as asked for, or the largest that stays within the budget; and a note that says so."""
    have = max(stack.num_hidden_layers for stack in model.stacks)
    if layers is not None and layers > have:
        raise RequestError(f"--layers {layers}: {model.name} has {have} layers", f"give 1 to {have}")
    if layers is not None or scale is not None:
        smaller = with_scale(with_layers(model, layers) if layers else model, scale or 1)
        return smaller, _said(model, smaller, scale or 1, "as asked for")
    for layers_now, scale_now in _steps(model):
        smaller = with_scale(with_layers(model, layers_now), scale_now)
        if _size(smaller) <= BUDGET:
            break
    return smaller, _said(model, smaller, scale_now, f"{_size(model) / 2**30:,.1f} GiB of random weights are too many")


def _steps(model: arch.Model) -> Iterator[tuple[int, int]]:
    """(layers, scale), from the whole model to ever smaller ones."""
    yield model.main.num_hidden_layers, 1
    few = max(2, max(len(stack.layers) for stack in model.stacks))
    yield from ((few, 2**power) for power in range(12))


def _size(model: arch.Model) -> int:
    """Bytes of its weights in fp32."""
    return sum(parameter.nbytes for parameter in build(model, device="meta").parameters())


def _said(model: arch.Model, smaller: arch.Model, scale: int, why: str) -> list[str]:
    if smaller is model or smaller == model:
        return []
    depth, whole = smaller.main.num_hidden_layers, model.main.num_hidden_layers
    return [
        f"shrunk, {why}: {depth} of {whole} layers, widths / {scale}; these shapes are not {model.name}'s, "
        f"--full shows those without values"
    ]


# ---- inputs ---------------------------------------------------------------------------------------------------------


def _specimen(model: Transformer, pieces: list[tuple[int, str]], weights: str, notes: list[str]) -> Specimen:
    device = next(model.parameters()).device
    main = model.model.main
    if isinstance(main.embedding, arch.TokenEmbedding):
        _require_room(model.model, main.embedding, len(pieces))
        inputs = torch.tensor([[token for token, _ in pieces]], device=device)
    else:
        inputs, pieces = _signal(main.embedding, device), []
    source = _source(model, inputs, device)
    if source is not None and source.dim() == 2:
        notes = [*notes, "encoder and decoder both read the text"]
    return Specimen(model, inputs, source, pieces, weights, notes)


def _source(model: Transformer, inputs: Tensor, device: torch.device) -> Tensor | None:
    """What the encoder of an encoder-decoder reads."""
    encoder = model.model.stack("encoder") or model.model.stack("audio")
    if encoder is None or encoder is model.model.main or not _reads_source(model.model):
        return None
    return inputs if isinstance(encoder.embedding, arch.TokenEmbedding) else _signal(encoder.embedding, device)


def _reads_source(model: arch.Model) -> bool:
    return any(isinstance(each, arch.CrossAttention) for layer in model.main.layers for each in layer.sublayers())


def _signal(embedding: arch.InputEmbedding, device: torch.device) -> Tensor:
    """An image [1, channels, size, size] or mel frames [1, mels, frames] of noise."""
    if isinstance(embedding, arch.PatchEmbedding):
        shape = [1, embedding.num_channels, embedding.image_size, embedding.image_width or embedding.image_size]
    else:
        assert isinstance(embedding, arch.AudioEmbedding)
        shape = [1, embedding.num_mel_bins, 2 * embedding.positions.rows]
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return noise.to(device)


def _bytes(model: arch.Model, text: str) -> list[tuple[int, str]]:
    """A token for every byte."""
    embedding = model.main.embedding
    vocabulary = embedding.vocab_size if isinstance(embedding, arch.TokenEmbedding) else 256
    return [(byte % vocabulary, chr(byte) if byte < 128 else f"0x{byte:02x}") for byte in text.encode()]


def _require_room(model: arch.Model, embedding: arch.TokenEmbedding, tokens: int) -> None:
    if not tokens:
        raise RequestError("the text has no tokens", "give at least one word")
    table = embedding.positions
    if table is not None and tokens > table.rows - table.offset:
        raise RequestError(f"{tokens:,} tokens; {model.name} has {table.rows - table.offset:,} positions", "shorten it")
