"""BLT and Reformer: counts equal transformers' on the meta device; no pass of them, and no cache, is answered."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.transformers_meta import default_config
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, classes, configs, read, small
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params

two = st.integers(1, 2)


def drawn(**keys: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({k: v if isinstance(v, st.SearchStrategy) else st.just(v) for k, v in keys.items()})


def layers(**keys: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Small layers of 4 heads."""
    return drawn(
        **{
            "hidden_size": st.sampled_from([16, 24]), "num_attention_heads": 4, "num_hidden_layers": two,
            "num_key_value_heads": st.sampled_from([None, 2]), "intermediate_size": small, "vocab_size": 50, **keys,
        }
    )  # fmt: skip


ACROSS: dict[str, Any] = {"cross_attn_all_layers": st.sampled_from([None, False, True]), "cross_attn_k": two}
BLT = {
    "model_type": "blt", "vocab_size": 50, "realtime_patching": True, "pm_size": 0, "encoder_hash_byte_group_vocab": 9,
    "encoder_config": {"hidden_size": 16, "num_attention_heads": 4, "vocab_size": 50},
    "decoder_config": {"hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2, "hidden_size_global": 32},
    "global_config": {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1},
    "patcher_config": {"hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 1, "attn_impl": "sdpa"},
}  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(
    configs(
        "blt", vocab_size=50, encoder_hash_byte_group_vocab=small, encoder_hash_byte_group_nb_functions=two,
        encoder_hash_byte_group_size=st.sampled_from([None, [], [3], [3, 4]]), cross_attn_k=two,
        patch_in_forward=st.booleans(), patcher_config=layers(), tie_word_embeddings=st.booleans(),
        encoder_config=layers(hidden_size=16, intermediate_size=st.sampled_from([None, 9]), **ACROSS),
        decoder_config=layers(hidden_size=16, hidden_size_global=small, **ACROSS),
        global_config=layers(hidden_size=st.sampled_from([16, 32])),
        architectures=classes("Blt", "ForCausalLM", "Model"),
    )
)  # fmt: skip
def test_shapes_of_blt(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_default_blt() -> None:
    assert_params_equal_meta(default_config("blt"))
    assert_params_equal_meta({"model_type": "blt"})
    assert_params_differ_from_meta(BLT, {**BLT, "cross_attn_k": 3})


def test_tables_of_groups_of_bytes_are_input_tables() -> None:
    """50 bytes and 6 times 9 groups, of 16 channels."""
    assert params(read(BLT)).figures()["params.embedding"] == (50 + 6 * 9) * 16


CLASSES = ("ForMaskedLM", "Model", "ForSequenceClassification", "ForQuestionAnswering")
REFORMER = {
    "hidden_size": 24, "num_attention_heads": two, "attention_head_size": small, "feed_forward_size": small,
    "attn_layers": st.lists(st.sampled_from(["lsh", "local"]), min_size=1, max_size=3), "vocab_size": small,
    "axial_pos_embds": st.booleans(), "axial_pos_shape": st.sampled_from([[4, 3], [2, 9]]), "pad_token_id": 0,
    "axial_pos_embds_dim": st.sampled_from([[4, 20], [12, 12]]), "max_position_embeddings": small,
    "num_labels": st.integers(1, 4), "tie_word_embeddings": st.booleans(),
}  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(
    configs("reformer", **REFORMER, architectures=classes("Reformer", *CLASSES))
    | configs("reformer", **REFORMER, architectures=classes("Reformer", "ModelWithLMHead"), is_decoder=True)
)
def test_shapes_of_reformer(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


def test_default_reformer() -> None:
    masked = {**default_config("reformer"), "architectures": ["ReformerForMaskedLM"]}
    assert_params_equal_meta(masked)
    assert_params_equal_meta({"model_type": "reformer", "is_decoder": True})
    assert_params_equal_meta({**masked, "num_hidden_layers": 3})
    assert_params_equal_meta({**masked, "attn_layers": ["lsh"], "num_hidden_layers": 3})
    assert_params_differ_from_meta(masked, {**masked, "attn_layers": ["lsh"] * 6})


@pytest.mark.parametrize("config", [BLT, {"model_type": "reformer", "is_decoder": True}], ids=["blt", "reformer"])
def test_neither_runs_nor_caches(config: dict[str, Any]) -> None:
    model = read(config)
    for ask in (lambda: flops(model, seq=9), lambda: kv_cache(model, ctx=9)):
        with pytest.raises(RequestError) as raised:
            ask()
        assert str(raised.value).endswith(model.only_params)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**BLT, "tie_word_embeddings": True, "vocab_size": 51}, "the table is 50 x 16, not 51 x 16"),
        ({**BLT, "global_config": {"num_attention_heads": 4096}}, "num_attention_heads is 4096; the width is 2048"),
        ({"model_type": "reformer", "attn_layers": ["full"]}, "expected lsh and local, one a layer"),
        ({"model_type": "reformer", "num_hidden_layers": 7}, "num_hidden_layers is 7; attn_layers names 6"),
        ({"model_type": "reformer", "hidden_size": 250}, r"axial_pos_embds_dim is \[64, 192\] for axes"),
        (
            {"model_type": "reformer", "architectures": ["ReformerModelWithLMHead"]},
            "is_decoder is false; transformers builds no ReformerModelWithLMHead of that",
        ),
        (
            {"model_type": "reformer", "is_decoder": True, "lsh_num_chunks_after": 1},
            "lsh_num_chunks_after is not 0: a decoder does not look ahead",
        ),
    ],
)
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)


def test_other_classes_make_an_estimate() -> None:
    (reason,) = architecture_of({**BLT, "architectures": ["BltForSequenceClassification"]}).reasons
    assert "nobody's published class" in reason
    (reason,) = architecture_of({"model_type": "reformer", "architectures": ["ReformerForTokenClassification"]}).reasons
    assert "not one of the classes" in reason
