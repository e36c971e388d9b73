"""BERT with more to read than tokens: X-MOD, RoCBert, LUKE, LayoutLM, TAPAS.

Sources: Pfeiffer et al. 2022 (arXiv 2205.06266); Su et al. 2022 (doi 10.18653/v1/2022.acl-long.65); Yamada et al. 2020
(arXiv 2010.01057); Xu et al. 2020 (arXiv 1912.13318); Herzig et al. 2020 (arXiv 2004.02349).
"""

from __future__ import annotations

from typing import Any, Final

from txcalc.architecture import (
    Branch,
    Head,
    HeadTransform,
    InputTable,
    Layer,
    LearnedPositions,
    MixtureOfExperts,
    Model,
    Projection,
    Residual,
    Role,
    Router,
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
    roberta_plan,
    role_of,
)
from txcalc.configs.common import activation, layer_norm
from txcalc.configs.encoders import (
    Plan,
    absolute_positions_only,
    bert_sublayers,
    encoder_model,
    known_task,
    plain_feed_forward,
    plain_plan,
)
from txcalc.configs.heads import classifier, num_labels
from txcalc.configs.reader import Reader, shown
from txcalc.configs.registry import ModelType

XMOD_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "pad_token_id": 1,
    "pre_norm": False,
    "adapter_reduction_factor": 2,
    "adapter_layer_norm": False,
    "languages": ["en_XX"],
}
ROC_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "enable_pronunciation": True,
    "enable_shape": True,
    "pronunciation_embed_dim": 768,
    "pronunciation_vocab_size": 910,
    "shape_embed_dim": 512,
    "shape_vocab_size": 24_858,
    "concat_input": True,
}
LUKE_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "vocab_size": 50_267,
    "pad_token_id": 1,
    "entity_vocab_size": 500_000,
    "entity_emb_size": 256,
    "use_entity_aware_attention": True,
}
LAYOUT_DEFAULTS: Final[dict[str, Any]] = {**BERT_DEFAULTS, "max_2d_position_embeddings": 1024}
TAPAS_DEFAULTS: Final[dict[str, Any]] = {
    **BERT_DEFAULTS,
    "max_position_embeddings": 1024,
    "type_vocab_sizes": [3, 256, 256, 2, 256, 256, 10],
    "num_aggregation_labels": 0,
    "select_one_column": True,
}
# What TAPAS's training and its choice of cells read.
_TAPAS_KEYS: Final = """
positive_label_weight aggregation_loss_weight use_answer_as_supervision answer_loss_importance
use_normalized_answer_loss huber_loss_delta temperature aggregation_temperature use_gumbel_for_cells
use_gumbel_for_aggregation average_approximation_function cell_selection_preference answer_loss_cutoff max_num_rows
max_num_columns average_logits_per_cell allow_empty_column_selection init_cell_selection_weights_to_zero
reset_position_index_per_cell disable_per_token_loss aggregation_labels no_aggregation_label_index type_vocab_size
""".split()


def _encoder_only(r: Reader) -> None:
    r.unused("is_decoder", False)
    r.unused("add_cross_attention", False)


# ---- X-MOD ----------------------------------------------------------------------------------------------------------


def _xmod(r: Reader) -> Model:
    """RoBERTa whose layers end in a small feed-forward of each language; a text passes that of its own."""
    absolute_positions_only(r)
    r.ignore("default_language", "ln_before_adapter", "adapter_reuse_layer_norm")
    task = known_task(r, TASKS, prefix="Xmod", default="masked_lm")
    role, hidden, num_layers = role_of(r), r.integer("hidden_size"), r.layers()
    norm, rows = layer_norm(hidden, r.number("layer_norm_eps")), r.integer("max_position_embeddings")
    offset = first_position(r)
    return encoder_model(
        r,
        roberta_plan(r, task, role),
        role=role,
        hidden=hidden,
        embedding=TokenEmbedding(
            vocab_size=r.integer("vocab_size"),
            embedding_size=hidden,
            positions=LearnedPositions(rows=rows, width=hidden, offset=offset),
            token_types=r.integer("type_vocab_size"),
            norm=norm,
        ),
        layers=[(_language_layer(r, role), num_layers)],
        positions=max(rows - offset, 0),
        unused=cross_attention(r, role, hidden, num_layers),
        final_norm=norm if r.flag("pre_norm") else None,
    )


def _language_layer(r: Reader, role: Role) -> Layer:
    """A norm that is run once more before the adapters (``adapter_reuse_layer_norm``) is still stored once."""
    hidden, first = r.integer("hidden_size"), r.flag("pre_norm")
    norm = layer_norm(hidden, r.number("layer_norm_eps"))
    before, after = (norm, None) if first else (None, norm)
    attention, feed_forward = bert_sublayers(r, role=role)
    own = norm if r.flag("adapter_layer_norm") else None
    return Layer(
        steps=(
            Residual(branches=(Branch(sublayer=attention, norm_in=before),), norm_after=after),
            Residual(branches=(Branch(sublayer=feed_forward, norm_in=before),)),
            Residual(branches=(Branch(sublayer=_adapters(r, hidden), norm_in=own),), norm_after=after),
        )
    )


def _adapters(r: Reader, hidden: int) -> MixtureOfExperts:
    languages, factor = r.texts("languages"), r.integer("adapter_reduction_factor")
    if not languages or factor > hidden:
        raise r.error("languages", f"is {shown(languages)}, adapter_reduction_factor {factor}: no adapters are left")
    return MixtureOfExperts(
        hidden_size=hidden,
        num_experts=len(set(languages)),
        num_experts_per_tok=1,
        expert=plain_feed_forward(hidden, hidden // factor, activation(r)),
        router=Router(given=True),
    )


# ---- RoCBert --------------------------------------------------------------------------------------------------------


def _roc_bert(r: Reader) -> Model:
    """Beside each token's row those of its sound and its shape, joined and projected to the model's width."""
    r.ignore("pad_token_id")
    task = known_task(r, f"{TASKS} pretraining", prefix="RoCBert", default="masked_lm")
    role = role_of(r)
    plan = bert_plan(r, task, role).replace(pooled_head=None)
    model = bert_like(r, plan, role=role, embedding=_joined(r))
    idle = tuple(
        UnusedTensor(name=table.name, shape=(table.rows, table.width or 0))
        for table, used in _sound_and_shape(r)
        if not used
    )
    return model.replace(unused=(*model.unused, *idle))


def _sound_and_shape(r: Reader) -> list[tuple[InputTable, bool]]:
    """The two tables, and whether the config enables them: transformers makes them all the same."""
    return [
        (
            InputTable(name=name, rows=r.integer(f"{name}_vocab_size"), width=r.integer(f"{name}_embed_dim")),
            r.flag(f"enable_{name}"),
        )
        for name in ("pronunciation", "shape")
    ]


def _joined(r: Reader) -> dict[str, Any]:
    hidden = r.integer("hidden_size")
    used = [table for table, enabled in _sound_and_shape(r) if enabled]
    width = hidden + sum(table.width or 0 for table in used)
    types = InputTable(name="token_types", rows=r.integer("type_vocab_size"))
    projection = Projection(in_size=width, out_size=hidden, bias=True) if r.flag("concat_input") else None
    return {"tables": (types, *used), "projection": projection}


# ---- LUKE -----------------------------------------------------------------------------------------------------------


def _luke(r: Reader) -> Model:
    """RoBERTa for text; entities beside it have tables, queries and heads of their own, which text alone does not run.

    transformers ties the entities' output matrix to their table, and that of the tokens never.
    """
    _encoder_only(r)
    r.ignore("cls_entity_prediction")
    plan, idle = _luke_plan(r)
    hidden, types, rows = r.integer("hidden_size"), r.integer("type_vocab_size"), r.integer("max_position_embeddings")
    r.notes.append("parts that only entities run are counted as unused: figures of a pass are those of text alone")
    entity_width = r.integer("entity_emb_size")
    tables = (
        InputTable(name="entities", rows=r.integer("entity_vocab_size"), width=entity_width),
        InputTable(name="entity_positions", rows=rows),
        InputTable(name="entity_types", rows=types),
    )
    model = bert_like(
        r,
        plan,
        role="encoder",
        position_offset=first_position(r),
        embedding={"token_types": types, "tables": tables},
    )
    return model.replace(unused=(*model.unused, *idle, *_entity_parts(r, hidden, entity_width)))


def _entity_parts(r: Reader, hidden: int, entity_width: int) -> tuple[UnusedTensor, ...]:
    parts = [UnusedTensor(name="entity norm", shape=(2, hidden))]
    if entity_width != hidden:
        parts.append(UnusedTensor(name="entity projection", shape=(entity_width, hidden)))
    if r.flag("use_entity_aware_attention"):
        parts.append(UnusedTensor(name="entity queries", shape=(3, hidden + 1, hidden), count=r.layers()))
    return tuple(parts)


_ENTITY_CLASSES: Final = {"LukeForEntityClassification": 1, "LukeForEntityPairClassification": 2,
                          "LukeForEntitySpanClassification": 3}  # fmt: skip


def _luke_plan(r: Reader) -> tuple[Plan, tuple[UnusedTensor, ...]]:
    hidden, names = r.integer("hidden_size"), r.config.get("architectures")
    joined = _ENTITY_CLASSES.get(names[0]) if isinstance(names, list) and names and isinstance(names[0], str) else None
    if joined:
        bias = joined != 2  # that of pairs has none
        return Plan(pooler=True), (
            UnusedTensor(name="entity classifier", shape=(num_labels(r), joined * hidden + bias)),
        )
    tasks = "base masked_lm sequence_classification token_classification question_answering multiple_choice"
    task = known_task(r, tasks, prefix="Luke", default="masked_lm")
    if task != "masked_lm":
        return plain_plan(r, task, role="encoder", hidden=hidden), ()
    return _luke_masked(r, hidden)


def _luke_masked(r: Reader, hidden: int) -> tuple[Plan, tuple[UnusedTensor, ...]]:
    vocab, tied, eps = r.integer("vocab_size"), r.flag("tie_word_embeddings"), r.number("layer_norm_eps")
    entities, width = r.integer("entity_vocab_size"), r.integer("entity_emb_size")
    dense = Projection(in_size=hidden, out_size=hidden, bias=True, activation="gelu")
    transform = HeadTransform(dense=dense, norm=layer_norm(hidden, eps))
    head = Head(
        kind="masked_lm", input_size=hidden, output_size=vocab, tied=False, bias=True, transform=transform,
        tied_to="encoder",
    )  # fmt: skip
    idle = [
        UnusedTensor(name="entity head", shape=(hidden + 3, width)),  # a matrix, its bias and a norm
        UnusedTensor(name="entity output bias", shape=(entities,)),
    ]
    if not tied:
        idle.append(UnusedTensor(name="second output bias", shape=(vocab,)))
        idle.append(UnusedTensor(name="entity output matrix", shape=(entities, width)))
    return Plan(head=head, pooler=True), tuple(idle)


# ---- LayoutLM -------------------------------------------------------------------------------------------------------


def _layoutlm(r: Reader) -> Model:
    """Every token has a box on its page: tables of places along x and y, of heights and of widths."""
    _encoder_only(r)
    r.ignore("pad_token_id")
    tasks = "base masked_lm sequence_classification token_classification question_answering"
    task = known_task(r, tasks, prefix="LayoutLM", default="masked_lm")
    places = r.integer("max_2d_position_embeddings")
    tables = tuple(InputTable(name=f"{axis}_positions", rows=places) for axis in "xyhw")
    return bert_like(
        r,
        bert_plan(r, task, "encoder").replace(pooler=True),  # it runs under every head
        role="encoder",
        embedding={"token_types": r.integer("type_vocab_size"), "tables": tables},
    )


# ---- TAPAS ----------------------------------------------------------------------------------------------------------


def _tapas(r: Reader) -> Model:
    """Seven tables of token types say where in a table a token stands."""
    r.ignore("pad_token_id", *_TAPAS_KEYS)
    tasks = "base masked_lm sequence_classification question_answering"
    task = known_task(r, tasks, prefix="Tapas", default="masked_lm")
    r.ignore("is_decoder")  # transformers masks nothing all the same
    role: Role = "encoder"
    hidden = r.integer("hidden_size")
    kinds = r.integers("type_vocab_sizes", minimum=1)
    tables = tuple(InputTable(name=f"token_types_{index}", rows=rows) for index, rows in enumerate(kinds))
    asks = task == "question_answering"
    plan = _cells(r, role, hidden) if asks else bert_plan(r, task, role)
    r.ignore("num_aggregation_labels", "select_one_column")
    return bert_like(r, plan, role=role, embedding={"tables": tables})


def _cells(r: Reader, role: Role, hidden: int) -> Plan:
    """A score of every token and one of its column, and what to do with the cells that are chosen."""
    column, operations = r.flag("select_one_column"), r.integer("num_aggregation_labels", minimum=0)
    idle = UnusedTensor(name="column scores", shape=(hidden + 1,))
    return Plan(
        head=classifier(hidden, 1 + column, role=role, bias=True),
        pooled_head=classifier(hidden, operations, role=role, bias=True, pooled=True) if operations else None,
        pooler=True,
        unused=() if column else (idle,),
    )


def _type(build: Any, name: str, defaults: dict[str, Any]) -> ModelType:
    return ModelType(build=build, defaults=defaults, origin=f"transformers 5.23 {name}Config")


TYPES: Final = {
    "xmod": _type(_xmod, "Xmod", XMOD_DEFAULTS),
    "roc_bert": _type(_roc_bert, "RoCBert", ROC_DEFAULTS),
    "luke": _type(_luke, "Luke", LUKE_DEFAULTS),
    "layoutlm": _type(_layoutlm, "LayoutLM", LAYOUT_DEFAULTS),
    "tapas": _type(_tapas, "Tapas", TAPAS_DEFAULTS),
}
