"""Rare parts against transformers' modules on the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers.activations import XIELUActivation
from transformers.models.deepseek_v32.modeling_deepseek_v32 import DeepseekV32Attention
from transformers.models.diffllama.modeling_diffllama import DiffLlamaAttention, DiffLlamaRotaryEmbedding
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention
from transformers.models.phimoe.modeling_phimoe import PhimoeSparseMoeBlock

from txcalc.architecture import (
    Differential,
    FeedForward,
    GlobalAttention,
    Indexer,
    LatentAttention,
    LengthTemperature,
    MixtureOfExperts,
    Rotary,
    Router,
    SelfAttention,
)
from txcalc.reference.attention import SelfAttention as SelfAttentionModule
from txcalc.reference.backends import Backend
from txcalc.reference.context import Context
from txcalc.reference.feed_forward import XIELU
from txcalc.reference.sublayers import make_sublayer

D, T = 32, 12
FUTURE = torch.full((T, T), float("-inf")).triu(1)[None, None]
CLOSE: dict[str, float] = {"rtol": 1e-5, "atol": 3e-6}


def context(**fields: Any) -> Context:
    return Context(
        starts=(0, 0), counts=(T, T), tokens=T, device=torch.device("cpu"), backend=Backend(), length=T, **fields
    )


def awake(module: Any) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module.eval()


def copied(ours: Any, state: dict[str, torch.Tensor], names: dict[str, str]) -> Any:
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(state[names.get(name, name)].view_as(parameter))
    return ours


@pytest.fixture(autouse=True)
def _no_grad() -> Any:
    with torch.no_grad():
        yield


def test_differential_attention() -> None:
    settings = transformers.DiffLlamaConfig(
        hidden_size=D, num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_hidden_layers=2
    )
    settings._attn_implementation = "eager"
    theirs = awake(DiffLlamaAttention(settings, 1))
    ours = SelfAttention(
        hidden_size=D, num_attention_heads=4, num_key_value_heads=2, head_dim=8, v_head_dim=8,
        position=Rotary(theta=1e4, rotary_dim=8),
        differential=Differential(lambda_init=theirs.lambda_init, norm_eps=settings.rms_norm_eps),
    )  # fmt: skip
    names = {f"difference.lambda_{each}": f"lambda_{each}" for each in ("q1", "k1", "q2", "k2")}
    x = torch.randn(2, T, D)
    expected = theirs(x, DiffLlamaRotaryEmbedding(settings)(x, torch.arange(T)[None]), FUTURE)[0]
    module = copied(make_sublayer(ours), theirs.state_dict(), names)
    torch.testing.assert_close(module(x, context()), expected, **CLOSE)
    module.difference.lambda_q1.zero_()  # negative control: the difference matters
    assert (module(x, context()) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("top_k", [4, T])
def test_sparse_attention_picks_the_same_keys(top_k: int) -> None:
    widths = {"q_lora_rank": 12, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6}
    settings = transformers.AutoConfig.for_model(
        "deepseek_v32", hidden_size=D, num_attention_heads=4, num_key_value_heads=4, index_n_heads=2,
        index_head_dim=8, index_topk=top_k, **widths,
    )  # fmt: skip
    settings._attn_implementation = "eager"
    theirs = awake(DeepseekV32Attention(settings, 0))
    ours = LatentAttention(
        hidden_size=D, num_attention_heads=4, norm_eps=1e-6, **widths,
        position=Rotary(theta=1e4, rotary_dim=4, interleaved=True),
        indexer=Indexer(query_size=12, num_heads=2, head_dim=8, top_k=top_k, rope_dim=4),
    )  # fmt: skip
    names = {
        "q_a_norm.weight": "q_a_layernorm.weight", "kv_a_proj.weight": "kv_a_proj_with_mqa.weight",
        "kv_a_norm.weight": "kv_a_layernorm.weight", "indexer.q_proj.weight": "indexer.wq_b.weight",
        "indexer.k_proj.weight": "indexer.wk.weight", "indexer.head_weights.weight": "indexer.weights_proj.weight",
    }  # fmt: skip
    angles = torch.arange(T)[:, None] * 1e4 ** (-torch.arange(0, 4, 2) / 4)
    turns = tuple(torch.cat([each, each], -1)[None] for each in (angles.cos(), angles.sin()))
    x = torch.randn(2, T, D)
    expected = theirs(x, turns, FUTURE.expand(2, 1, -1, -1))[0]
    module = copied(make_sublayer(ours), theirs.state_dict(), names)
    torch.testing.assert_close(module(x, context()), expected, **CLOSE)


def test_the_choice_of_keys_matters() -> None:
    """Negative control of the above: all keys and the best four give different outputs."""
    latent = LatentAttention(
        hidden_size=D, num_attention_heads=4, q_lora_rank=12, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4,
        v_head_dim=6, norm_eps=1e-6, position=None,
        indexer=Indexer(query_size=12, num_heads=2, head_dim=8, top_k=4),
    )  # fmt: skip
    few, x = awake(make_sublayer(latent)), torch.randn(2, T, D)
    assert latent.indexer is not None
    many = make_sublayer(latent.replace(indexer=latent.indexer.replace(top_k=T)))
    many.load_state_dict(few.state_dict())
    assert (few(x, context()) - many(x, context())).abs().max() > 1e-2


@pytest.mark.parametrize("tokens", [[], [[0, 5], [3, 7]]], ids=["none", "two a row"])
def test_global_tokens(tokens: list[list[int]]) -> None:
    settings = transformers.LongformerConfig(
        hidden_size=D, num_attention_heads=4, attention_window=[4], attention_probs_dropout_prob=0.0
    )
    theirs = awake(LongformerSelfAttention(settings, 0))
    ours = SelfAttention(
        hidden_size=D, num_attention_heads=4, num_key_value_heads=4, head_dim=8, v_head_dim=8, causal=False,
        q_bias=True, k_bias=True, v_bias=True, window=4, global_tokens=GlobalAttention(),
    )  # fmt: skip
    state = {**theirs.state_dict(), "o_proj.weight": torch.eye(D)}
    parts = {"q_proj": "query", "k_proj": "key", "v_proj": "value"}
    names = {f"{mine}.{end}": f"{other}.{end}" for mine, other in parts.items() for end in ("weight", "bias")}
    names |= {f"global_tokens.{mine}": other.replace(".", "_global.") for mine, other in names.items()}
    seen = torch.zeros(2, T, dtype=torch.bool)
    if tokens:
        seen.scatter_(1, torch.tensor(tokens), True)
    x = torch.randn(2, T, D)
    expected = theirs(
        x, attention_mask=10_000.0 * seen, is_index_masked=torch.zeros(2, T, dtype=torch.bool),
        is_index_global_attn=seen, is_global_attn=bool(tokens),
    )[0]  # fmt: skip
    module = copied(make_sublayer(ours), state, names)
    torch.testing.assert_close(module(x, context(global_BT=seen)), expected, **CLOSE)


def test_the_sparse_mixer() -> None:
    settings = transformers.AutoConfig.for_model(
        "phimoe", hidden_size=D, intermediate_size=16, num_local_experts=6, num_experts_per_tok=2
    )
    theirs = awake(PhimoeSparseMoeBlock(settings))
    state = dict(theirs.state_dict())
    state["experts.gate_proj"], state["experts.up_proj"] = state.pop("experts.gate_up_proj").chunk(2, dim=1)
    ours = MixtureOfExperts(
        hidden_size=D, num_experts=6, num_experts_per_tok=2,
        expert=FeedForward(hidden_size=D, intermediate_size=16, activation="silu", gated=True),
        router=Router(scoring="sparsemixer", jitter=settings.router_jitter_noise),
    )  # fmt: skip
    x = torch.randn(2, T, D)
    torch.testing.assert_close(copied(make_sublayer(ours), state, {})(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_xielu() -> None:
    theirs, ours, x = XIELUActivation(dtype=torch.float32), XIELU(), torch.linspace(-5, 5, 101)
    copied(ours, theirs.state_dict(), {})
    torch.testing.assert_close(ours(x), theirs(x))


def test_queries_that_grow_with_the_position() -> None:
    """Llama 4: factor 0.1 and a length of 4 from position 1 on: positions 0..11 are in steps 0,0,0,1,1,1,1,2,...

    ln(1 + 1) = 0.693 and ln(1 + 2) = 1.099, so queries are multiplied by 1, 1.0693 and 1.1099.
    """
    described = SelfAttention(
        hidden_size=D, num_attention_heads=4, num_key_value_heads=2, head_dim=8, v_head_dim=8,
        temperature=LengthTemperature(factor=0.1, length=4, first=1),
    )  # fmt: skip
    module, x = awake(make_sublayer(described)), torch.randn(2, T, D)
    assert isinstance(module, SelfAttentionModule)
    plain = make_sublayer(described.replace(temperature=None))
    plain.load_state_dict(module.state_dict())
    assert isinstance(plain, SelfAttentionModule)
    ratio = module.queries(x, context()) / plain.queries(x, context())
    expected = torch.tensor([1.0] * 3 + [1.0693147] * 4 + [1.1098612] * 4 + [1.1386294])
    torch.testing.assert_close(ratio[0, 0, :, 0], expected)
