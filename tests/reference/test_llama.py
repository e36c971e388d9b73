"""Llama end to end: parameters, logits and cached decoding against transformers on the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from txcalc.configs import architecture_of
from txcalc.reference import Transformer, build

CONFIG: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 48, "intermediate_size": 80,
    "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": 101, "head_dim": 10,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
}  # fmt: skip


def copied(ours: Transformer, theirs: torch.nn.Module) -> Transformer:
    """Llama's weights, by hand: the smallest mapping that these tests need."""
    state = theirs.state_dict()
    names = {
        "steps.0.branches.0.sublayer": "self_attn",
        "steps.1.branches.0.sublayer": "mlp",
        "steps.0.branches.0.norm_in": "input_layernorm",
        "steps.1.branches.0.norm_in": "post_attention_layernorm",
    }
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            name = name.replace("stacks.decoder.", "model.").replace("embedding.tokens", "embed_tokens")
            name = name.replace("final_norm", "norm").replace("head.matrix", "lm_head.weight")
            for mine, other in names.items():
                name = name.replace(mine, other)
            parameter.copy_(state.pop(name))
    assert not [name for name in state if name != "lm_head.weight"]
    return ours


def pair(**changes: Any) -> tuple[Transformer, Any]:
    torch.manual_seed(0)
    config = {**CONFIG, **changes}
    theirs = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**config)).eval()
    with torch.no_grad():  # transformers starts norms at 1 and biases at 0: move everything
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return copied(build(architecture_of(config)), theirs), theirs


LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16,
        "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4], "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0]}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "tied": {"tie_word_embeddings": True},
    "mha": {"num_key_value_heads": 6},
    "mqa": {"num_key_value_heads": 1},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}},
    "dynamic": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 3.0},
                "max_position_embeddings": 16},
    "llama3": {"rope_parameters": LLAMA3},
    "yarn": {"rope_parameters": YARN},
    "yarn mscale": {"rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.7}},
    "longrope": {"rope_parameters": LONG},
}  # fmt: skip


@pytest.mark.parametrize("length", [9, 33])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_logits_equal_transformers(variant: dict[str, Any], length: int) -> None:
    ours, theirs = pair(**variant)
    tokens = torch.randint(0, 101, (2, length))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens).logits, theirs(tokens).logits, rtol=1e-5, atol=1e-5)


def test_the_comparison_notices_a_wrong_rotation() -> None:
    """Negative control: another theta, and the logits no longer agree."""
    ours, theirs = pair()
    broken = build(architecture_of({**CONFIG, "rope_theta": 5000.0}))
    broken.load_state_dict(ours.state_dict())
    tokens = torch.randint(0, 101, (2, 9))
    with torch.no_grad():
        assert (broken(tokens).logits - theirs(tokens).logits).abs().max() > 1e-3


def test_cached_decoding_equals_the_full_pass_of_transformers() -> None:
    ours, theirs = pair()
    tokens = torch.randint(0, 101, (2, 12))
    with torch.no_grad():
        expected = theirs(tokens).logits
        cache = ours.new_cache(batch=2, ctx=12)
        steps = [ours(tokens[:, :5], cache=cache).logits]
        steps += [ours(tokens[:, t : t + 1], cache=cache).logits for t in range(5, 12)]
    torch.testing.assert_close(torch.cat(steps, dim=1), expected, rtol=1e-5, atol=1e-5)


def test_parameters_equal_transformers() -> None:
    ours, theirs = pair()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert not list(ours.buffers())


def test_a_tied_head_holds_no_matrix() -> None:
    ours, _ = pair(tie_word_embeddings=True)
    assert "head.matrix" not in dict(ours.named_parameters())
