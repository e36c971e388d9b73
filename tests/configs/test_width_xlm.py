"""XLM, FlauBERT and XLNet against transformers: counts on the meta device, FLOPs with torch's counter, all classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import flop_counter
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, attention_of, maybe, read, small
from tests.width import Width, assert_default, assert_heads, flags, labels, split_width, varied, width
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache

TASKS = "Model ForSequenceClassification ForTokenClassification ForQuestionAnsweringSimple ForMultipleChoice"
COMMON: dict[str, Any] = {
    "vocab_size": small.map(lambda size: size + 6),
    "tie_word_embeddings": flags,
    "num_labels": labels,
    "summary_type": maybe(st.sampled_from(["first", "last", "mean", "cls_index"])),
}
XLM: dict[str, Any] = {
    **COMMON,
    "n_layers": st.integers(1, 3),
    "max_position_embeddings": small,
    "causal": flags,
    "gelu_activation": flags,
    "n_langs": maybe(st.integers(1, 4)),
    "use_lang_emb": flags,
}
xlm_width = split_width("emb_dim", "n_heads")
WIDTHS = [
    width("xlm", "XLM", f"WithLMHeadModel {TASKS}", kin=xlm_width, **XLM),
    width("flaubert", "Flaubert", f"WithLMHeadModel {TASKS}", kin=xlm_width, **XLM, pre_norm=flags),
    width(
        "xlnet",
        "XLNet",
        f"LMHeadModel {TASKS}",
        kin=split_width("d_model", "n_head"),
        **COMMON,
        n_layer=st.integers(1, 3),
        d_inner=small,
        attn_type=maybe(st.sampled_from(["bi", "uni"])),
        summary_use_proj=flags,
        summary_activation=maybe(st.just("gelu")),
    ),
]
by_type = pytest.mark.parametrize("row", WIDTHS, ids=lambda row: str(row.model_type))
_SIZES = {"vocab_size": 30, "n_layers": 2, "n_heads": 3, "emb_dim": 24, "max_position_embeddings": 16}
EVERY: dict[str, dict[str, Any]] = {
    "xlm": {"model_type": "xlm", "architectures": ["XLMWithLMHeadModel"], **_SIZES},
    "flaubert": {"model_type": "flaubert", "architectures": ["FlaubertForSequenceClassification"], **_SIZES},
    "xlnet": {"model_type": "xlnet", "architectures": ["XLNetLMHeadModel"], "vocab_size": 30, "n_layer": 2, "n_head": 3,
              "d_model": 24, "d_inner": 20},
}  # fmt: skip


@by_type
def test_default_and_every_class(row: Width) -> None:
    assert_default(row)
    assert_heads(row)


@by_type
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_varied(row: Width, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(varied(row)))


@pytest.mark.parametrize(
    "changes", [{"summary_use_proj": False}, {"summary_proj_to_labels": False}], ids=lambda changes: next(iter(changes))
)
def test_xlm_summaries(changes: dict[str, Any]) -> None:
    """No matrix at all, or one of the model's own width."""
    config = {**EVERY["xlm"], "architectures": ["XLMForSequenceClassification"], "num_labels": 5, **changes}
    assert_params_equal_meta(config)


def test_the_comparison_notices_a_language() -> None:
    """Negative control."""
    assert_params_differ_from_meta({**EVERY["xlm"], "n_langs": 2}, EVERY["xlm"])


# ---- FLOPs and caches -----------------------------------------------------------------------------------------------


def ours(config: dict[str, Any], **question: Any) -> int:
    return int(flops(read(config), **question).figures()["flops.matmul"])


@pytest.mark.parametrize("name", ["xlm", "flaubert"])
def test_flops_of_xlm(name: str) -> None:
    """With real tensors: the model reads how long each text is."""
    counted = flop_counter.on_cpu(EVERY[name], input_ids=torch.full((2, 7), 9))
    assert ours(EVERY[name], batch=2, seq=7) == counted
    assert ours(EVERY[name], batch=2, seq=8) != counted


@pytest.mark.parametrize("kind", ["bi", "uni"])
def test_flops_of_xlnet(kind: str) -> None:
    """7 tokens: 14 distances where every token sees every other, 8 where it looks back only."""
    config = {**EVERY["xlnet"], "attn_type": kind}
    counted = flop_counter.on_cpu(config, input_ids=torch.full((2, 7), 9))
    assert ours(config, batch=2, seq=7) == counted
    other = {**config, "attn_type": "uni" if kind == "bi" else "bi"}
    assert ours(other, batch=2, seq=7) != counted


def test_only_what_looks_back_is_cached() -> None:
    for config, look in ((EVERY["xlm"], {"causal": True}), (EVERY["xlnet"], {"attn_type": "uni"})):
        assert kv_cache(read(config), ctx=9).figures()["kv_cache.total_bytes"] == 0
        causal = read({**config, **look})
        assert attention_of(causal).causal
        assert kv_cache(causal, ctx=9, kv_dtype="bf16").figures()["kv_cache.total_bytes"] == 9 * 2 * 2 * 24 * 2


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("xlm", {"is_encoder": False}, "is_encoder is false"),
        ("xlm", {"emb_dim": 25}, "emb_dim is 25; it is not a multiple of the 3 heads"),
        ("flaubert", {"summary_type": "attn"}, "summary_type is 'attn'"),
        ("xlnet", {"d_head": 5}, "d_head is 5; this type needs d_model / n_head = 8"),
        ("xlnet", {"attn_type": "both"}, "attn_type is 'both'"),
    ],
)
def test_bad_values(name: str, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({**EVERY[name], **change})
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("xlm", {"asm": True, "asm_cutoffs": [5, 10], "asm_div_value": 4.0}),
        ("xlm", {"architectures": ["XLMForQuestionAnswering"]}),
        ("xlm", {"architectures": ["XLMForMultipleChoice"], "summary_proj_to_labels": False}),
        ("flaubert", {"architectures": ["FlaubertForMaskedLM"]}),
        ("xlnet", {"architectures": ["XLNetForQuestionAnswering"]}),
        ("xlnet", {"num_key_value_heads": 1}),
        ("xlnet", {"architectures": ["XLNetForMultipleChoice"], "summary_proj_to_labels": True}),
    ],
)
def test_what_is_not_known_makes_an_estimate(name: str, change: dict[str, Any]) -> None:
    assert len(architecture_of({**EVERY[name], **change}).reasons) == 1
