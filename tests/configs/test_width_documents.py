"""NeoMME and ModernVBERT against transformers: every class, varied shapes, FLOPs with and without an image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import flop_counter
from tests.oracles.transformers_meta import default_config
from tests.strategies import (
    assert_params_differ_from_meta,
    assert_params_equal_meta,
    attention_of,
    layer_counts,
    maybe,
    read,
    small,
)
from tests.width import assert_default, flags, varied, width
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.flops import flops

few = settings(max_examples=20, deadline=None)
KINDS = ["sliding_attention", "full_attention"]
NEOMME = width(
    "neomme", "NeoMME", "ForMaskedLM Model ForRetrieval",
    kin=st.sampled_from([(1, 1), (4, 2), (6, 1)]).map(
        lambda heads: {"num_attention_heads": heads[0], "num_key_value_heads": heads[1]}
    ),
    vocab_size=small, embedding_rank=small, hidden_size=small, intermediate_size=small, num_hidden_layers=4,
    head_dim=st.sampled_from([16, 32]), attention_bias=flags, mlp_bias=flags, patch_size=st.integers(1, 4),
    embedding_dim=maybe(small), tie_word_embeddings=flags, sliding_window=maybe(small), pad_token_id=0,
    layer_types=maybe(st.sampled_from([KINDS * 2, KINDS[1:] * 4])),
)  # fmt: skip


def test_neomme_default_and_every_class() -> None:
    assert_default(NEOMME)
    for name in NEOMME.classes[1:]:
        assert_params_equal_meta({"model_type": "neomme", "num_hidden_layers": 2, "architectures": [name]})


@few
@given(config=varied(NEOMME))
def test_neomme_varied(config: dict[str, Any]) -> None:
    assert_params_equal_meta(config)


TEXT: dict[str, Any] = {
    "vocab_size": 40, "num_hidden_layers": 2, "intermediate_size": 20, "hidden_size": 16, "num_attention_heads": 2,
    "pad_token_id": 0,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12, "num_hidden_layers": 1, "image_size": 16,
    "patch_size": 4,
}  # fmt: skip
WHOLE: dict[str, Any] = {
    "model_type": "modernvbert", "architectures": ["ModernVBertForMaskedLM"], "text_config": TEXT,
    "vision_config": VISION, "pixel_shuffle_factor": 2, "image_token_id": 39,
}  # fmt: skip
TEXTS = st.fixed_dictionaries(
    {**{key: st.just(value) for key, value in TEXT.items()}, "norm_bias": st.booleans(), "decoder_bias": st.booleans(),
     "classifier_bias": st.booleans(), "mlp_bias": st.booleans(), "num_hidden_layers": layer_counts}
)  # fmt: skip


TASKS = ["Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification"]


def test_modernvbert_default() -> None:
    default = default_config("modernvbert")
    text = {**default["text_config"], "num_hidden_layers": 2, "layer_types": None}
    assert_params_equal_meta({**default, "text_config": text, "architectures": ["ModernVBertForMaskedLM"]})


@few
@given(text=TEXTS, head=st.booleans(), tied=st.booleans(), side=st.integers(1, 3), labels=maybe(st.integers(1, 5)),
       task=st.sampled_from(TASKS))  # fmt: skip
def test_modernvbert_varied(text: Any, head: bool, tied: bool, side: int, labels: Any, task: str) -> None:
    config = {**WHOLE, "text_config": text, "vision_config": {**VISION, "vision_use_head": head}}
    config |= {"tie_word_embeddings": tied, "pixel_shuffle_factor": side, "architectures": [f"ModernVBert{task}"]}
    if type(labels) is int:
        config["num_labels"] = labels
    assert_params_equal_meta(config)


ULTRA: dict[str, Any] = {
    **WHOLE, "model_type": "ultravbert", "architectures": ["UltraVBertForMaskedLM"],
    "text_config": {**TEXT, "model_type": "ultrabert", "prediction_head_size": 6},
}  # fmt: skip


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_ultravbert(task: str, tied: bool) -> None:
    text = {**ULTRA["text_config"], "attention_bias": tied, "mlp_bias": tied, "num_key_value_heads": 1}
    changes = {"architectures": [f"UltraVBert{task}"], "tie_word_embeddings": tied, "num_labels": 3}
    assert_params_equal_meta({**ULTRA, **changes, "text_config": text})


def test_ultravbert_default() -> None:
    default = default_config("ultravbert")
    text = {**default["text_config"], "num_hidden_layers": 2, "layer_types": None}
    assert_params_equal_meta({**default, "text_config": text, "architectures": ["UltraVBertForMaskedLM"]})


# ---- FLOPs ----------------------------------------------------------------------------------------------------------

NEO: dict[str, Any] = {
    "model_type": "neomme", "architectures": ["NeoMMEForMaskedLM"], "vocab_size": 30, "embedding_rank": 6,
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "patch_size": 2,
}  # fmt: skip


@pytest.mark.parametrize("config", [NEO, {**NEO, "architectures": ["NeoMMEForRetrieval"]}, WHOLE, ULTRA],
                         ids=lambda config: config["architectures"][0])  # fmt: skip
def test_flops_of_text(config: dict[str, Any]) -> None:
    counted = flop_counter.on_cpu(config, input_ids=torch.ones(2, 7, dtype=torch.long))
    assert flops(read(config), batch=2, seq=7).figures()["flops.matmul"] == counted


def test_flops_with_an_image() -> None:
    """16 patches, joined two by two a side: 4 of a text's 7 tokens."""
    tokens = torch.tensor([[1, 39, 39, 39, 39, 2, 3]])
    counted = flop_counter.on_cpu(WHOLE, input_ids=tokens, pixel_values=torch.ones(1, 1, 3, 16, 16))
    assert flops(read(WHOLE), seq=7, images=1).figures()["flops.matmul"] == counted


def test_neomme_windows_take_turns() -> None:
    """Layers 0 to 4 are windowed, 256 and 1,024 tokens to each side in turn; layer 5 sees everything."""
    model = read({"model_type": "neomme", "architectures": ["NeoMMEModel"]})
    assert [attention_of(model, i).window for i in range(7)] == [512, 2048, 512, 2048, 512, None, 2048]
    written = read({**default_config("neomme"), "architectures": ["NeoMMEModel"]})
    assert [attention_of(written, i).window for i in range(7)] == [512, 2048, 512, 2048, 512, None, 2048]


def test_the_comparison_notices() -> None:
    assert_params_differ_from_meta(NEO, {**NEO, "tie_word_embeddings": False})
    assert_params_differ_from_meta(WHOLE, {**WHOLE, "pixel_shuffle_factor": 1})
    assert_params_differ_from_meta(ULTRA, {**ULTRA, "text_config": {**ULTRA["text_config"], "prediction_head_size": 7}})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**NEO, "layer_types": ["sliding_attention"] * 3}, "holds no full_attention"),
        ({**NEO, "head_dim": 12}, "two axes need a multiple of 4"),
        ({**NEO, "per_layer_config": {"3": {"sliding_window": 2}}}, "speaks of layer 3; there are 3 layers"),
        ({**NEO, "sliding_window": None}, "sliding_window is null in layer 0"),
        ({**WHOLE, "text_config": {**TEXT, "model_type": "bert"}}, "text model is a modernbert"),
        ({**WHOLE, "vision_config": {**VISION, "model_type": "vit"}}, "tower is a siglip_vision_model"),
    ],
)
def test_bad_values(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of(config)
