"""Aria (Rhymes AI 2024, arXiv 2410.05993): Llama's layers with experts, and a tower whose patches a few queries read.

The tower and the queries are counted by their tensors: no command runs them.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import CountedPart, MixtureOfExperts, Model, Router
from txcalc.configs import moe, rope
from txcalc.configs.common import (
    activation,
    decoder_model,
    decoder_stack,
    dtype_of,
    head_dims,
    optional,
    pre_norm,
    quantization_of,
    rms_norm,
    self_attention,
)
from txcalc.configs.encoders import head_width
from txcalc.configs.heads import causal_head, task_of
from txcalc.configs.llama_kin import both_biases
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType

TEXT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "moe_num_experts": 8,
    "moe_topk": 2,
    "moe_num_shared_experts": 2,
}
VISION_DEFAULTS: Final[dict[str, Any]] = {
    "hidden_size": 1152,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
}
_QUERIES: Final = {"1225": 128, "4900": 256}
_CLASSIFIERS: Final = {"sequence_classification", "token_classification", "question_answering"}


# ---- text -----------------------------------------------------------------------------------------------------------


def _decoder(r: Reader) -> Any:
    norm = rms_norm(r.integer("hidden_size"), r.number("rms_norm_eps"))
    attention = self_attention(r, position=rope.rotary(r, head_dims(r)[3], whole=True), **both_biases(r))
    return decoder_stack(r, [(pre_norm(attention, _experts(r), norm=norm), r.layers())], final_norm=norm)


def _experts(r: Reader) -> MixtureOfExperts:
    """Routed experts are SwiGLU whatever ``hidden_act`` says; it and ``mlp_bias`` are the shared expert's."""
    experts = moe.mixture(
        r,
        size="intermediate_size",
        num_experts="moe_num_experts",
        chosen="moe_topk",
        act="silu",
        router=Router(scoring="softmax_after_topk"),
    )
    shared = r.integer("intermediate_size") * r.integer("moe_num_shared_experts")
    inner = moe.gated(r.integer("hidden_size"), shared, activation(r), bias=r.flag("mlp_bias"))
    return experts.replace(shared_expert=inner)


def _head(r: Reader, text: Reader, decoder: Any, **fields: Any) -> Any:
    return causal_head(
        r, input_size=decoder.hidden_size, vocab_size=text.integer("vocab_size"), **{"without": _CLASSIFIERS, **fields}
    )


def _text(r: Reader) -> Model:
    decoder = _decoder(r)
    return decoder_model(r, decoder, _head(r, r, decoder, prefix="AriaText"))


# ---- with its tower -------------------------------------------------------------------------------------------------


def _whole(r: Reader) -> Model:
    r.ignore("image_token_index", "image_token_id", "vision_feature_layer", "max_value_projector_patch_to_query_dict")
    text = r.nested("text_config", defaults=TEXT_DEFAULTS)
    text.origin = "transformers 5.23 AriaTextConfig"
    text.ignore("tie_word_embeddings")  # the outer config ties
    if text.model_type not in ("", "aria_text"):
        raise text.error("model_type", f"is {text.model_type!r}; Aria's decoder is an aria_text")
    if not r.config.get("architectures"):
        r.reasons.append("no architectures in the config: one of the type's classes has no output matrix")
    decoder = _decoder(text)
    alone = task_of(r, "seq2seq_lm") == "causal_lm"
    prefix = "AriaText" if alone else "Aria"
    head = _head(r, text, decoder, default="seq2seq_lm", prefix=prefix)
    return Model(
        name="",
        model_type=r.model_type,
        stacks=(decoder,),
        head=head,
        counted=() if alone else _tower(r, decoder.hidden_size),
        dtype=dtype_of(r) or dtype_of(text),
        max_position_embeddings=optional(text, "max_position_embeddings"),
        quantization=quantization_of(r),
    )


def _tower(r: Reader, hidden: int) -> tuple[CountedPart, ...]:
    v = r.nested("vision_config", defaults=VISION_DEFAULTS)
    v.origin = "transformers 5.23 Idefics3VisionConfig"
    v.ignore("hidden_act", "layer_norm_eps")
    if v.model_type not in ("", "idefics3_vision"):
        raise v.error("model_type", f"is {v.model_type!r}; Aria's tower is an idefics3_vision")
    return _vision(v), _queries(r, v, hidden)


def _vision(v: Reader) -> CountedPart:
    """SigLIP's tower without its pooled output: patches and positions, pre-norm layers with biases, a final norm."""
    width, inner, layers = v.integer("hidden_size"), v.integer("intermediate_size"), v.layers()
    head_width(v, width, v.integer("num_attention_heads"))
    patch = v.integer("patch_size")
    side = v.integer("image_size", minimum=patch) // patch
    tensors = (
        ("patches", (v.integer("num_channels"), patch, patch, width), 1),
        ("patch_bias", (width,), 1),
        ("positions", (side**2, width), 1),
        ("attention", (width, width), 4 * layers),
        ("attention_biases", (width,), 4 * layers),
        ("feed_forward", (width, inner), 2 * layers),
        ("up_biases", (inner,), layers),
        ("down_biases", (width,), layers),
        ("norms", (2, width), 2 * layers + 1),
    )
    return CountedPart(name="vision", tensors=tensors)


def _queries(r: Reader, v: Reader, hidden: int) -> CountedPart:
    """Learned queries that attend over the patches, behind projections twice over, then two matrices."""
    found = r.mapping("projector_patch_to_query_dict") or _QUERIES
    numbers = [value for value in found.values() if type(value) is int and value > 0]
    if len(numbers) != len(found):
        raise r.error("projector_patch_to_query_dict", f"is {shown(dict(found))}; expected numbers of queries")
    width = v.integer("hidden_size")
    tensors = (
        ("queries", (max(numbers), width), 1),
        ("attention", (width, width), 8),
        ("attention_biases", (width,), 5),
        ("norms", (2, width), 3),
        ("up_proj", (width, hidden), 1),
        ("down_proj", (hidden, hidden), 1),
    )
    return CountedPart(name="projector", tensors=tensors)


TYPES: Final = {
    "aria_text": ModelType(build=_text, defaults=TEXT_DEFAULTS, origin="transformers 5.23 AriaTextConfig"),
    "aria": ModelType(build=_whole, defaults={"tie_word_embeddings": False}, origin="transformers 5.23 AriaConfig"),
}
