"""BERT made small: ConvBERT, MobileBERT and SqueezeBERT.

Sources: Jiang et al. 2020 (arXiv 2008.02496); Sun et al. 2020 (arXiv 2004.02984); Iandola et al. 2020 (arXiv
2006.11316).
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    Bottleneck,
    FeedForward,
    GroupedProjections,
    Head,
    InputTable,
    Layer,
    LearnedPositions,
    Model,
    Norm,
    Projection,
    SelfAttention,
    SpanConvolution,
    TokenEmbedding,
    UnusedTensor,
)
from txcalc.configs.bert import BERT_DEFAULTS, bert_plan
from txcalc.configs.common import activation, layer_norm, post_norm
from txcalc.configs.electra import narrow_embedding
from txcalc.configs.encoders import (
    LM_TASKS,
    Plan,
    absolute_positions_only,
    bert_sublayers,
    biased_attention,
    dense_classifier,
    encoder_model,
    head_width,
    known_task,
    lm_plan,
    plain_feed_forward,
    plain_plan,
)
from txcalc.configs.heads import Task, classifier, num_labels
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType

CONVBERT_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "embedding_size": 768,
    "head_ratio": 2,
    "conv_kernel_size": 9,
    "num_groups": 1,
}
MOBILEBERT_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "hidden_size": 512,
    "num_hidden_layers": 24,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "hidden_act": "relu",
    "embedding_size": 128,
    "trigram_input": True,
    "use_bottleneck": True,
    "intra_bottleneck_size": 128,
    "use_bottleneck_attention": False,
    "key_query_shared_bottleneck": True,
    "num_feedforward_networks": 4,
    "normalization_type": "no_norm",
    "classifier_activation": True,
}
SQUEEZEBERT_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "embedding_size": 768,
    "q_groups": 4,
    "k_groups": 4,
    "v_groups": 4,
    "post_attention_groups": 1,
    "intermediate_groups": 4,
    "output_groups": 4,
}
_ENCODER_TASKS: Final = "base masked_lm sequence_classification token_classification question_answering multiple_choice"


def divided(r: Reader, key: str, *widths: int) -> int:
    """A number of groups that divides each of ``widths``.

    Raises:
        ModelError: one that does not.
    """
    groups = r.integer(key)
    for width in widths:
        if width % groups:
            raise r.error(key, f"is {groups}; it does not divide {width} channels")
    return groups


# ---- ConvBERT -------------------------------------------------------------------------------------------------------


def _convbert(r: Reader) -> Model:
    """transformers masks nothing, whatever ``is_decoder`` says."""
    r.ignore("is_decoder", "summary_last_dropout", "summary_first_dropout", "pad_token_id")
    absolute_positions_only(r)
    r.unused("add_cross_attention", False)
    task = known_task(r, _ENCODER_TASKS, prefix="ConvBert", default="masked_lm")
    hidden, width, eps = r.integer("hidden_size"), r.integer("embedding_size"), r.number("layer_norm_eps")
    inner = r.integer("intermediate_size")
    groups = divided(r, "num_groups", hidden, inner)
    feed_forward = plain_feed_forward(hidden, inner, activation(r)).replace(up_groups=groups, down_groups=groups)
    return encoder_model(
        r,
        _convbert_plan(r, task, hidden, width),
        role="encoder",
        hidden=hidden,
        embedding=narrow_embedding(r, width, layer_norm(width, eps)),
        layers=[(post_norm(_span_attention(r, hidden), feed_forward, norm=layer_norm(hidden, eps)), r.layers())],
        positions=r.integer("max_position_embeddings"),
    )


def _span_attention(r: Reader, hidden: int) -> SelfAttention:
    """Of the heads only one in ``head_ratio`` is left, half of their width attention and half convolution."""
    heads = max(r.integer("num_attention_heads") // r.integer("head_ratio"), 1)
    both = head_width(r, hidden, heads)
    if both % 2:
        raise r.error("hidden_size", f"is {hidden}; {heads} heads of {both} channels cannot be halved")
    kernel = r.integer("conv_kernel_size")
    if kernel % 2 == 0:
        raise r.error("conv_kernel_size", f"is {kernel}; a kernel with a middle has an odd number of taps")
    return biased_attention(hidden, heads, both // 2, causal=False).replace(
        span_convolution=SpanConvolution(kernel=kernel)
    )


def _convbert_plan(r: Reader, task: Task, hidden: int, width: int) -> Plan:
    if task in LM_TASKS:
        eps = r.number("layer_norm_eps")
        return lm_plan(r, task, role="encoder", hidden=hidden, act="gelu", eps=eps, width=width, spare_bias=False)
    if task == "sequence_classification":
        return Plan(head=dense_classifier(hidden, num_labels(r), activation(r), role="encoder"))
    if task == "multiple_choice":
        return Plan(head=_choice(r, hidden))
    r.ignore(*_SUMMARY)
    return plain_plan(r, task, role="encoder", hidden=hidden).replace(pooler=False)


_SUMMARY: Final = ("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels")


def _choice(r: Reader, hidden: int) -> Head:
    """Behind transformers' older "sequence summary": the last token where the config does not say which."""
    r.ignore(*_SUMMARY)
    kind, projected = r.config.get("summary_type", "last"), r.config.get("summary_use_proj", False)
    reads: Any = kind if kind in ("first", "last", "mean") else "last"
    if reads != kind or (projected and r.config.get("summary_proj_to_labels")):
        r.reasons.append(f"summary_type = {shown(kind)}, or summary_proj_to_labels: a summary that is not described")
    act = activation(r, "summary_activation") if r.config.get("summary_activation") else None
    if not projected:
        return classifier(hidden, 1, role="encoder", bias=True, pooled=True).replace(reads=reads)
    return dense_classifier(hidden, 1, act or "gelu", role="encoder").replace(reads=reads)


# ---- MobileBERT -----------------------------------------------------------------------------------------------------


def _mobilebert(r: Reader) -> Model:
    absolute_positions_only(r)
    r.ignore("pad_token_id", "true_hidden_size")
    r.unused("is_decoder", False)
    r.unused("add_cross_attention", False)
    tasks = f"{_ENCODER_TASKS} pretraining next_sentence"
    task = known_task(r, tasks, prefix="MobileBert", default="masked_lm")
    hidden = r.integer("hidden_size")
    embedding, unused = _trigrams(r, hidden)
    layer, idle = _mobile_layer(r, hidden)
    return encoder_model(
        r,
        _mobile_plan(r, task, hidden),
        role="encoder",
        hidden=hidden,
        embedding=embedding,
        layers=[(layer, r.layers())],
        positions=r.integer("max_position_embeddings"),
        unused=(*unused, *idle),
    )


def _norm(r: Reader, width: int) -> Norm:
    """``no_norm`` scales and shifts each channel, and that is all."""
    norm = layer_norm(width, r.number("layer_norm_eps"))
    plain = r.choice("normalization_type", ("no_norm", "layer_norm")) == "no_norm"
    return norm.replace(kind="affine") if plain else norm


def _trigrams(r: Reader, hidden: int) -> tuple[TokenEmbedding, tuple[UnusedTensor, ...]]:
    """Every token's row beside its neighbours', projected; positions and types have the model's own width."""
    width, trigram = r.integer("embedding_size"), r.flag("trigram_input")
    runs = trigram or width != hidden
    projection = Projection(in_size=width * (3 if trigram else 1), out_size=hidden, bias=True)
    embedding = TokenEmbedding(
        vocab_size=r.integer("vocab_size"),
        embedding_size=width,
        positions=LearnedPositions(rows=r.integer("max_position_embeddings"), width=hidden),
        tables=(InputTable(name="token_types", rows=r.integer("type_vocab_size"), width=hidden),),
        neighbours=trigram,
        norm=_norm(r, hidden),
        projection=projection if runs else None,
    )
    idle = UnusedTensor(name="embedding transformation", shape=(hidden * hidden + hidden,))
    return embedding, () if runs else (idle,)


def _mobile_layer(r: Reader, hidden: int) -> tuple[Layer, tuple[UnusedTensor, ...]]:
    bottleneck, idle = _bottleneck(r, hidden)
    width = bottleneck.width if bottleneck else hidden
    heads = r.integer("num_attention_heads")
    attention = biased_attention(width, heads, head_width(r, width, heads, key=_width_key(bottleneck)), causal=False)
    if bottleneck and not r.flag("use_bottleneck_attention"):
        attention = attention.replace(value_size=hidden)
    inner: FeedForward = plain_feed_forward(width, r.integer("intermediate_size"), activation(r))
    networks = [inner] * r.integer("num_feedforward_networks")
    return post_norm(attention, *networks, norm=_norm(r, width)).replace(bottleneck=bottleneck), idle


def _width_key(bottleneck: Bottleneck | None) -> str:
    return "intra_bottleneck_size" if bottleneck else "hidden_size"


def _bottleneck(r: Reader, hidden: int) -> tuple[Bottleneck | None, tuple[UnusedTensor, ...]]:
    """Queries and keys read a narrow input of their own, that of the residual, or, where widths agree, the stream."""
    shared, one = r.flag("key_query_shared_bottleneck"), r.flag("use_bottleneck_attention")
    width = r.integer("intra_bottleneck_size")
    if not r.flag("use_bottleneck"):
        if one:
            r.notes.append("use_bottleneck_attention: without use_bottleneck there is none")
        return None, ()
    if not shared and not one and width != hidden:
        raise r.error("key_query_shared_bottleneck", f"is false: queries made of {width} channels cannot read {hidden}")
    made = Bottleneck(
        hidden_size=hidden,
        width=width,
        norm_in=_norm(r, width),
        norm_out=_norm(r, hidden),
        queries=shared and not one,
    )
    idle = UnusedTensor(name="queries' bottleneck", shape=(hidden * width + 3 * width,), count=r.layers())
    return made, (idle,) if shared and one else ()


def _mobile_plan(r: Reader, task: Task, hidden: int) -> Plan:
    """The table is narrower than the model: the output matrix holds the other channels of its own."""
    plan = bert_plan(r, task, "encoder")
    if task in LM_TASKS and plan.head is not None:
        own = hidden - r.integer("embedding_size")
        if own < 0:
            raise r.error("embedding_size", f"is {hidden - own}; the output matrix has {hidden} channels")
        plan = plan.replace(head=plan.head.replace(own_channels=own))
    return plan.replace(pooler=r.flag("classifier_activation") and plan.pooler)


# ---- SqueezeBERT ----------------------------------------------------------------------------------------------------


def _squeezebert(r: Reader) -> Model:
    """Every matrix of a layer is a convolution of one tap, in groups; the pooler runs under every head."""
    absolute_positions_only(r)
    r.ignore("pad_token_id")
    r.unused("is_decoder", False)
    r.unused("add_cross_attention", False)
    task = known_task(r, _ENCODER_TASKS, prefix="SqueezeBert", default="masked_lm")
    hidden, norm = r.integer("hidden_size"), layer_norm(r.integer("hidden_size"), 1e-12)
    if r.integer("embedding_size") != hidden:
        raise r.error("embedding_size", f"is {r.integer('embedding_size')}; it must be hidden_size, {hidden}")
    attention, feed_forward = bert_sublayers(r, role="encoder")
    inner = feed_forward.intermediate_size
    groups = {name: divided(r, f"{name}_groups", hidden) for name in "qkv"}
    output = divided(r, "post_attention_groups", hidden)
    feed_forward = feed_forward.replace(
        up_groups=divided(r, "intermediate_groups", hidden, inner),
        down_groups=divided(r, "output_groups", inner, hidden),
    )
    grouped = attention.replace(groups=GroupedProjections(o=output, **groups))
    return encoder_model(
        r,
        bert_plan(r, task, "encoder").replace(pooler=True),
        role="encoder",
        hidden=hidden,
        embedding=narrow_embedding(r, hidden, layer_norm(hidden, r.number("layer_norm_eps"))),
        layers=[(post_norm(grouped, feed_forward, norm=norm), r.layers())],
        positions=r.integer("max_position_embeddings"),
    )


TYPES: Final = {
    "convbert": ModelType(build=_convbert, defaults=CONVBERT_DEFAULTS, origin="transformers 5.23 ConvBertConfig"),
    "mobilebert": ModelType(
        build=_mobilebert, defaults=MOBILEBERT_DEFAULTS, origin="transformers 5.23 MobileBertConfig"
    ),
    "squeezebert": ModelType(
        build=_squeezebert, defaults=SQUEEZEBERT_DEFAULTS, origin="transformers 5.23 SqueezeBertConfig"
    ),
}
