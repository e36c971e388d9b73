"""More published figures, each with the paper's own rounding as the only tolerance."""

from __future__ import annotations

import pytest

import txcalc
from tests.formulas.test_flops_published import digits, gpt
from txcalc.formulas.flop_conventions import conventions
from txcalc.formulas.flops import forward_flops
from txcalc.formulas.flops_question import question
from txcalc.formulas.kv_cache import Fit
from txcalc.formulas.model_states import RECIPES, states_per_device
from txcalc.formulas.recomputation import recomputed
from txcalc.formulas.training_run import Machine, training_run
from txcalc.hardware import device


@pytest.mark.parametrize(("card", "printed"), [("deepseek-v2", 155), ("deepseek-v3", 250)])
def test_training_flops_a_token_of_latent_attention_and_experts(card: str, printed: int) -> None:
    """Zhao et al. 2025 (arXiv 2505.09343), table 2, at 4,096 tokens: billions of FLOPs a token; causal pairs alone."""
    (node,) = conventions(txcalc.load(card), seq=4096, names=["matmul-causal"])
    assert int(node.value) // 4096 // 10**9 == printed


@pytest.mark.parametrize(("card", "printed"), [("deepseek-v2-lite", 15.6), ("deepseek-v2", 34.6)])
def test_cached_elements_a_token(card: str, printed: float) -> None:
    """DeepSeek-V2 (arXiv 2405.04434), appendix D.2: thousands of elements of latent attention's cache."""
    found = txcalc.kv_cache(txcalc.load(card), ctx=1, kv_dtype="bf16").find("kv_cache.bytes_per_token").value
    assert round(found / 2 / 1000, 1) == printed


@pytest.mark.parametrize(
    ("card", "gib"), [("llama2-7b", 128), ("mistral-7b", 32), ("mixtral-8x7b", 32), ("jamba-v0.1", 4)]
)
def test_cache_at_256k(card: str, gib: int) -> None:
    """Jamba (Lieber et al. 2024, arXiv 2403.19887), table 1: 256K tokens in 16 bits; Mistral's at full length."""
    tree = txcalc.kv_cache(txcalc.load(card), ctx=256 * 1024, kv_dtype="bf16")
    assert tree.find("kv_cache.reserved_bytes").value == gib * 2**30


@pytest.mark.parametrize(("batch", "printed", "known"), [(128, 43_000, 2), (512, 10_700, 3)])
def test_longest_context_of_palm(batch: int, printed: int, known: int) -> None:
    """Pope et al. 2022 (arXiv 2211.05102), table 1: 30% of the memory of 64 TPU v4 for the cache of PaLM 540B, whose
    one key head is split over the batch."""
    budget = 3 * 64 * 32 * 2**30 // 10
    longest = Fit(txcalc.load("palm-540b"), budget=budget // batch, ctx=2048, kv_dtype="bf16").tokens
    assert longest is not None
    assert digits(longest, known) == printed


ZERO = {  # Rajbhandari et al. 2019 (arXiv 1910.02054), table 1: GB a device of P_os, P_os+g, P_os+g+p, by devices
    7.5: {4: "52.5 41.3 30", 16: "35.6 21.6 7.5", 64: "31.4 16.6 1.88", 256: "30.4 15.4 0.47", 1024: "30.1 15.1 0.12"},
    128: {4: "896 704 512", 16: "608 368 128", 64: "536 284 32", 256: "518 263 8", 1024: "513 257 2"},
    1000: {
        4: "7000 5500 4000", 16: "4750 2875 1000", 64: "4187 2218 250", 256: "4046 2054 62.5", 1024: "4011 2013 15.6",
    },
}  # fmt: skip


@pytest.mark.parametrize("billions", ZERO)
def test_zero_table_1(billions: float) -> None:
    """Rounded for 7.5B, whole gigabytes cut off for the larger ones."""
    for devices, printed in ZERO[billions].items():
        stages = ("optimizer", "gradients", "parameters")
        for stage, text in zip(stages, printed.split(), strict=True):
            recipe = RECIPES["zero-paper"]
            found = states_per_device(int(billions * 10**9), recipe, devices=devices, stage=stage) / 1e9  # type: ignore[arg-type]
            places = len(text.partition(".")[2])
            exact = int(found) if billions > 100 and not places else round(found + 1e-9, places)
            assert exact == float(text), (devices, stage, found)


def test_llama_65b_took_three_weeks() -> None:
    """Touvron et al. 2023 (arXiv 2302.13971), section 2.4: 380 tokens a second and GPU on 2,048 A100, 1.4T tokens in
    about 21 days; table 15's 1,022,362 GPU-hours are within what 380 was rounded from."""
    machine = Machine(device=device("a100-80-sxm"), count=2048, tokens_per_second=380 * 2048)
    run = training_run(txcalc.load("llama-65b"), seq=2048, tokens=1_400 * 10**9, machine=machine).figures()
    assert round(run["train.days"]) == 21
    assert round(1.4e12 / 1_022_362 / 3600) == 380
    assert abs(run["train.gpu_hours"] / 1_022_362 - 1) < 0.5 / 380


# ---- Korthikanti et al. 2022 ----------------------------------------------------------------------------------------

GPTS = {"22B": (48, 6144, 64), "175B": (96, 12_288, 96), "530B": (105, 20_480, 128), "1T": (128, 25_600, 160)}


@pytest.mark.parametrize(("name", "percent"), [("175B", 2.7), ("530B", 1.6)])
def test_what_selective_recomputation_costs(name: str, percent: float) -> None:
    """Section 5: 2.7% and 1.6% more FLOPs than the layers' forward pass."""
    model = gpt(*GPTS[name], vocab=51_200)
    asked = question(model, seq=2048, phase="train")
    layers = int(forward_flops(model, asked).value) - 2 * 2048 * 51_200 * GPTS[name][1]
    assert round(100 * recomputed(model, asked, "selective") / layers, 1) == percent


@pytest.mark.parametrize(
    ("name", "mfu", "hfu"), [("22B", 41.5, 43.7), ("175B", 51.4, 52.8), ("530B", 56.0, 57.0), ("1T", 56.3, 57.0)]
)
def test_utilisation_of_model_and_hardware(name: str, mfu: float, hfu: float) -> None:
    """Table 5: the ratio of equations 8 and 7, as near as both printed shares are rounded."""
    model = gpt(*GPTS[name], vocab=51_200)
    plain, hardware = conventions(model, seq=2048, names=["korthikanti", "korthikanti-hw"])
    ratio = int(hardware.value) / int(plain.value)
    assert (mfu - 0.05) * ratio <= hfu + 0.05
    assert (mfu + 0.05) * ratio >= hfu - 0.05


def test_the_tables_notice_a_wrong_formula() -> None:
    """Negative control: the whole square is 281 and not 250; without grouped heads Mistral's cache is four times 32."""
    (node,) = conventions(txcalc.load("deepseek-v3"), seq=4096, names=["matmul-full"])
    assert int(node.value) // 4096 // 10**9 != 250
    wide = txcalc.load("mistral-7b", gqa="mha")
    found = txcalc.kv_cache(wide, ctx=256 * 1024, kv_dtype="bf16").find("kv_cache.reserved_bytes").value
    assert found == 128 * 2**30
