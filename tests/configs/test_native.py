"""txcalc's own vocabulary: by hand against the papers, and against torch's and transformers' models of such shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles import transformers_meta
from tests.strategies import few, heads, layer_counts, read, small
from txcalc.architecture import Alibi, CrossAttention, MixtureOfExperts, Rotary, SelfAttention, Sinusoidal
from txcalc.configs import architecture_of, native
from txcalc.errors import ModelError
from txcalc.formulas.params import params

TINY = {
    "model_type": "transformer",
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
}

TRANSFORMER_BASE = {
    "model_type": "transformer",
    "kind": "encoder_decoder",
    "vocab_size": 37_000,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "position": "sinusoidal",
    "norm_position": "post",
    "hidden_act": "relu",
    "attention_bias": False,
    "scale_embedding": True,
}
TRANSFORMER_BIG = {**TRANSFORMER_BASE, "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
GPT_3 = {
    "model_type": "transformer",
    "vocab_size": 50_257,
    "hidden_size": 12_288,
    "num_hidden_layers": 96,
    "num_attention_heads": 96,
    "position": "learned",
    "max_position_embeddings": 2048,
}
PALM_540B = {
    "model_type": "transformer",
    "vocab_size": 256_000,
    "hidden_size": 18_432,
    "num_hidden_layers": 118,
    "num_attention_heads": 48,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "gated": True,
    "hidden_act": "silu",
    "bias": False,
    "parallel": True,
}


def total(config: dict[str, Any]) -> int | float:
    return params(read(config)).figures()["params.total"]


# ---- published shapes, by hand --------------------------------------------------------------------------------------


def test_transformer_base() -> None:
    """Vaswani et al. 2017, table 3, base; its attention has no biases (section 3.2.2), its feed-forward two (3.3).

    Attention 4 * 512^2 = 1,048,576; feed-forward 2 * 512 * 2,048 + 2,048 + 512 = 2,099,712; a norm 1,024.
    Encoder layer 1,048,576 + 2,099,712 + 2 * 1,024 = 3,150,336; decoder layer 2 * 1,048,576 + 2,099,712 + 3 * 1,024 =
    4,199,936; six of each 44,101,632. One table for both inputs and the output (section 3.4): 37,000 * 512 =
    18,944,000, where 37,000 is "about 37000 tokens" (5.1). The paper's 65 * 10^6 would take a table of 40,800.
    """
    assert total(TRANSFORMER_BASE) == 63_045_632
    assert total({**TRANSFORMER_BASE, "vocab_size": 1}) == 44_101_632 + 512


def test_transformer_big() -> None:
    """Attention 4 * 1,024^2 = 4,194,304; feed-forward 2 * 1,024 * 4,096 + 4,096 + 1,024 = 8,393,728; a norm 2,048.

    Encoder layer 12,592,128, decoder layer 16,788,480, six of each 176,283,648; table 37,000 * 1,024 = 37,888,000.
    The paper prints 213 * 10^6, half a per cent less: again its vocabulary is not exactly 37,000.
    """
    assert total(TRANSFORMER_BIG) == 214_171_648


def test_gpt_3() -> None:
    """Brown et al. 2020, table D.1: 174,600 million. Tables (50,257 + 2,048) * 12,288 = 642,723,840.

    A layer: 12 * 12,288^2 + 13 * 12,288 = 1,812,099,072 (biases 9 D, norms 4 D), 96 of them 173,961,510,912; a final
    norm 24,576. Sum: 174,604,259,328.
    """
    assert total(GPT_3) == 174_604_259_328


def test_palm() -> None:
    """Chowdhery et al. 2022, table 1: 540.35 billion, 62.50, 8.63. No biases, one norm a layer, one KV head.

    540B, a layer: queries and output 2 * 18,432 * 12,288 = 452,984,832; key and value 2 * 18,432 * 256 = 9,437,184;
    SwiGLU 3 * 18,432 * 73,728 = 4,076,863,488; norm 18,432. 118 layers 535,637,864,448; table 256,000 * 18,432 =
    4,718,592,000; final norm 18,432. Sum: 540,356,474,880.
    """
    assert total(PALM_540B) == 540_356_474_880
    middle = {**PALM_540B, "hidden_size": 8192, "num_hidden_layers": 64, "num_attention_heads": 32}
    assert total(middle) == 62_495_662_080
    least = {**PALM_540B, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 16}
    assert total(least) == 8_632_012_800


# ---- against models that others build -------------------------------------------------------------------------------


@few
@given(
    heads=heads(most=4),
    step=st.integers(1, 4),
    layers=layer_counts,
    inner=small,
    vocab=small,
    tied=st.booleans(),
    experts=st.integers(0, 4),
)
def test_equals_llama_and_mixtral(
    heads: tuple[int, int], step: int, layers: int, inner: int, vocab: int, tied: bool, experts: int
) -> None:
    """Gated, without biases, RMSNorm, rotary: Llama; with experts, Mixtral."""
    query, kv = heads
    shape: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": 2 * step * query,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": query,
        "num_key_value_heads": kv,
        "tie_word_embeddings": tied,
    }
    ours = {**shape, "model_type": "transformer", "gated": True, "bias": False, "norm": "rmsnorm"}
    theirs = {**shape, "model_type": "mixtral" if experts else "llama"}
    if experts:
        ours |= {"num_experts": experts, "num_experts_per_tok": 1}
        theirs |= {"num_local_experts": experts, "num_experts_per_tok": 1}
    assert total(ours) == transformers_meta.num_params(theirs)


@few
@given(query=st.integers(1, 4), step=st.integers(1, 4), layers=layer_counts, inner=small, vocab=small)
def test_equals_gptj(query: int, step: int, layers: int, inner: int, vocab: int) -> None:
    """Parallel branches under one norm, biases in the feed-forward alone, a head with a bias."""
    width = 4 * step * query
    ours = {
        **TINY,
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": query,
        "parallel": True,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "head_bias": True,
    }
    theirs = {"model_type": "gptj", "vocab_size": vocab, "n_embd": width, "n_inner": inner, "n_layer": layers}
    assert total(ours) == transformers_meta.num_params({**theirs, "n_head": query, "rotary_dim": 2})


@few
@given(
    query=st.integers(1, 4),
    step=st.integers(1, 4),
    depths=st.tuples(layer_counts, layer_counts),
    inner=small,
    bias=st.booleans(),
    post=st.booleans(),
)
def test_equals_torchs_own_transformer(
    query: int, step: int, depths: tuple[int, int], inner: int, bias: bool, post: bool
) -> None:
    """torch.nn.Transformer has no tables or head, and a final norm on each stack."""
    width = step * query
    ours = {
        **TINY,
        "kind": "encoder_decoder",
        "hidden_size": width,
        "num_attention_heads": query,
        "num_encoder_layers": depths[0],
        "num_decoder_layers": depths[1],
        "intermediate_size": inner,
        "norm_position": "post" if post else "pre",
        "final_norm": True,
        "position": "none",
        "bias": bias,
        "head": "none",
    }
    del ours["num_hidden_layers"]
    with torch.device("meta"):
        theirs = torch.nn.Transformer(width, query, *depths, inner, bias=bias, norm_first=not post)
    assert total(ours) - 30 * width == transformers_meta.count(theirs)


def test_the_comparison_notices_a_norm_too_many() -> None:
    """Negative control: the 2017 model with torch's extra norms is 2 * 1,024 larger."""
    assert total({**TRANSFORMER_BASE, "final_norm": True}) == total(TRANSFORMER_BASE) + 2048


# ---- what each key does ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({"tie_word_embeddings": False}, 30 * 8),
        ({"head_bias": True}, 30),
        ({"type_vocab_size": 2}, 2 * 8),
        ({"embedding_norm": True}, 2 * 8),
        ({"position": "learned", "max_position_embeddings": 10}, 10 * 8),
        ({"position": "alibi"}, 0),
        ({"position": "none"}, 0),
        ({"qk_norm": True}, 4 * 2 * 4),
        ({"norm": "rmsnorm"}, -9 * 8),
        ({"norm_position": "sandwich"}, 8 * 2 * 8),
        ({"attention_bias": False}, -4 * 4 * 8),
        ({"attention_out_bias": False}, -4 * 8),
        ({"mlp_bias": False}, -4 * (32 + 8)),
        ({"norm_bias": False}, -9 * 8),
        ({"bias": False}, -4 * 4 * 8 - 4 * (32 + 8) - 9 * 8),
        ({"gated": True}, 4 * (8 * 32 + 32)),
        ({"head_dim": 8}, 4 * (4 * 8 * 8 + 3 * 8)),
        ({"final_norm": False}, -2 * 8),
        ({"sliding_window": 4}, 0),
        ({"n_shared_experts": 2, "num_experts": 3, "num_experts_per_tok": 1}, 4 * (3 * 8 + 2 * 552 + 1096)),
    ],
)
def test_what_a_key_adds(fields: dict[str, Any], more: int) -> None:
    """Width 8, inner 32, 4 layers, vocabulary 30; a feed-forward 2 * 256 + 40 = 552, one of twice the width 1,096."""
    assert total({**TINY, **fields}) - total(TINY) == more


def test_a_pooler_on_an_encoder() -> None:
    encoder = {**TINY, "kind": "encoder"}
    assert total({**encoder, "pooler": True}) - total(encoder) == 8 * 8 + 8
    head = read(encoder).head
    assert head is not None
    assert (head.kind, head.tied_to) == ("masked_lm", "encoder")


def test_tables_of_their_own() -> None:
    both = {**TINY, "kind": "encoder_decoder"}
    apart = {**both, "share_encoder_decoder_embeddings": False}
    assert total(apart) - total(both) == 30 * 8
    assert [read(config).head.tied_to for config in (both, apart)] == ["encoder", "decoder"]


def test_which_layers_have_windows_and_experts() -> None:
    config = {"sliding_window": 5, "sliding_window_pattern": 3, "num_experts": 4, "num_experts_per_tok": 2}
    config |= {"moe_layer_freq": 2, "first_k_dense_replace": 2}
    layers = [layer.sublayers() for layer in read({**TINY, **config}).main.sequence()]
    assert [layer[0].window for layer in layers] == [5, 5, None, 5]
    assert [isinstance(layer[1], MixtureOfExperts) for layer in layers] == [False, False, False, True]


def test_positions() -> None:
    def first(**fields: Any) -> SelfAttention:
        sublayer = read({**TINY, **fields}).main.layers[0].sublayers()[0]
        assert isinstance(sublayer, SelfAttention)
        return sublayer

    assert first().position == Rotary(theta=10_000.0, rotary_dim=4)
    assert first(rope_theta=5e5, partial_rotary_factor=0.5).position == Rotary(theta=5e5, rotary_dim=2)
    assert first(position="alibi").position == Alibi()
    assert first(position="none").position is None


def test_the_2017_stacks() -> None:
    encoder, decoder = read(TRANSFORMER_BASE).stacks
    assert encoder.embedding.positions == Sinusoidal(rows=0, width=512, interleaved=True)
    assert encoder.embedding.scale == 512**0.5
    seen, own, crossed = encoder.layers[0].sublayers()[0], *decoder.layers[0].sublayers()[:2]
    assert isinstance(seen, SelfAttention)
    assert isinstance(own, SelfAttention)
    assert isinstance(crossed, CrossAttention)
    assert (seen.causal, own.causal) == (False, True)
    assert all(step.norm_after is not None for step in decoder.layers[0].steps)


# ---- a closed vocabulary --------------------------------------------------------------------------------------------


def test_every_key_is_documented() -> None:
    undocumented = [key for key in native.KEYS - {"model_type"} if f"\n    {key} " not in (native.__doc__ or "")]
    assert undocumented == []


def test_null_stands_for_the_default() -> None:
    optional = ("num_key_value_heads", "head_dim", "final_norm", "pooler", "num_experts_per_tok", "rope_scaling")
    assert total({**TINY, **dict.fromkeys(optional)}) == total(TINY)


@pytest.mark.parametrize(
    ("fields", "message", "hint"),
    [
        ({"hiden_size": 8}, "hiden_size is not a key of model_type transformer", "hidden_size"),
        ({"use_cache": True}, "use_cache is not a key of model_type transformer", "pydoc"),
        ({"n_embd": 8}, "n_embd is not a key", ""),
        ({"position": "rope"}, "position is 'rope'; known values: rotary, learned", ""),
        ({"position": "learned"}, "max_position_embeddings is missing", ""),
        ({"position": "alibi", "rope_theta": 1e4}, "rope_theta has no meaning", "remove rope_theta"),
        ({"pooler": True}, "pooler has no meaning", "remove pooler"),
        ({"num_decoder_layers": 2}, "num_decoder_layers has no meaning", ""),
        ({"num_experts_per_tok": 2}, "num_experts_per_tok has no meaning", ""),
        ({"num_experts": 2, "num_experts_per_tok": 3}, "num_experts_per_tok is 3; there are 2 experts", ""),
        ({"sliding_window_pattern": 2}, "sliding_window_pattern has no meaning", ""),
        ({"norm": "rmsnorm", "norm_bias": True}, "norm_bias has no meaning", ""),
        ({"parallel": True, "norm_position": "post"}, "parallel is true and norm_position is 'post'", ""),
        ({"bias": "none"}, 'bias is "none"; expected true or false', ""),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3; it must divide the 2 query heads", ""),
        ({"num_attention_heads": 3}, "hidden_size is 8; it is not a multiple of the 3 heads", "head_dim"),
        ({"kind": "vision"}, "kind is 'vision'", ""),
    ],
)
def test_what_is_refused(fields: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(ModelError) as caught:
        architecture_of({**TINY, **fields})
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_what_is_needed() -> None:
    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
        with pytest.raises(ModelError, match=f"{key} is missing"):
            architecture_of({name: value for name, value in TINY.items() if name != key})
