"""CLIP and SigLIP: a tower for texts, a tower for images, and how alike their vectors are.

Sources: Radford et al. 2021 (arXiv 2103.00020), section 2; Zhai et al. 2023 (arXiv 2303.15343).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import (
    Head,
    Layer,
    LearnedPositions,
    Model,
    PatchEmbedding,
    Projection,
    Similarity,
    Stack,
    TokenEmbedding,
    runs_of,
)
from txcalc.configs.common import activation, dtype_of, layer_norm, pre_norm, quantization_of
from txcalc.configs.encoders import biased_attention, head_width, plain_feed_forward
from txcalc.configs.heads import class_of, classifier, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.siglip import SIGLIP_VISION_DEFAULTS, patches_per_side, vision_stack

CLIP_TEXT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 49_408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
CLIP_VISION_DEFAULTS: Final[dict[str, Any]] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
SIGLIP_TEXT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32_000,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 64,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "projection_size": None,
}

# ---- towers ---------------------------------------------------------------------------------------------------------


def _layer(r: Reader, hidden: int, *, causal: bool) -> Layer:
    """Pre-norm, a bias on every matrix."""
    heads = r.integer("num_attention_heads")
    r.unused("num_key_value_heads", None, heads)
    r.unused("head_dim", None, hidden // heads)
    attention = biased_attention(hidden, heads, head_width(r, hidden, heads), causal=causal)
    feed_forward = plain_feed_forward(hidden, r.integer("intermediate_size"), activation(r))
    return pre_norm(attention, feed_forward, norm=layer_norm(hidden, r.number("layer_norm_eps")))


def _text_stack(r: Reader, projection: Projection | None, *, causal: bool) -> Stack:
    """Texts in one pass; one vector of each, its last token's, goes on."""
    hidden = r.integer("hidden_size")
    layers, runs = runs_of([(_layer(r, hidden, causal=causal), r.layers())])
    positions = LearnedPositions(rows=r.integer("max_position_embeddings"), width=hidden)
    return Stack(
        role="encoder",
        hidden_size=hidden,
        embedding=TokenEmbedding(vocab_size=r.integer("vocab_size"), embedding_size=hidden, positions=positions),
        layers=layers,
        runs=runs,
        final_norm=layer_norm(hidden, r.number("layer_norm_eps")),
        pooled_projection=projection,
    )


def _clip_vision_stack(r: Reader, projection: Projection | None) -> Stack:
    """A norm before the layers; the one after them is applied to the class token alone, the image's vector."""
    hidden, patch = r.integer("hidden_size"), r.integer("patch_size")
    norm = layer_norm(hidden, r.number("layer_norm_eps"))
    layers, runs = runs_of([(_layer(r, hidden, causal=False), r.layers())])
    rows = patches_per_side(r) ** 2 + 1
    return Stack(
        role="vision",
        hidden_size=hidden,
        embedding=PatchEmbedding(
            image_size=r.integer("image_size"),
            patch_size=patch,
            num_channels=r.integer("num_channels"),
            hidden_size=hidden,
            bias=False,
            extra_tokens=1,
            positions=LearnedPositions(rows=rows, width=hidden),
            norm=norm,
        ),
        layers=layers,
        runs=runs,
        final_norm=norm,
        pooled_projection=projection,
        fixed_length=rows,
    )


def _to(r: Reader, width: int) -> Projection:
    return Projection(in_size=r.integer("hidden_size"), out_size=width)


def _model(r: Reader, *stacks: Stack, **fields: Any) -> Model:
    fields = {"head": None, "dtype": dtype_of(r), "quantization": quantization_of(r), **fields}
    return Model(name="", model_type=r.model_type, stacks=stacks, **fields)


# ---- CLIP -----------------------------------------------------------------------------------------------------------


def _clip_text(r: Reader) -> Model:
    r.ignore("projection_dim", "initializer_factor")
    projected = class_of(r, "CLIPTextModel", "CLIPTextModelWithProjection") == "CLIPTextModelWithProjection"
    stack = _text_stack(r, _to(r, r.integer("projection_dim")) if projected else None, causal=True)
    return _model(r, stack, max_position_embeddings=r.integer("max_position_embeddings"))


def _clip_vision(r: Reader) -> Model:
    r.ignore("projection_dim", "initializer_factor")
    projected = class_of(r, "CLIPVisionModel", "CLIPVisionModelWithProjection") == "CLIPVisionModelWithProjection"
    return _model(r, _clip_vision_stack(r, _to(r, r.integer("projection_dim")) if projected else None))


def _clip(r: Reader) -> Model:
    r.ignore("logit_scale_init_value", "projection_dim")
    vision = _tower(r, "vision_config", CLIP_VISION_DEFAULTS, "clip_vision_model")
    text = _tower(r, "text_config", CLIP_TEXT_DEFAULTS, "clip_text_model")
    if class_of(r, "CLIPModel", "CLIPForImageClassification") == "CLIPForImageClassification":
        text.ignore(*text.config)
        return _classifier(r, _clip_vision_stack(vision, None), dtype_of(r) or dtype_of(vision))
    width = r.integer("projection_dim")
    return _model(
        r,
        _text_stack(text, _to(text, width), causal=True),
        _clip_vision_stack(vision, _to(vision, width)),
        similarity=Similarity(width=width),
        dtype=dtype_of(r) or dtype_of(text),
        max_position_embeddings=text.integer("max_position_embeddings"),
    )


def _tower(r: Reader, name: str, defaults: Mapping[str, Any], model_type: str) -> Reader:
    """The config of one tower; the first files say it twice, and then ``text_config_dict`` is the one that counts."""
    older = f"{name}_dict"
    r.ignore(name, older)
    tower = r.nested(older if r.config.get(older) is not None else name, defaults=defaults)
    tower.origin = f"{r.origin}, {name}"
    tower.ignore("projection_dim", "initializer_factor", "tie_word_embeddings")  # there is no head
    if tower.model_type not in ("", model_type):
        r.reasons.append(f"{name}.model_type = {tower.model_type!r}: read as a {model_type}")
    return tower


def _classifier(r: Reader, stack: Stack, dtype: str | None) -> Model:
    """The tower of images alone; the mean over its patches is classified."""
    head: Head = classifier(stack.hidden_size, num_labels(r), role="vision", bias=True, pooled=True)
    return _model(r, stack, head=head.replace(reads="mean"), dtype=dtype)


# ---- SigLIP ---------------------------------------------------------------------------------------------------------


def _siglip_text_stack(r: Reader) -> Stack:
    """Texts are seen in both directions; the projection has a bias."""
    width = r.optional_integer("projection_size") or r.integer("hidden_size")
    return _text_stack(r, _to(r, width).replace(bias=True), causal=False)


def _siglip_text(r: Reader) -> Model:
    class_of(r, "SiglipTextModel")
    return _model(r, _siglip_text_stack(r), max_position_embeddings=r.integer("max_position_embeddings"))


def _siglip(r: Reader) -> Model:
    r.ignore("initializer_factor")
    vision = _tower(r, "vision_config", SIGLIP_VISION_DEFAULTS, "siglip_vision_model")
    text = _tower(r, "text_config", SIGLIP_TEXT_DEFAULTS, "siglip_text_model")
    tower = vision_stack(vision)
    if class_of(r, "SiglipModel", "SiglipForImageClassification") == "SiglipForImageClassification":
        text.ignore(*text.config)
        return _classifier(r, tower, dtype_of(r) or dtype_of(vision))
    texts = _siglip_text_stack(text)
    assert texts.pooled_projection is not None
    if texts.pooled_projection.out_size != tower.hidden_size or tower.attention_pooling is None:
        r.reasons.append(
            f"vectors of texts ({texts.pooled_projection.out_size}) and of images ({tower.hidden_size}, pooled: "
            f"{'yes' if tower.attention_pooling else 'no'}) cannot be compared: it cannot run so"
        )
    return _model(
        r,
        texts,
        tower,
        similarity=Similarity(width=tower.hidden_size, bias=True),
        dtype=dtype_of(r) or dtype_of(text),
        max_position_embeddings=text.integer("max_position_embeddings"),
    )


TYPES: Final = {
    "clip": ModelType(
        build=_clip,
        defaults={"projection_dim": 512, "text_config": None, "vision_config": None},
        origin="transformers 5.23 CLIPConfig",
    ),
    "clip_text_model": ModelType(
        build=_clip_text, defaults=CLIP_TEXT_DEFAULTS, origin="transformers 5.23 CLIPTextConfig"
    ),
    "clip_vision_model": ModelType(
        build=_clip_vision, defaults=CLIP_VISION_DEFAULTS, origin="transformers 5.23 CLIPVisionConfig"
    ),
    "siglip": ModelType(
        build=_siglip, defaults={"text_config": None, "vision_config": None}, origin="transformers 5.23 SiglipConfig"
    ),
    "siglip_text_model": ModelType(
        build=_siglip_text, defaults=SIGLIP_TEXT_DEFAULTS, origin="transformers 5.23 SiglipTextConfig"
    ),
}
