"""quantization_config: stored tensors told from the config equal the files that exporters write, to the byte."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.reference import published, published_width
from tests.stored import exporters
from tests.stored.exporters import Exporter, exported
from tests.stored.files import tensors, written
from txcalc.cards import load
from txcalc.cards.checkpoint import open_checkpoint
from txcalc.configs import architecture_of
from txcalc.errors import ModelError
from txcalc.stored import comparing
from txcalc.stored.comparing import Accounting, compare
from txcalc.stored.predicted import predicted
from txcalc.stored.quantised import scheme_of

WIDE = {"hidden_size": 128, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 32, "num_hidden_layers": 2, "torch_dtype": "bfloat16"}  # fmt: skip
LLAMA = published.config("llama", **WIDE)
CT = {"quant_method": "compressed-tensors", "ignore": ["lm_head"]}


def group(form: str, weights: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**CT, "format": form, "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, **fields}}}


INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 64, "symmetric": True}
FP8 = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}
CASES: dict[str, tuple[dict[str, Any], Exporter]] = {
    "gptq": ({"quant_method": "gptq", "bits": 4, "group_size": 64}, exporters.gptq(4, 64)),
    "gptq 8 bits": ({"quant_method": "gptq", "bits": 8, "group_size": -1}, exporters.gptq(8, -1)),
    "gptq 3 bits": ({"quant_method": "gptq", "bits": 3, "group_size": 128}, exporters.gptq(3, 128)),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm"}, exporters.awq_gemm(64)),
    "fp8 blocks": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, exporters.fp8((128, 128))),
    "fp8 odd blocks": ({"quant_method": "fp8", "weight_block_size": [48, 80]}, exporters.fp8((48, 80))),
    "fp8 static": ({"quant_method": "fp8", "activation_scheme": "static"}, exporters.fp8(None, "static")),
    "pack-quantized": (group("pack-quantized", INT4), exporters.pack_quantized(4, 64, symmetric=True)),
    "pack-quantized asymmetric": (
        group("pack-quantized", {**INT4, "symmetric": False, "num_bits": 8}),
        exporters.pack_quantized(8, 64, symmetric=False),
    ),
    "float-quantized": (
        group("float-quantized", FP8, input_activations={"dynamic": True}),
        exporters.compressed_8bit(torch.float8_e4m3fn, "channel"),
    ),
    "float-quantized static": (
        group("float-quantized", {**FP8, "strategy": "tensor"}, input_activations={"dynamic": False}),
        exporters.compressed_8bit(torch.float8_e4m3fn, "tensor", static=True),
    ),
    "int-quantized": (
        group("int-quantized", {**FP8, "type": "int"}),
        exporters.compressed_8bit(torch.int8, "channel"),
    ),
    "nvfp4": (
        group("nvfp4-pack-quantized", {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
              input_activations={"dynamic": "local"}),
        exporters.nvfp4,
    ),
}  # fmt: skip


def told(config: dict[str, Any]) -> tuple[Accounting, tuple[str, ...]]:
    return predicted(architecture_of(config), config)


def held(config: dict[str, Any], state: dict[str, torch.Tensor], directory: Path) -> Accounting:
    found = compare(open_checkpoint(written(directory, config, state)), architecture_of(config), config)
    assert found.total is not None
    assert found.total + sum(each.elements for each in found.differences) == found.checkpoint.numel
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_config_tells_what_the_exporter_writes(case: str, tmp_path: Path) -> None:
    """Names, types, shapes and bytes; and the file agrees with its config, packing being the only difference."""
    settings, export = CASES[case]
    config = {**LLAMA, "quantization_config": settings}
    found = held(config, exported(tensors(LLAMA), export), tmp_path)
    prediction, reasons = told(config)
    assert reasons == ()
    assert prediction.checkpoint.tensors == found.checkpoint.tensors
    assert prediction.checkpoint.nbytes == found.checkpoint.nbytes
    assert {name: set(names) for name, names in prediction.components.items()} == {
        name: set(names) for name, names in found.components.items()
    }
    assert found.agrees
    assert [each.what.split(":")[0] for each in found.differences] == ["packed weights"]


@pytest.mark.parametrize(
    "changes",
    [{"group_size": 32}, {"bits": 8}, {"quant_method": "awq"}, {"modules_to_not_convert": ["down_proj"]}],
    ids=str,
)
def test_another_setting_than_the_files_is_found(changes: dict[str, Any], tmp_path: Path) -> None:
    """Negative control: one setting wrong, and the file does not agree; nor are the bytes those of the file."""
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 64, **changes}
    config = {**LLAMA, "quantization_config": settings}
    found = held(config, exported(tensors(LLAMA), exporters.gptq(4, 64)), tmp_path)
    assert not found.agrees
    assert told(config)[0].checkpoint.nbytes != found.checkpoint.nbytes


@pytest.mark.parametrize(("nested", "kind"), [(True, "nf4"), (False, "fp4")])
def test_bitsandbytes_four_bits(nested: bool, kind: str, tmp_path: Path) -> None:
    """All but the settings of each matrix, a JSON text whose length the file alone tells."""
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind,
                "bnb_4bit_use_double_quant": nested}  # fmt: skip
    config = {**LLAMA, "quantization_config": settings}
    found = held(config, exported(tensors(LLAMA), exporters.bnb_4bit(kind, nested=nested)), tmp_path)
    assert found.agrees
    prediction, reasons = told(config)
    texts = {name: each for name, each in found.checkpoint.tensors.items() if "quant_state" in name}
    assert {**prediction.checkpoint.tensors, **texts} == found.checkpoint.tensors
    assert "quant_state" in reasons[0]


def test_bitsandbytes_eight_bits(tmp_path: Path) -> None:
    config = {**LLAMA, "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    found = held(config, exported(tensors(LLAMA), exporters.bnb_8bit), tmp_path)
    assert found.agrees
    marks = {name: each for name, each in found.checkpoint.tensors.items() if name.endswith("weight_format")}
    assert {**told(config)[0].checkpoint.tensors, **marks} == found.checkpoint.tensors


def test_mxfp4_packs_stacks_of_experts_alone(tmp_path: Path) -> None:
    """gpt-oss as it is published: blocks and scales in place of stacked experts, biases and the rest in bf16."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "torch_dtype": "bfloat16"}
    plain = published.config("gpt_oss", **sizes)
    config = {**plain, "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}}
    state = exported(tensors(plain), exporters.mxfp4, lambda name, tensor: tensor.dim() == 3)
    found = held(config, state, tmp_path)
    assert found.agrees
    assert told(config)[0].checkpoint.tensors == found.checkpoint.tensors
    assert sum(each.dtype == "U8" for each in found.checkpoint.tensors.values()) == 2 * 2 * config["num_hidden_layers"]


def test_experts_one_by_one_and_routers_left_alone(tmp_path: Path) -> None:
    sizes = {"hidden_size": 64, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}
    plain = {**published_width.every()["qwen2_moe"], **sizes, "intermediate_size": 64, "torch_dtype": "bfloat16"}
    config = {**plain, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32}}
    packs = lambda name, tensor: exporters.linear(name, tensor) and "shared_expert_gate" not in name  # noqa: E731
    found = held(config, exported(tensors(plain), exporters.gptq(4, 32), packs), tmp_path)
    assert found.agrees
    assert told(config)[0].checkpoint.tensors == found.checkpoint.tensors


def test_biases_of_zeros_that_autogptq_adds_are_known(tmp_path: Path) -> None:
    config = {**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 64}}
    state = exported(tensors(LLAMA), exporters.gptq(4, 64))
    state["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(128, dtype=torch.float16)
    found = held(config, state, tmp_path)
    assert found.agrees
    assert comparing.ZEROS in [each.what for each in found.differences]


def test_deepseek_v3s_files_as_the_hub_counts_them() -> None:
    """684,489,845,504 elements in 46,183 tensors in bf16; 684,531,386,000 in fp8, by the hub's own counts."""
    model = load("deepseek-v3")
    plain, _ = predicted(model, {})
    assert (plain.checkpoint.numel, len(plain.checkpoint.tensors)) == (684_489_845_504, 46_183)
    settings = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    packed, reasons = predicted(model, {"quantization_config": settings})
    assert (packed.checkpoint.numel, reasons) == (684_531_386_000, ())


@pytest.mark.parametrize(
    ("method", "width"), [("gptq", 80), ("awq", 96)], ids=["words that are not full", "groups that are not full"]
)
def test_matrices_that_do_not_fill_their_containers_make_an_estimate(method: str, width: int) -> None:
    settings = {"quant_method": method, "bits": 4, "group_size": 64}
    config = {**LLAMA, "intermediate_size": width, "quantization_config": settings}
    _, reasons = told(config)
    assert "does not fill" in reasons[0]


# ---- excluded modules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "excluded"),
    [
        ("lm_head", {"lm_head"}),
        ("mlp.gate", {"model.layers.1.mlp.gate"}),
        ("model.layers.1", {"model.layers.1.mlp.gate", "model.layers.1.self_attn.q_proj"}),
        ("q_proj", {"model.layers.1.self_attn.q_proj", "model.layers.11.self_attn.q_proj"}),
        (r"model\.layers\.\d+\.mlp\.gate", {"model.layers.1.mlp.gate"}),
        ("model.layers.*.self_attn", {"model.layers.1.self_attn.q_proj", "model.layers.11.self_attn.q_proj"}),
    ],
)
def test_patterns_exclude_as_transformers_does(pattern: str, excluded: set[str]) -> None:
    from transformers.quantizers.quantizers_utils import should_convert_module

    names = ["lm_head", "model.layers.1.mlp.gate", "model.layers.1.mlp.gate_proj", "model.layers.1.self_attn.q_proj",
             "model.layers.11.self_attn.q_proj", "model.layers.11.mlp.gate_proj"]  # fmt: skip
    names = [name for name in names if name != "model.layers.1.mlp.gate_proj" or pattern != "model.layers.1"]
    scheme = scheme_of({"quantization_config": {"quant_method": "fp8", "modules_to_not_convert": [pattern]}})
    assert scheme is not None
    assert {name for name in names if scheme.excludes(name)} == excluded
    assert {name for name in names if not should_convert_module(name, [pattern])} == excluded


def test_compressed_tensors_ignores_whole_names_and_regexes() -> None:
    settings = {**group("pack-quantized", INT4), "ignore": ["lm_head", "re:.*mlp.gate$"]}
    scheme = scheme_of({"quantization_config": settings})
    assert scheme is not None
    names = ["lm_head", "model.lm_head", "model.layers.0.mlp.gate", "model.layers.0.mlp.gate_proj"]
    assert [scheme.excludes(name) for name in names] == [True, False, True, False]


def test_an_excluded_module_is_stored_as_it_is(tmp_path: Path) -> None:
    kept = [f"model.layers.{i}.self_attn" for i in range(2)]
    settings = {"quant_method": "fp8", "weight_block_size": [64, 64], "modules_to_not_convert": kept}
    config = {**LLAMA, "quantization_config": settings}
    packs = lambda name, tensor: exporters.linear(name, tensor) and "self_attn" not in name  # noqa: E731
    found = held(config, exported(tensors(LLAMA), exporters.fp8((64, 64)), packs), tmp_path)
    assert found.agrees
    assert told(config)[0].checkpoint.tensors == found.checkpoint.tensors


# ---- settings that are wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (7, "quantization_config is 7"),
        ({"quant_method": "magic"}, "magic"),
        ({"quant_method": "gptq", "bits": 5}, "bits is 5"),
        ({"quant_method": "gptq", "bits": "4"}, 'bits is "4"'),
        ({"quant_method": "gptq", "group_size": 2**60}, "group_size"),
        ({"quant_method": "awq", "version": "marlin"}, "marlin"),
        ({"quant_method": "fp8", "weight_block_size": [0, 128]}, "[0, 128]"),
        ({"quant_method": "fp8", "modules_to_not_convert": "lm_head"}, "expected a list"),
        ({"quant_method": "fp8", "modules_to_not_convert": ["("]}, "pattern"),
        ({"quant_method": "compressed-tensors"}, "0 groups"),
        ({**CT, "config_groups": {"a": {}, "b": {}}}, "2 groups"),
        (group("tomorrow", INT4), "tomorrow"),
        (group("float-quantized", {**FP8, "strategy": "block", "block_structure": ["a", 0]}), "a block of"),
    ],
    ids=str,
)
def test_wrong_settings_are_one_line(settings: Any, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        scheme_of({"quantization_config": settings})
    assert words in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("pattern", ["(a+)+$", "(.|..)+X", ".*.*.*.*X", "x" * 400, "(" * 50])
def test_a_pattern_that_could_run_for_ever_is_refused(pattern: str) -> None:
    for settings in (
        {"quant_method": "fp8", "modules_to_not_convert": [pattern + "!"]},
        {**group("pack-quantized", INT4), "ignore": [f"re:{pattern}"]},
    ):
        before = time.perf_counter()
        with pytest.raises(ModelError, match="pattern"):
            scheme_of({"quantization_config": settings})
        assert time.perf_counter() - before < 1
