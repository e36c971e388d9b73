"""Vision transformers: ViT and DINOv2, patches after a class token, pre-norm layers, a final norm.

Sources: Dosovitskiy et al. 2021 (arXiv 2010.11929), section 3.1; Oquab et al. 2023 (arXiv 2304.07193).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from txcalc.architecture import (
    FeedForward,
    Head,
    Layer,
    LearnedPositions,
    Model,
    PatchEmbedding,
    Pooler,
    SelfAttention,
    Stack,
    runs_of,
)
from txcalc.configs.common import activation, dtype_of, head_dims, layer_norm, pre_norm, quantization_of
from txcalc.configs.encoders import known_task, plain_feed_forward
from txcalc.configs.heads import classifier, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

VIT_DEFAULTS: Final[dict[str, Any]] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "qkv_bias": True,
    "encoder_stride": 16,
    "pooler_output_size": None,
    "pooler_act": "tanh",
}
DINOV2_DEFAULTS: Final[dict[str, Any]] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "mlp_ratio": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "image_size": 224,
    "patch_size": 14,
    "num_channels": 3,
    "qkv_bias": True,
    "use_swiglu_ffn": False,
    "use_mask_token": True,
}

# ---- patches --------------------------------------------------------------------------------------------------------


class _Sides(NamedTuple):
    height: int
    width: int


def _sides(r: Reader, name: str) -> _Sides:
    """One number for both sides, or a pair."""
    if not isinstance(r.raw(name), list | tuple):
        return _Sides(r.integer(name), r.integer(name))
    both = r.integers(name, minimum=1)
    if len(both) != 2:
        raise r.error(name, f"has {len(both)} numbers; expected one, or height and width")
    return _Sides(*both)


def _patches(r: Reader, *, mask_token: bool) -> PatchEmbedding:
    """A convolution over patches, a class token before them, a position for each."""
    hidden, image, patch = r.integer("hidden_size"), _sides(r, "image_size"), _sides(r, "patch_size")
    count = (image.height // patch.height) * (image.width // patch.width)
    if not count:
        raise r.error("patch_size", f"is larger than the image of {image.height} by {image.width}")
    return PatchEmbedding(
        image_size=image.height,
        patch_size=patch.height,
        image_width=image.width if image.width != image.height else None,
        patch_width=patch.width if patch.width != patch.height else None,
        num_channels=r.integer("num_channels"),
        hidden_size=hidden,
        bias=True,
        extra_tokens=1,
        mask_token=mask_token,
        positions=LearnedPositions(rows=count + 1, width=hidden),
    )


def _attention(r: Reader) -> SelfAttention:
    """Bidirectional; heads of hidden_size // heads where no head_dim is given, even where that does not divide."""
    r.rounds_heads = True
    r.unused("num_key_value_heads", None, r.integer("num_attention_heads"))
    hidden, heads, _, head_dim = head_dims(r)
    bias = r.flag("qkv_bias")
    return SelfAttention(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=head_dim,
        v_head_dim=head_dim,
        causal=False,
        q_bias=bias,
        k_bias=bias,
        v_bias=bias,
        o_bias=True,
    )


def _model(r: Reader, layer: Layer, patches: PatchEmbedding, head: Head | None, pooler: Pooler | None = None) -> Model:
    hidden = r.integer("hidden_size")
    layers, runs = runs_of([(layer, r.layers())])
    assert patches.positions is not None
    stack = Stack(
        role="vision",
        hidden_size=hidden,
        embedding=patches,
        layers=layers,
        runs=runs,
        final_norm=layer_norm(hidden, r.number("layer_norm_eps")),
        pooler=pooler,
        fixed_length=patches.positions.rows,
    )
    return Model(
        name="",
        model_type=r.model_type,
        stacks=(stack,),
        head=head,
        dtype=dtype_of(r),
        quantization=quantization_of(r),
    )


# ---- ViT ------------------------------------------------------------------------------------------------------------


def _vit(r: Reader) -> Model:
    task = known_task(r, "base image_classification masked_image", prefix="ViT", default="base")
    r.ignore("encoder_stride", "pooler_output_size", "pooler_act")  # of classes of their own
    hidden = r.integer("hidden_size")
    feed_forward = plain_feed_forward(hidden, r.integer("intermediate_size"), activation(r))
    layer = pre_norm(_attention(r), feed_forward, norm=layer_norm(hidden, r.number("layer_norm_eps")))
    patches = _patches(r, mask_token=task == "masked_image")
    head, pooler = None, None
    if task == "image_classification":
        head = classifier(hidden, num_labels(r), role="vision", bias=True, pooled=True)
    elif task == "masked_image":
        head = _pixels(r, hidden)
    else:
        out = r.optional_integer("pooler_output_size")
        pooler = Pooler(hidden_size=hidden, out_size=out, activation=activation(r, "pooler_act"))
    return _model(r, layer, patches, head, pooler)


def _pixels(r: Reader, hidden: int) -> Head:
    """Every patch to the ``encoder_stride`` ** 2 pixels that it is rebuilt as."""
    outputs = r.integer("encoder_stride") ** 2 * r.integer("num_channels")
    return Head(
        kind="masked_lm",
        input_size=hidden,
        output_size=outputs,
        tied=False,
        bias=True,
        reads="patches",
        tied_to="vision",
    )


# ---- DINOv2 ---------------------------------------------------------------------------------------------------------

_BACKBONE: Final = ["Dinov2Backbone"]


def _dinov2(r: Reader) -> Model:
    """Each branch times a learned scale; SwiGLU in the largest."""
    r.ignore("layerscale_value", "drop_path_rate", "hidden_act", "intermediate_size")
    r.ignore("out_features", "out_indices", "stage_names", "apply_layernorm", "reshape_hidden_states")
    hidden, labels = r.integer("hidden_size"), None
    backbone = r.config.get("architectures") == _BACKBONE  # the same tensors as the bare model's
    if not backbone and known_task(r, "base image_classification", prefix="Dinov2", default="base") != "base":
        labels = num_labels(r)
    norm = layer_norm(hidden, r.number("layer_norm_eps"))
    layer = _with_layer_scale(pre_norm(_attention(r), _dinov2_feed_forward(r, hidden), norm=norm))
    head = classifier(2 * hidden, labels, role="vision", bias=True, pooled=True) if labels else None
    patches = _patches(r, mask_token=r.flag("use_mask_token"))
    return _model(r, layer, patches, head.replace(reads="first_and_mean") if head else None)


def _dinov2_feed_forward(r: Reader, hidden: int) -> FeedForward:
    inner = hidden * r.integer("mlp_ratio")
    if not r.flag("use_swiglu_ffn"):
        return plain_feed_forward(hidden, inner, activation(r))
    inner = (int(inner * 2 / 3) + 7) // 8 * 8  # as many parameters as two matrices, in whole eights
    return plain_feed_forward(hidden, inner, "silu").replace(gated=True)


def _with_layer_scale(layer: Layer) -> Layer:
    steps = tuple(
        step.replace(branches=tuple(branch.replace(layer_scale=True) for branch in step.branches))
        for step in layer.steps
    )
    return layer.replace(steps=steps)


TYPES: Final = {
    "vit": ModelType(build=_vit, defaults=VIT_DEFAULTS, origin="transformers 5.23 ViTConfig"),
    "dinov2": ModelType(build=_dinov2, defaults=DINOV2_DEFAULTS, origin="transformers 5.23 Dinov2Config"),
}
