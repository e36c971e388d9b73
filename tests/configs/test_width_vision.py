"""ViT, DINOv2, CLIP and SigLIP: counts and FLOPs equal transformers' on the meta device; all classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import flop_counter
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, maybe, read, small
from tests.width import Width, assert_default, assert_heads, flags, labels, split_width, varied, width
from txcalc.architecture import FeedForward, PatchEmbedding
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params

sides = st.integers(16, 30) | st.lists(st.integers(16, 30), min_size=2, max_size=2)
patches = maybe(st.integers(2, 8) | st.lists(st.integers(2, 8), min_size=2, max_size=2))
LAYERS: dict[str, Any] = {"num_hidden_layers": st.integers(1, 3), "intermediate_size": small}
TEXT: dict[str, Any] = {**LAYERS, "vocab_size": small, "max_position_embeddings": small, "pad_token_id": st.just(0)}
IMAGE: dict[str, Any] = {**LAYERS, "image_size": st.integers(8, 30), "patch_size": st.integers(2, 8)}
NATURAL: dict[str, Any] = {
    "num_hidden_layers": st.integers(1, 3),
    "image_size": sides,
    "patch_size": patches,
    "num_channels": maybe(st.integers(1, 4)),
    "qkv_bias": flags,
    "head_dim": maybe(st.integers(1, 9)),
    "num_labels": labels,
}
WIDTHS = [
    width(
        "vit",
        "ViT",
        "Model ForImageClassification ForMaskedImageModeling",
        kin=split_width(),
        **NATURAL,
        intermediate_size=small,
        encoder_stride=st.integers(2, 5),
        pooler_output_size=maybe(st.none() | small),
    ),
    width(
        "dinov2",
        "Dinov2",
        "Model ForImageClassification Backbone",
        kin=split_width(),
        **NATURAL,
        mlp_ratio=maybe(st.integers(1, 5)),
        use_swiglu_ffn=flags,
        use_mask_token=flags,
    ),
    width("clip_text_model", "CLIPText", "Model ModelWithProjection", kin=split_width(), **TEXT, projection_dim=small),
    width(
        "clip_vision_model", "CLIPVision", "Model ModelWithProjection", kin=split_width(), **IMAGE, projection_dim=small
    ),
    width("siglip_text_model", "Siglip", "TextModel", kin=split_width(), **TEXT, projection_size=maybe(small)),
]
by_type = pytest.mark.parametrize("row", WIDTHS, ids=lambda row: str(row.model_type))


@by_type
def test_default_and_every_class(row: Width) -> None:
    assert_default(row)
    assert_heads(row)


@by_type
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_varied(row: Width, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(varied(row)))


# ---- two towers -----------------------------------------------------------------------------------------------------


@st.composite
def two_towers(draw: st.DrawFn, model_type: str) -> dict[str, Any]:
    """A config of both towers, each drawn."""
    fixed = {
        name: draw(st.fixed_dictionaries(keys)) | draw(split_width())
        for name, keys in (("text_config", TEXT), ("vision_config", IMAGE))
    }
    outer: dict[str, Any] = {"model_type": model_type, **fixed, "num_labels": draw(st.integers(1, 5))}
    if model_type == "clip":
        outer["projection_dim"] = draw(small)
        if draw(st.booleans()):  # the first files' way of saying it twice
            outer["text_config_dict"] = {**outer["text_config"], "hidden_size": 24, "num_attention_heads": 2}
    else:  # vectors of texts are as wide as those of images, or it cannot run
        outer["text_config"]["projection_size"] = outer["vision_config"]["hidden_size"]
    return outer


@pytest.mark.parametrize(
    ("model_type", "classes"),
    [
        ("clip", ["CLIPModel", "CLIPForImageClassification"]),
        ("siglip", ["SiglipModel", "SiglipForImageClassification"]),
    ],
)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_two_towers(model_type: str, classes: list[str], data: st.DataObject) -> None:
    config = data.draw(two_towers(model_type))
    assert_params_equal_meta({**config, "architectures": [data.draw(st.sampled_from(classes))]})


@pytest.mark.parametrize("model_type", ["clip", "siglip"])
def test_two_towers_by_default(model_type: str) -> None:
    assert_params_equal_meta({"model_type": model_type})


OLD = {"add_cross_attention": False, "cross_attention_hidden_size": None, "tie_encoder_decoder": False,
       "tie_word_embeddings": True}  # fmt: skip


def test_switches_that_older_files_hold_in_every_part() -> None:
    """Off they say what is built anyway; on they would say more than is built."""
    assert_params_equal_meta({"model_type": "clip", "text_config": OLD, "vision_config": OLD})
    on = {**OLD, "add_cross_attention": True}
    (reason,) = architecture_of({"model_type": "clip", "text_config": on}).reasons
    assert reason == "text_config.add_cross_attention = true: not a field that txcalc knows"


# ---- FLOPs ----------------------------------------------------------------------------------------------------------

_D: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
_TEXT = {**_D, "vocab_size": 30, "intermediate_size": 20, "max_position_embeddings": 12}
_IMAGE = {**_D, "intermediate_size": 28, "image_size": 12, "patch_size": 4}
VIT = {"model_type": "vit", **_IMAGE, "image_size": [12, 8], "patch_size": [4, 2], "pooler_output_size": 10}
DINO = {"model_type": "dinov2", **_D, "image_size": 12, "patch_size": 4}
CLIP = {"model_type": "clip", "text_config": _TEXT, "vision_config": _IMAGE, "projection_dim": 10}
SIGLIP = {"model_type": "siglip", "text_config": _TEXT, "vision_config": _IMAGE}
IMAGES = [
    {**VIT, "architectures": ["ViTModel"]},
    {**VIT, "architectures": ["ViTForImageClassification"], "num_labels": 5},
    {**VIT, "architectures": ["ViTForMaskedImageModeling"], "image_size": 12, "patch_size": 4, "encoder_stride": 4},
    {**DINO, "architectures": ["Dinov2Model"], "use_swiglu_ffn": True},
    {**DINO, "architectures": ["Dinov2ForImageClassification"]},
    {**_IMAGE, "model_type": "clip_vision_model", "architectures": ["CLIPVisionModelWithProjection"]},
    {**CLIP, "architectures": ["CLIPForImageClassification"]},
    {**SIGLIP, "architectures": ["SiglipForImageClassification"]},
]


def pixels(config: dict[str, Any], batch: int) -> torch.Tensor:
    size = config.get("image_size") or config["vision_config"]["image_size"]
    height, width = size if isinstance(size, list) else (size, size)
    return torch.zeros(batch, 3, height, width, device="meta")


@pytest.mark.parametrize("config", IMAGES, ids=lambda config: str(config["architectures"][0]))
def test_flops_of_images(config: dict[str, Any]) -> None:
    model = flop_counter.model_of(config)
    counted = flop_counter.forward(model, pixel_values=pixels(config, 3))
    assert flops(read(config), batch=3).figures()["flops.matmul"] == counted


@pytest.mark.parametrize("config", [CLIP, SIGLIP], ids=lambda config: str(config["model_type"]))
def test_flops_of_texts_and_images(config: dict[str, Any]) -> None:
    """Three texts and three images: nine similarities. (Recorded truth has one of each.)"""
    model = flop_counter.model_of(config)
    inputs = {"input_ids": flop_counter.tokens(3, 7), "pixel_values": pixels(config, 3)}
    counted = flop_counter.forward(model, **inputs)
    found = flops(read(config), batch=3, seq=7, images=1).figures()["flops.matmul"]
    assert found == counted
    assert flops(read(config), batch=3, seq=6, images=1).figures()["flops.matmul"] != counted


@pytest.mark.parametrize(
    "config",
    [
        {**_TEXT, "model_type": "clip_text_model", "architectures": ["CLIPTextModelWithProjection"]},
        {**_TEXT, "model_type": "siglip_text_model", "architectures": ["SiglipTextModel"]},
    ],
    ids=lambda config: str(config["model_type"]),
)
def test_flops_of_texts(config: dict[str, Any]) -> None:
    model = flop_counter.model_of(config)
    counted = flop_counter.forward(model, input_ids=flop_counter.tokens(3, 7))
    assert flops(read(config), batch=3, seq=7).figures()["flops.matmul"] == counted


# ---- by hand --------------------------------------------------------------------------------------------------------


def test_texts_are_seen_at_once_and_cache_nothing() -> None:
    assert kv_cache(read(CLIP), ctx=12).figures()["kv_cache.total_bytes"] == 0


def test_clip_by_hand() -> None:
    """The towers project 24 channels to 10 each, without a bias, and one number scales: 2 * 240 + 1 = 481.

    SigLIP's texts alone are projected, 24 to 24 with a bias, and there are two numbers: 600 + 2.
    """
    with_ = params(read(CLIP)).figures()["params.total"]
    alone = [
        params(read({**tower, "model_type": f"clip_{name}_model"})).figures()["params.total"]
        for name, tower in (("text", _TEXT), ("vision", _IMAGE))
    ]
    assert with_ == sum(alone) + 481


def test_sides_that_differ() -> None:
    """12 by 8 pixels in patches of 4 by 2: 3 * 4 of them, 4 * 2 * 3 channels each, and a class token."""
    stack = read(VIT).main
    assert isinstance(stack.embedding, PatchEmbedding)
    assert stack.fixed_length == 13
    patch_filters = 4 * 2 * 3 * 24 + 24
    assert params(read(VIT)).figures()["params.embedding"] == patch_filters + 24 + 13 * 24


def test_dinov2_gated_width_is_in_whole_eights() -> None:
    """4 * 24 = 96; two thirds are 64; of 4 * 36 = 144 they are 96; of 4 * 30 = 120, 80."""
    for hidden, inner in ((24, 64), (36, 96), (30, 80), (21, 56)):
        model = read({**DINO, "hidden_size": hidden, "use_swiglu_ffn": True})
        feed_forward = model.main.layers[0].sublayers()[1]
        assert isinstance(feed_forward, FeedForward)
        assert (feed_forward.intermediate_size, feed_forward.gated) == (inner, True)


def test_the_comparison_notices_a_class_token() -> None:
    """Negative control: SigLIP's tower has none."""
    tower = {"model_type": "clip_vision_model", **_IMAGE}
    assert_params_differ_from_meta({**tower, "model_type": "siglip_vision_model", "vision_use_head": False}, tower)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**VIT, "image_size": [12, 8, 4]}, "image_size has 3 numbers; expected one, or height and width"),
        ({**VIT, "patch_size": 16}, "patch_size is larger than the image of 12 by 8"),
        ({**VIT, "image_size": "large"}, 'image_size is "large"; expected a whole number'),
        ({**CLIP, "text_config": {**_TEXT, "num_attention_heads": 5}}, "hidden_size is 24; it is not a multiple of"),
        ({**CLIP, "vision_config": 5}, "vision_config is 5; expected an object"),
    ],
)
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of(config)
    assert words in caught.value.message


@pytest.mark.parametrize(
    "config",
    [
        {**VIT, "architectures": ["ViTForMaskedLM"]},
        {**DINO, "architectures": ["Dinov2ForMaskedImageModeling"]},
        {**VIT, "num_key_value_heads": 1},
        {**CLIP, "architectures": ["CLIPTextModel"]},
        {**CLIP, "vision_config": {**_IMAGE, "model_type": "vit"}},
        {**SIGLIP, "vision_config": {**_IMAGE, "vision_use_head": False}},
        {**_TEXT, "model_type": "clip_text_model", "head_dim": 5},
    ],
)
def test_what_is_not_known_makes_an_estimate(config: dict[str, Any]) -> None:
    assert len(architecture_of(config).reasons) == 1
