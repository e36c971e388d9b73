"""Ling 3, JetMoE and HRM-Text against transformers on the meta device: experts as heads, layers that run in cycles."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.configs.test_width_delta import LATENT, PLAIN, grouped
from tests.oracles import flop_counter
from tests.strategies import assert_params_differ_from_meta, assert_params_equal_meta, maybe, read, small
from tests.width import Width, assert_default, assert_heads, flags, split_width, varied, width
from txcalc.architecture import GatedDeltaNet, LatentAttention, SelfAttention
from txcalc.architecture.variants import with_kv_heads
from txcalc.configs import architecture_of
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.flops import flops
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params

WIDTHS = [
    width(
        "bailing_hybrid", "BailingHybrid", "ForCausalLM Model", kin=grouped("linear_attention", "full_attention"),
        **PLAIN, **LATENT, intermediate_size=small, head_dim=small, short_conv_kernel_size=st.integers(1, 5),
        layer_group_size=maybe(st.integers(1, 3)), num_experts=st.sampled_from([4, 8]), num_expert_group=2,
        topk_group=st.integers(1, 2), num_experts_per_token=st.integers(1, 2), moe_intermediate_size=small,
        num_shared_experts=st.integers(1, 2), first_k_dense_replace=maybe(st.integers(0, 4)), kda_safe_gate=flags,
        linear_head_dim=maybe(small), linear_num_heads=maybe(small),
    ),
    width(
        "jetmoe", "JetMoe", "ForCausalLM Model ForSequenceClassification", kin=st.just({}),
        **PLAIN, hidden_size=small, num_hidden_layers=st.integers(1, 3), num_key_value_heads=st.integers(1, 4),
        kv_channels=st.sampled_from([2, 4, 6]), intermediate_size=small, num_local_experts=st.integers(2, 5),
        num_experts_per_tok=st.integers(1, 2), num_labels=st.integers(1, 4),
    ),
    width(
        "hrm_text", "HrmText", "ForCausalLM Model", kin=split_width(step=2),
        **PLAIN, intermediate_size=small, num_hidden_layers=st.integers(1, 3), head_dim=st.sampled_from([2, 4, 6]),
        attention_bias=flags, mlp_bias=flags, H_cycles=maybe(st.integers(1, 3)), L_cycles=maybe(st.integers(1, 3)),
    ),
]  # fmt: skip
by_type = pytest.mark.parametrize("row", WIDTHS, ids=lambda row: str(row.model_type))


@by_type
def test_default_and_minimal(row: Width) -> None:
    assert_default(row)


@pytest.mark.parametrize("row", WIDTHS[:2], ids=lambda row: str(row.model_type))
def test_every_class(row: Width) -> None:
    assert_heads(row)


@by_type
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_varied(row: Width, data: st.DataObject) -> None:
    assert_params_equal_meta(data.draw(varied(row)))


LING: dict[str, Any] = {
    "model_type": "bailing_hybrid", "architectures": ["BailingHybridForCausalLM"], "vocab_size": 50, "pad_token_id": 0,
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 8, "layer_group_size": 2, "kv_lora_rank": 16, "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4, "v_head_dim": 8, "num_experts": 8, "num_expert_group": 2, "topk_group": 1,
    "num_experts_per_token": 2, "moe_intermediate_size": 16,
}  # fmt: skip
JET: dict[str, Any] = {
    "model_type": "jetmoe", "architectures": ["JetMoeForCausalLM"], "vocab_size": 50, "pad_token_id": 0,
    "hidden_size": 32, "num_hidden_layers": 2, "num_key_value_heads": 2, "kv_channels": 8, "intermediate_size": 24,
    "num_local_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip
HRM: dict[str, Any] = {
    "model_type": "hrm_text", "architectures": ["HrmTextForCausalLM"], "vocab_size": 50, "pad_token_id": 0,
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8, "intermediate_size": 24,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "config"),
    [
        ({"linear_head_dim": 4}, LING),
        ({"v_head_dim": 4}, LING),
        ({"num_local_experts": 5}, JET),
        ({"num_hidden_layers": 3}, HRM),
    ],
)
def test_the_comparison_notices(change: dict[str, Any], config: dict[str, Any]) -> None:
    """Negative control: narrower delta networks, narrower values, one expert more, one layer more in each stack."""
    assert_params_differ_from_meta({**config, **change}, config)


def test_which_layers_of_ling_attend() -> None:
    mixers = [layer.sublayers()[0] for layer in read(LING).main.sequence()]
    assert [type(each) for each in mixers] == [GatedDeltaNet, LatentAttention] * 2 + [GatedDeltaNet]


@pytest.mark.parametrize(
    ("config", "cycles"), [({}, 1), ({"H_cycles": 3, "L_cycles": 2}, 0)], ids=["default", "other cycles"]
)
def test_layers_are_stored_once_and_run_in_every_cycle(config: dict[str, Any], cycles: int) -> None:
    """Two stacks of 2 layers: 4 sets of parameters; 2 * (3 + 1) or 3 * (2 + 1) passes of 2 layers, 2 * 4 * 8 elements
    of keys and values each."""
    model = read({**HRM, **config})
    runs = 2 * (8 if cycles else 9)
    assert (len(model.main.layers), model.main.num_hidden_layers) == (4, runs)
    assert kv_cache(model, ctx=10, kv_dtype="bf16").figures()["kv_cache.bytes_per_token"] == runs * 2 * 32 * 2


def test_files_of_transformers_hold_both_numbers_of_layers() -> None:
    written = {**HRM, "num_layers_per_stack": 2, "num_hidden_layers": 16}
    assert_params_equal_meta(written)
    assert read(written).main == read(HRM).main
    assert architecture_of({**written, "num_hidden_layers": 9}).reasons


@pytest.mark.parametrize("config", [LING, HRM], ids=lambda config: str(config["model_type"]))
def test_forward_flops(config: dict[str, Any]) -> None:
    """70 tokens: two chunks of 64 for the delta rule, the second padded."""
    model = flop_counter.model_of(config)
    counted = flop_counter.forward(model, input_ids=flop_counter.tokens(2, 70), use_cache=False)
    assert flops(read(config), batch=2, seq=70).figures()["flops.matmul"] == counted


def test_flops_of_heads_that_are_experts() -> None:
    """Routers read where tokens go, so the model runs on a CPU with values."""
    counted = flop_counter.on_cpu(JET, input_ids=torch.ones(2, 9, dtype=torch.long), use_cache=False)
    assert flops(read(JET), batch=2, seq=9).figures()["flops.matmul"] == counted


def test_active_parameters_of_jetmoe() -> None:
    """2 layers; 2 of 4 experts idle in each mixture: 2 * 32 * 16 elements of attention, 3 * 32 * 24 of feed-forward."""
    figures = params(read(JET)).figures()
    assert figures["params.total"] - figures["params.active"] == 2 * 2 * (2 * 32 * 16 + 3 * 32 * 24)
    (attention, _) = read(JET).main.layers[0].sublayers()
    assert isinstance(attention, SelfAttention)
    assert (attention.num_attention_heads, attention.num_key_value_heads) == (4, 2)


def test_training_in_cycles_is_an_estimate() -> None:
    model = read(HRM)
    assert flops(model, seq=8, phase="train").basis == "estimated"
    assert flops(model, seq=8).basis == "exact"


def test_what_is_refused() -> None:
    with pytest.raises(RequestError, match="chosen experts"):
        with_kv_heads(read(JET), 1)
    for config, message in (
        ({**JET, "num_experts_per_tok": 5}, "num_experts_per_tok is 5"),
        ({**HRM, "L_cycles": 0}, "L_cycles is 0"),
        ({**HRM, "initializer_range": 0}, "initializer_range is 0"),
        ({**HRM, "num_attention_heads": 5}, "hidden_size is 32"),
    ):
        with pytest.raises(ModelError, match=message):
            architecture_of(config)
