"""Other people's FLOPs: each preset against its source's own arithmetic, and differences that add up."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import txcalc
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.formulas.flop_conventions import MEANS, PRESETS, conventions
from txcalc.formulas.flops_work import CONVENTIONS as NAMES
from txcalc.result import Node

S = 2048
FULL = 3 * 32_938_104_193_024  # Llama-3-8B at 2,048: forward counted by torch, backward twice that


def llama3_8b(**changes: Any) -> txcalc.Model:
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
    }
    return architecture_of({**config, **changes})


def values(model: txcalc.Model, **asked: Any) -> dict[str, int]:
    return {node.name: int(node.value) for node in conventions(model, **asked)}


def differences(node: Node) -> dict[str, int]:
    return {term.name: int(term.value) for term in node.children[-1].children}


# ---- Llama-3-8B, by hand --------------------------------------------------------------------------------------------

N = 8_030_261_248  # all parameters
E = 525_336_576  # the input table, 128,256 * 4,096; the output matrix is another one as large
ATTENTION = 12 * 32 * 32 * 128 * S  # 12 L H Q T a token

BY_HAND = {
    "matmul-full": FULL,
    "palm": (6 * N + ATTENTION) * S,
    "kaplan": 6 * (N - 2 * E) * S,
    "gpt3-6nd": 6 * N * S,
    "torchtitan": (6 * (N - E) + ATTENTION) * S,
    "hf-trainer": 6 * (N - E) * S,
    "megatron": FULL - ATTENTION * S // 2,
    # the triangle has S (S + 1) / 2 of the S * S pairs
    "matmul-causal": FULL - ATTENTION * S + ATTENTION * (S + 1) // 2,
    # 2 V D a token for the input table as a product, 3 operations a score in 32 heads of 32 layers; times 3
    "chinchilla": FULL + 3 * 2 * 128_256 * 4096 * S + 3 * 3 * 32 * 32 * S * S,
    "narayanan-hw": int(
        96 * S * 32 * 4096**2 * (1 + Fraction(S, 6 * 4096) + Fraction(128_256, 16 * 32 * 4096))
    ),
    "korthikanti": int(72 * S * 32 * 4096**2 * (1 + Fraction(S, 6 * 4096) + Fraction(128_256, 12 * 32 * 4096))),
    "korthikanti-hw": int(72 * S * 32 * 4096**2 * (1 + Fraction(S, 3 * 4096) + Fraction(128_256, 12 * 32 * 4096))),
    # fused attention: backward 2.5 times the forward's products, not 2
    "executed": FULL + ATTENTION * S // 3 // 2,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_llama3_8b_by_hand(name: str) -> None:
    """Each formula as its source prints it, with the numbers put in."""
    assert values(llama3_8b(), seq=S)[name] == BY_HAND[name]


@pytest.mark.parametrize(
    ("name", "percent"),
    [
        ("torchtitan", "+0.003"),
        ("megatron", "-3.34"),
        ("palm", "+6.5"),
        ("gpt3-6nd", "-0.14"),
        ("kaplan", "-13.2"),
        ("hf-trainer", "-6.7"),
        ("narayanan-hw", "+22"),
    ],
)
def test_llama3_8b_distances(name: str, percent: str) -> None:
    """How far the tools' own figures are from torch's counter at 2,048 tokens, as measured."""
    found = 100 * (values(llama3_8b(), seq=S)[name] / FULL - 1)
    digits = len(percent.partition(".")[2])
    assert f"{found:+.{digits}f}" == percent


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("matmul-full", set()),
        ("matmul-causal", {"attention"}),
        ("palm", {"embedding", "norms"}),
        ("kaplan", {"attention", "logits", "norms"}),
        ("gpt3-6nd", {"attention", "embedding", "norms"}),
        ("chinchilla", {"embedding", "softmax"}),
        ("megatron", {"attention"}),
        ("torchtitan", {"norms"}),
        ("narayanan-hw", {"recompute", "projections", "feed_forward"}),
        ("korthikanti", {"projections", "feed_forward"}),
        ("korthikanti-hw", {"recompute", "projections", "feed_forward"}),
        ("hf-trainer", {"attention", "norms"}),
        ("executed", {"attention"}),
    ],
)
def test_differences_of_llama3_8b_by_term(name: str, terms: set[str]) -> None:
    (node,) = conventions(llama3_8b(), seq=S, names=[name])
    assert set(differences(node)) == terms


def test_the_terms_have_the_size_they_should() -> None:
    """Norms: 65 of 4,096 weights, 6 FLOPs each and token. The input table: 6 V D a token."""
    palm, kaplan = conventions(llama3_8b(), seq=S, names=["palm", "kaplan"])
    assert differences(palm) == {"embedding": 6 * E * S, "norms": 6 * 65 * 4096 * S}
    assert differences(kaplan) == {"attention": -ATTENTION * S, "logits": -6 * E * S, "norms": 6 * 65 * 4096 * S}


def test_shape_is_two_terms() -> None:
    """Korthikanti's 8 h^2 of projections and 16 h^2 of feed-forward, in FLOPs a token, against Llama-3-8B's: queries
    and output of h^2 each, keys and values of h^2 / 4 each; three matrices of 14,336 h."""
    (node,) = conventions(llama3_8b(), seq=S, names=["korthikanti"])
    h = 4096
    assert differences(node) == {
        "projections": 3 * 32 * S * (8 * h * h - 2 * (2 * h * h + 2 * h * h // 4)),
        "feed_forward": 3 * 32 * S * (16 * h * h - 2 * 3 * 14_336 * h),
    }


NAMED = (
    "gpt2", "opt-125m", "bloom-560m", "gemma-2-2b", "gemma-3-4b", "mixtral-8x7b", "deepseek-v3", "gpt-oss-20b",
    "falcon-7b", "bert-base", "qwen3-30b-a3b", "phi-2", "mpt-7b",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_every_difference_has_a_name(name: str) -> None:
    """Attention, feed-forwards and experts leave nothing over: biases, norms, idle experts, routers have names."""
    for node in conventions(txcalc.load(name), seq=64):
        assert "other" not in differences(node), node.name
        assert set(differences(node)) <= set(MEANS)


def test_streams_beside_the_layers_are_no_layers() -> None:
    """Gemma 3n: a matrix into and out of each further stream is stored beside the layers. Vectors, by hand: norms of a
    layer 4 * 32, of queries 12, of AltUp, LAuReL, the input per layer and AltUp's scale 4 * 32, and AltUp's two small
    tensors 27 + 9; 12 for keys where there are any; two norms around them, 32 + 6."""
    config = {
        "model_type": "gemma3n_text", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6,
        "head_dim": 12, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 67, "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 3, "altup_num_inputs": 3, "laurel_rank": 5,
        "hidden_size_per_layer_input": 6, "vocab_size_per_layer_input": 62,
    }  # fmt: skip
    (node,) = conventions(architecture_of(config), seq=7, names=["palm"])
    assert differences(node)["norms"] == 6 * 7 * (6 * (4 * 32 + 12 + 4 * 32 + 27 + 9) + 4 * 12 + 32 + 6)


def test_what_has_no_matrix_is_left_over() -> None:
    """Negative control: Mamba's convolution and states are products of no weight, and ALBERT's one layer runs twelve
    times; neither is a norm or a projection."""
    for name in ("mamba-130m", "albert-base"):
        (node,) = conventions(txcalc.load(name), seq=64, names=["palm"])
        assert differences(node)["other"] < 0


def test_a_tied_head_costs_logits_and_no_second_table() -> None:
    """Tied: the one table stands for the logits in 6ND; HF Trainer leaves it out, and the logits with it."""
    tied = {each.name: each for each in conventions(llama3_8b(tie_word_embeddings=True), seq=S)}
    assert "embedding" not in differences(tied["gpt3-6nd"])
    assert differences(tied["hf-trainer"])["logits"] == -6 * E * S
    assert int(tied["torchtitan"].value) == BY_HAND["torchtitan"]


@pytest.mark.parametrize("hidden", [64, 256])
def test_korthikanti_is_exact_for_its_own_shape(hidden: int) -> None:
    """A GPT without biases, f = 4h, one KV head a query head: the printed formula is matmul-full, nothing is left."""
    model = architecture_of(
        {
            "model_type": "transformer",
            "vocab_size": 100,
            "hidden_size": hidden,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
        }
    )
    korthikanti, full = conventions(model, seq=32, names=["korthikanti", "matmul-full"])
    assert korthikanti.value == full.value
    assert differences(korthikanti) == {}


MOE = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 128,
}


def test_experts() -> None:
    """6N takes active parameters, HF Trainer all of them; Megatron leaves out the router, 64 * 8 in each layer."""
    model = architecture_of(MOE)
    found = {each.name: each for each in conventions(model, seq=16)}
    counts = txcalc.params(model).figures()
    assert found["gpt3-6nd"].value == 6 * counts["params.active"] * 16
    assert found["hf-trainer"].value == 6 * (counts["params.total"] - counts["params.embedding"]) * 16
    idle = counts["params.total"] - counts["params.active"]
    assert differences(found["hf-trainer"])["experts"] == 6 * idle * 16
    assert differences(found["megatron"])["routing"] == -3 * 2 * 16 * 3 * 64 * 8


# ---- properties -----------------------------------------------------------------------------------------------------


@given(
    layers=st.integers(1, 6),
    heads=st.sampled_from([(4, 1), (4, 4), (6, 2)]),
    intermediate=st.integers(1, 64),
    vocab=st.integers(2, 300),
    seq=st.integers(1, 64),
    batch=st.integers(1, 4),
    tied=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_differences_add_up_and_all_is_linear_in_batch(
    layers: int, heads: tuple[int, int], intermediate: int, vocab: int, seq: int, batch: int, tied: bool
) -> None:
    model = llama3_8b(
        hidden_size=8 * heads[0],
        num_hidden_layers=layers,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        intermediate_size=intermediate,
        vocab_size=vocab,
        tie_word_embeddings=tied,
    )
    one = values(model, seq=seq)
    for node in conventions(model, seq=seq, batch=batch, recompute="full"):
        assert int(node.value) - sum(differences(node).values()) == batch * one["matmul-full"]
        assert node.name == "executed" or int(node.value) == batch * one[node.name]


def test_recomputation_costs_what_runs_again() -> None:
    """Llama-3-8B's layers at 2,048: 30,786,325,577,728 forward, a quarter of it the down projections (3 of 12 parts of
    2 * 2048 * 4096 * 14336 * 32): 3.75 times forward with recomputation, not 4."""
    layers, down = 30_786_325_577_728, 2 * S * 4096 * 14_336 * 32
    assert down * 4 == layers
    full = values(llama3_8b(), seq=S, recompute="full")["executed"]
    selective = values(llama3_8b(), seq=S, recompute="selective")["executed"]
    none = values(llama3_8b(), seq=S)["executed"]
    assert full - none == layers - down
    assert selective - none == ATTENTION * S // 3


def test_the_names_that_the_command_line_offers() -> None:
    assert (*PRESETS, "executed") == NAMES
    assert [node.name for node in conventions(llama3_8b(), seq=8)] == list(NAMES)


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(RequestError, match="unknown convention 'deepspeed'"):
        conventions(llama3_8b(), seq=8, names=["deepspeed"])


def test_unknown_recomputation_is_refused() -> None:
    with pytest.raises(RequestError, match="recompute is 'half'"):
        conventions(llama3_8b(), seq=8, recompute="half")  # type: ignore[arg-type]  # what is tested


def test_a_formula_of_one_stack_is_refused_for_two() -> None:
    """And left out where all are asked for."""
    model = architecture_of({"model_type": "t5", "num_layers": 2, "d_model": 32, "d_ff": 64})
    with pytest.raises(RequestError, match="palm is not defined for t5: it has two text stacks"):
        conventions(model, seq=8, names=["palm"])
    assert set(values(model, seq=8)) == {"matmul-full", "matmul-causal", "executed"}


def test_the_check_by_hand_notices_another_head_count() -> None:
    """Negative control: with 16 KV heads every convention that counts projections moves."""
    found = values(llama3_8b(num_key_value_heads=16), seq=S)
    moved = {name for name in NAMES if found[name] != BY_HAND[name]}
    assert moved == set(NAMES) - {"narayanan-hw", "korthikanti", "korthikanti-hw"}


def test_fused_attention_repeats_its_scores_in_the_backward_pass() -> None:
    """Torch's own formulas for the fused kernels: two products forward, five backward."""
    from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

    shape = (2, 4, 16, 8)
    forward = sdpa_flop_count(shape, shape, shape)
    backward = sdpa_backward_flop_count(shape, shape, shape, shape)
    (executed,) = conventions(llama3_8b(), seq=S, names=["executed"])
    attention = next(part for part in executed.children if part.name == "attention")
    assert int(attention.value) * forward == ATTENTION * S // 3 * (forward + backward)
