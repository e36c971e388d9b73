"""Recurrent mixers against transformers' modules on the same weights: the recurrence against their chunked forms.

Mamba, Jamba and Qwen3-Next are compared as whole models by their checkpoints' names; these are the others.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers.models.kimi_linear.modeling_kimi_linear import KimiLinearDeltaAttention
from transformers.models.lfm2.modeling_lfm2 import Lfm2ShortConv
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from transformers.models.minimax.modeling_minimax import MiniMaxLightningAttention
from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaRecurrentBlock

from txcalc.architecture import (
    GatedDeltaNet,
    LinearAttention,
    Mamba2,
    RealGatedRecurrence,
    ShortConvolution,
    Sublayer,
)
from txcalc.reference.backends import Backend
from txcalc.reference.context import Context
from txcalc.reference.sublayers import make_sublayer

D, T = 32, 11
State = dict[str, torch.Tensor]
CONV = {"conv.weight": "conv1d.weight", "conv.bias": "conv1d.bias"}


def config(kind: str, **fields: Any) -> Any:
    return transformers.AutoConfig.for_model(kind, hidden_size=D, **fields)


def mamba2() -> tuple[Any, Sublayer, dict[str, str]]:
    settings = config("mamba2", num_heads=8, head_dim=8, state_size=5, n_groups=2, expand=2, chunk_size=4)
    ours = Mamba2(
        hidden_size=D, num_heads=8, head_dim=8, state_size=5, n_groups=2, conv_kernel=4, norm_groups=2, norm_eps=1e-5
    )
    return Mamba2Mixer(settings, 0), ours, {**CONV, "D_skip": "D", "norm_weight": "norm.weight"}


def kimi() -> tuple[Any, Sublayer, dict[str, str]]:
    settings = config("kimi_linear", linear_num_heads=4, linear_head_dim=8, num_hidden_layers=2)
    ours = GatedDeltaNet(
        hidden_size=D, num_k_heads=4, num_v_heads=4, head_k_dim=8, head_v_dim=8, conv_kernel=4, norm_eps=1e-5,
        decay="channel", gate_rank=8, gate_activation="sigmoid",
    )  # fmt: skip
    names = {
        "decay_proj.0.weight": "forget_gate.f_a_proj.weight", "decay_proj.1.weight": "forget_gate.f_b_proj.weight",
        "A_log": "forget_gate.A_log", "dt_bias": "forget_gate.dt_bias", "beta_proj.weight": "b_proj.weight",
        "gate_proj.0.weight": "g_a_proj.weight", "gate_proj.1.weight": "g_b_proj.weight",
        "norm_weight": "o_norm.weight",
    }  # fmt: skip
    return KimiLinearDeltaAttention(settings, 0), ours, {**CONV, **names}


def lfm2() -> tuple[Any, Sublayer, dict[str, str]]:
    settings = config("lfm2", num_hidden_layers=1, conv_L_cache=3, conv_bias=True, layer_types=["conv"])
    return Lfm2ShortConv(settings, 0), ShortConvolution(hidden_size=D, conv_kernel=3, bias=True), {}


def minimax() -> tuple[Any, Sublayer, dict[str, str]]:
    """The second of three layers: rates are multiplied by 1 - 1/2 + 1e-5."""
    settings = config(
        "minimax", num_attention_heads=4, head_dim=8, num_hidden_layers=3, block_size=4,
        layer_types=["linear_attention"] * 3,
    )  # fmt: skip
    ours = LinearAttention(
        hidden_size=D, num_heads=4, head_dim=8, feature_map="lightning", decay_scale=1 - 1 / (2 + 1e-5) + 1e-5
    )
    names = {"gate_proj.weight": "output_gate.weight", "o_proj.weight": "out_proj.weight"}
    return MiniMaxLightningAttention(settings, 1), ours, names


def griffin() -> tuple[Any, Sublayer, dict[str, str]]:
    settings = config("recurrent_gemma", lru_width=24, num_attention_heads=4, num_hidden_layers=3, head_dim=8)
    ours = RealGatedRecurrence(hidden_size=D, lru_width=24, num_heads=4, conv_kernel=4)
    parts = {"x_proj": "linear_x", "y_proj": "linear_y", "conv": "conv_1d", "out_proj": "linear_out"}
    names = {f"{mine}.{end}": f"{other}.{end}" for mine, other in parts.items() for end in ("weight", "bias")}
    for mine, other in (("input_gate", "input_gate"), ("recurrence_gate", "recurrent_gate")):
        names |= {f"{mine}.{end}": f"rg_lru.{other}_{end}" for end in ("weight", "bias")}
    return RecurrentGemmaRecurrentBlock(settings, 0), ours, {**names, "decay": "rg_lru.recurrent_param"}


def run(theirs: Any, x: torch.Tensor) -> torch.Tensor:
    if isinstance(theirs, MiniMaxLightningAttention):
        return theirs(x, None, None)[0]
    if isinstance(theirs, RecurrentGemmaRecurrentBlock):
        return theirs(x, torch.arange(T).expand(2, -1), None, use_cache=False)[0]
    return theirs(x)


def in_our_order(theirs: Any, state: State) -> State:
    """Query, key and value matrices as one, all queries first."""
    if isinstance(theirs, KimiLinearDeltaAttention):
        state["qkv_proj.weight"] = torch.cat([state.pop(f"{each}_proj.weight") for each in "qkv"])
    if isinstance(theirs, MiniMaxLightningAttention):
        by_head = state["qkv_proj.weight"].view(4, 3, 8, D)
        state["qkv_proj.weight"] = by_head.transpose(0, 1).reshape(-1, D)
    return state


def outputs(made: tuple[Any, Sublayer, dict[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    theirs, described, names = made
    ours = make_sublayer(described)
    x = torch.randn(2, T, D)
    context = Context(starts=(0, 0), counts=(T, T), tokens=T, device=torch.device("cpu"), backend=Backend(), length=T)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.3)
        state = in_our_order(theirs, dict(theirs.state_dict()))
        for name, parameter in ours.named_parameters():
            parameter.copy_(state[names.get(name, name)].view_as(parameter))
        return ours(x, context), run(theirs, x)


@pytest.mark.parametrize("make", [mamba2, kimi, lfm2, minimax, griffin])
def test_mixers_equal_transformers(make: Any) -> None:
    ours, theirs = outputs(make())
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6)


def test_the_comparison_notices_a_wrong_decay() -> None:
    """Negative control: lightning attention with the first layer's rates in the second layer."""
    theirs, described, names = minimax()
    ours, expected = outputs((theirs, described.replace(decay_scale=1.0), names))
    assert (ours - expected).abs().max() > 1e-2
