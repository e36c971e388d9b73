"""SeamlessM4T from text to text: counts and FLOPs equal transformers' on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import flop_counter
from tests.oracles.transformers_meta import default_config
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, configs, maybe, read, small
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache

NAMES = {"seamless_m4t": "SeamlessM4TForTextToText", "seamless_m4t_v2": "SeamlessM4Tv2ForTextToText"}
SMALL = {"model_type": "seamless_m4t", "hidden_size": 32, "encoder_attention_heads": 4, "decoder_attention_heads": 2,
         "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 20, "decoder_ffn_dim": 24,
         "vocab_size": 67}  # fmt: skip
heads, layers = st.integers(1, 3), st.integers(1, 3)


@pytest.mark.parametrize("model_type", NAMES)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_shapes(model_type: str, data: st.DataObject) -> None:
    drawn = configs(
        model_type, architectures=[NAMES[model_type]], hidden_size=24, vocab_size=small, encoder_layers=layers,
        decoder_layers=maybe(layers), encoder_attention_heads=heads, decoder_attention_heads=heads, pad_token_id=0,
        encoder_ffn_dim=small, decoder_ffn_dim=small, tie_word_embeddings=st.booleans(),
        num_hidden_layers=maybe(st.just(2)),
    )  # fmt: skip
    config: dict[str, Any] = data.draw(drawn)
    if "num_hidden_layers" in config:
        config.pop("decoder_layers", None)
    assert_params_equal_meta(config)


@pytest.mark.parametrize("model_type", NAMES)
def test_default_and_minimal_configs(model_type: str) -> None:
    """Auto classes of encoder-decoders make the model from text to text."""
    assert_params_equal_meta({**default_config(model_type), "architectures": None})
    assert_params_equal_meta({"model_type": model_type, "encoder_layers": 1})


def test_the_comparison_notices() -> None:
    assert_params_differ_from_meta(SMALL, {**SMALL, "tie_word_embeddings": False})


def test_flops_and_cache() -> None:
    """3 layers, keys and values of 32 channels at 2 bytes: of 5 tokens, and of 9 of the source."""
    model, ours = flop_counter.model_of(SMALL), read(SMALL)
    counted = flop_counter.forward(model, **flop_counter.inputs_of(model, batch=2, seq=5, source=9))
    assert flops(ours, batch=2, seq=5, source_seq=9).figures()["flops.matmul"] == counted
    cache = kv_cache(ours, ctx=5, source_ctx=9, kv_dtype="bf16").figures()
    assert cache["kv_cache.total_bytes"] == 3 * 2 * 32 * 2 * (5 + 9)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"architectures": ["SeamlessM4TForSpeechToText"]}, "only SeamlessM4TForTextToText is described"),
        ({"num_hidden_layers": 2}, "decoder_layers is 3 and num_hidden_layers is 2: two names of one field"),
        ({"encoder_attention_heads": 3}, "it is not a multiple of the 3 heads"),
    ],
)
def test_bad_values(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture_of({**SMALL, **keys})
