"""GGUF metadata to config.json: against what the gguf package's converter writes for known models."""

from __future__ import annotations

from typing import Any

import pytest

from txcalc.configs import architecture_of
from txcalc.configs.gguf import config_of
from txcalc.errors import ModelError
from txcalc.formulas.params import params

# SmolLM2-135M-Instruct's, as its published GGUF file has them.
SMOLLM2: dict[str, Any] = {
    "general.architecture": "llama", "general.name": "Smollm2 135M", "llama.block_count": 30,
    "llama.context_length": 8192, "llama.embedding_length": 576, "llama.feed_forward_length": 1536,
    "llama.attention.head_count": 9, "llama.attention.head_count_kv": 3, "llama.rope.freq_base": 100000.0,
    "llama.attention.layer_norm_rms_epsilon": 9.999999747378752e-06, "llama.vocab_size": 49152,
    "llama.rope.dimension_count": 64,
}  # fmt: skip
LLAMA3_8B = {
    **SMOLLM2, "llama.block_count": 32, "llama.context_length": 131072, "llama.embedding_length": 4096,
    "llama.feed_forward_length": 14336, "llama.attention.head_count": 32, "llama.attention.head_count_kv": 8,
    "llama.rope.freq_base": 500000.0, "llama.vocab_size": 128256, "llama.rope.dimension_count": 128,
}  # fmt: skip


def test_the_model_of_a_published_file() -> None:
    """SmolLM2-135M has 134,515,008 parameters: the sum of its file's tensor shapes."""
    model = architecture_of(config_of(SMOLLM2, ["token_embd.weight"]))
    assert model.reasons == ()
    assert params(model).figures()["params.total"] == 134_515_008


def test_numbers_are_as_they_were_written_before_fp32() -> None:
    assert config_of(SMOLLM2, [])["rms_norm_eps"] == 1e-5


def test_an_output_tensor_makes_the_head_its_own() -> None:
    """8,030,261,248 is Llama-3-8B with its head, 525,336,576 of it the head (128,256 x 4,096)."""
    own = architecture_of(config_of(LLAMA3_8B, ["token_embd.weight", "output.weight"]))
    tied = architecture_of(config_of(LLAMA3_8B, ["token_embd.weight"]))
    assert params(own).figures()["params.total"] == 8_030_261_248
    assert params(tied).figures()["params.total"] == 8_030_261_248 - 525_336_576


def test_the_vocabulary_may_stand_in_its_tokens_alone() -> None:
    metadata = {key: value for key, value in SMOLLM2.items() if key != "llama.vocab_size"}
    assert config_of({**metadata, "tokenizer.ggml.tokens": ["a"] * 100}, [])["vocab_size"] == 100


def test_experts_make_it_mixtral() -> None:
    """Mixtral-8x7B: 46,702,792,704 parameters."""
    metadata = {**LLAMA3_8B, "llama.vocab_size": 32000, "llama.expert_count": 8, "llama.expert_used_count": 2}
    model = architecture_of(config_of(metadata, ["output.weight"]))
    assert model.model_type == "mixtral"
    assert params(model).figures()["params.total"] == 46_702_792_704


def test_qwen2_keeps_its_biases() -> None:
    metadata = {key.replace("llama.", "qwen2."): value for key, value in SMOLLM2.items()}
    model = architecture_of(config_of({**metadata, "general.architecture": "qwen2"}, []))
    assert model.reasons == ()
    assert params(model).figures()["params.total"] == 134_515_008 + 30 * (576 + 2 * 192)


def test_a_key_that_is_not_understood_makes_an_estimate_that_names_it() -> None:
    model = architecture_of(config_of({**SMOLLM2, "llama.attention.scale": 0.1}, []))
    assert "llama.attention.scale" in model.reasons[0]
    partial = architecture_of(config_of({**SMOLLM2, "llama.rope.dimension_count": 32}, []))
    assert "rope.dimension_count" in partial.reasons[0]


@pytest.mark.parametrize("architecture", [None, 5, "nope", ["llama"]])
def test_other_architectures_are_refused(architecture: Any) -> None:
    with pytest.raises(ModelError, match="is not read"):
        config_of({**SMOLLM2, "general.architecture": architecture}, [])


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"llama.embedding_length": "576"}, "hidden_size"),
        ({"llama.attention.head_count": [9] * 30}, "num_attention_heads"),
        ({"llama.block_count": 10**30}, "num_hidden_layers"),
    ],
)
def test_a_value_of_the_wrong_kind_is_an_error_that_names_it(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(ModelError, match=part):
        architecture_of(config_of({**SMOLLM2, **changes}, []))


# ---- rotary ---------------------------------------------------------------------------------------------------------


def llama3_factors(factor: float, theta: float = 500_000.0, width: int = 128) -> list[float]:
    """As llama.cpp's converter writes them: by wavelength against 8,192 / 4 and 8,192 / 1, a straight line between."""
    factors = []
    for i in range(0, width, 2):
        wavelength = 2 * 3.141592653589793 * theta ** (i / width)
        if wavelength < 8192 / 4:
            factors.append(1.0)
        elif wavelength > 8192:
            factors.append(factor)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama3s_rotary_factors_give_back_its_settings(factor: float) -> None:
    config = config_of(LLAMA3_8B, ["rope_freqs.weight"], factors=llama3_factors(factor))
    assert config["rope_scaling"] == {
        "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    assert architecture_of(config).reasons == ()


def test_factors_of_no_known_rule_are_refused() -> None:
    factors = llama3_factors(8.0)
    factors[3] = 1.5
    with pytest.raises(ModelError, match=r"factor 3 is 1\.5"):
        config_of(LLAMA3_8B, ["rope_freqs.weight"], factors=factors)


def test_scalings_by_name() -> None:
    linear = config_of({**SMOLLM2, "llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}, [])
    assert linear["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}
    yarn = {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0,
            "llama.rope.scaling.original_context_length": 2048}  # fmt: skip
    assert config_of({**SMOLLM2, **yarn}, [])["rope_scaling"] == {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048,
    }  # fmt: skip
    other = architecture_of(config_of({**SMOLLM2, "llama.rope.scaling.type": "spiral"}, []))
    assert "rope.scaling.type" in other.reasons[0]
