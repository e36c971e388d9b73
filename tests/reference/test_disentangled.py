"""DeBERTa's attention against transformers on the same weights, rows of unequal length included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from tests.reference.tiny import D, V, tokens
from txcalc.architecture import (
    Branch,
    Disentangled,
    FeedForward,
    Layer,
    Model,
    Norm,
    Residual,
    SelfAttention,
    Stack,
    TokenEmbedding,
)
from txcalc.reference import Transformer, build

NAMES = {
    "steps.0.branches.0.sublayer.content_scores.key_proj": "attention.self.pos_key_proj",
    "steps.0.branches.0.sublayer.content_scores.query_proj": "attention.self.pos_query_proj",
    "steps.0.branches.0.sublayer.q_proj": "attention.self.query_proj",
    "steps.0.branches.0.sublayer.k_proj": "attention.self.key_proj",
    "steps.0.branches.0.sublayer.v_proj": "attention.self.value_proj",
    "steps.0.branches.0.sublayer.o_proj": "attention.output.dense",
    "steps.0.norm_after": "attention.output.LayerNorm",
    "steps.1.norm_after": "output.LayerNorm",
    "steps.1.branches.0.sublayer.up_proj": "intermediate.dense",
    "steps.1.branches.0.sublayer.down_proj": "output.dense",
    "stacks.encoder.layers": "encoder.layer",
    "stacks.encoder.disentangled.table": "encoder.rel_embeddings",
    "stacks.encoder.disentangled.norm": "encoder.LayerNorm",
    "stacks.encoder.embedding.tokens": "embeddings.word_embeddings",
    "stacks.encoder.embedding.norm": "embeddings.LayerNorm",
}


def theirs(share_key: bool) -> Any:
    config = transformers.DebertaV2Config(
        hidden_size=D, num_attention_heads=4, intermediate_size=48, num_hidden_layers=2, vocab_size=V,
        relative_attention=True, position_buckets=8, norm_rel_ebd="layer_norm", share_att_key=share_key,
        pos_att_type=["c2p", "p2c"], max_position_embeddings=24, position_biased_input=False, type_vocab_size=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.DebertaV2Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def ours(share_key: bool, state: dict[str, torch.Tensor], span: int = 8) -> Transformer:
    norm = Norm(kind="layernorm", width=D, eps=1e-7, bias=True)
    position = Disentangled(
        span=span, buckets=8, max_distance=24, content_to_position=True, position_to_content=True, share_key=share_key
    )
    attention = SelfAttention(
        hidden_size=D, num_attention_heads=4, num_key_value_heads=4, head_dim=8, v_head_dim=8, causal=False,
        q_bias=True, k_bias=True, v_bias=True, o_bias=True, position=position,
    )  # fmt: skip
    feed_forward = FeedForward(
        hidden_size=D, intermediate_size=48, activation="gelu", gated=False, up_bias=True, down_bias=True
    )
    layer = Layer(
        steps=tuple(Residual(branches=(Branch(sublayer=x),), norm_after=norm) for x in (attention, feed_forward))
    )
    stack = Stack(
        role="encoder", hidden_size=D, embedding=TokenEmbedding(vocab_size=V, embedding_size=D, norm=norm),
        layers=(layer,), runs=((0, 2),), disentangled=position, disentangled_norm=norm,
    )  # fmt: skip
    model = build(Model(name="tiny", model_type="tiny", stacks=(stack,), head=None))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for mine, other in NAMES.items():
                name = name.replace(mine, other)
            parameter.copy_(state.pop(name))
    assert not state
    return model


@pytest.mark.parametrize("share_key", [False, True])
def test_hidden_states_equal_transformers(share_key: bool) -> None:
    reference = theirs(share_key)
    model, ids = ours(share_key, reference.state_dict()), tokens(2, 19)
    mask = torch.ones(2, 19, dtype=torch.long)
    mask[0, 15:] = 0
    with torch.no_grad():
        expected = reference(ids, attention_mask=mask).last_hidden_state
        hidden = model(ids, lengths=[15, 19]).hidden_BTD
    torch.testing.assert_close(hidden[0, :15], expected[0, :15], rtol=1e-5, atol=3e-6)
    torch.testing.assert_close(hidden[1], expected[1], rtol=1e-5, atol=3e-6)


def test_the_comparison_notices_positions_that_do_nothing() -> None:
    """Negative control: with the relative vectors zeroed the hidden states no longer agree."""
    reference = theirs(share_key=True)
    model, ids = ours(True, reference.state_dict()), tokens(2, 19)
    with torch.no_grad():
        model.stack("encoder").disentangled.norm.weight.zero_()  # type: ignore[union-attr, operator]  # it has one
        assert (model(ids).hidden_BTD - reference(ids).last_hidden_state).abs().max() > 1e-2
