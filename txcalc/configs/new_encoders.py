"""Encoders built as newer decoders are: ESM C, UltraBERT.

Sources: EvolutionaryScale 2024, "ESM Cambrian" (evolutionaryscale.ai/blog/esm-cambrian); transformers 5.23's modeling
code for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any, Final

from txcalc.architecture import Head, HeadTransform, Layer, Model, Projection, QKNorm, TokenEmbedding
from txcalc.configs import rope
from txcalc.configs.common import each_once, layer_kinds, layer_norm, pre_norm, rms_norm, self_attention, swiglu
from txcalc.configs.encoders import Plan, dense_classifier, encoder_model, head_width, known_task, plain_plan
from txcalc.configs.heads import Task, classifier, num_labels
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType

ESMC_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 64,
    "hidden_size": 2560,
    "intermediate_size": 6912,
    "num_hidden_layers": 80,
    "num_attention_heads": 40,
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
}
ULTRABERT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "classifier_pooling": "cls",
    "sliding_window": 128,
    "prediction_head_size": 768,
}
_KINDS: Final = ("full_attention", "sliding_attention")
_BASES: Final = {"full_attention": 2_560_000.0, "sliding_attention": 10_000.0}
_EPS: Final = 1e-5  # of ESM C's norms, which no key sets


# ---- ESM C ----------------------------------------------------------------------------------------------------------


def _esmc(r: Reader) -> Model:
    """Llama's layers without the mask, with LayerNorms and normed queries and keys; deep models add less a layer."""
    r.ignore("mask_token_id", "use_cache", "rms_norm_eps")
    tasks = "base masked_lm sequence_classification token_classification"
    task = known_task(r, tasks, prefix="Esmc", default="masked_lm")
    hidden, layers = r.integer("hidden_size"), r.layers()
    _plain_heads(r, hidden)
    normed = QKNorm(kind="layernorm", scope="width", eps=_EPS)
    bias = r.flag("attention_bias")
    attention = self_attention(r, position=None, qkv_bias=bias, o_bias=bias, causal=False, qk_norm=normed)
    attention = attention.replace(position=rope.rotary(r, attention.head_dim, whole=True))
    layer = pre_norm(
        attention, swiglu(r, bias=r.flag("mlp_bias")), norm=layer_norm(hidden, _EPS), scale=1 / sqrt(layers / 36)
    )
    return encoder_model(
        r,
        _esmc_plan(r, task, hidden),
        role="encoder",
        hidden=hidden,
        embedding=TokenEmbedding(vocab_size=r.integer("vocab_size"), embedding_size=hidden),
        layers=[(layer, layers)],
        positions=r.integer("max_position_embeddings"),
        final_norm=layer_norm(hidden, _EPS, bias=False),
    )


def _plain_heads(r: Reader, hidden: int) -> None:
    """Its norm of all queries at once has the model's width, and keys have as many heads."""
    heads = r.integer("num_attention_heads")
    width = head_width(r, hidden, heads)
    if r.optional_integer("head_dim") not in (None, width):
        raise r.error("head_dim", f"is {r.integer('head_dim')}; {heads} heads must be hidden_size, {hidden}, wide")
    if r.optional_integer("num_key_value_heads") not in (None, heads):
        raise r.error(
            "num_key_value_heads", f"is {r.integer('num_key_value_heads')}; it must be {heads}, as queries have"
        )


def _esmc_plan(r: Reader, task: Task, hidden: int) -> Plan:
    """transformers never ties the output matrix."""
    if task == "masked_lm":
        if r.flag("tie_word_embeddings"):
            r.notes.append("tie_word_embeddings: transformers does not tie this type's output matrix")
        transform = HeadTransform(
            dense=Projection(in_size=hidden, out_size=hidden, bias=True, activation="gelu"),
            norm=layer_norm(hidden, _EPS),
        )
        head = classifier(hidden, r.integer("vocab_size"), role="encoder", bias=True)
        return Plan(head=head.replace(kind="masked_lm", transform=transform))
    if task == "sequence_classification":
        return Plan(head=dense_classifier(hidden, num_labels(r), "tanh", role="encoder"))
    return plain_plan(r, task, role="encoder", hidden=hidden).replace(pooler=False)


# ---- UltraBERT ------------------------------------------------------------------------------------------------------


def ultra_encoder(r: Reader) -> Model:
    """The bare encoder that a config describes (UltraVBERT's text model)."""
    return _ultra(r, "base")


def _ultrabert(r: Reader) -> Model:
    tasks = "base masked_lm sequence_classification token_classification question_answering"
    return _ultra(r, known_task(r, tasks, prefix="Ultrabert", default="masked_lm"))


def _ultra(r: Reader, task: Task) -> Model:
    """Llama's layers without the mask, two of three in a window."""
    r.ignore("use_cache", "classifier_pooling")
    hidden = r.integer("hidden_size")
    head_width(r, hidden, r.integer("num_attention_heads"))
    norm = rms_norm(hidden, r.number("rms_norm_eps"))
    return encoder_model(
        r,
        _ultra_plan(r, task, hidden),
        role="encoder",
        hidden=hidden,
        embedding=TokenEmbedding(vocab_size=r.integer("vocab_size"), embedding_size=hidden),
        layers=_ultra_layers(r, norm),
        positions=r.integer("max_position_embeddings"),
        final_norm=norm,
    )


def _ultra_layers(r: Reader, norm: Any) -> list[tuple[Layer, int]]:
    bias, inner = r.flag("attention_bias"), swiglu(r, bias=r.flag("mlp_bias"))
    kinds, radius = _kinds_and_radius(r)
    thetas = _thetas(r, kinds)
    plain = self_attention(r, position=None, qkv_bias=bias, o_bias=bias, causal=False)

    def layer(kind: str) -> Layer:
        found = r.mapping("rope_parameters").get(kind)
        settings = {"rope_theta": thetas[kind], **(found if isinstance(found, Mapping) else {})}
        position = rope.rotary(r, plain.head_dim, settings=settings, whole=True)
        window = 2 * radius if kind == "sliding_attention" else None
        return pre_norm(plain.replace(position=position, window=window), inner, norm=norm)

    layers = each_once(kinds, layer)
    r.ignore("rope_parameters", "rope_scaling")
    return layers


def _kinds_and_radius(r: Reader) -> tuple[list[str], int]:
    """``attention_windows`` of older files holds a window a layer, 0 for none."""
    layers, radius = r.layers(), r.integer("sliding_window")
    older = r.integers("attention_windows", length=layers) if r.has("attention_windows") else []
    radius = next((window for window in older if window), radius)

    def default() -> list[str]:
        return [_KINDS[bool(window)] for window in older] or [_KINDS[bool((i + 1) % 3)] for i in range(layers)]

    return layer_kinds(r, layers, default, known=_KINDS), radius


def _thetas(r: Reader, kinds: list[str]) -> dict[str, float]:
    """``rope_theta`` of older files is a list, a base a layer; the last of a kind stands."""
    if r.config.get("rope_theta") is None:
        r.ignore("rope_theta")
        return dict(_BASES)
    found = r.numbers("rope_theta", length=len(kinds))
    if min(found) <= 0:
        raise r.error("rope_theta", f"holds {shown(min(found))}; expected positive numbers")
    return {**_BASES, **dict(zip(kinds, found, strict=True))}


def _ultra_plan(r: Reader, task: Task, hidden: int) -> Plan:
    if task == "masked_lm":
        return Plan(head=ultra_masked_head(r, hidden, tied=r.flag("tie_word_embeddings")))
    r.ignore("prediction_head_size")
    labels = 2 if task == "question_answering" else None
    plan = plain_plan(r, task, role="encoder", hidden=hidden, labels=labels).replace(pooler=False)
    if task != "sequence_classification" or plan.head is None:
        return plan
    mean = r.choice("classifier_pooling", ("cls", "mean")) == "mean"
    return plan.replace(head=plan.head.replace(reads="mean" if mean else "usual"))


def ultra_masked_head(r: Reader, hidden: int, *, tied: bool) -> Head:
    """Down to ``prediction_head_size`` and back up, an activation after either, then the table's matrix."""
    narrow = r.integer("prediction_head_size")
    return Head(
        kind="masked_lm",
        input_size=hidden,
        output_size=r.integer("vocab_size"),
        tied=tied,
        tied_to="encoder",
        transform=HeadTransform(
            dense=Projection(in_size=hidden, out_size=narrow, activation="gelu_tanh"),
            second=Projection(in_size=narrow, out_size=hidden, activation="gelu_tanh"),
        ),
    )


TYPES: Final = {
    "esmc": ModelType(build=_esmc, defaults=ESMC_DEFAULTS, origin="transformers 5.23 EsmcConfig"),
    "ultrabert": ModelType(build=_ultrabert, defaults=ULTRABERT_DEFAULTS, origin="transformers 5.23 UltrabertConfig"),
}
