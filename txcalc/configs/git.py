"""GIT (Wang et al. 2022, arXiv 2205.14100): a decoder of text behind CLIP's tower of images.

The vectors of an image stand before the text and see each other; a text by itself passes the decoder alone.
"""

from __future__ import annotations

from typing import Final

from txcalc.architecture import CountedPart, Model
from txcalc.configs.common import (
    activation,
    decoder_model,
    decoder_stack,
    layer_norm,
    post_norm,
    self_attention,
)
from txcalc.configs.counted_towers import Tensors, kept, linear
from txcalc.configs.dense import plain_heads, with_learned_positions
from txcalc.configs.encoders import plain_feed_forward
from txcalc.configs.heads import causal_head, published
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType
from txcalc.configs.tower_parts import TOWERS, tower_part


def _git(r: Reader) -> Model:
    plain_heads(r)
    r.unused("position_embedding_type", "absolute")
    hidden = r.integer("hidden_size")
    norm = layer_norm(hidden, r.number("layer_norm_eps"))
    inner = plain_feed_forward(hidden, r.integer("intermediate_size"), activation(r))
    layer = post_norm(self_attention(r, position=None, qkv_bias=True, o_bias=True), inner, norm=norm)
    embedding = with_learned_positions(r).replace(norm=norm)
    stack = decoder_stack(r, [(layer, r.layers())], final_norm=None, embedding=embedding)
    head = causal_head(r, input_size=hidden, vocab_size=r.integer("vocab_size"), bias=True, **published("Git", ""))
    return decoder_model(r, stack, head, counted=_images(r, hidden))


def _images(r: Reader, hidden: int) -> tuple[CountedPart, ...]:
    """The tower, a matrix and a norm behind it, and a vector for each frame of a video."""
    tower = TOWERS["clip_vision_model"]
    v = r.nested("vision_config", defaults={**tower.defaults, "patch_size": 16})
    v.origin = "transformers 5.23 GitVisionConfig"
    width, frames = v.integer("hidden_size"), r.optional_integer("num_image_with_embedding", minimum=0) or 0
    projector: Tensors = [
        *linear("projector", width, hidden),
        ("norm", (hidden,), 2),
        ("frames", (width,), frames),
    ]
    return tower_part(v, tower, "vision"), CountedPart(name="vision_projector", tensors=kept(projector))


TYPES: Final = {
    "git": ModelType(
        build=_git,
        defaults={
            "vocab_size": 30_522,
            "hidden_size": 768,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "hidden_act": "gelu",
            "max_position_embeddings": 1024,
            "layer_norm_eps": 1e-12,
            "tie_word_embeddings": False,
            "num_image_with_embedding": None,
        },
        origin="transformers 5.23 GitConfig",
    ),
}
