"""Emu3 (Wang et al. 2024, arXiv 2409.18869): a text model, and the codec that turns images into words and back."""

from __future__ import annotations

from typing import Final

from txcalc.architecture import CountedPart
from txcalc.configs.counted_towers import INERT, Tensors, Whole, divided, kept, linear, listed
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.text_parts import EMU3_DEFAULTS, emu3_layers

_CODEC: Final = {
    "codebook_size": 32_768, "embed_dim": 4, "latent_channels": 4, "double_latent": False, "in_channels": 3,
    "out_channels": 3, "temporal_downsample_factor": 4, "base_channels": 256, "channel_multiplier": [1, 2, 2, 4],
    "num_res_blocks": 2, "attn_resolutions": [3], "hidden_size": 1024, "num_attention_heads": 1,
}  # fmt: skip
_GROUPS: Final = 32  # channels are normed in so many groups


def _towers(r: Reader, hidden: int) -> tuple[CountedPart, ...]:
    r.mapping("vocabulary_map")
    if r.config.get("vocabulary_map") is None:
        r.reasons.append("no vocabulary_map: transformers does not build the model without one")
    v = r.nested("vq_config", defaults=_CODEC)
    v.ignore(*INERT)
    return (CountedPart(name="codec", tensors=kept(_codec(v))),)


def _codec(v: Reader) -> Tensors:
    """An encoder and a decoder of residual blocks over pixels, then over frames, and the book between them."""
    latent, code = v.integer("latent_channels"), v.integer("embed_dim")
    made = latent * 2 if v.flag("double_latent") else latent
    if made != latent:
        v.notes.append(f"images do not run: the encoder makes {made} channels, the book is searched with {latent}")
    return [
        *_encoder(v, made),
        *_decoder(v, latent, code),
        ("book", (v.integer("codebook_size"), code), 1),
        *linear("to_book", 3 * latent, code),
        *linear("from_book", 3 * code, latent),
    ]


def _widths(v: Reader) -> list[int]:
    """Channels of every stage.

    Raises:
        ModelError: no stages, or channels that cannot be normed in groups.
    """
    base, factors = v.integer("base_channels"), v.integers("channel_multiplier", minimum=1)
    if not factors:
        raise v.error("channel_multiplier", "is empty; expected a stage or more")
    if base % _GROUPS and any(base * each % _GROUPS for each in (1, *factors)):
        raise v.error("base_channels", f"is {base}; channels must be multiples of {_GROUPS}")
    return [base * each for each in factors]


def _encoder(v: Reader, made: int) -> Tensors:
    """Stages that halve both sides, some with attention; then frames are halved."""
    widths, blocks, looking = _widths(v), v.integer("num_res_blocks"), set(listed(v, "attn_resolutions"))
    current, last = v.integer("base_channels"), widths[-1]
    found = linear("encoder_in", 9 * v.integer("in_channels"), current)
    for stage, width in enumerate(widths):
        looks = stage in looking
        for _ in range(blocks):
            found += [*_block(current, width), *(_attention(v, width) if looks else [])]
            current = width
        found += linear("halving", 9 * width, width) if stage + 1 < len(widths) else []
    return [
        *found,
        *_middle(v, last),
        ("norm", (last,), 2),
        *linear("encoder_out", 9 * last, made),
        *linear("halving_of_frames", 36 * made, made, count=_halvings(v)),
        *_frames(made, blocks),
    ]


def _decoder(v: Reader, latent: int, code: int) -> Tensors:
    """The same backwards, with norms that read the book's vectors, and one more block a stage."""
    widths, blocks, looking = _widths(v), v.integer("num_res_blocks"), set(listed(v, "attn_resolutions"))
    current, first = widths[-1], widths[0]
    found = [*_frames(latent, blocks), *linear("doubling_of_frames", 27 * latent, latent, count=_halvings(v))]
    found += [*linear("decoder_in", 9 * latent, current), *_middle(v, current, code)]
    for stage, width in reversed(list(enumerate(widths))):
        for _ in range(blocks + 1):
            found += [*_block(current, width, code), *(_attention(v, width, code) if stage in looking else [])]
            current = width
        found += linear("doubling", 9 * width, width) if stage else []
    return [*found, *_norm(first, code), *linear("decoder_out", 9 * first, v.integer("out_channels"))]


def _halvings(v: Reader) -> int:
    return v.integer("temporal_downsample_factor").bit_length() - 1


# ---- blocks ---------------------------------------------------------------------------------------------------------


def _block(size_in: int, size_out: int, code: int = 0) -> Tensors:
    """Two convolutions with a norm before each, and one of single pixels beside them where widths differ."""
    return [
        *_norm(size_in, code),
        *linear("convolution", 9 * size_in, size_out),
        *_norm(size_out, code),
        *linear("convolution", 9 * size_out, size_out),
        *(linear("beside", size_in, size_out) if size_in != size_out else []),
    ]


def _norm(width: int, code: int) -> Tensors:
    """Scale and shift; with ``code`` two more that are made of the book's vectors."""
    return [("norm", (width,), 2), *(linear("scale_and_shift", code, width, count=2) if code else [])]


def _attention(v: Reader, width: int, code: int = 0) -> Tensors:
    inner = divided(v)
    if inner != width:
        v.notes.append(f"images do not run: attention of {inner} channels stands among {width}")
    return [*linear("attention", inner, inner, count=4), *_norm(width, code)]


def _middle(v: Reader, width: int, code: int = 0) -> Tensors:
    return [*_block(width, width, code), *_attention(v, width, code), *_block(width, width, code)]


def _frames(width: int, count: int) -> Tensors:
    return [*linear("convolution_of_frames", 27 * width, width, count=2 * count), ("batch_norm", (width,), 4 * count)]


_EMU3: Final = Whole("Emu3", EMU3_DEFAULTS, emu3_layers, _towers, has_text_class=True)

TYPES: Final = {
    "emu3": ModelType(build=_EMU3.read, defaults={"tie_word_embeddings": False}, origin="transformers 5.23 Emu3Config"),
}
