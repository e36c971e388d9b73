"""Every tensor of a checkpoint is accounted for: loaded, named in an error, or known to be no weight."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.oracles import transformers_tiny
from tests.reference.published import TYPES, config, every
from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.reference import Transformer, build
from txcalc.reference.names import MODULE_OF, table_of
from txcalc.reference.parts import parts, shared
from txcalc.reference.weights import load_state_dict_from, to_checkpoint

EVERY = every()


@cache
def state(name: str) -> dict[str, Tensor]:
    """transformers' tensors of one tiny model."""
    return dict(transformers_tiny.made(EVERY[name]).state_dict())


def load(name: str, tensors: dict[str, Tensor], **how: Any) -> Transformer:
    model = architecture_of(EVERY[name])
    return load_state_dict_from(build(model, **how), model, tensors)


def same(ours: Transformer, other: Transformer) -> bool:
    mine, theirs = ours.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.parametrize("name", EVERY)
def test_a_written_checkpoint_loads_back_to_the_same_model(name: str) -> None:
    ours = load(name, state(name))
    written = to_checkpoint(ours)
    assert same(load(name, written), ours)
    assert sum(tensor.numel() for tensor in written.values()) == sum(
        tensor.numel() for tensor in ours.state_dict().values()
    )


@pytest.mark.parametrize("name", [name for name in EVERY if "experts" not in str(state(name).keys())])
def test_what_is_written_is_what_transformers_holds(name: str) -> None:
    """Names and values; transformers lists a tied tensor twice, and packs experts, which published files do not."""
    written, theirs = to_checkpoint(load(name, state(name))), state(name)
    assert written.keys() <= theirs.keys()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in written.items())


def test_experts_are_written_one_by_one_as_published_files_hold_them() -> None:
    """Mixtral's w1, w3 and w2 are gate, up and down (Jiang et al. 2024 and the published file's index)."""
    written, theirs = to_checkpoint(load("mixtral", state("mixtral"))), state("mixtral")
    packed = theirs["model.layers.1.mlp.experts.gate_up_proj"]
    assert torch.equal(written["model.layers.1.mlp.experts.2.w1.weight"], packed[2, :48])
    assert torch.equal(written["model.layers.1.mlp.experts.2.w3.weight"], packed[2, 48:])
    assert torch.equal(
        written["model.layers.1.mlp.experts.2.w2.weight"], theirs["model.layers.1.mlp.experts.down_proj"][2]
    )
    published = {key.replace(".mlp.", ".block_sparse_moe."): tensor for key, tensor in written.items()}
    assert same(load("mixtral", published), load("mixtral", theirs))


def test_older_spellings_are_read() -> None:
    bert = {key.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for key, tensor in state("bert").items()}
    bert = {key.replace("LayerNorm.bias", "LayerNorm.beta"): tensor for key, tensor in bert.items()}
    assert same(load("bert", bert), load("bert", state("bert")))


def test_a_checkpoint_of_the_bare_model_leaves_out_its_prefix() -> None:
    """As the published GPT-2: wte.weight, h.0.attn.bias (the mask), no head."""
    bare = {key.removeprefix("transformer."): tensor for key, tensor in state("gpt2").items() if "lm_head" not in key}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
    assert same(load("gpt2", bare), load("gpt2", state("gpt2")))


def test_meta_parameters_become_the_checkpoints_own_tensors() -> None:
    """No copy is made where dtype and layout agree: a memory-mapped file stays on disk."""
    tensors = {key: tensor.clone() for key, tensor in state("llama").items()}
    ours = load("llama", tensors, device="meta")
    assert ours.table("decoder").data_ptr() == tensors["model.embed_tokens.weight"].data_ptr()
    assert same(ours, load("llama", tensors))


def test_dtype_is_the_models_but_rates_keep_their_own() -> None:
    ours = load("mamba", state("mamba"), device="meta", dtype=torch.bfloat16)
    dtypes = {name.rpartition(".")[2]: parameter.dtype for name, parameter in ours.named_parameters()}
    assert dtypes["A_log"] == dtypes["D_skip"] == torch.float32
    assert dtypes["weight"] == torch.bfloat16


# ---- what is refused ------------------------------------------------------------------------------------------------


@cache
def untouched(name: str) -> tuple[Transformer, dict[str, Tensor]]:
    """A model that everything is refused to, and the values that it keeps."""
    ours = build(architecture_of(EVERY[name]))
    return ours, {key: tensor.clone() for key, tensor in ours.state_dict().items()}


def refusal(name: str, tensors: dict[str, Tensor]) -> str:
    ours, before = untouched(name)
    with pytest.raises(RequestError) as caught:
        load_state_dict_from(ours, ours.model, tensors)
    assert all(torch.equal(tensor, before[key]) for key, tensor in ours.state_dict().items()), "changed all the same"
    return caught.value.message


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3_next", "mamba", "phi3"])
def test_every_missing_tensor_is_named(name: str) -> None:
    twice = {"lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "shared.weight"}
    single = [key for key in state(name) if "experts" not in key]  # named as published files do, one by one
    for key in set(single) - (twice if architecture_of(EVERY[name]).head.tied else set()):  # type: ignore[union-attr]
        rest = {other: tensor for other, tensor in state(name).items() if other != key}
        assert f"missing: {key}" in refusal(name, rest)


@pytest.mark.parametrize("model_type", TYPES)
def test_a_surplus_tensor_is_named(model_type: str) -> None:
    assert "left over: model.extra.weight" in refusal(
        model_type, {**state(model_type), "model.extra.weight": torch.zeros(2)}
    )


@pytest.mark.parametrize("model_type", TYPES)
def test_a_misshapen_tensor_is_named_with_both_shapes(model_type: str) -> None:
    key = next(key for key in state(model_type) if "layer" in key or ".h." in key or ".block" in key)
    found = list(state(model_type)[key].shape)
    wrong = torch.zeros(found[0] + 1, *found[1:])
    assert f"{key} is {list(wrong.shape)}, expected {found}" in refusal(model_type, {**state(model_type), key: wrong})


def test_a_tied_tensor_that_differs_is_named() -> None:
    key = "lm_head.weight"
    assert key in refusal("gpt2", {**state("gpt2"), key: state("gpt2")[key] + 1})


def test_two_spellings_of_one_tensor_must_agree() -> None:
    both = {**state("mixtral"), **to_checkpoint(load("mixtral", state("mixtral")))}
    assert same(load("mixtral", both), load("mixtral", state("mixtral")))
    key = "model.layers.0.mlp.experts.0.w1.weight"
    assert "unlike" in refusal("mixtral", {**both, key: both[key] + 1})


def test_many_faults_are_counted_not_all_listed() -> None:
    message = refusal("llama", {})
    assert "and 26 more" in message  # 30 tensors, 4 of them shown
    assert len(message) < 400


def test_an_unknown_type_is_refused_with_near_names() -> None:
    model = architecture_of(config("llama")).replace(model_type="lama")
    with pytest.raises(RequestError) as caught:
        table_of(model)
    assert "llama" in caught.value.hint


# ---- the tables -----------------------------------------------------------------------------------------------------


def test_every_type_of_the_slice_has_a_table() -> None:
    assert set(TYPES) <= set(MODULE_OF)


@pytest.mark.parametrize("model_type", TYPES)
def test_each_table_names_every_tensor_of_its_type_once(model_type: str) -> None:
    """Two of ours never come from the same name."""
    written = to_checkpoint(build(architecture_of(EVERY[model_type])))
    assert len({tensor.data_ptr() for tensor in written.values() if tensor.numel()}) == len(written)


def test_parts_say_what_a_tensor_does() -> None:
    model = architecture_of(config("jamba"))
    names = parts(build(model, device="meta"))
    assert "decoder.layers.1.attn.q_proj.weight" in names
    assert "decoder.layers.0.mamba.norm_in.weight" in names
    assert names["decoder.layers.1.moe.experts.up_proj"].numbers == {"i": 1}
    assert shared(architecture_of(config("t5"))) == {
        "decoder.embedding.tokens.weight": "encoder.embedding.tokens.weight",
        "head.matrix": "encoder.embedding.tokens.weight",
    }


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        ("llama", "LlamaForSequenceClassification"),
        ("llama", "LlamaForTokenClassification"),
        ("llama", "LlamaForQuestionAnswering"),
        ("gpt2", "GPT2ForSequenceClassification"),
        ("bert", "BertModel"),
        ("bert", "BertForSequenceClassification"),
        ("bert", "BertForPreTraining"),
        ("bert", "BertForQuestionAnswering"),
        ("roberta", "RobertaForSequenceClassification"),
        ("roberta", "RobertaForTokenClassification"),
        ("albert", "AlbertForPreTraining"),
        ("distilbert", "DistilBertForSequenceClassification"),
        ("t5", "T5EncoderModel"),
        ("t5", "T5ForSequenceClassification"),
        ("bart", "BartForSequenceClassification"),
        ("bart", "BartModel"),
        ("llama", "LlamaModel"),
    ],
)
def test_other_heads_are_named_too(model_type: str, architecture: str) -> None:
    fields = {**config(model_type), "architectures": [architecture]}
    if model_type in ("llama", "gpt2"):
        fields["pad_token_id"] = 0
    model, theirs = architecture_of(fields), transformers_tiny.made(fields)
    assert model.reasons == ()
    ours = load_state_dict_from(build(model), model, theirs.state_dict())
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
