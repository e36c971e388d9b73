"""Blocks of multi-token prediction in files: by the names that published files have, whole, in part, or left out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reference import published, published_width
from txcalc.cards.checkpoint import Checkpoint, Held
from txcalc.configs import architecture_of
from txcalc.formulas.params import params
from txcalc.stored import comparing
from txcalc.stored.comparing import Accounting, compare
from txcalc.stored.predicted import predicted

EVERY = {**published.every(), **published_width.every()}
# Names from the published indices (DeepSeek-V3, Qwen3-Next, MiMo-7B, MiMo-V2-Flash, ERNIE 4.5), layers counted down.
NAMES = {
    "deepseek_v3": ("model.layers.3.eh_proj.weight", "model.layers.3.enorm.weight", "model.layers.3.hnorm.weight",
                    "model.layers.3.shared_head.head.weight", "model.layers.3.embed_tokens.weight",
                    "model.layers.3.self_attn.kv_b_proj.weight", "model.layers.3.mlp.experts.7.up_proj.weight",
                    "model.layers.3.mlp.gate.e_score_correction_bias"),
    "qwen3_next": ("mtp.fc.weight", "mtp.norm.weight", "mtp.pre_fc_norm_embedding.weight",
                   "mtp.pre_fc_norm_hidden.weight", "mtp.layers.0.self_attn.q_norm.weight",
                   "mtp.layers.0.mlp.shared_expert_gate.weight", "mtp.layers.0.mlp.experts.5.down_proj.weight"),
    "mimo": ("model.mtp_layers.0.input_proj.weight", "model.mtp_layers.0.token_layernorm.weight",
             "model.mtp_layers.0.hidden_layernorm.weight", "model.mtp_layers.0.final_layernorm.weight",
             "model.mtp_layers.0.self_attn.q_proj.bias", "model.mtp_layers.0.mlp.down_proj.weight"),
    "mimo_v2_flash": ("model.mtp.layers.0.eh_proj.weight", "model.mtp.layers.0.pre_mlp_layernorm.weight",
                      "model.mtp.layers.0.final_layernorm.weight", "model.mtp.layers.0.mlp.gate_proj.weight"),
    "ernie4_5_moe": ("model.mtp_block.0.mlp.up_proj.weight", "model.mtp_emb_norm.0.weight",
                     "model.mtp_hidden_norm.0.weight", "model.mtp_linear_proj.0.weight"),
}  # fmt: skip


def config(name: str) -> dict[str, Any]:
    if name == "mimo":
        return {
            **EVERY["qwen2"],
            "model_type": "mimo",
            "architectures": ["MiMoForCausalLM"],
            "num_nextn_predict_layers": 1,
        }
    return {**EVERY[name], "num_nextn_predict_layers": 1}


def compared(name: str, tensors: dict[str, Held]) -> Accounting:
    checkpoint = Checkpoint(kind="safetensors", where="x", files=1, tensors=tensors, metadata={})
    found = compare(checkpoint, architecture_of(config(name)))
    assert found.total is not None
    assert found.total + sum(each.elements for each in found.differences) == checkpoint.numel
    return found


def told(name: str) -> dict[str, Held]:
    return dict(predicted(architecture_of(config(name)), {})[0].checkpoint.tensors)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_its_blocks(name: str) -> None:
    """The names of published files are among those told; elements beside the model are ``params.extra`` and copies."""
    tensors = told(name)
    assert set(NAMES[name]) <= set(tensors)
    found = compared(name, tensors)
    assert found.agrees
    (beside,) = (each for each in found.differences if each.what == comparing.EXTRA)
    copies = sum(each.numel for key, each in tensors.items() if "3.embed_tokens" in key or "shared_head.head" in key)
    buffers = sum(tensors[key].numel for key in beside.names if "correction" in key)
    extra = params(architecture_of(config(name))).figures()["params.extra"]
    assert beside.elements == extra + copies + buffers


@pytest.mark.parametrize("name", NAMES)
def test_a_file_without_them_is_one_that_leaves_them_out(name: str) -> None:
    without = {key: each for key, each in told(name).items() if key in told_plain(name)}
    found = compared(name, without)
    assert found.agrees
    assert comparing.NO_EXTRA in [each.what for each in found.differences]


def told_plain(name: str) -> dict[str, Held]:
    plain = {key: value for key, value in config(name).items() if key != "num_nextn_predict_layers"}
    return dict(predicted(architecture_of(plain), {})[0].checkpoint.tensors)


@pytest.mark.parametrize("name", NAMES)
def test_a_block_that_lacks_a_tensor_is_named(name: str) -> None:
    """Negative control: one tensor of the block is not there, or has another shape."""
    tensors = told(name)
    lost = NAMES[name][0]
    whole = tensors.pop(lost)
    found = compared(name, tensors)
    assert [each.names for each in found.differences if not each.expected] == [(lost,)]
    wrong = compared(name, {**tensors, lost: Held(lost, whole.dtype, (7, 9), 126)})
    assert [each.names[0].split()[0] for each in wrong.differences if not each.expected] == [lost]
