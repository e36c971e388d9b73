"""Forward FLOPs of real models against recorded truth: torch's FlopCounterMode over transformers' own models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from txcalc.configs import architecture_of, known_types
from txcalc.formulas.flops import flops
from txcalc.formulas.params_sublayers import ATTENTION

ENTRIES = json.loads((Path(__file__).parent.parent / "data" / "oracle-open.json").read_text())["entries"]
KNOWN = [e for e in ENTRIES if e["config"]["model_type"] in known_types() and e.get("flops_fwd")]
AT_2048 = [e for e in KNOWN if e.get("flops_fwd_b1_s2048")]

# Types whose published implementation runs every expert for every token.
ALL_EXPERTS = {"llama4", "llama4_text"}
# name -> why the recorded number is not ours; nothing may stand here without a reason.
UNLIKE: dict[str, str] = {}


def question(entry: dict[str, Any], seq: int) -> dict[str, Any]:
    """The workload that was recorded; Whisper's ``seq`` is mel frames, two for each encoder position."""
    config = entry["config"]
    asked: dict[str, Any] = {"seq": seq}
    if "decoder_seq" in entry["flops_fwd"]:
        frames = entry["flops_fwd"]["seq"]
        asked = {"seq": entry["flops_fwd"]["decoder_seq"]}
        asked["source_seq"] = frames // 2 if config["model_type"] == "whisper" else frames
    if config["model_type"] == "clip":
        asked["images"] = 1
    if config["model_type"] in ALL_EXPERTS:
        asked["moe"] = "all_experts"
    return asked


def recorded(entry: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = entry["flops_fwd"].get("sdpa") or entry["flops_fwd"]["eager"]
    return found


@pytest.mark.parametrize("entry", KNOWN, ids=lambda entry: str(entry["name"]))
def test_forward_equals_the_recorded_count(entry: dict[str, Any]) -> None:
    model = architecture_of(entry["config"])
    found = flops(model, **question(entry, entry["flops_fwd"]["seq"])).figures()
    assert (found["flops.matmul"] == recorded(entry)["total"]) == (entry["name"] not in UNLIKE)


@pytest.mark.parametrize("entry", AT_2048, ids=lambda entry: str(entry["name"]))
def test_forward_at_2048_equals_the_recorded_count(entry: dict[str, Any]) -> None:
    found = flops(architecture_of(entry["config"]), **question(entry, 2048)).figures()
    expected = set(entry["flops_fwd_b1_s2048"].values())
    assert (expected == {found["flops.matmul"]}) == (entry["name"] not in UNLIKE)


PRODUCTS_ONLY = [  # types whose only batched products are those of attention
    e
    for e in KNOWN
    if e["config"]["model_type"] in {"llama", "mistral", "gpt2", "bert", "qwen2", "phi3", "opt", "bart", "t5", "gemma"}
]


@pytest.mark.parametrize("entry", PRODUCTS_ONLY, ids=lambda entry: str(entry["name"]))
def test_attention_equals_the_recorded_batched_products(entry: dict[str, Any]) -> None:
    """In a dense model without relative keys every bmm is a score or a value product."""
    found = flops(architecture_of(entry["config"]), **question(entry, entry["flops_fwd"]["seq"])).figures()
    assert found["flops.attention"] == recorded(entry)["by_op"]["aten.bmm"]


@pytest.mark.parametrize("entry", PRODUCTS_ONLY, ids=lambda entry: str(entry["name"]))
def test_components_equal_the_recorded_modules(entry: dict[str, Any]) -> None:
    """The recorded modules of all layers together: attention, feed-forward."""
    modules = recorded(entry)["per_module_summed_over_layers"]
    ours: dict[str, int] = {}
    tree = flops(architecture_of(entry["config"]), **question(entry, entry["flops_fwd"]["seq"]))
    for _, layers in tree.find("flops.matmul").walk():
        if layers.name.startswith("layers"):
            for part in layers.children:
                ours[part.name] = ours.get(part.name, 0) + int(part.value) * int(layers.count or 1)
    for name, ending in (("attention", ".self_attn"), ("feed_forward", ".mlp"), ("cross_attention", ".encoder_attn")):
        found = [value for module, value in modules.items() if module.endswith(ending)]
        if found:
            assert ours[name] == sum(found)


def test_the_oracle_covers_every_type_that_was_recorded_and_is_built() -> None:
    assert {e["config"]["model_type"] for e in KNOWN} >= {"llama", "mixtral", "t5", "bert", "deepseek_v3", "gemma2"}
    assert set(UNLIKE) <= {e["name"] for e in KNOWN}


def entry_named(name: str) -> dict[str, Any]:
    return next(entry for entry in KNOWN if entry["name"] == name)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("llama-3-8b", {"num_key_value_heads": 32}),  # no grouped heads: larger projections
        ("llama-3-8b", {"vocab_size": 128_255}),  # one row of the output matrix less
        ("mixtral-8x7b", {"num_experts_per_tok": 1}),
        ("deepseek-v3", {"v_head_dim": 64}),
        ("t5-small", {"d_ff": 1024}),
    ],
)
def test_the_oracle_notices_a_wrong_shape(name: str, wrong: dict[str, int]) -> None:
    """Negative control: another shape, and the recorded number is no longer ours."""
    entry = entry_named(name)
    model = architecture_of({**entry["config"], **wrong})
    found = flops(model, **question(entry, entry["flops_fwd"]["seq"])).figures()
    assert found["flops.matmul"] != recorded(entry)["total"]


@pytest.mark.parametrize("wrong", [{"mask": "half"}, {"mask": "exact"}, {"logits": "last"}, {"batch": 2}])
def test_the_oracle_notices_another_convention(wrong: dict[str, Any]) -> None:
    """Negative control: the recorded convention is the whole square with logits at every position."""
    entry = entry_named("llama-3-8b")
    found = flops(architecture_of(entry["config"]), seq=2048, **wrong).figures()
    assert found["flops.matmul"] != recorded(entry)["total"]


def test_the_oracle_notices_idle_experts() -> None:
    """Negative control: all experts cost more than those that a token visits."""
    entry = entry_named("mixtral-8x7b")
    found = flops(architecture_of(entry["config"]), seq=2048, moe="all_experts").figures()
    assert found["flops.matmul"] > recorded(entry)["total"]


def test_sources_reach_the_tree() -> None:
    tree = flops(architecture_of(entry_named("llama-3-8b")["config"]), seq=16)
    assert ATTENTION in {node.source for _, node in tree.walk()}
