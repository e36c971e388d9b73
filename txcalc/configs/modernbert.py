"""ModernBERT, its decoder and EuroBERT: encoders built as newer decoders are.

Sources: Warner et al. 2024 (arXiv 2412.13663), section 2.1; Weller et al. 2025 (arXiv 2507.11412), section 3; Boizard
et al. 2025 (arXiv 2503.05500), section 2.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from txcalc.architecture import (
    Head,
    HeadTransform,
    Layer,
    Model,
    Norm,
    Projection,
    Residual,
    Role,
    Rotary,
    SelfAttention,
    TokenEmbedding,
)
from txcalc.configs import moe, rope
from txcalc.configs.bert import TASKS
from txcalc.configs.common import (
    activation,
    each_once,
    layer_kinds,
    layer_norm,
    pre_norm,
    rms_norm,
    self_attention,
    swiglu,
)
from txcalc.configs.encoders import LM_TASKS, Plan, dense_classifier, encoder_model, head_width, known_task, plain_plan
from txcalc.configs.heads import Task, classifier, last_of_all, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

_KINDS: Final = ("full_attention", "sliding_attention")
_BASES: Final = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}

MODERNBERT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 50_368,
    "hidden_size": 768,
    "intermediate_size": 1152,
    "num_hidden_layers": 22,
    "num_attention_heads": 12,
    "hidden_activation": "gelu",
    "max_position_embeddings": 8192,
    "norm_eps": 1e-5,
    "norm_bias": False,
    "attention_bias": False,
    "mlp_bias": False,
    "local_attention": 128,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160_000.0,
    "local_rope_theta": 10_000.0,
    "decoder_bias": True,
    "classifier_pooling": "cls",
    "classifier_bias": False,
    "classifier_activation": "gelu",
    "tie_word_embeddings": True,
}
EUROBERT_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 128_256,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "classifier_pooling": "late",
}


def _pooling(
    r: Reader, **known: Literal["usual", "first", "last", "mean"]
) -> Literal["usual", "first", "last", "mean"]:
    """What a sequence's classifier reads, in the type's words."""
    return known[r.choice("classifier_pooling", tuple(known))]


# ---- ModernBERT and its decoder --------------------------------------------------------------------------------------


def _modernbert(r: Reader) -> Model:
    task = known_task(r, TASKS.replace("causal_lm ", ""), prefix="ModernBert", default="masked_lm")
    return _modern(r, task, "encoder", r.integer("local_attention", minimum=0))


def modern_encoder(r: Reader) -> Model:
    """The bare encoder that a config describes (ModernVBERT's text model)."""
    return _modern(r, "base", "encoder", r.integer("local_attention", minimum=0))


def _modernbert_decoder(r: Reader) -> Model:
    """``local_attention`` counts both directions, of which a decoder has one."""
    task = known_task(r, "causal_lm base sequence_classification", prefix="ModernBertDecoder", default="causal_lm")
    both = r.optional_integer("local_attention")
    if both is None and not r.has("sliding_window"):
        r.reasons.append("local_attention is null: how much local layers see is not known")
    window = r.integer("sliding_window") if r.has("sliding_window") else (both or 2) // 2
    return _modern(r, task, "decoder", window)


def _modern(r: Reader, task: Task, role: Role, window: int) -> Model:
    # how it was trained, which kernels run it, and an older name of norm_eps
    r.ignore("initializer_cutoff_factor", "deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index")
    r.ignore("reference_compile", "repad_logits_with_grad", "layer_norm_eps", "position_embedding_type", "mlp_dropout")
    hidden = r.integer("hidden_size")
    norm = layer_norm(hidden, r.number("norm_eps"), bias=r.flag("norm_bias"))
    return encoder_model(
        r,
        _modern_plan(r, task, norm, role),
        role=role,
        hidden=hidden,
        embedding=TokenEmbedding(vocab_size=r.integer("vocab_size"), embedding_size=hidden, norm=norm),
        layers=_modern_layers(r, norm, window, causal=role == "decoder"),
        positions=r.integer("max_position_embeddings"),
        final_norm=norm,
    )


def _modern_layers(r: Reader, norm: Norm, window: int, *, causal: bool) -> list[tuple[Layer, int]]:
    """Every third layer sees all tokens, the others a window; the first has no norm before its attention."""
    r.ignore("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta")
    num_layers, every = r.layers(), r.integer("global_attn_every_n_layers")
    widths = {"full_attention": None, "sliding_attention": window}
    made = {kind: _modern_attention(r, kind, widths[kind], causal=causal) for kind in _KINDS}
    hidden, bias = r.integer("hidden_size"), r.flag("mlp_bias")
    inner = moe.gated(hidden, r.integer("intermediate_size"), activation(r, "hidden_activation"), bias=bias)

    def default() -> list[str]:
        return [_KINDS[bool(i % every)] for i in range(num_layers)]

    def layer(key: tuple[str, bool]) -> Layer:
        complete = pre_norm(made[key[0]], inner, norm=norm)
        return _without_first_norm(complete) if key[1] else complete

    kinds = layer_kinds(r, num_layers, default, known=_KINDS)
    return each_once([(kind, index == 0) for index, kind in enumerate(kinds)], layer)


def _without_first_norm(layer: Layer) -> Layer:
    """The layer behind an embedding that is normed already."""
    first: Residual = layer.steps[0]
    return layer.replace(steps=(first.replace(branches=(first.branches[0].replace(norm_in=None),)), *layer.steps[1:]))


def _modern_attention(r: Reader, kind: str, window: int | None, *, causal: bool) -> SelfAttention:
    hidden, heads, bias = r.integer("hidden_size"), r.integer("num_attention_heads"), r.flag("attention_bias")
    head_dim = head_width(r, hidden, heads)
    return SelfAttention(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=head_dim,
        v_head_dim=head_dim,
        causal=causal,
        q_bias=bias,
        k_bias=bias,
        v_bias=bias,
        o_bias=bias,
        position=_modern_rotary(r, kind, head_dim),
        window=window,
    )


def _modern_rotary(r: Reader, kind: str, head_dim: int) -> Rotary:
    """Global and local layers have bases of their own; ``rope_scaling`` of older files speaks of both."""
    found = r.mapping("rope_parameters").get(kind)
    settings: dict[str, Any] = dict(found) if isinstance(found, Mapping) else {}
    settings |= r.mapping("rope_scaling")
    settings.setdefault("rope_theta", r.number(_BASES[kind]))
    r.ignore("rope_parameters", "rope_scaling")
    return rope.rotary(r, head_dim, settings=settings, whole=True)


def _modern_plan(r: Reader, task: Task, norm: Norm, role: Role) -> Plan:
    """Every head is a dense layer, an activation and a norm, then a matrix: tied to the token table, or of labels."""
    r.ignore("classifier_pooling", "classifier_bias", "classifier_activation", "decoder_bias")
    if task == "base":
        return Plan()
    bias, act = r.flag("classifier_bias"), activation(r, "classifier_activation")
    dense = Projection(in_size=norm.width, out_size=norm.width, bias=bias, activation=act)
    transform = HeadTransform(dense=dense, norm=norm)
    if task in LM_TASKS:
        head = Head(
            kind="masked_lm" if role == "encoder" else "lm",
            input_size=norm.width,
            output_size=r.integer("vocab_size"),
            tied=r.flag("tie_word_embeddings"),
            bias=r.flag("decoder_bias"),
            tied_to=role,
        )
    else:
        head = _labels(r, task, norm.width, role)
    return Plan(head=head.replace(transform=transform))


def _labels(r: Reader, task: Task, hidden: int, role: Role) -> Head:
    """A classifier; the decoder's reads the last token, and its bias is a setting."""
    if role == "decoder":
        return last_of_all(classifier(hidden, num_labels(r), role=role, bias=r.flag("classifier_bias")))
    outputs = 1 if task == "multiple_choice" else num_labels(r)
    pooled = task in ("sequence_classification", "multiple_choice")
    head = classifier(hidden, outputs, role=role, bias=True, pooled=pooled)
    return head.replace(reads=_pooling(r, cls="usual", mean="mean")) if pooled else head


# ---- EuroBERT -----------------------------------------------------------------------------------------


def _eurobert(r: Reader) -> Model:
    """Llama's layers without the mask."""
    r.ignore("clm", "classifier_pooling")
    tasks = "base masked_lm sequence_classification token_classification"
    task, hidden = known_task(r, tasks, prefix="EuroBert", default="masked_lm"), r.integer("hidden_size")
    norm, bias = rms_norm(hidden, r.number("rms_norm_eps")), r.flag("attention_bias")
    attention = self_attention(r, position=None, qkv_bias=bias, o_bias=bias, causal=False)
    attention = attention.replace(position=rope.rotary(r, attention.head_dim, whole=True))
    return encoder_model(
        r,
        _eurobert_plan(r, task, hidden),
        role="encoder",
        hidden=hidden,
        embedding=TokenEmbedding(vocab_size=r.integer("vocab_size"), embedding_size=hidden),
        layers=[(pre_norm(attention, swiglu(r, bias=r.flag("mlp_bias")), norm=norm), r.layers())],
        positions=r.integer("max_position_embeddings"),
        final_norm=norm,
    )


def _eurobert_plan(r: Reader, task: Task, hidden: int) -> Plan:
    """The output matrix has a bias if the feed-forward has one; ``late`` averages the outputs of all tokens."""
    match task:
        case "base":
            return Plan()
        case "masked_lm":
            tied, bias = r.flag("tie_word_embeddings"), r.flag("mlp_bias")
            vocab = r.integer("vocab_size")
            return Plan(
                head=Head(
                    kind="masked_lm", input_size=hidden, output_size=vocab, tied=tied, bias=bias, tied_to="encoder"
                )
            )
        case "sequence_classification":
            reads = _pooling(r, bos="usual", mean="mean", late="mean")
            head = dense_classifier(hidden, num_labels(r), "gelu", role="encoder")
            return Plan(head=head.replace(reads=reads, pooled=r.text("classifier_pooling") != "late"))
    return plain_plan(r, task, role="encoder", hidden=hidden)


TYPES: Final = {
    "modernbert": ModelType(
        build=_modernbert, defaults=MODERNBERT_DEFAULTS, origin="transformers 5.23 ModernBertConfig"
    ),
    "modernbert-decoder": ModelType(
        build=_modernbert_decoder, defaults=MODERNBERT_DEFAULTS, origin="transformers 5.23 ModernBertDecoderConfig"
    ),
    "eurobert": ModelType(build=_eurobert, defaults=EUROBERT_DEFAULTS, origin="transformers 5.23 EuroBertConfig"),
}
