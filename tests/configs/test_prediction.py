"""Multi-token-prediction blocks: transformers' own on the meta device, published counts, and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers.modeling_layers import MtpModel

from tests.reference import published, published_width
from txcalc.architecture import LatentAttention, SelfAttention
from txcalc.cards import load
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.params import params

EVERY = {**published.every(), **published_width.every()}


def extra(config: dict[str, Any]) -> int | float:
    return params(architecture_of(config)).figures()["params.extra"]


def transformers_extra(config: dict[str, Any], blocks: int) -> int:
    """Parameters of transformers' MtpModel, the model's own tables and head apart."""
    made = transformers.AutoConfig.for_model(**config)
    with torch.device("meta"):
        main = transformers.AutoModelForCausalLM.from_config(made, attn_implementation="eager")
        beside = MtpModel(main, blocks)
    shared = {id(parameter) for parameter in main.parameters()}
    return sum(each.numel() for each in beside.parameters() if id(each) not in shared)


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("name", ["deepseek_v3", "glm4_moe"])
def test_blocks_equal_transformers(name: str, blocks: int) -> None:
    config = {**EVERY[name], "num_nextn_predict_layers": blocks}
    assert extra(config) == transformers_extra(config, blocks)


@pytest.mark.parametrize("name", ["deepseek_v3", "glm4_moe"])
def test_blocks_have_experts_where_most_layers_have_none(name: str) -> None:
    config = {**EVERY[name], "num_nextn_predict_layers": 1, "first_k_dense_replace": 2, "num_hidden_layers": 3}
    assert extra(config) == transformers_extra(config, 1)


def test_mellums_block_equals_transformers() -> None:
    """transformers gives its block three norms and a projection, as the file has them one level up."""
    config = {**EVERY["mellum"], "num_nextn_predict_layers": 1}
    assert extra(config) == transformers_extra(config, 1)


def test_deepseek_v3s_block_is_as_large_as_published() -> None:
    """README_WEIGHTS of the release: 671B, and 11.5B in the block (without its projection); in all 684,489,845,504.

    By hand: attention 187,107,328; 256 + 1 experts of 3 * 7168 * 2048; router 256 * 7168; projection 14336 * 7168;
    two norms of the layer and three of the block, 7168 each. The hub counts 684,489,845,504 elements in the file that
    was converted to bf16: model, block, embedding and head a second time, and 256 balancing biases in 59 layers.
    """
    figures = params(load("deepseek-v3")).figures()
    by_hand = 187_107_328 + 257 * 3 * 7168 * 2048 + 256 * 7168 + 14_336 * 7168 + 5 * 7168
    assert figures["params.extra"] == by_hand
    assert round((by_hand - 14_336 * 7168) / 1e9, 1) == 11.5
    assert figures["params.total"] + by_hand + 2 * 129_280 * 7168 + 59 * 256 == 684_489_845_504


def test_qwens_blocks_share_one_projection() -> None:
    """Names and shapes of Qwen3-Next's file: mtp.fc [2048, 4096], three norms of 2048, mtp.layers.0 with experts."""
    one, two = (extra({**EVERY["qwen3_next"], "num_nextn_predict_layers": blocks}) for blocks in (1, 2))
    width = EVERY["qwen3_next"]["hidden_size"]
    assert 2 * one - two == 2 * width * width + 3 * width


def test_mimos_block_is_a_layer_like_the_others() -> None:
    """MiMo-7B by hand, from its published config: 7.83B with its block, as the hub counts the file."""
    config = {
        "model_type": "mimo", "architectures": ["MiMoForCausalLM"], "hidden_size": 4096, "intermediate_size": 11_008,
        "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 151_680, "attention_bias": True, "num_nextn_predict_layers": 1,
    }  # fmt: skip
    model = architecture_of(config)
    figures = params(model).figures()
    layer = 2 * 4096 * (4096 + 1024) + 4096 + 2 * 1024 + 3 * 4096 * 11_008 + 2 * 4096
    assert figures["params.total"] == 36 * layer + 2 * 151_680 * 4096 + 4096
    assert figures["params.extra"] == layer + 2 * 4096 * 4096 + 3 * 4096
    assert round((figures["params.total"] + figures["params.extra"]) / 1e9, 2) == 7.83
    qwen2 = architecture_of({**config, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]})
    assert params(qwen2).figures()["params.total"] == figures["params.total"]
    assert (model.reasons, model.notes) == ((), ())


def test_mimo_v2s_block_is_windowed_and_dense() -> None:
    """By hand: windowed attention's own heads, a dense feed-forward, two norms of the layer and three of the block."""
    config = {**EVERY["mimo_v2_flash"], "num_nextn_predict_layers": 1}
    model = architecture_of(config)
    assert model.extra is not None
    kinds = [type(each).__name__ for each in model.extra.layer.sublayers()]
    assert kinds == ["SelfAttention", "FeedForward"]
    width = config["hidden_size"]
    dense = 3 * width * config["intermediate_size"]
    attention = model.extra.layer.sublayers()[0]
    assert isinstance(attention, SelfAttention)
    assert attention.window == config["sliding_window"]
    heads, kv, d, v = 4, attention.num_key_value_heads, attention.head_dim, attention.v_head_dim
    by_hand = width * (heads * d + kv * d + kv * v + heads * v) + (heads if attention.sinks else 0)
    assert extra(config) == by_hand + dense + 2 * width * width + 5 * width


def test_ernies_block_is_dense_and_has_no_last_norm() -> None:
    config = {**EVERY["ernie4_5_moe"], "num_nextn_predict_layers": 1}
    model = architecture_of(config)
    assert model.extra is not None
    assert len(model.extra.norms) == 2
    assert [type(each).__name__ for each in model.extra.layer.sublayers()] == ["SelfAttention", "FeedForward"]


def test_a_shared_indexer_is_the_blocks_own() -> None:
    """GLM 5's layers that take the choice before them: a block has no layer before it."""
    own = architecture_of({**EVERY["glm_moe_dsa"], "num_nextn_predict_layers": 1})
    assert own.extra is not None
    attention = own.extra.layer.sublayers()[0]
    assert isinstance(attention, LatentAttention)
    assert attention.indexer is not None
    assert not attention.indexer.shared


def test_blocks_are_in_no_total() -> None:
    """Negative control: the model's figures are the same with and without blocks, and differ from those with them."""
    without, with_ = (
        architecture_of(EVERY["deepseek_v3"]),
        architecture_of({**EVERY["deepseek_v3"], "num_nextn_predict_layers": 1}),
    )
    figures = params(with_).figures()
    assert params(without).figures() == {key: value for key, value in figures.items() if key != "params.extra"}
    assert figures["params.extra"] > 0
    assert with_.reasons == without.reasons


@pytest.mark.parametrize("value", [-1, 1.5, "one", True, 10**9])
def test_a_number_of_blocks_that_is_none_is_an_error(value: Any) -> None:
    with pytest.raises(ModelError, match="num_nextn_predict_layers"):
        architecture_of({**EVERY["deepseek_v3"], "num_nextn_predict_layers": value})


def test_none_and_zero_are_no_blocks() -> None:
    for value in (None, 0):
        assert architecture_of({**EVERY["deepseek_v3"], "num_nextn_predict_layers": value}).extra is None


def test_blocks_of_unknown_shape_are_a_note() -> None:
    """Every layer of the model is dense: which experts a block would have is not said."""
    model = architecture_of({**EVERY["deepseek_v3"], "num_nextn_predict_layers": 1, "first_k_dense_replace": 3})
    assert model.extra is None
    assert any("not counted" in note for note in model.notes)
