"""``txcalc params`` on files of weights: what they hold, beside the config and alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Ran
from tests.packaged import MINILM, SMOLLM2, packaged
from tests.reference import published
from tests.stored.exporters import exported, fp8
from tests.stored.files import sharded, tensors, written

Run = Callable[..., Ran]


def test_a_real_directory(txcalc: Run) -> None:
    """MiniLM-L6: 22,713,216 parameters (its published safetensors counts 22,713,728, 512 of them position numbers)."""
    answer = txcalc("params", str(packaged(*MINILM)), "--json").json()
    params, checkpoint = answer["params"], answer["checkpoint"]
    assert (params["total"], params["stored"], params["stored_bytes"]) == (22_713_216, 22_713_728, 90_856_960)
    assert (checkpoint["agrees"], checkpoint["num_tensors"]) == (True, 104)
    assert checkpoint["dtypes"]["I64"] == {"tensors": 1, "elements": 512, "bytes": 4096}
    assert checkpoint["differences"][0]["tensors"] == ["embeddings.position_ids"]


def test_a_real_gguf_file_in_every_calculator(txcalc: Run) -> None:
    """SmolLM2-135M: 30 layers, 3 KV heads of 64: 30 * 2 * 3 * 64 * 2 bytes a token."""
    assert txcalc("params", str(packaged(*SMOLLM2)), "--json").json()["params"]["total"] == 134_515_008
    cache = txcalc("kvcache", str(packaged(*SMOLLM2)), "--ctx", "1k", "--json").json()["kv_cache"]
    assert cache["total_bytes"] == 1024 * 30 * 2 * 3 * 64 * 2
    for command in ("flops", "attention", "memory"):
        assert txcalc(command, str(packaged(*SMOLLM2))).code == 0


def test_tensors_are_listed(txcalc: Run) -> None:
    answer = txcalc("params", str(packaged(*MINILM)), "--tensors", "--json").json()
    listed = {each["name"]: each for each in answer["checkpoint"]["tensors"]}
    assert listed["pooler.dense.weight"] == {
        "name": "pooler.dense.weight",
        "component": "pooler",
        "dtype": "F32",
        "shape": [384, 384],
        "bytes": 4 * 384 * 384,
    }
    assert sum(each["bytes"] for each in listed.values()) == answer["params"]["stored_bytes"]
    assert "pooler.dense.weight" in txcalc("params", str(packaged(*MINILM)), "--tensors").out


def test_a_file_without_a_config_is_told_alone(txcalc: Run, tmp_path: Path) -> None:
    shutil.copy(packaged(*MINILM) / "model.safetensors", tmp_path / "model.safetensors")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        ran = txcalc("params", str(path), "--json")
        answer = ran.json()
        assert answer["params"]["stored"] == 22_713_728
        assert "total" not in answer["params"]
        assert answer["checkpoint"]["agrees"] is None
        assert "no config" in answer["notes"][0]
        refused = txcalc("kvcache", str(path))
        assert refused.code == 1
        assert "nothing says of which model" in refused.err
        assert txcalc("params", str(path), "--gqa", "1").code == 1


def test_shards_and_their_index(txcalc: Run, tmp_path: Path) -> None:
    config = published.config("llama")
    directory = sharded(tmp_path / "tiny", config, tensors(config))
    for path in (directory, directory + "/model.safetensors.index.json"):
        answer = txcalc("params", path, "--json").json()
        assert (answer["params"]["stored"], answer["checkpoint"]["files"]) == (27_552, 3)
        assert answer["checkpoint"]["agrees"]


def first(where: dict[str, str]) -> str:
    return next(iter(where.values()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda where: where.popitem(), ("does not list",)),
        (lambda where: where.update(ghost=first(where)), ("ghost", "is not in")),
        (lambda where: where.update(ghost="../model.safetensors"), ("ghost", "beside it")),
        (lambda where: where.update(ghost="none.safetensors"), ("none.safetensors", "does not exist")),
        (lambda where: where.clear(), ("no weight_map",)),
    ],
    ids=["unlisted", "ghost", "elsewhere", "no file", "no map"],
)
def test_an_index_that_does_not_fit(
    txcalc: Run, tmp_path: Path, change: Callable[[dict[str, str]], object], words: tuple[str, ...]
) -> None:
    config = published.config("llama")
    directory = Path(sharded(tmp_path / "tiny", config, tensors(config)))
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    change(index["weight_map"])
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    ran = txcalc("params", str(directory))
    assert ran.code == 1
    assert all(word in ran.err for word in words)


def test_a_file_that_is_not_its_configs_is_a_warning(txcalc: Run, tmp_path: Path) -> None:
    config = published.config("llama")
    directory = written(tmp_path / "tiny", {**config, "num_key_value_heads": 4}, tensors(config))
    ran = txcalc("params", directory, "--json")
    answer = ran.json()
    assert answer["params"]["stored"] == 27_552
    assert answer["params"]["total"] == 27_552 + 3 * 2 * 32 * 16
    assert not answer["checkpoint"]["agrees"]
    assert "k_proj.weight is [16, 32], expected [32, 32]" in ran.err


def test_a_what_if_leaves_the_file_alone(txcalc: Run) -> None:
    ran = txcalc("params", str(packaged(*MINILM)), "--set", "num_hidden_layers=2", "--json")
    assert "checkpoint" not in ran.json()
    assert any("what-if" in note for note in ran.json()["notes"])


def test_every_format_shows_the_file(txcalc: Run, tmp_path: Path) -> None:
    config = published.config("llama", tie_word_embeddings=True)
    state = tensors(config)
    directory = written(tmp_path / "tiny", config, {**state, "lm_head.weight": torch.zeros(67, 32)})
    for how in (["--format", "md"], ["--format", "csv"], ["--explain"], []):
        assert "tied tensors stored once more" in txcalc("params", directory, *how).out


def test_a_quantised_config_tells_its_stored_bytes(txcalc: Run, tmp_path: Path) -> None:
    """Llama-3-8B in GPTQ's 4 bits, groups of 128, by hand: containers, zero points, scales and order of each matrix."""
    matrices = 7 * 32
    weights = 6_979_321_856  # elements of the layers' matrices: 32 * (4096 * (4096 + 1024) * 2 + 3 * 4096 * 14336)
    inputs = 32 * (6 * 4096 + 14_336)  # of every matrix
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14_336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256,
        "torch_dtype": "float16", "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    answer = txcalc("params", str(tmp_path / "config.json"), "--json").json()
    packed = weights // 8 + weights // 128 // 8 + weights // 128 + inputs
    plain = 8_030_261_248 - weights
    assert answer["params"]["total"] == 8_030_261_248
    assert answer["params"]["stored"] == packed + plain
    assert answer["params"]["stored_bytes"] == weights // 2 + weights // 256 + weights // 64 + 4 * inputs + 2 * plain
    assert answer["stored"]["dtypes"]["I32"]["tensors"] == 3 * matrices
    assert answer["basis"] == "exact"


def test_stored_bytes_that_the_config_does_not_settle_are_an_estimate(txcalc: Run, tmp_path: Path) -> None:
    config = published.config("llama", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    (tmp_path / "config.json").write_text(json.dumps(config))
    ran = txcalc("params", str(tmp_path / "config.json"), "--json")
    assert "quant_state" in ran.err
    nodes = {node["key"]: node["basis"] for node in ran.json()["result"]["children"] if "key" in node}
    assert (nodes["params.total"], nodes["params.stored_bytes"]) == ("exact", "estimated")


def test_an_unknown_method_is_a_note(txcalc: Run, tmp_path: Path) -> None:
    config = published.config("llama", quantization_config={"quant_method": "tomorrow"})
    (tmp_path / "config.json").write_text(json.dumps(config))
    answer = txcalc("params", str(tmp_path / "config.json"), "--json").json()
    assert any("tomorrow" in note for note in answer["notes"])
    assert "stored" not in answer["params"]


# ---- memory ---------------------------------------------------------------------------------------------------------


def weights(txcalc: Run, *arguments: str) -> int:
    found: int = txcalc("memory", *arguments, "--ctx", "64", "--json").json()["memory"]["weights"]
    return found


def test_memory_takes_weights_as_a_gguf_file_holds_them(txcalc: Run) -> None:
    """210 Q4_1, one Q8_0 and 61 F32 tensors of SmolLM2; another format where one is asked for."""
    path = str(packaged(*SMOLLM2))
    assert weights(txcalc, path) == 106_168_320 // 32 * 20 + 28_311_552 // 32 * 34 + 35_136 * 4
    assert weights(txcalc, path, "--dtype", "bf16") == 2 * 134_515_008


def test_memory_takes_quantised_weights_as_they_are_stored(txcalc: Run, tmp_path: Path) -> None:
    """Told from the config and read from the file: the same; second copies and blocks beside the model are left out."""
    settings = {"quant_method": "fp8", "weight_block_size": [16, 16]}
    plain = published.config("llama", torch_dtype="bfloat16", tie_word_embeddings=True)
    config = {**plain, "quantization_config": settings}
    (tmp_path / "config.json").write_text(json.dumps(config))
    told = weights(txcalc, str(tmp_path / "config.json"))
    state = exported(tensors(plain), fp8((16, 16)))
    size = sum(tensor.nbytes for tensor in state.values())
    twice = {**state, "lm_head.weight": state["model.embed_tokens.weight"].clone()}
    assert told == weights(txcalc, written(tmp_path / "tiny", config, twice)) == size
    assert told < 2 * 27_552


def test_memory_says_where_stored_bytes_are_an_estimate(txcalc: Run, tmp_path: Path) -> None:
    config = published.config("llama", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    (tmp_path / "config.json").write_text(json.dumps(config))
    ran = txcalc("memory", str(tmp_path / "config.json"), "--ctx", "64", "--json")
    assert "quant_state" in ran.err
    whole = next(node for node in ran.json()["result"]["children"] if node.get("key") == "memory.total")
    assert whole["basis"] == "estimated"
