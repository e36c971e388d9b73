"""llama.cpp's architectures: from metadata and tensors as its converter writes them to the model they were made of.

Names of tensors are the gguf package's own (its TensorNameMap), shapes are the reference model's; metadata is what
llama.cpp's converter adds for each architecture, written here by hand from the config that it would have read.
"""

from __future__ import annotations

import re
from math import prod
from typing import Any

import gguf
import pytest
import transformers

from tests.reference import published, published_width
from txcalc.cards.checkpoint import Checkpoint, Held
from txcalc.cards.finding import Source, gguf_source
from txcalc.cards.loading import model_of
from txcalc.configs import architecture_of
from txcalc.configs.gguf import config_of
from txcalc.configs.gguf_kinds import KINDS
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params
from txcalc.reference.names import table_of
from txcalc.reference.names.plan import Plan
from txcalc.reference.names.shapes import SHAPES
from txcalc.stored.comparing import compare
from txcalc.stored.tensors import tensors_of

EVERY = {**published.every(), **published_width.every()}
Metadata = dict[str, Any]


def common(arch: str, config: Metadata) -> Metadata:
    """What the converter's base class adds, from the config with its type's defaults as transformers reads it."""
    read = transformers.AutoConfig.for_model(**config)
    keys = {
        "block_count": read.num_hidden_layers,
        "context_length": getattr(read, "max_position_embeddings", None),
        "embedding_length": read.hidden_size,
        "feed_forward_length": getattr(read, "intermediate_size", 4 * read.hidden_size),
        "attention.head_count": getattr(read, "num_attention_heads", None),
        "attention.head_count_kv": getattr(read, "num_key_value_heads", None),
        "attention.key_length": getattr(read, "head_dim", None),
        "attention.value_length": getattr(read, "head_dim", None),
        "expert_used_count": getattr(read, "num_experts_per_tok", None),
    }
    return {f"{arch}.{key}": value for key, value in keys.items() if value is not None}


def experts(config: Metadata) -> Metadata:
    shared = config.get("shared_expert_intermediate_size")
    names = ("num_experts", "n_routed_experts", "num_local_experts")
    made = {"expert_count": next(config[name] for name in names if name in config),
            "expert_feed_forward_length": config.get("moe_intermediate_size")}  # fmt: skip
    return {**made, **({"expert_shared_feed_forward_length": shared} if shared else {})}


def routed(config: Metadata) -> Metadata:
    return {
        **experts(config),
        "expert_shared_count": config["n_shared_experts"],
        "leading_dense_block_count": config["first_k_dense_replace"],
        "expert_gating_func": 2,
        "expert_weights_scale": 2.5,
        "expert_weights_norm": True,
    }


def latent(config: Metadata) -> Metadata:
    """As the converter writes latent attention since it keeps the compressed form: one head of keys."""
    rank, turned, nope = config["kv_lora_rank"], config["qk_rope_head_dim"], config["qk_nope_head_dim"]
    return {
        "attention.head_count_kv": 1, "attention.key_length": rank + turned, "attention.value_length": rank,
        "attention.key_length_mla": nope + turned, "attention.value_length_mla": config["v_head_dim"],
        "attention.q_lora_rank": config["q_lora_rank"], "attention.kv_lora_rank": rank,
        "rope.dimension_count": turned, "expert_group_count": config.get("n_group", 8),
        "expert_group_used_count": config.get("topk_group", 4),
    }  # fmt: skip


def ssm(config: Metadata) -> Metadata:
    return {"ssm.conv_kernel": 4, "ssm.inner_size": 64, "ssm.state_size": 4, "ssm.time_step_rank": 6,
            "attention.head_count": 0, "feed_forward_length": 0, "context_length": 2**20}  # fmt: skip


CASES: dict[str, tuple[str, Any]] = {
    "llama": ("llama", lambda c: {"rope.dimension_count": 8}),
    "qwen2": ("qwen2", None),
    "qwen3": ("qwen3", None),
    "qwen2moe": ("qwen2_moe", experts),
    "qwen3moe": ("qwen3_moe every layer", experts),
    "gemma": ("gemma", None),
    "gemma2": ("gemma2", lambda c: {"attention.sliding_window": 5, "attn_logit_softcapping": 50.0}),
    "gemma3": ("gemma3_text", lambda c: {"attention.sliding_window": 5}),
    "phi2": ("phi", lambda c: {"rope.dimension_count": 4}),
    "phi3": ("phi3", lambda c: {"rope.dimension_count": 8}),
    "gpt2": ("gpt2", None),
    "gptneox": ("gpt_neox", lambda c: {"rope.dimension_count": 2, "use_parallel_residual": True}),
    "starcoder2": ("starcoder2", None),
    "stablelm": ("stablelm", lambda c: {"rope.dimension_count": 2, "use_parallel_residual": False}),
    "command-r": ("cohere", lambda c: {"logit_scale": 0.5}),
    "cohere2": ("cohere2", lambda c: {"logit_scale": 0.0625, "attention.sliding_window": 5}),
    "olmo2": ("olmo2", None),
    "olmoe": ("olmoe", experts),
    "granite": ("granite", lambda c: {"embedding_scale": 1.0, "residual_scale": 1.0, "logit_scale": 1.0}),
    "deepseek2": ("deepseek_v3", lambda c: {**routed(c), **latent(c)}),
    "glm4": ("glm4", lambda c: {"rope.dimension_count": 4}),
    "glm4moe": ("glm4_moe", lambda c: {**routed(c), "rope.dimension_count": 4}),
    "gpt-oss": (
        "gpt_oss",
        lambda c: {"expert_count": 4, "expert_feed_forward_length": 48, "attention.sliding_window": 5},
    ),
    "smollm3": ("smollm3", None),
    "seed_oss": ("seed_oss", None),
    "arcee": ("arcee", None),
    "ernie4_5": ("ernie4_5", None),
    "hunyuan-dense": ("hunyuan_v1_dense", None),
    "exaone4": ("exaone4", lambda c: {"attention.sliding_window": 5}),
    "mamba": ("mamba", ssm),
}


def config(arch: str) -> Metadata:
    name = CASES[arch][0]
    if name == "qwen3_moe every layer":  # llama.cpp knows no dense layers among them
        return {**EVERY["qwen3_moe"], "decoder_sparse_step": 1}
    return {key: value for key, value in EVERY[name].items() if key not in UNTOLD}


# Norms a head that files hold stacked; windows of types in which llama.cpp knows none.
UNTOLD = ("qk_layernorm", "use_sliding_window")


def metadata(arch: str) -> Metadata:
    found, more = config(arch), CASES[arch][1]
    added = {f"{arch}.{key}": value for key, value in (more(found) if more else {}).items() if value is not None}
    return {"general.architecture": arch, "tokenizer.ggml.tokens": ["a"] * published.V, **common(arch, found), **added}


def gguf_tensors(arch: str) -> dict[str, Held]:
    """A checkpoint's tensors under the package's names, experts stacked as the converter stacks them."""
    model = architecture_of(config(arch))
    parts = tensors_of(model)
    kind = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch)
    names = gguf.get_tensor_name_map(kind, 8)
    found: dict[str, list[tuple[int, ...]]] = {}
    for ways in Plan(parts, model, table_of(model)).groups:
        for theirs, shape in zip(ways[0].theirs, SHAPES[ways[0].layout](ways[0].goal), strict=True):
            for stem, part in apart(theirs, shape):
                suffix = next((each for each in (".weight", ".bias") if stem.endswith(each)), "")
                name = names.get_name(stem.removesuffix(suffix))
                assert name is not None, theirs
                found.setdefault(name + (suffix or ".weight"), []).append(part)
    return {name: held(name, shapes) for name, shapes in found.items()}


def apart(name: str, shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """What the converter makes of a tensor: experts together, gpt-oss's gate and up apart, a bias by its usual name."""
    if re.search(r"\.h\.\d+\.(attn|mlp)\.c_\w+\.weight", name):
        shape = shape[::-1]  # GPT-2's are stored [in, out], and turned
    stem = re.sub(r"\.experts\.\d+\.", ".experts.", name).replace("e_score_correction_bias", "e_score_correction.bias")
    joined = re.fullmatch(r"(.*\.experts\.)(gate_up|down)_proj(_bias)?", stem)
    if not joined:
        return [(stem, shape)]
    half = shape[-1] // 2 if joined[2] == "gate_up" else shape[-1]
    sizes = (shape[0], half) if joined[3] else (shape[0], half, shape[1])
    kinds = ("gate", "up") if joined[2] == "gate_up" else ("down",)
    return [(f"{joined[1]}{kind}_proj{'.bias' if joined[3] else '.weight'}", sizes) for kind in kinds]


def held(name: str, shapes: list[tuple[int, ...]]) -> Held:
    shape = shapes[0] if len(shapes) == 1 else (len(shapes), *shapes[0])
    return Held(name, "F32", shape, 4 * prod(shape))


def source(arch: str, **changes: Any) -> Source:
    tensors = gguf_tensors(arch)
    made = {**metadata(arch), **{f"{arch}.{key}": value for key, value in changes.items()}}
    return gguf_source(Checkpoint(kind="gguf", where=f"{arch}.gguf", files=1, tensors=tensors, metadata=made))


@pytest.mark.parametrize("arch", CASES)
def test_the_model_is_the_one_that_was_converted(arch: str) -> None:
    """Parameters, cache and trust: nothing is left that was not understood."""
    ours, original = model_of(source(arch), arch), architecture_of(config(arch))
    assert ours.reasons == ()
    assert ours.model_type == original.model_type
    assert params(ours).figures() == params(original).figures()
    mine, theirs = (kv_cache(each, ctx=40).figures() for each in (ours, original))
    assert mine == theirs


def test_every_architecture_has_a_case() -> None:
    assert set(CASES) == set(KINDS)


COMPARED = ("llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "gemma", "gemma2", "gemma3", "phi3", "gpt2", "phi2",
            "starcoder2", "command-r", "olmo2", "olmoe", "granite", "gpt-oss", "smollm3", "seed_oss", "arcee",
            "ernie4_5", "hunyuan-dense", "exaone4", "glm4moe")  # fmt: skip


@pytest.mark.parametrize("arch", COMPARED)
def test_tensors_are_compared_by_the_packages_names(arch: str) -> None:
    found = compare(source(arch).opened, model_of(source(arch), arch))  # type: ignore[arg-type]  # it is opened
    assert found.uncompared == ""
    assert [each.what for each in found.differences if not each.expected] == []


@pytest.mark.parametrize(
    ("arch", "changes"),
    [("qwen2", {"feed_forward_length": 64}), ("gemma2", {"block_count": 2}), ("deepseek2", {"expert_shared_count": 1})],
    ids=str,
)
def test_metadata_that_is_not_its_tensors_makes_an_estimate(arch: str, changes: Metadata) -> None:
    """Negative control: never exact and wrong, whatever a file's metadata says."""
    model = model_of(source(arch, **changes), arch)
    assert "elements" in model.reasons[0]


def test_the_token_table_says_how_many_rows_there_are() -> None:
    """Files pad the table beyond the tokens that they list."""
    made = config_of({**metadata("qwen2"), "tokenizer.ggml.tokens": ["a"] * 3}, gguf_tensors("qwen2"))
    assert made["vocab_size"] == published.V


def test_deepseek2_with_a_softmax_is_v2() -> None:
    found = config_of({**metadata("deepseek2"), "deepseek2.expert_gating_func": 1}, gguf_tensors("deepseek2"))
    assert found["model_type"] == "deepseek_v2"


def test_blocks_beside_the_model_are_no_layers() -> None:
    """llama.cpp counts GLM 4.5's block of multi-token prediction among its blocks."""
    layers = config("glm4moe")["num_hidden_layers"]
    made = {**metadata("glm4moe"), "glm4moe.block_count": layers + 1, "glm4moe.nextn_predict_layers": 1}
    model = architecture_of(config_of(made, gguf_tensors("glm4moe")))
    assert model.main.num_hidden_layers == layers
    assert model.extra is not None
