"""Encoders beside BERT against transformers on the meta device: every class, default, minimal and varied shapes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import (
    ABSENT,
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    attention_of,
    even_widths,
    layer_counts,
    maybe,
    read,
    small,
)
from tests.width import Width, assert_default, assert_heads, flags, labels, split_width, varied, width
from txcalc.architecture import Disentangled, Model, Rotary, TokenEmbedding
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.params import params

BERT_TASKS = """
ForMaskedLM Model ForSequenceClassification ForTokenClassification ForQuestionAnswering ForMultipleChoice
"""
SHORT_TASKS = "ForMaskedLM Model ForSequenceClassification ForTokenClassification"
EVERY_TASK = f"{BERT_TASKS} ForCausalLM ForPreTraining ForNextSentencePrediction"
BERT_KEYS: dict[str, Any] = {
    "vocab_size": small.map(lambda size: size + 4),
    "num_hidden_layers": layer_counts,
    "intermediate_size": small,
    "max_position_embeddings": small.map(lambda rows: rows + 4),
    "type_vocab_size": maybe(st.integers(1, 4)),
    "tie_word_embeddings": flags,
    "num_labels": labels,
    "pad_token_id": 1,
}
DECODER = {**BERT_KEYS, "is_decoder": flags}
MODERN: dict[str, Any] = {
    "type_vocab_size": ABSENT,
    "norm_bias": flags,
    "attention_bias": flags,
    "mlp_bias": flags,
    "decoder_bias": flags,
    "classifier_bias": flags,
    "global_attn_every_n_layers": maybe(st.integers(1, 4)),
    "local_attention": maybe(st.integers(2, 40)),
}


def bert(model_type: str, prefix: str, tasks: str = f"{BERT_TASKS} ForCausalLM", **keys: Any) -> Width:
    base = DECODER if "ForCausalLM" in tasks else BERT_KEYS
    return width(model_type, prefix, tasks, kin=split_width(step=2), **{**base, **keys})


WIDTHS = [
    bert("xlm-roberta", "XLMRoberta"),
    bert("camembert", "Camembert"),
    bert("data2vec-text", "Data2VecText"),
    bert("xlm-roberta-xl", "XLMRobertaXL"),
    bert("roberta-prelayernorm", "RobertaPreLayerNorm"),
    bert("ibert", "IBert", BERT_TASKS),
    bert("electra", "Electra", f"{BERT_TASKS} ForCausalLM ForPreTraining", embedding_size=small),
    bert("rembert", "RemBert", input_embedding_size=small, output_embedding_size=small),
    bert(
        "deberta",
        "Deberta",
        BERT_TASKS.replace("ForMultipleChoice", ""),
        type_vocab_size=maybe(st.integers(0, 2)),
        relative_attention=flags,
        max_relative_positions=maybe(st.integers(-1, 20)),
        pos_att_type=st.sampled_from([None, ["c2p"], ["p2c"], ["c2p", "p2c"], "c2p|p2c"]),
        position_biased_input=flags,
        legacy=flags,
    ),
    bert(
        "deberta-v2",
        "DebertaV2",
        BERT_TASKS,
        type_vocab_size=maybe(st.integers(0, 2)),
        relative_attention=flags,
        max_relative_positions=maybe(st.integers(-1, 20)),
        pos_att_type=st.sampled_from([None, ["c2p"], ["p2c"], ["c2p", "p2c"], "c2p|p2c"]),
        position_biased_input=flags,
        position_buckets=maybe(st.integers(-1, 12)),
        share_att_key=flags,
        norm_rel_ebd=maybe(st.sampled_from(["none", "layer_norm"])),
        conv_kernel_size=maybe(st.sampled_from([0, 1, 3])),
        legacy=flags,
    ),
    bert("ernie", "Ernie", EVERY_TASK, use_task_id=flags, task_type_vocab_size=maybe(small)),
    bert("megatron-bert", "MegatronBert", EVERY_TASK),
    bert("bert-generation", "BertGeneration", "Decoder Encoder", is_decoder=flags, type_vocab_size=ABSENT),
    bert("mpnet", "MPNet", BERT_TASKS, relative_attention_num_buckets=st.integers(32, 40), type_vocab_size=ABSENT),
    bert("fnet", "FNet", EVERY_TASK.replace("ForCausalLM", "")),
    bert("roformer", "RoFormer", embedding_size=maybe(st.none() | small)),
    bert("nomic_bert", "NomicBert", SHORT_TASKS, head_dim=maybe(even_widths)),
    bert("gte", "Gte", SHORT_TASKS),
    bert("jina_embeddings_v3", "JinaEmbeddingsV3", BERT_TASKS.replace("ForMultipleChoice", "")),
    bert(
        "modernbert",
        "ModernBert",
        BERT_TASKS,
        **MODERN,
        classifier_pooling=st.sampled_from(["cls", "mean"]),
    ),
    bert("modernbert-decoder", "ModernBertDecoder", "ForCausalLM Model ForSequenceClassification", **MODERN),
    bert(
        "eurobert",
        "EuroBert",
        SHORT_TASKS,
        type_vocab_size=ABSENT,
        attention_bias=flags,
        mlp_bias=flags,
        head_dim=maybe(even_widths),
        num_key_value_heads=st.just(1),
        classifier_pooling=st.sampled_from(["bos", "mean", "late"]),
    ),
    bert("longformer", "Longformer", BERT_TASKS, attention_window=st.integers(1, 9).map(lambda half: 2 * half)),
    bert(
        "big_bird",
        "BigBird",
        f"{BERT_TASKS} ForPreTraining",
        use_bias=flags,
        attention_type=st.sampled_from(["block_sparse", "original_full"]),
    ),
]
by_type = pytest.mark.parametrize("row", WIDTHS, ids=lambda row: str(row.model_type))


@by_type
def test_default_and_minimal(row: Width) -> None:
    assert_default(row)


@by_type
def test_every_class(row: Width) -> None:
    assert_heads(row)


@by_type
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_varied(row: Width, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(varied(row)))


ESM = width(
    "esm",
    "Esm",
    "ForMaskedLM Model ForSequenceClassification ForTokenClassification",
    kin=split_width(step=2),
    **{**BERT_KEYS, "type_vocab_size": ABSENT},
    mask_token_id=3,
    position_embedding_type=maybe(st.sampled_from(["absolute", "rotary"])),
    emb_layer_norm_before=maybe(st.sampled_from([None, True, False])),
    token_dropout=flags,
    is_decoder=flags,
)


@settings(max_examples=25, deadline=None)
@given(config=varied(ESM))
def test_esm_has_no_vocabulary_by_default(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_esm2_650m_by_hand() -> None:
    """facebook/esm2_t33_650M_UR50D: 33 layers of 4 * (1,280^2 + 1,280) + 2 * 1,280 * 5,120 + 5,120 + 1,280 + 4 * 1,280.

    A layer: 6,558,720 + 13,113,600 + 5,120 = 19,677,440; 33 of them 649,355,520. Table 33 * 1,280 = 42,240; final norm
    2,560; contact head 33 * 20 + 1 = 661; head 1,280^2 + 1,280 + 2,560 + 33 = 1,642,273. Sum: 651,043,254.
    """
    config = {
        "model_type": "esm", "architectures": ["EsmForMaskedLM"], "vocab_size": 33, "hidden_size": 1280,
        "num_hidden_layers": 33, "num_attention_heads": 20, "intermediate_size": 5120, "pad_token_id": 1,
        "position_embedding_type": "rotary", "token_dropout": True,
    }  # fmt: skip
    assert params(read(config)).figures()["params.total"] == 651_043_254


def test_the_comparison_notices_a_missing_pooler() -> None:
    """Negative control: a masked model's count is not the bare model's."""
    bare = {**TINY, "model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"]}
    assert_params_differ_from_meta({**bare, "architectures": ["XLMRobertaForMaskedLM"]}, bare)


# ---- what no count depends on ---------------------------------------------------------------------------------------

TINY: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 20, "vocab_size": 30,
}  # fmt: skip


def tiny(model_type: str, **fields: Any) -> Model:
    return read({"model_type": model_type, **TINY, **fields})


def norms(model: Model) -> tuple[bool, ...]:
    """Where the first step of the first layer has norms: before its sublayer, after the addition."""
    step = model.main.layers[0].steps[0]
    return step.branches[0].norm_in is not None, step.norm_after is not None


def test_pre_norm_types_have_a_final_norm_and_the_others_none() -> None:
    for model_type in ("xlm-roberta-xl", "roberta-prelayernorm", "megatron-bert"):
        model = tiny(model_type)
        assert norms(model) == (True, False)
        assert model.main.final_norm is not None
    for model_type in ("xlm-roberta", "electra", "ernie", "nomic_bert"):
        model = tiny(model_type)
        assert norms(model) == (False, True)
        assert model.main.final_norm is None


def test_deberta_scales_by_the_number_of_kinds_of_scores() -> None:
    """Head width 8: plain 1 / sqrt(8); two kinds named beside the content make it 1 / sqrt(24), relative or not."""
    kinds = {"pos_att_type": ["c2p", "p2c"]}
    assert attention_of(tiny("deberta-v2")).scale is None
    assert attention_of(tiny("deberta-v2", **kinds)).scale == 24**-0.5
    position = attention_of(tiny("deberta-v2", relative_attention=True, **kinds)).position
    assert isinstance(position, Disentangled)
    assert (position.content_to_position, position.position_to_content) == (True, True)
    assert (position.span, position.max_distance) == (512, 512)


def test_deberta_v1_has_no_bias_on_keys() -> None:
    first, second = attention_of(tiny("deberta")), attention_of(tiny("deberta-v2"))
    assert (first.q_bias, first.k_bias, first.v_bias) == (True, False, True)
    assert second.k_bias


def test_deberta_v2_convolution_stands_beside_the_first_layer() -> None:
    """Read at the attention's input, added two steps later, where the sum is normed."""
    model = tiny("deberta-v2", conv_kernel_size=3)
    first, *others = model.main.sequence()
    assert [type(branch.sublayer).__name__ for branch in first.steps[0].branches] == [
        "SelfAttention",
        "TokenConvolution",
    ]
    assert first.steps[0].branches[1].defer == 2
    assert first.steps[2].branches == ()
    assert all(len(layer.steps) == 2 for layer in others)


def test_modernbert_windows_and_bases() -> None:
    """Every third layer is global; the first has no norm before its attention."""
    layers = [attention_of(tiny("modernbert"), index) for index in range(4)]
    assert [each.window for each in layers] == [None, 128, 128, None]
    assert [each.position.theta for each in layers if isinstance(each.position, Rotary)] == [16e4, 1e4, 1e4, 16e4]
    assert norms(tiny("modernbert")) == (False, False)
    decoder = [attention_of(tiny("modernbert-decoder"), index) for index in range(4)]
    assert [each.window for each in decoder] == [None, 64, 64, None]
    assert all(each.causal for each in decoder)


def test_roformer_turns_neighbouring_channels() -> None:
    position = attention_of(tiny("roformer")).position
    assert isinstance(position, Rotary)
    assert (position.interleaved, position.rotary_dim, position.theta) == (True, 8, 1e4)


@pytest.mark.parametrize(("model_type", "first"), [("longformer", 2), ("mpnet", 2), ("xlm-roberta", 2), ("ernie", 0)])
def test_the_first_position(model_type: str, first: int) -> None:
    embedding = tiny(model_type).main.embedding
    assert isinstance(embedding, TokenEmbedding)
    assert embedding.positions is not None
    assert embedding.positions.offset == first


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("ibert", {"quant_mode": True}),
        ("roformer", {"rotary_value": True}),
        ("deberta", {"talking_head": True}),
        ("deberta-v2", {"pos_att_type": ["p2p"]}),
        ("mpnet", {"relative_attention_num_buckets": 16}),
        ("big_bird", {"is_decoder": True}),
        ("nomic_bert", {"n_layer": 12, "prenorm": True}),
        ("electra", {"architectures": ["ElectraForMultipleChoice"], "summary_type": "mean"}),
    ],
)
def test_what_is_not_described_is_an_estimate(model_type: str, fields: dict[str, Any]) -> None:
    assert architecture_of({"model_type": model_type, **TINY, **fields}).reasons


@pytest.mark.parametrize(
    ("model_type", "fields", "message"),
    [
        ("longformer", {"attention_window": 7}, "attention_window holds an odd number"),
        ("longformer", {"attention_window": [2, 2]}, "attention_window has 2 entries for 4 layers"),
        ("deberta-v2", {"attention_head_size": 7}, "attention_head_size times 2 heads is not hidden_size, 16"),
        ("esm", {"is_folding_model": True}, "is_folding_model is true"),
        ("xlm-roberta", {"pad_token_id": None}, "pad_token_id is null"),
    ],
)
def test_what_is_refused(model_type: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({"model_type": model_type, **TINY, **fields})
    assert message in str(caught.value)
