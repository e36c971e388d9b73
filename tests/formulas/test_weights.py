"""Bytes of weights in every format: by hand, against ggml's own block sizes, and against parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest

from tests.formulas.test_training import LLAMA3_8B
from txcalc.cards import load
from txcalc.configs import architecture_of, known_types
from txcalc.errors import RequestError
from txcalc.formulas.params import params
from txcalc.formulas.weight_formats import FORMATS, weight_format
from txcalc.formulas.weights import formats_of, matrix_of, weight_bytes

ENTRIES = json.loads((Path(__file__).parent.parent / "data" / "oracle-open.json").read_text())["entries"]
MODEL = architecture_of(LLAMA3_8B)
MATRICES = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
HIGH = 2 * (2 * 128256 * 4096 + 65 * 4096)  # both tables and the norms, 2 bytes each
ROWS = 32 * (4096 + 1024 + 1024 + 4096 + 14336 + 14336 + 4096)  # output channels


def size(dtype: str | None = None, **how: Any) -> int:
    return int(weight_bytes(MODEL, formats_of(MODEL, dtype, **how)).value)


@pytest.mark.parametrize("name", [name for name in FORMATS if weight_format(name).block > 1])
def test_block_sizes_equal_ggml(name: str) -> None:
    block, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name.upper().replace("_K", "_K")]]
    assert (weight_format(name).block, weight_format(name).block_bytes) == (block, block_bytes)
    assert size(name) == MATRICES // block * block_bytes + HIGH


def test_plain_dtypes() -> None:
    """8,030,261,248 parameters: 4 or 2 bytes each, tables and norms too, since nothing needs to be kept high."""
    assert size("fp32") == 4 * 8_030_261_248
    assert size("bf16") == size("fp16") == size() == 2 * 8_030_261_248


def test_scales_by_hand() -> None:
    """int4: half a byte, and for each 128 elements of a row an fp16 scale and a 4-bit zero point: 2.5 bytes."""
    assert size("int4") == MATRICES // 2 + MATRICES // 128 * 5 // 2 + HIGH
    assert size("int4", group_size=64) == MATRICES // 2 + MATRICES // 64 * 5 // 2 + HIGH
    assert size("int8") == MATRICES + 2 * ROWS + HIGH  # one fp16 scale an output channel
    assert size("fp8") == MATRICES + 4 * 7 * 32 + HIGH  # one fp32 scale a matrix


def test_a_module_is_kept_in_another_format() -> None:
    """down_proj: 4096 * 14336 elements in each of 32 layers, 4 bits and scales or 16 bits."""
    down = 32 * 4096 * 14336
    assert size("int4", keep={"down_proj": "bf16"}) == size("int4") - (down // 2 + down // 128 * 5 // 2) + 2 * down
    assert size("int4", keep={"embedding": "int4"}) < size("int4")
    assert size("q4_k", keep={"norm": "fp32"}) == size("q4_k") + 2 * 64 * 4096


def test_modules_have_their_checkpoint_names_too() -> None:
    for ours, published in (("head", "lm_head"), ("tokens", "embed_tokens"), ("attention", "self_attn")):
        assert size("int4", keep={published: "int8"}) == size("int4", keep={ours: "int8"}) != size("int4")


def test_a_published_file_holds_that_many_bytes() -> None:
    """SmolLM2-135M in Q4_1: its table in Q8_0, its norms in fp32; 272 tensors of 96,576,768 bytes together."""
    smol = load("smollm2-135m")
    keep = {"embedding": "q8_0", "norm": "fp32", "final_norm": "fp32"}
    assert weight_bytes(smol, formats_of(smol, "q4_1", keep=keep)).value == 96_576_768


def test_the_innermost_module_wins() -> None:
    keep = {"feed_forward": "int8", "down_proj": "bf16"}
    down = 32 * 4096 * 14336
    assert size("int4", keep=keep) == size("int4", keep={"feed_forward": "int8"}) + down - 2 * 32 * 4096


@pytest.mark.parametrize(
    ("dtype", "how", "message"),
    [
        ("q9_9", {}, "unknown weight format 'q9_9'"),
        ("q4_k_m", {}, "q4_k_m is a file that mixes formats"),
        ("q4_k", {"group_size": 64}, "q4_k has no groups"),
        ("int4", {"group_size": 100}, "int4 packs 100 elements of a row"),
        ("int4", {"keep": {"down": "bf16"}}, "the model has no module 'down'"),
        ("int4", {"keep": {"down_proj": "bf17"}}, "unknown weight format 'bf17'"),
    ],
)
def test_what_cannot_be_stored_so_is_refused(dtype: str, how: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        size(dtype, **how)


def test_rows_that_do_not_fill_a_block_are_refused() -> None:
    """GPT-2's 768 channels are three super-blocks of 256; OPT-125m's too; Phi's 2,560 are ten; 100 are none."""
    odd = architecture_of({**LLAMA3_8B, "intermediate_size": 100})
    with pytest.raises(RequestError, match="a row of 100 does not fill them"):
        weight_bytes(odd, formats_of(odd, "q6_k"))


def test_experts_and_routers() -> None:
    """Mixtral: routers, tables and norms stay high; every expert's matrices are packed."""
    model = load("mixtral-8x7b")
    total = int(params(model).find("params.total").value)
    high = 2 * 32000 * 4096 + 65 * 4096 + 32 * 8 * 4096
    assert weight_bytes(model, formats_of(model, "q4_0")).value == (total - high) * 18 // 32 + 2 * high


@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if e["config"]["model_type"] in known_types()], ids=lambda e: str(e["name"])
)
def test_weights_are_parameters_times_bytes(entry: dict[str, Any]) -> None:
    """In a plain dtype nothing is lost between the two trees, whatever the model is made of."""
    model = architecture_of(entry["config"])
    total = params(model).find("params.total").value
    assert weight_bytes(model, formats_of(model, "fp32")).value == 4 * total


def test_biases_are_found_and_not_packed() -> None:
    """GPT-2: a matrix [in, out] with a bias [out]; the bias stays in two bytes."""
    model = load("gpt2")
    leaves = [node for _, node in params(model).walk() if matrix_of(node) is not None]
    biased = [matrix for node in leaves if (matrix := matrix_of(node)) is not None and matrix.biased]
    assert sum(int(m.size_out) for m in biased) == 768 * 4 + 3072 + 768
    assert {node.name for node in leaves} >= {"q_proj", "o_proj", "up_proj", "down_proj", "tokens", "positions"}
