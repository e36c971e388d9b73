"""BERT with one part exchanged: ERNIE, Megatron-BERT, BERT for generation, MPNet, FNet and ESM.

Sources: ERNIE, Sun et al. 2020 (arXiv 1907.12412); Megatron-LM, Shoeybi et al. 2019 (arXiv 1909.08053), section 3;
Rothe et al. 2020 (arXiv 1907.12461); MPNet, Song et al. 2020 (arXiv 2004.09297); FNet, Lee-Thorp et al. 2021 (arXiv
2105.03824); ESM-2, Lin et al. 2023 (doi 10.1126/science.ade2574).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from txcalc.architecture import (
    FourierMixing,
    Head,
    LearnedPositions,
    Model,
    RelativeBias,
    Role,
    Rotary,
    TokenEmbedding,
    UnusedTensor,
)
from txcalc.configs.bert import (
    BERT_DEFAULTS,
    TASKS,
    bert_like,
    bert_plan,
    cross_attention,
    first_position,
    role_of,
)
from txcalc.configs.common import activation, layer_norm, post_norm, pre_norm
from txcalc.configs.dense import flag_or_null
from txcalc.configs.electra import narrow_embedding
from txcalc.configs.encoders import (
    LM_TASKS,
    Plan,
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
from txcalc.configs.heads import Task, num_labels
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType

_ALL_TASKS: Final = f"{TASKS} pretraining next_sentence"

ERNIE_DEFAULTS: Final[dict[str, Any]] = {**BERT_DEFAULTS, "use_task_id": False, "task_type_vocab_size": 3}
MEGATRON_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "vocab_size": 29_056,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
GENERATION_DEFAULTS: Final[dict[str, Any]] = {**MEGATRON_DEFAULTS, "vocab_size": 50_358}
MPNET_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "vocab_size": 30_527,
    "relative_attention_num_buckets": 32,
}
FNET_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "vocab_size": 32_000,
    "hidden_act": "gelu_new",
    "type_vocab_size": 4,
}
ESM_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "vocab_size": None,
    "pad_token_id": None,
    "max_position_embeddings": 1026,
    "position_embedding_type": "absolute",
    "rope_theta": 10_000.0,
    "emb_layer_norm_before": None,
    "token_dropout": False,
    "is_folding_model": False,
}


# ---- ERNIE, Megatron-BERT, BERT for generation ----------------------------------------------------------------------


def _ernie(r: Reader) -> Model:
    r.ignore("pad_token_id", "task_type_vocab_size")
    role = role_of(r)
    tables = {"token_types": r.integer("type_vocab_size")}
    if r.flag("use_task_id"):
        tables["other_types"] = r.integer("task_type_vocab_size")
    task = known_task(r, _ALL_TASKS, prefix="Ernie", default="masked_lm")
    return bert_like(r, bert_plan(r, task, role), role=role, embedding=tables)


def _megatron(r: Reader) -> Model:
    role = role_of(r)
    task = known_task(r, _ALL_TASKS, prefix="MegatronBert", default="masked_lm")
    return bert_like(r, bert_plan(r, task, role), role=role, pre_normed=True, embedding_normed=False)


def _generation(r: Reader) -> Model:
    """Two classes: an encoder, and a decoder with a plain output matrix; its attention is causal if is_decoder says."""
    names = r.config.get("architectures") or ["BertGenerationDecoder"]
    if names[0] not in ("BertGenerationEncoder", "BertGenerationDecoder"):
        r.reasons.append(f"architectures = {shown(names)}: expected BertGenerationEncoder or BertGenerationDecoder")
    role = role_of(r)
    plan = Plan() if names[0] == "BertGenerationEncoder" else _generation_plan(r, role)
    return bert_like(r, plan, role=role, embedding={"token_types": 0})


def _generation_plan(r: Reader, role: Role) -> Plan:
    vocab, tied = r.integer("vocab_size"), r.flag("tie_word_embeddings")
    hidden = r.integer("hidden_size")
    head = Head(kind="lm", input_size=hidden, output_size=vocab, tied=tied, bias=True, tied_to=role)
    return Plan(head=head, unused=() if tied else (UnusedTensor(name="second output bias", shape=(vocab,)),))


# ---- MPNet and FNet -------------------------------------------------------------------------------------------------


def _mpnet(r: Reader) -> Model:
    """Learned positions, the first in row 2 as in RoBERTa, and T5's relative bias in one table for all layers."""
    r.unused("is_decoder", False)
    r.ignore("type_vocab_size")
    task = known_task(r, TASKS.replace("causal_lm ", ""), prefix="MPNet", default="masked_lm")
    hidden = r.integer("hidden_size")
    norm, rows = layer_norm(hidden, r.number("layer_norm_eps")), r.integer("max_position_embeddings")
    bias, unused = _mpnet_bias(r)
    attention, feed_forward = bert_sublayers(r, role="encoder")
    return encoder_model(
        r,
        _sentence_plan(r, task, hidden),
        role="encoder",
        hidden=hidden,
        embedding=TokenEmbedding(
            vocab_size=r.integer("vocab_size"),
            embedding_size=hidden,
            positions=LearnedPositions(rows=rows, width=hidden, offset=2),
            norm=norm,
        ),
        layers=[(post_norm(attention.replace(position=bias), feed_forward, norm=norm), r.layers())],
        positions=max(rows - 2, 0),
        relative_bias=bias,
        relative_bias_heads=attention.num_attention_heads,
        unused=unused,
    )


def _mpnet_bias(r: Reader) -> tuple[RelativeBias, tuple[UnusedTensor, ...]]:
    """Distances fall into 32 buckets, whatever the config says; it sizes the table."""
    buckets, used = r.integer("relative_attention_num_buckets"), 32
    if buckets < used:
        r.reasons.append(f"relative_attention_num_buckets = {buckets}: transformers always reads {used} buckets")
    idle = (UnusedTensor(name="idle buckets", shape=(buckets - used, r.integer("num_attention_heads"))),)
    bias = RelativeBias(num_buckets=min(used, buckets), max_distance=128, bidirectional=True)
    return bias, idle if buckets > used else ()


def _sentence_plan(r: Reader, task: Task, hidden: int) -> Plan:
    """RoBERTa's heads."""
    if task in LM_TASKS:
        return lm_plan(r, task, role="encoder", hidden=hidden, act="gelu", eps=r.number("layer_norm_eps"))
    if task == "sequence_classification":
        return Plan(head=dense_classifier(hidden, num_labels(r), "tanh", role="encoder"))
    return plain_plan(r, task, role="encoder", hidden=hidden)


def _fnet(r: Reader) -> Model:
    """No attention: a Fourier transform over channels and tokens."""
    r.ignore("use_tpu_fourier_optimizations", "tpu_short_seq_length", "num_attention_heads", "pad_token_id")
    r.unused("is_decoder", False)
    tasks = _ALL_TASKS.replace("causal_lm ", "")
    task = known_task(r, tasks, prefix="FNet", default="masked_lm")
    hidden = r.integer("hidden_size")
    norm = layer_norm(hidden, r.number("layer_norm_eps"))
    feed_forward = plain_feed_forward(hidden, r.integer("intermediate_size"), activation(r))
    return encoder_model(
        r,
        bert_plan(r, task, "encoder").replace(pooler=True),  # it runs under every head
        role="encoder",
        hidden=hidden,
        embedding=narrow_embedding(r, hidden, norm, always=True),
        layers=[(post_norm(FourierMixing(hidden_size=hidden), feed_forward, norm=norm), r.layers())],
        positions=r.integer("max_position_embeddings"),
    )


# ---- ESM ------------------------------------------------------------------------------------------------------------


def _esm(r: Reader) -> Model:
    """Proteins as text: pre-norm, learned or rotary positions, no token types; beside it an idle contact head."""
    r.ignore("mask_token_id", "vocab_list", "esmfold_config", "type_vocab_size", "hidden_act", "rope_theta")
    if r.flag("is_folding_model"):
        raise r.error("is_folding_model", "is true: a folding model's trunk is not described")
    tasks = "base masked_lm sequence_classification token_classification"
    task = known_task(r, tasks, prefix="Esm", default="masked_lm")
    role, hidden, heads = role_of(r), r.integer("hidden_size"), r.integer("num_attention_heads")
    norm, num_layers = layer_norm(hidden, r.number("layer_norm_eps")), r.layers()
    attention = biased_attention(hidden, heads, head_width(r, hidden, heads), causal=role == "decoder")
    feed_forward = plain_feed_forward(hidden, r.integer("intermediate_size"), "gelu")
    position, embedding = _esm_positions(r, hidden, hidden // heads)
    contacts = (
        UnusedTensor(name="contact matrix", shape=(1, num_layers * heads)),
        UnusedTensor(name="contact bias", shape=(1,)),
    )
    return encoder_model(
        r,
        _esm_plan(r, task, role, hidden),
        role=role,
        hidden=hidden,
        embedding=embedding.replace(norm=norm if flag_or_null(r, "emb_layer_norm_before") else None),
        layers=[(pre_norm(attention.replace(position=position), feed_forward, norm=norm), num_layers)],
        positions=r.integer("max_position_embeddings"),
        unused=(*contacts, *cross_attention(r, role, hidden, num_layers)),
        final_norm=norm,
    )


def _esm_positions(r: Reader, hidden: int, head_dim: int) -> tuple[Rotary | None, TokenEmbedding]:
    """``token_dropout`` scales embeddings as if 15% of tokens were masked in 80% of cases: by 1 - 0.12."""
    kind, rows = r.text("position_embedding_type"), r.integer("max_position_embeddings")
    r.ignore("pad_token_id")
    learned = LearnedPositions(rows=rows, width=hidden, offset=first_position(r)) if kind == "absolute" else None
    if kind not in ("absolute", "rotary"):
        r.reasons.append(f"position_embedding_type = {kind!r}: known are absolute and rotary")
    rotary = Rotary(theta=r.number("rope_theta"), rotary_dim=head_dim, max_position_embeddings=rows)
    embedding = TokenEmbedding(
        vocab_size=r.integer("vocab_size"),
        embedding_size=hidden,
        scale=1 - 0.15 * 0.8 if r.flag("token_dropout") else 1.0,
        positions=learned,
    )
    return rotary if kind == "rotary" else None, embedding


def _esm_plan(r: Reader, task: Task, role: Role, hidden: int) -> Plan:
    """The language model's matrix has one bias of its own, tied or not."""
    if task in LM_TASKS:
        eps = r.number("layer_norm_eps")
        return lm_plan(r, task, role=role, hidden=hidden, act="gelu", eps=eps, spare_bias=False)
    if task == "sequence_classification":
        return Plan(head=dense_classifier(hidden, num_labels(r), "tanh", role=role))
    return plain_plan(r, task, role=role, hidden=hidden)


def _type(build: Callable[[Reader], Model], name: str, defaults: dict[str, Any]) -> ModelType:
    return ModelType(build=build, defaults=defaults, origin=f"transformers 5.23 {name}Config")


TYPES: Final = {
    "ernie": _type(_ernie, "Ernie", ERNIE_DEFAULTS),
    "megatron-bert": _type(_megatron, "MegatronBert", MEGATRON_DEFAULTS),
    "bert-generation": _type(_generation, "BertGeneration", GENERATION_DEFAULTS),
    "mpnet": _type(_mpnet, "MPNet", MPNET_DEFAULTS),
    "fnet": _type(_fnet, "FNet", FNET_DEFAULTS),
    "esm": _type(_esm, "Esm", ESM_DEFAULTS),
}
