"""DeBERTa and DeBERTa-v2 (and v3): scores from content and relative position, in terms of their own.

Sources: He et al. 2021 (arXiv 2006.03654), section 3; He et al. 2021 (arXiv 2111.09543) for v3.
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    Branch,
    Disentangled,
    Layer,
    LearnedPositions,
    Model,
    Norm,
    Residual,
    SelfAttention,
    TokenConvolution,
    TokenEmbedding,
    UnusedTensor,
)
from txcalc.configs.bert import BERT_DEFAULTS
from txcalc.configs.common import activation, layer_norm, post_norm
from txcalc.configs.encoders import (
    LM_TASKS,
    Plan,
    bert_sublayers,
    dense_classifier,
    encoder_model,
    known_task,
    lm_plan,
    plain_plan,
)
from txcalc.configs.heads import Task, num_labels
from txcalc.configs.reader import Reader
from txcalc.configs.registry import ModelType

_SHARED: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-7,
    "relative_attention": False,
    "max_relative_positions": -1,
    "position_biased_input": True,
    "pos_att_type": None,
    "pooler_hidden_act": "gelu",
    "pooler_hidden_size": None,
    "legacy": True,
}
DEBERTA_DEFAULTS: Final[dict[str, Any]] = {**_SHARED, "vocab_size": 50_265}
DEBERTA_V2_DEFAULTS: Final[dict[str, Any]] = {
    **_SHARED,
    "vocab_size": 128_100,
    "hidden_size": 1536,
    "num_hidden_layers": 24,
    "num_attention_heads": 24,
    "intermediate_size": 6144,
    "share_att_key": False,
    "position_buckets": -1,
    "norm_rel_ebd": "none",
    "conv_kernel_size": 0,
    "conv_act": "tanh",
    "conv_groups": 1,
}
_TASKS: Final = "base masked_lm sequence_classification token_classification question_answering"


def _deberta(r: Reader) -> Model:
    r.unused("talking_head", False)
    return _model(r, "Deberta", _TASKS, first=True)


def _deberta_v2(r: Reader) -> Model:
    _attention_width(r)
    return _model(r, "DebertaV2", f"{_TASKS} multiple_choice", first=False)


def _attention_width(r: Reader) -> None:
    """``attention_head_size``, which published files carry, can only say what the heads divide the width into."""
    heads, hidden = r.integer("num_attention_heads"), r.integer("hidden_size")
    if r.has("attention_head_size") and r.integer("attention_head_size") * heads != hidden:
        raise r.error("attention_head_size", f"times {heads} heads is not hidden_size, {hidden}")


def _model(r: Reader, prefix: str, tasks: str, *, first: bool) -> Model:
    r.ignore("pooler_dropout", "cls_dropout", "position_embedding_type", "is_decoder", "add_cross_attention")
    r.ignore("pooler_hidden_size", "pooler_hidden_act")  # of the classifiers that read them
    task = known_task(r, tasks, prefix=prefix, default="masked_lm")
    hidden = r.integer("hidden_size")
    norm = layer_norm(hidden, r.number("layer_norm_eps"))
    position = _position(r, first=first)
    table_norm, unused = _table_norm(r, norm, used=position is not None) if not first else (None, ())
    attention, feed_forward = bert_sublayers(r, role="encoder")
    attention = attention.replace(k_bias=not first, position=position, scale=_scale(r, attention, position, first))
    layer = post_norm(attention, feed_forward, norm=norm)
    return encoder_model(
        r,
        _plan(r, task, hidden),
        role="encoder",
        hidden=hidden,
        embedding=_embedding(r, hidden, norm),
        layers=[(layer, r.layers())] if first else _with_convolution(r, layer, norm),
        positions=r.integer("max_position_embeddings"),
        unused=unused,
        disentangled=position,
        disentangled_norm=table_norm,
    )


# ---- embeddings and layers ------------------------------------------------------------------------------------------


def _embedding(r: Reader, hidden: int, norm: Norm) -> TokenEmbedding:
    r.unused("embedding_size", None, hidden)  # one of another width is projected, and normed after that
    rows, types = r.integer("max_position_embeddings"), r.integer("type_vocab_size", minimum=0)
    return TokenEmbedding(
        vocab_size=r.integer("vocab_size"),
        embedding_size=hidden,
        positions=LearnedPositions(rows=rows, width=hidden) if r.flag("position_biased_input") else None,
        token_types=types,
        norm=norm,
    )


def _kinds(r: Reader) -> list[str]:
    """Kinds of scores beside content to content: ``c2p`` and ``p2c``, as a list or joined by ``|``."""
    written = r.raw("pos_att_type")
    kinds = [part.strip() for part in written.lower().split("|")] if isinstance(written, str) else None
    kinds = r.texts("pos_att_type") if kinds is None else kinds
    if set(kinds) - {"c2p", "p2c"} or len(set(kinds)) != len(kinds):
        r.reasons.append(f"pos_att_type = {'|'.join(kinds)}: scores other than c2p and p2c, once each, are not known")
    return kinds


def _position(r: Reader, *, first: bool) -> Disentangled | None:
    """``span`` rows to each side: the buckets where there are any, else the longest distance."""
    kinds = _kinds(r)
    relative, longest = r.flag("relative_attention"), r.integer("max_relative_positions", minimum=-1)
    buckets = 0 if first else r.integer("position_buckets", minimum=-1)
    share_key = False if first else r.flag("share_att_key")
    if not relative:
        return None
    longest = longest if longest >= 1 else r.integer("max_position_embeddings")
    return Disentangled(
        span=buckets if buckets > 0 else longest,
        buckets=max(buckets, 0),
        max_distance=longest,
        content_to_position="c2p" in kinds,
        position_to_content="p2c" in kinds,
        share_key=share_key,
        key_bias=not first,
        within_length=first,
    )


def _scale(r: Reader, attention: SelfAttention, position: Disentangled | None, first: bool) -> float | None:
    """1 / sqrt(head_dim * kinds of scores), the kinds that are named even where ``relative_attention`` is off."""
    kinds = _kinds(r) if position is None else []
    named = len(kinds) if first else len(set(kinds) & {"c2p", "p2c"})
    return float((attention.head_dim * (1 + named)) ** -0.5) if named else None


def _table_norm(r: Reader, norm: Norm, *, used: bool) -> tuple[Norm | None, tuple[UnusedTensor, ...]]:
    """``norm_rel_ebd``: ``layer_norm`` normalises the relative vectors; without them the norm is built and idle."""
    if "layer_norm" not in [part.strip() for part in r.text("norm_rel_ebd").lower().split("|")]:
        return None, ()
    if used:
        return norm, ()
    return None, (UnusedTensor(name="norm of relative positions", shape=(2, norm.width)),)


def _with_convolution(r: Reader, layer: Layer, norm: Norm) -> list[tuple[Layer, int]]:
    """``conv_kernel_size``: beside the first layer stands a convolution on its input, added to its output and normed.

    Its branch starts with the attention's and joins two steps later.
    """
    depth, kernel = r.layers(), r.integer("conv_kernel_size", minimum=0)
    groups, act = r.integer("conv_groups"), activation(r, "conv_act")
    if not kernel:
        return [(layer, depth)]
    hidden = r.integer("hidden_size")
    if hidden % groups:
        raise r.error("conv_groups", f"is {groups}; it must divide hidden_size, {hidden}")
    if kernel % 2 == 0:
        r.notes.append(f"conv_kernel_size = {kernel} does not run: an even kernel gives one token less than it reads")
    convolution = TokenConvolution(hidden_size=hidden, conv_kernel=kernel, groups=groups, activation=act)
    attention, feed_forward = layer.steps
    beside = attention.replace(branches=(*attention.branches, Branch(sublayer=convolution, defer=2)))
    joined = Residual(branches=(), norm_after=norm)
    return [(Layer(steps=(beside, feed_forward, joined)), 1), (layer, depth - 1)]


# ---- heads ----------------------------------------------------------------------------------------------------------


def _plan(r: Reader, task: Task, hidden: int) -> Plan:
    legacy, act = r.flag("legacy"), activation(r)
    if task in LM_TASKS:
        eps = r.number("layer_norm_eps")
        plan = lm_plan(r, task, role="encoder", hidden=hidden, act=act, eps=eps)
        if legacy:
            return plan
        assert plan.head is not None
        return Plan(head=plan.head.replace(tied=True))  # the newer head reads the token table, whatever the config says
    if task in ("sequence_classification", "multiple_choice"):
        outputs = 1 if task == "multiple_choice" else num_labels(r)
        width = r.optional_integer("pooler_hidden_size") or hidden
        if width != hidden:
            raise r.error("pooler_hidden_size", f"is {width}; the pooler reads hidden_size, {hidden}")
        return Plan(head=dense_classifier(hidden, outputs, activation(r, "pooler_hidden_act"), role="encoder"))
    return plain_plan(r, task, role="encoder", hidden=hidden).replace(pooler=False)


TYPES: Final = {
    "deberta": ModelType(build=_deberta, defaults=DEBERTA_DEFAULTS, origin="transformers 5.23 DebertaConfig"),
    "deberta-v2": ModelType(
        build=_deberta_v2, defaults=DEBERTA_V2_DEFAULTS, origin="transformers 5.23 DebertaV2Config"
    ),
}
