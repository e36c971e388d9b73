"""Text models and their towers, counted by their tensors: Compass, MiniMax M3, Llama 3.2, Inkling 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from txcalc.architecture import CountedPart, Model
from txcalc.configs.common import decoder_stack, dtype_of, optional, quantization_of
from txcalc.configs.gated_moe import MINIMAX_M3_DEFAULTS, minimax_m3_layers
from txcalc.configs.heads import Task, causal_head
from txcalc.configs.inkling import TYPES as INKLING
from txcalc.configs.inkling import inkling2_layers
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType
from txcalc.configs.text_parts import (
    COMPASS_DEFAULTS,
    MLLAMA_DEFAULTS,
    compass_layers,
    compass_scale,
    mllama_layers,
    untied,
)

Tensors = list[tuple[str, tuple[int, ...], int]]
# Where images stand in the text, and how a tower turns its heads: no parameters.
INERT: Final = (
    "image_token_id", "video_token_id", "audio_token_id", "vision_start_token_id", "vision_end_token_id",
    "image_token_index", "video_token_index", "image_bos_token_id", "audio_bos_token_id", "rope_parameters",
    "layer_norm_eps", "rms_norm_eps", "norm_eps", "hidden_act", "base_config_key", "rope_theta", "merged_hidden_size",
)  # fmt: skip


def linear(name: str, size_in: int, size_out: int, *, bias: bool = True, count: int = 1) -> Tensors:
    """A matrix, and a bias where there is one."""
    return [(name, (size_in, size_out), count), *([(f"{name}_bias", (size_out,), count)] if bias else [])]


def encoder(width: int, wide: int, layers: int, *, bias: bool = True) -> Tensors:
    """Layers of four square matrices, two of a feed-forward and two LayerNorms; ``bias``: in the attention."""
    return [
        *linear("attention", width, width, bias=bias, count=4 * layers),
        *linear("up_proj", width, wide, count=layers),
        *linear("down_proj", wide, width, count=layers),
        ("norms", (width,), 4 * layers),
    ]


def divided(v: Reader, heads: str = "num_attention_heads") -> int:
    """The tower's width, which its heads divide."""
    width, count = v.integer("hidden_size"), v.integer(heads)
    if width % count:
        raise v.error("hidden_size", f"is {width}; it is not a multiple of the {count} heads")
    return width


def listed(v: Reader, name: str, *, minimum: int = 0) -> list[int]:
    """Whole numbers, which transformers does not build a tower without.

    Raises:
        ModelError: null.
    """
    if v.raw(name) is None:
        raise v.error(name, "is null; expected a list of whole numbers")
    return v.integers(name, minimum=minimum)


_UNPUBLISHED: Final[frozenset[Task]] = frozenset(
    {"sequence_classification", "token_classification", "question_answering"}
)


class Whole:
    """What makes a wrapper: its classes, the text's defaults and layers, its towers.

    ``has_text_class``: transformers makes a language model of the text part alone of such a config.
    """

    def __init__(
        self,
        prefix: str,
        text: Mapping[str, Any],
        layers: Callable[[Reader], dict[str, Any]],
        towers: Callable[[Reader, int], tuple[CountedPart, ...]],
        head: Callable[[Reader], dict[str, Any]] = lambda _: {},
        aliases: Mapping[str, str] | None = None,
        *,
        has_text_class: bool = False,
    ) -> None:
        self.prefix, self.text, self.layers, self.towers = prefix, text, layers, towers
        self.head, self.aliases, self.has_text_class = head, aliases, has_text_class

    def text_alone(self, r: Reader) -> bool:
        """Whether the class is the text part's; without ``architectures`` it is what auto classes make of the type."""
        if not r.config.get("architectures"):
            name = self.prefix.split()[0] + ("ForCausalLM" if self.has_text_class else "Model")
            r.config = {**r.config, "architectures": [name]}
            r.notes.append(f"no architectures in the config: taken as {name}")
        names = r.config["architectures"]
        return isinstance(names, list | tuple) and str(names[0]).endswith("ForCausalLM") and self.has_text_class

    def read(self, r: Reader) -> Model:
        """The text and its towers, or the text alone."""
        r.ignore(*INERT)
        text = r.nested("text_config", defaults=self.text, aliases=self.aliases)
        text.ignore("tie_word_embeddings")  # the outer config ties, unless the text stands alone
        head = self.head(text)
        decoder = decoder_stack(text, **self.layers(text))
        alone = self.text_alone(r)
        if alone:
            r.ignore(*(name for name in r.config if name.endswith("_config")), "projector_hidden_size")
            r.ignore("vocabulary_map")
            r.config = {**r.config, "tie_word_embeddings": text.config.get("tie_word_embeddings", False)}
        made = causal_head(
            r,
            input_size=decoder.hidden_size,
            vocab_size=text.integer("vocab_size"),
            default="seq2seq_lm",
            prefix=self.prefix,
            without=_UNPUBLISHED if self.has_text_class else {"causal_lm", *_UNPUBLISHED},
            **head,
        )
        return Model(
            name="",
            model_type=r.model_type,
            stacks=(decoder,),
            head=made,
            counted=() if alone else self.towers(r, decoder.hidden_size),
            dtype=dtype_of(r) or dtype_of(text),
            max_position_embeddings=optional(text, "max_position_embeddings"),
            quantization=quantization_of(r),
        )


# ---- towers ---------------------------------------------------------------------------------------------------------


def _compass_towers(r: Reader, hidden: int) -> tuple[CountedPart, ...]:
    """Qwen's tower; what a few layers see is merged too, and added to the first layers of the text."""
    aliases = {"num_hidden_layers": "depth", "num_attention_heads": "num_heads"}
    v = r.nested("vision_config", defaults=_COMPASS_VISION, aliases=aliases)
    v.ignore(*INERT)
    width, merge, out = divided(v, "num_heads"), v.integer("spatial_merge_size"), v.integer("out_hidden_size")
    if out != hidden:
        r.notes.append(f"images do not run: the tower ends in {out} channels, the decoder has {hidden}")
    pixels = v.integer("in_channels") * v.integer("temporal_patch_size") * v.integer("patch_size") ** 2
    joined, more = width * merge**2, len(v.integers("deepstack_visual_indexes"))
    tensors: Tensors = [
        *linear("patches", pixels, width),
        ("positions", (v.integer("num_position_embeddings"), width), 1),
        *encoder(width, v.integer("intermediate_size"), v.integer("depth")),
        ("merger_norm", (width,), 2),
        ("merger_norms", (joined,), 2 * more),
        *linear("merger_up", joined, joined, count=1 + more),
        *linear("merger_down", joined, out, count=1 + more),
    ]
    return (CountedPart(name="vision", tensors=kept(tensors)),)


def _minimax_towers(r: Reader, hidden: int) -> tuple[CountedPart, ...]:
    v = r.nested("vision_config", defaults=_MINIMAX_VISION)
    v.ignore(*INERT, "image_size")
    width, merge, projected = divided(v), v.integer("spatial_merge_size"), r.integer("projector_hidden_size")
    pixels = v.integer("num_channels") * v.integer("temporal_patch_size") * v.integer("patch_size") ** 2
    tensors: Tensors = [
        *linear("patches", pixels, width, bias=False),
        ("norm", (width,), 2),
        *encoder(width, v.integer("intermediate_size"), v.layers()),
        *linear("projector_up", width, projected),
        *linear("projector_down", projected, hidden),
        *linear("merge_up", hidden * merge**2, projected),
        *linear("merge_down", projected, hidden),
    ]
    return (CountedPart(name="vision", tensors=kept(tensors)),)


def _mllama_towers(r: Reader, hidden: int) -> tuple[CountedPart, ...]:
    """Two encoders, the second with gates; tables by the image's aspect ratio and tile."""
    v = r.nested("vision_config", defaults=_MLLAMA_VISION, aliases={"num_attention_heads": "attention_heads"})
    v.ignore(*INERT, "intermediate_layers_indices")
    width, wide = divided(v, "attention_heads"), v.integer("intermediate_size")
    ratios: Any = v.raw("supported_aspect_ratios")
    if ratios is not None and not isinstance(ratios, list | tuple):
        raise v.error("supported_aspect_ratios", f"is {shown(ratios)}; expected a list")
    shapes = (8 if ratios is None else len(ratios)) + 1
    patch, tiles = v.integer("patch_size"), v.integer("max_num_tiles")
    patches = (v.integer("image_size", minimum=patch) // patch) ** 2 + 1
    layers, later = v.layers(), v.integer("num_global_layers", minimum=0)
    tensors: Tensors = [
        *linear("patches", v.integer("num_channels") * patch**2, width, bias=False),
        ("class", (width,), 1),
        ("positions", (patches, width), 1),
        ("tile_positions", (shapes, tiles * patches * width), 1),
        ("tiles", (shapes, tiles * width), 2),
        ("gates", (1,), 3),
        ("norms_outside", (width,), 4),
        *encoder(width, wide, layers + later, bias=False),
        ("layer_gates", (1,), 2 * later),
        *linear("projector", v.integer("vision_output_dim"), hidden),
    ]
    return (CountedPart(name="vision", tensors=kept(tensors)),)


def _inkling2_towers(r: Reader, hidden: int) -> tuple[CountedPart, ...]:
    v = r.nested("vision_config", defaults=_INKLING2_VISION)
    v.ignore(*INERT, "layer_scale_init_value")
    width, merge, projected = divided(v), v.integer("spatial_merge_size"), v.integer("projection_hidden_dim")
    if v.integer("text_hidden_size") != hidden:
        raise v.error("text_hidden_size", f"is {v.integer('text_hidden_size')}; the text's width is {hidden}")
    wide = optional(v, "intermediate_size") or int(width * v.number("mlp_ratio"))
    v.ignore("mlp_ratio")
    layers, bias = v.layers(), v.flag("projector_bias")
    tensors: Tensors = [
        *linear("patches", v.integer("num_channels") * v.integer("patch_size") ** 2, width, bias=False),
        ("positions", (v.integer("posemb_grid_size") ** 2, width), 1),
        ("class_and_its_position", (width,), 2),
        ("norm", (width,), 2),
        *encoder(width, wide, layers),
        ("layer_scales", (width,), 2 * layers),
        *linear("merger_up", merge**2 * width, projected, bias=bias),
        *linear("merger_down", projected, hidden, bias=bias),
    ]
    return (CountedPart(name="vision", tensors=kept(tensors)),)


def kept(tensors: Tensors) -> tuple[tuple[str, tuple[int, ...], int], ...]:
    """Those of which there are any."""
    return tuple(each for each in tensors if each[2])


_COMPASS_VISION: Final = {
    "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "in_channels": 3, "patch_size": 16,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 3584, "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [8, 16, 24],
}  # fmt: skip
_MINIMAX_VISION: Final = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
    "num_channels": 3, "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2,
}  # fmt: skip
_MLLAMA_VISION: Final = {
    "hidden_size": 1280, "num_hidden_layers": 32, "num_global_layers": 8, "attention_heads": 16, "num_channels": 3,
    "intermediate_size": 5120, "vision_output_dim": 7680, "image_size": 448, "patch_size": 14, "max_num_tiles": 4,
    "supported_aspect_ratios": None,
}  # fmt: skip
_INKLING2_VISION: Final = {
    "hidden_size": 1024, "intermediate_size": None, "num_hidden_layers": 23, "num_attention_heads": 16,
    "num_channels": 3, "patch_size": 20, "mlp_ratio": 4.0, "spatial_merge_size": 2, "posemb_grid_size": 32,
    "projection_hidden_dim": 4096, "projector_bias": False, "text_hidden_size": 4608,
}  # fmt: skip

_COMPASS: Final = Whole(
    "CohereCompass", COMPASS_DEFAULTS, compass_layers, _compass_towers, lambda text: {"scale": compass_scale(text)}
)
_MINIMAX: Final = Whole(
    "MiniMaxM3VL MiniMaxM3Sparse",
    MINIMAX_M3_DEFAULTS,
    minimax_m3_layers,
    _minimax_towers,
    aliases={"num_experts": "num_local_experts"},
)
_MLLAMA: Final = Whole("Mllama", MLLAMA_DEFAULTS, mllama_layers, _mllama_towers, has_text_class=True)
_INKLING2: Final = Whole(
    "Inkling2",
    INKLING["inkling2_text"].defaults,
    inkling2_layers,
    _inkling2_towers,
    lambda text: {"softcap": text.number("final_logit_softcapping")},
    INKLING["inkling2_text"].aliases,
)


def _minimax_m3_vl(r: Reader) -> Model:
    """The head is tied where either part of the config says so."""
    text = r.config.get("text_config")
    tied = isinstance(text, Mapping) and text.get("tie_word_embeddings") is True
    if tied:
        r.config = {**r.config, "tie_word_embeddings": True}
    return _MINIMAX.read(r)


TYPES: Final = {
    "cohere_compass": ModelType(
        build=_COMPASS.read, defaults={"tie_word_embeddings": False}, origin="transformers 5.23 CohereCompassConfig"
    ),
    "minimax_m3_vl": ModelType(
        build=_minimax_m3_vl,
        defaults={"tie_word_embeddings": False, "projector_hidden_size": 6144},
        origin="transformers 5.23 MiniMaxM3VLConfig",
    ),
    "mllama": ModelType(
        build=lambda r: untied(r, _MLLAMA.read(r)), defaults={}, origin="transformers 5.23 MllamaConfig"
    ),
    "inkling2": ModelType(
        build=lambda r: untied(r, _INKLING2.read(r)), defaults={}, origin="transformers 5.23 Inkling2Config"
    ),
}
