"""Training memory: states by hand, adapters by the paper, whole steps against torch's allocator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formulas.test_tape import GPT2, LLAMA, OTHERS, gpts, llamas
from tests.oracles import torch_memory
from txcalc.architecture import Model
from txcalc.cards import load
from txcalc.configs import architecture_of
from txcalc.errors import RequestError, UsageError
from txcalc.formulas.lora import lora_params, parse_lora
from txcalc.formulas.model_states import OPTIMIZERS, RECIPES
from txcalc.formulas.params import params
from txcalc.formulas.tape.walk import Lora
from txcalc.formulas.training import Training, training_memory
from txcalc.formulas.training_parts import depths_text
from txcalc.reference import Transformer
from txcalc.reference.lora import add_lora
from txcalc.result import Node

LLAMA3_8B: dict[str, Any] = {
    **LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256, "torch_dtype": "bfloat16",
}  # fmt: skip
PARAMS = 8_030_261_248


def figures(config: dict[str, Any], **asked: Any) -> dict[str, int | float]:
    return training_memory(architecture_of(config), Training(**{"seq": 64, **asked})).figures()


# ---- states ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "bytes_each"),
    [("bf16", 8), ("fp32", 16), ("autocast", 16), ("zero-paper", 16), ("megatron", 18), ("deepspeed", 20)],
)
def test_bytes_a_parameter_with_adam(recipe: str, bytes_each: int) -> None:
    """2 + 2 + 2 * 2; 4 + 4 + 2 * 4; 2 + 2 + 4 + 8; 2 + 4 + 4 + 8; 2 + 2 + 4 + 4 + 8; 291 step counters."""
    found = figures(LLAMA3_8B, recipe=recipe)
    states = found["memory.parameters"] + found["memory.gradients"] + found["memory.optimizer"]
    assert states == bytes_each * PARAMS + 4 * 291
    assert RECIPES[recipe].bytes_per_parameter() == bytes_each


@pytest.mark.parametrize(
    ("optimizer", "make"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1)),
        ("momentum", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("amsgrad", lambda p: torch.optim.AdamW(p, amsgrad=True)),
        ("adafactor", torch.optim.Adafactor),
    ],
)
@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
@pytest.mark.parametrize("recipe", ["fp32", "bf16"])
def test_optimizer_states_equal_torch(optimizer: str, make: Any, config: dict[str, Any], recipe: str) -> None:
    """Bytes of every state tensor after one step, step counters included."""
    model = architecture_of(config)
    whole = torch_memory.built(model, recipe, "flash")
    opt = make(whole.parameters())
    torch_memory.training_step(whole, 1, 5, recipe).loss().backward()
    opt.step()
    truth = sum(x.nbytes for state in opt.state.values() for x in state.values() if isinstance(x, torch.Tensor))
    found = training_memory(model, Training(seq=5, recipe=recipe, optimizer=optimizer)).figures()
    assert found["memory.optimizer"] == truth
    assert found["memory.gradients"] == sum(p.grad.nbytes for p in whole.parameters() if p.grad is not None)


STORED = (
    "albert-base", "bert-base", "gpt2", "opt-350m", "bloom-560m", "falcon-7b", "llama3-8b", "gemma-2-2b",
    "mixtral-8x7b", "deepseek-v2-lite", "gpt-oss-20b", "phi-2",
)  # fmt: skip


@pytest.mark.parametrize("name", STORED)
def test_every_parameter_has_one_gradient(name: str) -> None:
    """Shared layers run twelve times and are trained once; a tied table has one gradient."""
    model = load(name)
    found = training_memory(model, Training(seq=4, recipe="bf16")).figures()
    assert found["memory.gradients"] == found["memory.parameters"] == 2 * params(model).figures()["params.total"]


def test_a_tower_is_frozen() -> None:
    """Gemma 3's tower and connector are weights, and no image runs: gradients are the text model's alone."""
    model = load("gemma-3-4b")
    text = next(node for node in params(model).find("params.total").children if node.name == "decoder")
    found = training_memory(model, Training(seq=4, recipe="bf16")).figures()
    assert found["memory.gradients"] == 2 * text.value < found["memory.parameters"]


def test_unknown_names_are_refused() -> None:
    for wrong in ({"recipe": "fp7"}, {"optimizer": "lion"}, {"recompute": "some"}, {"backend": "triton"}):
        with pytest.raises(RequestError, match="unknown"):
            figures(LLAMA, **wrong)
    with pytest.raises(RequestError, match="expected a whole number"):
        figures(LLAMA, grad_accum=0)
    with pytest.raises(RequestError, match="nothing would be trained"):
        figures(LLAMA, quantized="nf4")


# ---- whole steps ----------------------------------------------------------------------------------------------------


def allocator_total(whole: Transformer, opt: torch.optim.Optimizer, batch: int, tokens: int, steps: int) -> int:
    """Parameters, states and batch as they lie, and the allocator's peak over micro-batches and optimizer step."""
    step = torch_memory.training_step(whole, batch, tokens, "fp32")

    def run(micro: int) -> None:
        for _ in range(micro):
            step.loss().backward()
        opt.step()

    run(1)
    if steps == 1:
        opt.zero_grad(set_to_none=True)
    constant = sum(p.nbytes for p in whole.parameters()) + sum(x.nbytes for x in step.batch)
    constant += sum(x.nbytes for state in opt.state.values() for x in state.values() if isinstance(x, torch.Tensor))
    constant += sum(p.grad.nbytes for p in whole.parameters() if p.grad is not None)
    return constant + torch_memory.allocator_peak(lambda: run(steps))


@pytest.mark.parametrize(("recompute", "grad_accum"), [("none", 1), ("full", 1), ("none", 3), ("full", 3)])
@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
@pytest.mark.parametrize("tokens", [3, 20])
def test_total_equals_the_allocator(config: dict[str, Any], tokens: int, recompute: str, grad_accum: int) -> None:
    """AdamW's foreach step included, which is the peak at 3 tokens; fp32, where no kernel needs scratch at a peak.

    One difference has a name: on the CPU the step's scalar operands are tensors of 8 and 4 bytes for a moment.
    """
    model = architecture_of(config)
    whole = torch_memory.built(model, "fp32", "flash")
    if recompute == "full":
        whole.checkpoint_layers()
    opt = torch.optim.AdamW(whole.parameters(), foreach=True)
    truth = allocator_total(whole, opt, 2, tokens, grad_accum)
    asked = Training(seq=tokens, batch=2, grad_accum=grad_accum, recipe="fp32", recompute=recompute)
    found = training_memory(model, asked).find("memory.total")
    assert truth - int(found.value) == (12 if "optimizer's step" in found.note else 0)


def test_the_optimizer_step_is_the_peak_where_tokens_are_few() -> None:
    tree = training_memory(architecture_of(LLAMA), Training(seq=3, recipe="fp32"))
    assert tree.find("memory.total").note == "the peak is in the optimizer's step"
    fused = training_memory(architecture_of(LLAMA), Training(seq=3, recipe="fp32", foreach=False))
    assert fused.find("memory.total").value < tree.find("memory.total").value


@pytest.mark.parametrize("grad_accum", [1, 2])
@pytest.mark.parametrize("vocab", [50, 4000])
def test_a_tied_table_at_the_embedding_s_turn(vocab: int, grad_accum: int) -> None:
    """SGD makes nothing, three tokens keep nothing: the table's gradient is the peak, the head's and the embedding's
    together while the second is added to the first."""
    config = {**GPT2, "vocab_size": vocab}
    whole = torch_memory.built(architecture_of(config), "fp32", "flash")
    truth = allocator_total(whole, torch.optim.SGD(whole.parameters(), lr=0.1), 1, 3, grad_accum)
    asked = Training(seq=3, grad_accum=grad_accum, recipe="fp32", optimizer="sgd")
    found = training_memory(architecture_of(config), asked).find("memory.total")
    assert found.value == truth
    assert vocab == 50 or found.note == "the peak is in the backward pass of the embedding"


def rows_add_up(tree: Node) -> bool:
    """The peak's rows are the highest of the moments, each of which is the sum of its terms."""
    peak = tree.find("memory.total")
    moments = [node.value for node in tree.children if node.name.startswith("at ")]
    return peak.value == sum(child.value for child in peak.children) == max(moments)


@given(
    config=st.one_of(llamas(), gpts()),
    seq=st.integers(2, 40),
    recipe=st.sampled_from(list(RECIPES)),
    optimizer=st.sampled_from(["sgd", "adamw"]),
    recompute=st.sampled_from(["none", "selective", "full"]),
    grad_accum=st.integers(1, 2),
    foreach=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_peak_is_the_highest_moment_opened(config: dict[str, Any], **asked: Any) -> None:
    tree = training_memory(architecture_of(config), Training(**asked))
    assert rows_add_up(tree)
    names = [child.name for child in tree.find("memory.activations").children]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("depths", "text"),
    [
        ([0], "layer 1"),
        (range(32), "layers 1 to 32"),
        (range(1, 32), "layers 2 to 32"),
        ([0, 2, 4], "3 layers: 1, 3, 5"),
        ([0, 1, 2, 3, 4, 6, 7, 8, 9, 10], "10 layers: 1 to 5, 7 to 11"),
        (range(0, 26, 2), "13 layers: 1, 3 ... 25"),
    ],
)
def test_equal_layers_are_named_by_their_depths(depths: list[int], text: str) -> None:
    assert depths_text(depths) == text


def test_layers_that_keep_unlike_things_have_names_of_their_own() -> None:
    """Recomputed with adapters: the first layer's input needs no gradient, so that its tail is another part."""
    asked = Training(seq=64, recompute="full", lora=Lora(rank=2, projections=("q_proj",)))
    tree = training_memory(architecture_of({**LLAMA, "num_hidden_layers": 5}), asked)
    names = [child.name for child in tree.find("memory.activations").children]
    assert names[:2] == ["layer 1", "layers 2 to 5"]


@given(config=st.one_of(llamas(), gpts()), seq=st.integers(2, 40), batch=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_recomputation_keeps_less_and_rows_add_up(config: dict[str, Any], seq: int, batch: int) -> None:
    model = architecture_of(config)
    found = {}
    for recompute in ("none", "selective", "full"):
        tree = training_memory(model, Training(seq=seq, batch=batch, backend="eager", recompute=recompute))
        assert rows_add_up(tree)
        found[recompute] = tree.find("memory.activations").value
    states = 5056 * model.main.num_hidden_layers  # of the generator, one a checkpoint
    assert found["full"] <= found["none"] + states
    assert found["selective"] <= found["none"] + states


def test_gradient_accumulation_holds_gradients_through_the_forward_pass() -> None:
    """One micro-batch has no gradients at the loss; the second has all of them."""
    one, two = (figures(LLAMA3_8B, seq=8192, grad_accum=n)["memory.total"] for n in (1, 2))
    assert two - one == 2 * PARAMS


# ---- adapters -------------------------------------------------------------------------------------------------------


def test_llama3_adapters_by_hand() -> None:
    """32 layers * 16 * ((4,096 + 4,096) for q + (4,096 + 1,024) for v) = 6,815,744."""
    found = figures(LLAMA3_8B, lora=Lora(rank=16, projections=("q_proj", "v_proj")))
    assert found["lora.trainable"] == 6_815_744
    assert found["memory.gradients"] == 2 * 6_815_744
    assert found["memory.optimizer"] == 2 * 2 * 6_815_744 + 4 * 2 * 2 * 32
    # 6 FLOPs a trained parameter, 4 a frozen one that a token is multiplied by: all but the input table
    assert found["lora.flops_per_token"] == 6 * 6_815_744 + 4 * (PARAMS - 128256 * 4096)


@pytest.mark.parametrize("names", [("q_proj", "v_proj"), ("down_proj",), ("k_proj", "o_proj", "up_proj")])
@pytest.mark.parametrize("config", [LLAMA, GPT2, OTHERS["qwen3"]], ids=["llama", "gpt2", "qwen3"])
def test_adapters_equal_the_reference(config: dict[str, Any], names: tuple[str, ...]) -> None:
    """Trained parameters and the peak of a step with frozen weights, whose inputs nobody keeps."""
    model = architecture_of(config)
    whole = torch_memory.built(model, "fp32", "flash")
    add_lora(whole, names, rank=3)
    lora = Lora(rank=3, projections=names)
    assert lora_params(model, lora).value == sum(p.numel() for p in whole.parameters() if p.requires_grad)
    opt = torch.optim.AdamW([p for p in whole.parameters() if p.requires_grad], foreach=True)
    truth = allocator_total(whole, opt, 2, 9, 1)
    found = training_memory(model, Training(seq=9, batch=2, recipe="fp32", lora=lora)).find("memory.total").value
    numbers = 8 * len(names) * model.main.num_hidden_layers  # the adapter's scale, 8 bytes in its node
    assert truth - int(found) in range(0, numbers + 1, 8)


def test_qlora_stores_frozen_matrices_in_four_bits() -> None:
    """NF4: half a byte, a byte of scale for 64, 4 bytes for 256 scales, 4 a matrix; tables and norms stay in bf16."""
    found = figures(LLAMA3_8B, lora=Lora(rank=16, projections=("q_proj",)), quantized="nf4")
    trained = int(found["lora.trainable"])
    matrices = {4096 * 4096: 2, 4096 * 1024: 2, 4096 * 14336: 3}
    layers = sum(n * (size // 2 + size // 64 + size // 64 // 256 * 4 + 4) for size, n in matrices.items())
    high = 2 * 2 * 128256 * 4096 + 2 * 65 * 4096
    assert found["memory.parameters"] == 32 * layers + high + 2 * trained


@pytest.mark.parametrize("text", ["", "r=16", "q_proj", "r=0,q_proj", "r=x,q_proj", "r=4,r=5,q_proj", "rank=4,q_proj"])
def test_adapters_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError, match="is not a rank and projections"):
        parse_lora(text)


def test_adapters_on_nothing_are_refused() -> None:
    with pytest.raises(RequestError, match="no projection is named 'qproj'"):
        lora_params(architecture_of(LLAMA), parse_lora("r=4,qproj"))


# ---- what is not known ----------------------------------------------------------------------------------------------


def model_of(name: str) -> Model:
    return load(name)


def test_layers_without_a_formula_are_refused_by_name() -> None:
    with pytest.raises(RequestError, match=r"no activation formula yet for .*gated delta nets"):
        training_memory(model_of("qwen3-next-80b-a3b"), Training(seq=128))


def test_two_stacks_are_refused() -> None:
    with pytest.raises(RequestError, match="two stacks"):
        training_memory(model_of("t5-small"), Training(seq=128))


def test_experts_make_the_peak_an_estimate_and_say_why() -> None:
    tree = training_memory(model_of("mixtral-8x7b"), Training(seq=128))
    assert tree.find("memory.total").basis == "estimated"
    assert "depends on which tokens they get" in tree.find("memory.total").reason
    assert tree.find("memory.activations").basis == "exact"
    assert {each.name for each in tree.children if each.name.startswith("at ") and each.basis == "estimated"} == {
        "at the backward pass of layer 1",
        "at the backward pass of layer 32",
    }


@pytest.mark.parametrize("options", [{"cuda": True}, {"quantized": "nf4", "lora": parse_lora("r=4,q_proj")}])
def test_nothing_that_holds_an_estimate_is_called_exact(options: dict[str, Any]) -> None:
    tree = training_memory(architecture_of(LLAMA), Training(seq=16, **options))
    figures = {each.key: each.basis for _, each in tree.walk() if each.key}
    assert (tree.basis, figures["memory.total"], figures["memory.parameters"]) == ("estimated", "estimated", "exact")
    assert figures["memory.activations"] == ("estimated" if "cuda" in options else "exact")


# ---- negative controls ----------------------------------------------------------------------------------------------


def test_the_allocator_notices_a_forgotten_state() -> None:
    """Momentum's one state instead of AdamW's two, where the loss is the peak: a state and the counters missing."""
    model = architecture_of({**LLAMA, "vocab_size": 1500})
    whole = torch_memory.built(model, "fp32", "flash")
    truth = allocator_total(whole, torch.optim.AdamW(whole.parameters(), foreach=True), 2, 60, 1)
    asked = Training(seq=60, batch=2, recipe="fp32", optimizer="momentum")
    missing = truth - int(training_memory(model, asked).find("memory.total").value)
    num_params = int(params(model).find("params.total").value)
    assert missing == 4 * num_params + 4 * len(list(whole.parameters()))


def test_every_optimizer_is_tried() -> None:
    assert set(OPTIMIZERS) == {"sgd", "momentum", "adam", "adamw", "amsgrad", "adafactor"}
