"""XLM, FlauBERT and XLNet: encoders with heads behind a "sequence summary", and XLNet's scores of distances.

Sources: Lample and Conneau 2019 (arXiv 1901.07291); Le et al. 2020 (arXiv 1912.05372); Yang et al. 2019
(arXiv 1906.08237), section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from txcalc.architecture import (
    Head,
    HeadTransform,
    LearnedPositions,
    Model,
    ProjectedDistances,
    Projection,
    Role,
    TokenEmbedding,
    UnusedTensor,
)
from txcalc.architecture.feed_forward import Activation
from txcalc.configs.common import activation, foreign_spelling, layer_norm, post_norm, pre_norm
from txcalc.configs.encoders import Plan, biased_attention, encoder_model, head_width, plain_feed_forward
from txcalc.configs.heads import class_of, classifier, num_labels
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType

_CLASSES: Final = """
Model ForSequenceClassification ForTokenClassification ForQuestionAnsweringSimple ForQuestionAnswering ForMultipleChoice
""".split()

XLM_ALIASES: Final = {
    "vocab_size": "n_words",
    "hidden_size": "emb_dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
}
XLM_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 30_145,
    "hidden_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "gelu_activation": True,
    "causal": False,
    "asm": False,
    "n_langs": 1,
    "use_lang_emb": True,
    "max_position_embeddings": 512,
    "layer_norm_eps": 1e-12,
    "is_encoder": True,
    "summary_type": "first",
    "summary_use_proj": True,
    "summary_activation": None,
    "summary_proj_to_labels": True,
    "tie_word_embeddings": True,
}
XLNET_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 32_000,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "d_head": None,
    "ff_activation": "gelu",
    "attn_type": "bi",
    "layer_norm_eps": 1e-12,
    "summary_type": "last",
    "summary_use_proj": True,
    "summary_activation": "tanh",
    "tie_word_embeddings": True,
}

# Which number marks what, how many answers are kept, how it was trained, keys that no code reads.
_WITHOUT_BEARING: Final = """
unk_index mask_index bos_index eos_index pad_index lang_id start_n_top end_n_top embed_init_std summary_last_dropout
sinusoidal_embeddings id2lang lang2id max_vocab min_count same_enc_dec amp async bptt clip_grad_norm encoder_only fp16
group_by_size langs lg_sampling_factor lgs max_batch_size mlm_steps sample_alpha tokens_per_batch use_apex word_blank
word_dropout word_keep word_mask word_mask_keep_rand word_pred word_rand word_shuffle layerdrop
""".split()
_MEMORY: Final = "mem_len reuse_len use_mems_eval use_mems_train bi_data clamp_len same_length untie_r".split()

# ---- heads ----------------------------------------------------------------------------------------------------------


def _head(r: Reader, task: str, role: Role, *, tied_lm: Head, narrow: bool) -> Head | None:
    """The head of a class; ``narrow``: a summary gives one number a label at once (XLM), else hidden_size channels."""
    hidden = tied_lm.input_size
    r.ignore("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels")
    match task:
        case "Model":
            return None
        case "ForTokenClassification" | "ForQuestionAnsweringSimple":
            return classifier(hidden, num_labels(r), role=role, bias=True)
        case "ForQuestionAnswering":
            r.reasons.append("a head that searches for answers with beams is not described: taken as a plain one")
            return classifier(hidden, 2, role=role, bias=True)
        case "ForSequenceClassification" | "ForMultipleChoice":
            several = task == "ForMultipleChoice"
            return (_narrow_summary if narrow else _wide_summary)(r, hidden, role, several=several)
    return tied_lm


def _narrow_summary(r: Reader, hidden: int, role: Role, *, several: bool) -> Head | None:
    """XLM's: the summary itself is the classifier; of several choices, one more matrix makes a score of its labels."""
    labels = num_labels(r)
    projected, to_labels = r.flag("summary_use_proj"), r.flag("summary_proj_to_labels")
    width = labels if to_labels else hidden
    if not several:
        return _reading(r, classifier(hidden, width, role=role, bias=True, pooled=True)) if projected else None
    if not projected or width != labels:
        r.reasons.append(f"a score of {labels} labels cannot be made of the summary's {width if projected else hidden}")
    head = classifier(hidden, 1, role=role, bias=True, pooled=True)
    dense = Projection(in_size=hidden, out_size=labels, bias=True, activation=_summary_activation(r))
    return _reading(r, head.replace(transform=HeadTransform(dense=dense)))


def _wide_summary(r: Reader, hidden: int, role: Role, *, several: bool) -> Head:
    """XLNet's: a matrix of the model's width, an activation, then the classifier."""
    r.unused("summary_proj_to_labels", False)
    head = classifier(hidden, 1 if several else num_labels(r), role=role, bias=True, pooled=True)
    if r.flag("summary_use_proj"):
        dense = Projection(in_size=hidden, out_size=hidden, bias=True, activation=_summary_activation(r))
        head = head.replace(transform=HeadTransform(dense=dense))
    return _reading(r, head)


def _summary_activation(r: Reader) -> Activation | None:
    return activation(r, "summary_activation") if r.raw("summary_activation") else None


def _reading(r: Reader, head: Head) -> Head:
    """Which vector of a sequence is its summary; where a class token's place may be told, it is the last's if not."""
    kind = r.choice("summary_type", ("first", "last", "mean", "cls_index"))
    reads: Mapping[str, Any] = {"first": "first", "last": "last", "mean": "mean", "cls_index": "last"}
    usual = "last" if head.tied_to == "decoder" else "first"
    return head.replace(reads="usual" if reads[kind] == usual else reads[kind])


def _class(r: Reader, prefix: str, lm: str) -> str:
    return class_of(r, f"{prefix}{lm}", *(f"{prefix}{ending}" for ending in _CLASSES)).removeprefix(prefix)


def _lm_head(r: Reader, hidden: int, role: Role, vocab: int) -> Head:
    tied = r.flag("tie_word_embeddings")
    kind: Any = "lm" if role == "decoder" else "masked_lm"
    return Head(kind=kind, input_size=hidden, output_size=vocab, tied=tied, bias=True, tied_to=role)


# ---- XLM and FlauBERT -----------------------------------------------------------------------------------------------


def _xlm(r: Reader, prefix: str = "XLM", *, pre_normed: bool = False) -> Model:
    r.ignore(*_WITHOUT_BEARING)
    r.unused("share_inout_emb", True)
    if not r.flag("is_encoder"):
        raise r.error(
            "is_encoder", "is false: no code of this type runs as a decoder", "causal makes it look back only"
        )
    role: Role = "decoder" if r.flag("causal") else "encoder"
    hidden, heads, vocab = r.integer("hidden_size"), r.integer("num_attention_heads"), r.integer("vocab_size")
    task = _class(r, prefix, "WithLMHeadModel")
    if r.flag("asm") and task == "WithLMHeadModel":
        r.reasons.append("asm = true: an adaptive softmax is not described")
    r.ignore("asm_cutoffs", "asm_div_value")
    _plain_heads(r, hidden, heads)
    r.unused("intermediate_size", None, 4 * hidden)
    norm, rows = layer_norm(hidden, r.number("layer_norm_eps")), r.integer("max_position_embeddings")
    act: Activation = "gelu" if r.flag("gelu_activation") else "relu"
    attention = biased_attention(hidden, heads, head_width(r, hidden, heads, key="emb_dim"), causal=role == "decoder")
    arrange = pre_norm if pre_normed else post_norm
    embedding = TokenEmbedding(
        vocab_size=vocab,
        embedding_size=hidden,
        positions=LearnedPositions(rows=rows, width=hidden),
        other_types=_languages(r),
        norm=norm,
    )
    return encoder_model(
        r,
        Plan(head=_head(r, task, role, tied_lm=_lm_head(r, hidden, role, vocab), narrow=True)),
        role=role,
        hidden=hidden,
        embedding=embedding,
        layers=[(arrange(attention, plain_feed_forward(hidden, 4 * hidden, act), norm=norm), r.layers())],
        positions=rows,
    )


def _languages(r: Reader) -> int:
    """Rows of the table by language; one language has none."""
    languages = r.integer("n_langs", minimum=0)
    return languages if r.flag("use_lang_emb") and languages > 1 else 0


def _plain_heads(r: Reader, hidden: int, heads: int) -> None:
    r.unused("num_key_value_heads", None, heads)
    r.unused("head_dim", None, hidden // heads)


def _flaubert(r: Reader) -> Model:
    return _xlm(r, "Flaubert", pre_normed=r.flag("pre_norm"))


# ---- XLNet ----------------------------------------------------------------------------------------------------------


def _xlnet(r: Reader) -> Model:
    """Every token is seen, unless ``attn_type`` is uni; a vector more begins the second stream, in training alone."""
    r.ignore(*_WITHOUT_BEARING, *_MEMORY)
    foreign_spelling(r, "intermediate_size")
    role: Role = "encoder" if r.choice("attn_type", ("bi", "uni")) == "bi" else "decoder"
    hidden, heads, vocab = r.integer("hidden_size"), r.integer("num_attention_heads"), r.integer("vocab_size")
    head_dim = head_width(r, hidden, heads, key="d_model")
    if r.optional_integer("d_head") not in (None, head_dim):
        raise r.error("d_head", f"is {shown(r.raw('d_head'))}; this type needs d_model / n_head = {head_dim}")
    _plain_heads(r, hidden, heads)
    r.notes.append("vectors that an earlier segment may leave behind (mem_len) are not counted: a cache of the user's")
    attention = biased_attention(hidden, heads, head_dim, causal=role == "decoder").replace(
        q_bias=False, k_bias=False, v_bias=False, o_bias=False, position=ProjectedDistances(segments=2)
    )
    feed_forward = plain_feed_forward(hidden, r.integer("intermediate_size"), activation(r, "ff_activation"))
    layer = post_norm(attention, feed_forward, norm=layer_norm(hidden, r.number("layer_norm_eps")))
    task = _class(r, "XLNet", "LMHeadModel")
    return encoder_model(
        r,
        Plan(head=_head(r, task, role, tied_lm=_lm_head(r, hidden, role, vocab), narrow=False)),
        role=role,
        hidden=hidden,
        embedding=TokenEmbedding(vocab_size=vocab, embedding_size=hidden),
        layers=[(layer, r.layers())],
        positions=None,
        unused=(UnusedTensor(name="first vector of the query stream", shape=(hidden,)),),
    )


TYPES: Final = {
    "xlm": ModelType(build=_xlm, defaults=XLM_DEFAULTS, aliases=XLM_ALIASES, origin="transformers 5.23 XLMConfig"),
    "flaubert": ModelType(
        build=_flaubert,
        defaults={**XLM_DEFAULTS, "pre_norm": False},
        aliases=XLM_ALIASES,
        origin="transformers 5.23 FlaubertConfig",
    ),
    "xlnet": ModelType(
        build=_xlnet,
        defaults=XLNET_DEFAULTS,
        aliases={
            "vocab_size": "n_token",
            "hidden_size": "d_model",
            "num_attention_heads": "n_head",
            "num_hidden_layers": "n_layer",
            "intermediate_size": "d_inner",
        },
        origin="transformers 5.23 XLNetConfig",
    ),
}
