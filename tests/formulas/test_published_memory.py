"""Published tables of memory, with the paper's own rounding as the only tolerance."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.formulas.test_tape import GPT2, LLAMA
from txcalc.architecture import Model
from txcalc.cards import load
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.formulas.korthikanti import TECHNIQUES, by_convention, layer_bytes
from txcalc.formulas.lora import lora_params
from txcalc.formulas.model_states import RECIPES, STAGES, states_per_device
from txcalc.formulas.tape.walk import Lora
from txcalc.formulas.training import Training, training_memory

TABLES: dict[str, Any] = {
    table["id"]: table
    for table in json.loads((Path(__file__).parent.parent / "data" / "published-tables.json").read_text())
}


# ---- Korthikanti et al. 2022, table 2 -------------------------------------------------------------------------------


@pytest.mark.parametrize("technique", TECHNIQUES)
@pytest.mark.parametrize(("s", "b", "h", "a", "t"), [(2048, 1, 12288, 96, 8), (2048, 4, 6144, 64, 2)])
def test_korthikanti_table_2(technique: Any, s: int, b: int, h: int, a: int, t: int) -> None:
    """Each row is printed as a formula in s, b, h, a and t: evaluated as it is printed, in fractions."""
    printed = TABLES["korthikanti-t2"]["outputs"][technique]
    text = printed.replace("sbh", "s*b*h*").replace("5as/(ht)", "5*a*s/(h*t)").replace("5as/h", "5*a*s/h")
    text = text.replace("2s*b*h*", "2*s*b*h").replace("34s*b*h*/t", "34*s*b*h/t")
    ours = layer_bytes(technique, seq=s, batch=b, hidden_size=h, heads=a, tensor_parallel=t)
    assert ours == eval(text, {}, {name: Fraction(size) for name, size in zip("sbhat", (s, b, h, a, t), strict=True)})


@pytest.mark.parametrize(("heads", "hidden", "share"), [(96, 12288, 80), (128, 20480, 64)])
def test_korthikanti_share_of_the_scores(heads: int, hidden: int, share: int) -> None:
    """5 a s / h is 80 for GPT-3 and 64 for MT-NLG; without it 34 is left: 70% and 65% less (section 5)."""
    shape = {"seq": 2048, "batch": 1, "hidden_size": hidden, "heads": heads}
    whole, less = (int(layer_bytes(how, **shape)) for how in ("none", "tp_sp_selective"))
    assert (whole - less) / (2048 * hidden) == share
    assert round(100 * (whole - less) / whole) == {80: 70, 64: 65}[share]


def test_korthikanti_is_what_a_gpt_block_keeps() -> None:
    """34 sbh + 5 as^2 b against the walk of a GPT-2 block with dropout as CUDA keeps it: a byte an element.

    Three things the paper leaves out or has otherwise: statistics of the two norms, one mask of the causal pairs, and
    the softmax, which is kept in four bytes an element and not in two, because it is taken in fp32.
    """
    model = architecture_of({**GPT2, "n_embd": 768, "n_head": 12, "n_layer": 1})
    s, b, h, a = 256, 2, 768, 12
    tree = training_memory(model, Training(seq=s, batch=b, recipe="bf16", backend="eager", dropout=True, cuda=True))
    kept = next(row for row in tree.find("memory.activations").children if row.name.startswith("layer"))
    statistics = 2 * 2 * 4 * s * b  # mean and deviation of two norms in fp32
    softmax_in_fp32, masked_pairs = (4 - 2) * a * s * s * b, s * s
    printed = int(layer_bytes("none", seq=s, batch=b, hidden_size=h, heads=a))
    assert int(kept.value) - statistics - softmax_in_fp32 - masked_pairs == printed


def test_korthikanti_stands_beside_what_is_counted() -> None:
    """Llama-3-8B at 8,192 tokens: the formula says 7.2 times what its SwiGLU, grouped heads and flash keep."""
    tree = training_memory(load("llama3-8b"), Training(seq=8192))
    printed = next(node for node in tree.children if node.name == "by Korthikanti's formula")
    layers = next(row for row in tree.find("memory.activations").children if row.name.startswith("layer"))
    assert round(printed.value / layers.value, 1) == 7.2
    assert by_convention(load("llama3-8b"), seq=8192, batch=1)[0].value == printed.value


def test_korthikanti_refuses() -> None:
    with pytest.raises(RequestError, match="unknown technique"):
        layer_bytes("some", seq=1, batch=1, hidden_size=1, heads=1)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="do not divide"):
        layer_bytes("tp", seq=5, batch=1, hidden_size=5, heads=1, tensor_parallel=7)


# ---- states ---------------------------------------------------------------------------------------------------------


def test_zero_figure_1() -> None:
    """7.5B parameters on 64 devices, decimal GB, one digit as the figure prints them."""
    table = TABLES["zero-fig1"]
    devices, num_params = table["inputs"]["dp"], int(table["inputs"]["params"])
    printed = [table["outputs"][key] for key in ("baseline_GB", "os_GB", "os_g_GB", "os_g_p_GB")]
    ours = [
        states_per_device(num_params, RECIPES["zero-paper"], devices=devices, stage=stage) / 1e9 for stage in STAGES
    ]
    assert [round(size, 1) for size in ours] == printed


def test_ultrascale_states() -> None:
    """16 bytes a parameter, or 20 with gradients accumulated in fp32: the playbook's table in GB."""
    for name, printed in TABLES["ultrascale-states"]["outputs"]["GB"].items():
        num_params = int(float(name.removesuffix("B")) * 10**9)
        ours = [states_per_device(num_params, RECIPES[recipe]) / 1e9 for recipe in ("zero-paper", "deepspeed")]
        assert ours == printed


def test_megatron_and_deepspeed_divided() -> None:
    """Megatron's distributed optimizer 6 + 12 / DP; DeepSpeed's ZeRO-2 2 + 18 / N (bytes a parameter)."""
    for devices in (1, 8, 64):
        assert states_per_device(1, RECIPES["megatron"], devices=devices, stage="optimizer") == 6 + 12 / devices
        assert states_per_device(1, RECIPES["deepspeed"], devices=devices, stage="gradients") == 2 + 18 / devices


# ---- LoRA, table 15 -------------------------------------------------------------------------------------------------

_NAMES = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj"}


def gpt3() -> Model:
    return load("gpt3-175b")


@pytest.mark.parametrize("row", TABLES["lora-t15"]["outputs"]["trainable_M"])
def test_lora_table_15(row: str) -> None:
    """``rq=rv=4``: adapters of rank 4 on queries and values of GPT-3; millions, cut after one digit.

    The largest is 603.98 and printed as 603.8: twice the 301.9 of the row above it, which was cut before.
    """
    *matrices, rank = row.split("=")
    names = tuple(_NAMES[matrix.removeprefix("r")] for matrix in matrices)
    ours = int(lora_params(gpt3(), Lora(rank=int(rank), projections=names)).value)
    tenths = 2 * (ours // 2 // 10**5) if row == "rq=rk=rv=ro=64" else ours // 10**5
    assert tenths / 10 == TABLES["lora-t15"]["outputs"]["trainable_M"][row]


# ---- negative controls ----------------------------------------------------------------------------------------------


def test_the_tables_notice_a_wrong_formula() -> None:
    assert round(states_per_device(7_500_000_000, RECIPES["megatron"]) / 1e9, 1) != 120
    wrong = int(lora_params(architecture_of(LLAMA), Lora(rank=4, projections=("q_proj",))).value)
    assert wrong // 10**5 / 10 != TABLES["lora-t15"]["outputs"]["trainable_M"]["rq=rv=4"]
