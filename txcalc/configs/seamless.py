"""SeamlessM4T (arXiv 2308.11596) from text to text: M2M-100's encoder-decoder under names of its own.

The classes that hear or speak join more models to it, which are not described: they are errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from txcalc.architecture import Model
from txcalc.configs.bart import bart_like
from txcalc.configs.bart_kin import M2M_100
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType

_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 256_102,
    "hidden_size": 1024,
    "max_position_embeddings": 1024,
    "activation_function": "relu",
    "scale_embedding": True,
    "encoder_layers": 24,
    "encoder_ffn_dim": 8192,
    "encoder_attention_heads": 16,
    "decoder_layers": 24,
    "decoder_ffn_dim": 8192,
    "decoder_attention_heads": 16,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
}
# The encoder of sound, the model of units and the vocoder, which no class from text to text holds.
_OTHER_MODELS: Final = ("t2u_", "speech_encoder_", "vocoder_", "adaptor_", "conv_", "num_conv_", "upsample_", "unit_",
                        "resblock_", "variance_predictor_")  # fmt: skip
_BESIDE: Final = (
    "layer_norm_eps", "add_adapter", "num_adapter_layers", "feature_projection_input_dim", "position_embeddings_type",
    "rotary_embedding_base", "max_source_positions", "sampling_rate", "leaky_relu_slope", "lang_embed_dim",
    "spkr_embed_dim", "var_pred_dropout", "char_vocab_size", "left_max_position_embeddings",
    "right_max_position_embeddings",
)  # fmt: skip


def _seamless(prefix: str) -> Callable[[Reader], Model]:
    def build(r: Reader) -> Model:
        r.ignore(*_BESIDE, *(key for key in r.config if key.startswith(_OTHER_MODELS)))
        names = r.config.get("architectures") or [f"{prefix}ForTextToText"]
        if not isinstance(names, list | tuple) or names[0] != f"{prefix}ForTextToText":
            raise r.error("architectures", f"is {shown(names)}: only {prefix}ForTextToText is described")
        if not r.config.get("architectures"):
            r.notes.append(f"no architectures in the config: taken as {names[0]}")
        r.config = {**_decoders(r), "architectures": [f"{prefix}ForConditionalGeneration"]}
        return bart_like(r, M2M_100.replace(prefix=prefix, tasks="seq2seq_lm"))

    return build


def _decoders(r: Reader) -> dict[str, Any]:
    """The config with the standard names under the type's own; they stand for the decoder's depth and heads.

    Raises:
        ModelError: both are there, and differ.
    """
    found = dict(r.config)
    for name, own in (("num_hidden_layers", "decoder_layers"), ("num_attention_heads", "decoder_attention_heads")):
        if name in found:
            value = found.pop(name)
            if found.setdefault(own, value) != value:
                raise r.error(own, f"is {shown(found[own])} and {name} is {shown(value)}: two names of one field")
    return found


def _type(prefix: str, **defaults: Any) -> ModelType:
    return ModelType(
        build=_seamless(prefix),
        defaults={**_DEFAULTS, **defaults},
        aliases={"num_hidden_layers": "encoder_layers", "num_attention_heads": "encoder_attention_heads"},
        origin=f"transformers 5.23 {prefix}Config",
    )


TYPES: Final = {
    "seamless_m4t": _type("SeamlessM4T"),
    "seamless_m4t_v2": _type("SeamlessM4Tv2", max_position_embeddings=4096),
}
