"""GPT, GPT-Neo, CodeGen, GPT-NeoX Japanese, XGLM, BioGPT, CTRL, GPT-SW3: counts equal transformers' on meta."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.published_gpt_kin import every
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, attention_of, maybe, read, small
from tests.width import Width, assert_default, assert_heads, flags, labels, split_width, varied, width
from txcalc.architecture import Rotary, Sinusoidal, TokenEmbedding
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params
from txcalc.reference import build
from txcalc.reference.layouts import LAYOUTS, Goal

COMMON: dict[str, Any] = {
    "vocab_size": small.map(lambda size: size + 4),
    "tie_word_embeddings": flags,
    "num_labels": labels,
    "pad_token_id": 0,
}
OLD = {**COMMON, "n_layer": st.integers(1, 4), "n_positions": small}
NEW = {**COMMON, "num_hidden_layers": st.integers(1, 4), "max_position_embeddings": small}
old_width = split_width("n_embd", "n_head", step=4)
inner = maybe(st.none() | small)


@st.composite
def attention_types(draw: st.DrawFn) -> dict[str, Any]:
    """Layers of both kinds, said in either way."""
    kinds = draw(st.lists(st.sampled_from(["global", "local"]), min_size=1, max_size=3))
    times = draw(st.integers(1, 3))
    layers = {"num_layers": times * len(kinds), "attention_types": [[kinds, times]]}
    if draw(st.booleans()):
        layers["attention_layers"] = kinds * times
    return layers | draw(split_width(heads="num_heads"))


WIDTHS = [
    width(
        "openai-gpt",
        "OpenAIGPT",
        "LMHeadModel Model ForSequenceClassification DoubleHeadsModel",
        kin=old_width,
        **OLD,
        summary_use_proj=flags,
        summary_proj_to_labels=flags,
        afn=maybe(st.sampled_from(["gelu", "relu", "swish"])),
    ),
    width(
        "gpt_neo",
        "GPTNeo",
        "ForCausalLM Model ForSequenceClassification ForTokenClassification ForQuestionAnswering",
        kin=attention_types(),
        **COMMON,
        max_position_embeddings=small,
        intermediate_size=inner,
        window_size=maybe(st.integers(1, 9)),
    ),
    width("codegen", "CodeGen", "ForCausalLM Model", kin=old_width, **OLD, n_inner=inner, rotary_dim=st.just(2)),
    width(
        "gpt_neox_japanese",
        "GPTNeoXJapanese",
        "ForCausalLM Model",
        kin=split_width(step=2),
        **NEW,
        intermediate_multiple_size=maybe(st.integers(1, 5)),
    ),
    width(
        "xglm",
        "XGLM",
        "ForCausalLM Model",
        kin=split_width("d_model", "attention_heads", step=4),
        **COMMON,
        num_layers=st.integers(1, 4),
        max_position_embeddings=small,
        ffn_dim=small,
        add_cross_attention=flags,
        scale_embedding=flags,
    ),
    width(
        "biogpt",
        "BioGpt",
        "ForCausalLM Model ForSequenceClassification ForTokenClassification",
        kin=split_width(),
        **NEW,
        intermediate_size=small,
    ),
    width("ctrl", "CTRL", "LMHeadModel Model ForSequenceClassification", kin=old_width, **OLD, dff=small),
    width("gpt-sw3", "GPT2", "LMHeadModel Model ForTokenClassification", kin=old_width, **OLD, n_inner=inner),
]
by_type = pytest.mark.parametrize("row", WIDTHS, ids=lambda row: str(row.model_type))


@by_type
def test_default_and_minimal(row: Width) -> None:
    assert_default(row)


@by_type
def test_every_class(row: Width) -> None:
    if row.model_type == "gpt_neo":  # its number of layers cannot change alone
        for name in row.classes[1:]:
            assert_params_equal_meta({**every()["gpt_neo"], "architectures": [name]})
    else:
        assert_heads(row)


@by_type
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_varied(row: Width, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(varied(row)))


def test_the_comparison_notices_a_bias_on_every_layer() -> None:
    """Negative control: two layers with a bias, as if GPT-NeoX Japanese had one in each, are not one."""
    config = every()["gpt_neox_japanese"]
    assert_params_differ_from_meta({**config, "model_type": "gpt_neox"}, config)


# ---- what no count depends on ---------------------------------------------------------------------------------------


def test_gpt_neo_local_layers_cache_their_window_only() -> None:
    """gpt-neo-1.3B at 8,192 tokens in bf16: 12 layers of 4,096 elements in full, 12 of 256 tokens.

    12 * 8,192 * 4,096 * 2 + 12 * 256 * 4,096 * 2 = 805,306,368 + 25,165,824 = 830,472,192; all in full 1,610,612,736.
    """
    figures = kv_cache(read({"model_type": "gpt_neo"}), ctx=8192, kv_dtype="bf16").figures()
    assert figures["kv_cache.total_bytes"] == 830_472_192
    assert figures["kv_cache.reserved_bytes"] == 1_610_612_736


def test_gpt_neo_takes_turns_and_does_not_scale() -> None:
    model = read(every()["gpt_neo"])
    assert [attention_of(model, i).window for i in range(4)] == [None, 5, None, 5]
    assert attention_of(model).scale == 1.0
    listed = read({**every()["gpt_neo"], "attention_layers": ["local", "local", "global", "global"]})
    assert [attention_of(listed, i).window for i in range(4)] == [5, 5, None, None]


def test_gpt_neox_japanese_has_one_bias() -> None:
    model = read(every()["gpt_neox_japanese"])
    assert [attention_of(model, i).o_bias for i in range(4)] == [False, False, False, True]
    position = attention_of(model).position
    assert isinstance(position, Rotary)
    assert (position.theta, position.rotary_dim) == (500.0, 4)
    old = {**every()["gpt_neox_japanese"], "rotary_pct": 0.5, "rotary_emb_base": 500}
    assert (
        attention_of(read({key: value for key, value in old.items() if key != "rope_parameters"})).position == position
    )


def test_codegen_holds_a_quarter_of_the_heads_in_each_block() -> None:
    """Eight rows of queries, values and keys each: block b holds rows 2b and 2b + 1 of each, in that order."""
    import torch

    names = torch.tensor(
        [[float(f"{what}{row}")] for block in range(4) for what in (1, 3, 2) for row in (2 * block, 2 * block + 1)]
    )
    q, v, k = LAYOUTS["in four blocks"].read([names], Goal(((8, 1),) * 3, None))
    assert q.flatten().tolist() == [10.0 + row for row in range(8)]
    assert v.flatten().tolist() == [30.0 + row for row in range(8)]
    assert k.flatten().tolist() == [20.0 + row for row in range(8)]


def test_xglm_and_ctrl_sines_are_no_parameters() -> None:
    for name, offset in (("xglm", 2), ("ctrl", 0)):
        embedding = read(every()[name]).main.embedding
        assert isinstance(embedding, TokenEmbedding)
        assert isinstance(embedding.positions, Sinusoidal)
        assert (embedding.positions.offset, embedding.positions.stored) == (offset, False)
        assert embedding.scale == 32**0.5


@pytest.mark.parametrize("name", every())
def test_the_reference_holds_as_many(name: str) -> None:
    model = read(every()[name])
    held = sum(each.numel() for each in build(model, device="meta").parameters())
    assert held == params(model).figures()["params.total"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_layers": 3}, "attention_types describes more layers where num_layers is 3"),
        ({"attention_types": [[["global"], 3]]}, "attention_types describes 3 layers where num_layers is 4"),
        ({"attention_types": [[["global", "near"], 2]]}, "attention_types holds 'near'"),
        ({"attention_types": "global"}, 'attention_types is "global"; expected pairs'),
        ({"attention_types": [["global", 4]]}, "expected pairs of kinds and how often"),
        ({"attention_layers": ["global"]}, "attention_layers has 1 entries for 4 layers"),
        ({"hidden_size": 30}, "hidden_size is 30; it is not a multiple of the 4 heads"),
    ],
)
def test_bad_values_of_gpt_neo(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({**every()["gpt_neo"], **change})
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("openai-gpt", {"afn": "tanh"}, "afn is 'tanh'"),
        ("xglm", {"d_model": 33, "attention_heads": 1}, "d_model is 33; sines and cosines need an even width"),
    ],
)
def test_bad_values(name: str, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({**every()[name], **change})
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("openai-gpt", {"n_inner": 40}),
        ("openai-gpt", {"architectures": ["OpenAIGPTForTokenClassification"]}),
        ("codegen", {"num_key_value_heads": 2}),
        ("xglm", {"intermediate_size": 40, "ffn_dim": None}),
        ("ctrl", {"architectures": ["CTRLForQuestionAnswering"]}),
        ("biogpt", {"head_dim": 4}),
    ],
)
def test_what_is_not_known_makes_an_estimate(name: str, change: dict[str, Any]) -> None:
    config = {key: value for key, value in {**every()[name], **change}.items() if value is not None}
    assert len(architecture_of(config).reasons) == 1
