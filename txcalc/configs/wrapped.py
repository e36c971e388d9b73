"""A language model of any known type inside another config, with towers of images or sound before it.

The text part is read by its own type's adapter: its parameters, cache and operations are that type's. Towers whose
tensors are known are counted; one that is not known makes the result an estimate which names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

from txcalc.architecture import CountedPart, Model, Stack
from txcalc.configs.common import dtype_of, quantization_of
from txcalc.configs.counted_towers import Tensors, kept
from txcalc.configs.heads import Task, causal_head
from txcalc.configs.prediction import with_prediction
from txcalc.configs.reader import Reader
from txcalc.configs.registry import MODULE_OF, type_of
from txcalc.configs.tower_more import MORE
from txcalc.configs.tower_parts import TOWERS, tower_part
from txcalc.configs.tower_sound import SOUND

Projector = Callable[[Reader, Reader, int], Tensors]

_UNPUBLISHED: Final[frozenset[Task]] = frozenset(
    {"causal_lm", "sequence_classification", "token_classification", "question_answering"}
)
# Where images and sound stand in the text, how images are cut, what is copied from the text part: no parameters.
_INERT: Final = (
    "image_token_id", "image_token_index", "video_token_id", "video_token_index", "audio_token_id",
    "audio_token_index", "vision_start_token_id", "vision_end_token_id", "vision_token_id", "image_start_token_id",
    "image_end_token_id", "video_start_token_id", "video_end_token_id", "image_seq_length", "image_grid_pinpoints",
    "vision_feature_select_strategy", "vision_aspect_ratio", "projector_hidden_act", "ignore_index", "is_vlm",
    "use_image_newline_parameter", "projection_layer_norm_eps", "num_image_tokens", "vocab_size", "hidden_size",
    "video_seq_length", "force_image_size", "dynamic_image_size", "use_thumbnail", "min_dynamic_patch",
    "max_dynamic_patch", "ps_version", "template", "media_placeholder_token_id", "use_unified_vision_chunk",
    "video_placeholder", "_pad_token_id", "image_seq_len", "is_composition",
)  # fmt: skip


class Text(NamedTuple):
    """The text part: where it stands, its type where it names none, what it is without a ``text_config``.

    ``fixed``: the class reads any text as that type. ``flat``: older files hold its fields beside the towers'.
    ``filled``: ``given`` also fills in what a ``text_config`` leaves out.
    """

    model_type: str
    given: Mapping[str, Any] = {}
    key: str = "text_config"
    fixed: bool = False
    flat: bool = False
    filled: bool = False
    renamed: Mapping[str, str] = {}
    inert: str = "num_image_tokens"


class Front(NamedTuple):
    """One tower and what joins it to the text: its key, its type where it names none, what it is without a config."""

    key: str
    model_type: str
    projector: Projector
    given: Mapping[str, Any] = {}
    fixed: bool = False
    name: str = "vision"


class Wrapped(NamedTuple):
    """One type of wrapper. ``tied``: by the outer config, by the text's, by either, or never.

    ``uncounted``: the towers of a type that txcalc does not describe, in words; what the outer config says beside the
    text part is then theirs. ``headed``: transformers' auto classes make a language model of the type; else they do so
    where no tower is of images.
    """

    prefix: str
    text: Text
    fronts: tuple[Front, ...] = ()
    tied: Literal["outer", "text", "either", "never"] = "outer"
    uncounted: str = ""
    inert: str = ""
    task: Task = "seq2seq_lm"
    headed: bool = False

    def read(self, r: Reader) -> Model:
        """The text part with its head, and the towers."""
        r.ignore(*_INERT, *self.inert.split())
        if self.uncounted:
            r.ignore(*(key for key in r.config if key != self.text.key))
            r.reasons.append(f"not counted: {self.uncounted}; what is counted is the text part, exactly")
        inner, text = read_text(r, self.text)
        decoder = only_decoder(inner, text)
        _tie(r, inner, self.tied)
        if not r.config.get("architectures") and not self._headed() and not r.flag("tie_word_embeddings"):
            r.reasons.append("no architectures in the config: counted with a head, which the type's bare class has not")
        head = causal_head(
            r,
            input_size=decoder.hidden_size,
            vocab_size=inner.integer("vocab_size"),
            default=self.task,
            prefix=self.prefix,
            without=_UNPUBLISHED - {self.task},
        )
        counted = [part for front in self.fronts for part in read_front(r, front, decoder.hidden_size)]
        return Model(
            name="",
            model_type=r.model_type,
            stacks=(decoder,),
            head=head,
            unused=text.unused,
            extra=text.extra,
            counted=tuple(counted),
            only_params=text.only_params,
            dtype=dtype_of(r) or text.dtype,
            max_position_embeddings=text.max_position_embeddings,
            quantization=quantization_of(r) or text.quantization,
            reasons=text.reasons,
        )

    def _headed(self) -> bool:
        """Whether transformers' auto classes make a language model of the type; of images they make the bare class."""
        seen = {front.key for front in self.fronts} & {"vision_config"}
        return self.headed or self.task == "causal_lm" or bool(self.uncounted) or bool(self.fronts and not seen)


# ---- text -----------------------------------------------------------------------------------------------------------


def read_text(r: Reader, part: Text) -> tuple[Reader, Model]:
    """The text part as a model of its own type, with the reader of its config.

    Raises:
        ModelError: a type that is not known, or that holds towers itself.
    """
    given = r.config.get(part.key)
    missing = not isinstance(given, Mapping)
    if missing and part.flat:
        _gather(r, part)
    kind, name = _kind(r, part)
    defaults = {**kind.defaults, **(part.given if part.filled or missing else {})}
    inner = r.nested(part.key, defaults=defaults, aliases=kind.aliases)
    inner.origin, inner.model_type = kind.origin, name
    dropped = {"architectures", "model_type", *part.inert.split(), *_LEFT_IN_TEXTS}
    dropped |= {key for key in _SWITCHES - kind.defaults.keys() if not inner.config.get(key)}
    inner.config = {key: value for key, value in inner.config.items() if key not in dropped}
    model = with_prediction(kind.build(inner), inner, kind.extra)
    inner.notes[:] = [note for note in inner.notes if not note.startswith("no architectures")]
    inner.ignore("tie_word_embeddings")
    return inner, model


# What published files hold in their text part and no class of it reads; switches of other types that are off.
_LEFT_IN_TEXTS: Final = (
    "is_composition", "_flash_attn_2_enabled", "neftune_noise_alpha", "perceiver_config", "pixel_shuffle_factor",
)  # fmt: skip
_SWITCHES: Final = frozenset({"qk_layer_norms", "use_resampler", "sliding_window"})


def _kind(r: Reader, part: Text) -> tuple[Any, str]:
    found = r.mapping(part.key).get("model_type", part.model_type)
    name = part.renamed.get(found, found)
    if part.fixed and name != part.model_type:
        if name not in (r.model_type, ""):
            r.reasons.append(f"{part.key}.model_type = {name!r}: read as a {part.model_type}")
        name = part.model_type
    if not isinstance(name, str) or name not in MODULE_OF:
        raise r.error(part.key, f"is of model_type {name!r}, which txcalc does not know", "txcalc knows its own types")
    return type_of(name), name


def _gather(r: Reader, part: Text) -> None:
    """Published files of some types hold the text's fields beside the towers', not in an object of their own."""
    known = {*type_of(part.model_type).defaults, "rope_parameters", "rope_scaling", "rope_theta", "layer_types"}
    own = {key: value for key, value in r.config.items() if key in known - {"tie_word_embeddings"}}
    r.config = {key: value for key, value in r.config.items() if key not in own} | {part.key: own}


def only_decoder(r: Reader, text: Model) -> Stack:
    """The one stack of a text part.

    Raises:
        ModelError: it is no decoder, or not alone.
    """
    stack = text.stack("decoder")
    if stack is None or len(text.stacks) != 1 or text.counted or text.connectors:
        raise r.error("model_type", f"is {r.model_type!r}; a text part is one decoder without towers of its own")
    return stack


def _tie(r: Reader, inner: Reader, how: str) -> None:
    """Writes into the outer config what decides whether the head is tied."""
    if how == "never":
        r.ignore("tie_word_embeddings")
        r.config = {**r.config, "tie_word_embeddings": False}
        return
    of_text = inner.config.get("tie_word_embeddings", inner.defaults.get("tie_word_embeddings", False))
    if how == "text" or (how == "either" and of_text is True):
        r.config = {**r.config, "tie_word_embeddings": of_text}
    elif r.defaults.get("tie_word_embeddings") is True and not r.has("tie_word_embeddings") and of_text is not True:
        r.reasons.append(
            "tie_word_embeddings is not in the config: transformers ties by default, files published before that "
            "hold a head of their own: --set tie_word_embeddings=false counts it"
        )


# ---- towers ---------------------------------------------------------------------------------------------------------


def read_front(r: Reader, front: Front, hidden: int) -> list[CountedPart]:
    """A tower and its projector, counted by their tensors; nothing, and a reason, where the tower is not known."""
    given = r.mapping(front.key)
    name = front.model_type if front.fixed else given.get("model_type", front.model_type)
    tower = TOWERS.get(name) or MORE.get(name) or SOUND.get(name)
    if tower is None:
        r.ignore(front.key, *_PROJECTORS)
        r.reasons.append(f"{front.key}: a {name} tower is not counted; what is counted is the text part, exactly")
        return []
    defaults = {**tower.defaults, **({} if r.config.get(front.key) is not None else front.given)}
    v = r.nested(front.key, defaults=defaults, aliases=tower.aliases)
    v.origin = f"transformers 5.23, the defaults of {name}"
    part, joined = tower_part(v, tower, front.name), kept(front.projector(r, v, hidden))
    return [part, *([CountedPart(name=f"{front.name}_projector", tensors=joined)] if joined else [])]


_PROJECTORS: Final = (
    "vision_feature_layer", "multimodal_projector_bias", "spatial_merge_size", "downsample_ratio", "scale_factor",
    "projection_hidden_size", "projection_dim",
)  # fmt: skip


def feature_layers(r: Reader) -> int:
    """How many of the tower's layers the projector reads side by side."""
    given = r.raw("vision_feature_layer")
    if isinstance(given, list | tuple):
        return len(r.integers("vision_feature_layer", minimum=-(2**20)))
    r.integer("vision_feature_layer", minimum=-(2**20))
    return 1
