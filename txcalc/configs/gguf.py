"""From a GGUF file's metadata to the config.json that its model would have had.

Keys: ggml's docs/gguf.md, "Standardized key-value pairs". What is not understood is handed on under its own name, so
that the reader makes the answer an estimate and names it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import isclose, pi
from typing import Any, Final

from txcalc.configs.reader import shown
from txcalc.errors import ModelError

_FIELDS: Final = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "expert_count": "num_local_experts",
    "expert_used_count": "num_experts_per_tok",
    "vocab_size": "vocab_size",
    "rope.freq_base": "rope_theta",
}
_CLASSES: Final = {
    "llama": "LlamaForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
# The same for every Llama 3.1 to 3.3 (their config.json): only the factor differs.
_LLAMA3: Final = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
FACTORS: Final = "rope_freqs.weight"


def config_of(
    metadata: Mapping[str, Any], tensors: Collection[str], *, factors: Sequence[float] | None = None
) -> dict[str, Any]:
    """The config.json of a GGUF model.

    ``tensors``: the names of the file's tensors, which say whether the head is tied and what has biases. ``factors``:
    the values of the tensor ``rope_freqs.weight`` where the file has one.

    Raises:
        ModelError: no architecture, or one that is not read; rotary factors of no known rule.
    """
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or name not in _CLASSES:
        known = ", ".join(each for each in _CLASSES if each != "mixtral")
        raise ModelError(f"GGUF architecture {shown(name)} is not read", f"known: {known}")
    own = {key.removeprefix(f"{name}."): value for key, value in metadata.items() if key.startswith(f"{name}.")}
    kind = "mixtral" if name == "llama" and own.get("expert_count") else name
    config: dict[str, Any] = {"model_type": kind, "architectures": [_CLASSES[kind]]}
    config |= {field: _plain(own[key]) for key, field in _FIELDS.items() if own.get(key) not in (None, 0)}
    config["tie_word_embeddings"] = "output.weight" not in tensors
    if "vocab_size" not in config:
        config["vocab_size"] = len(metadata.get("tokenizer.ggml.tokens", ()))
    if kind == "llama":
        config["attention_bias"] = "blk.0.attn_q.bias" in tensors
    config |= _rotary(own, config, factors)
    understood = {*_FIELDS, *_ROTARY, "attention.value_length"}
    return config | {f"{name}.{key}": value for key, value in own.items() if key not in understood}


def _plain(value: Any) -> Any:
    """A number stored in fp32, as it was written: 1e-05 and not 9.999999747378752e-06."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


# ---- rotary ---------------------------------------------------------------------------------------------------------

_ROTARY: Final = (
    "rope.dimension_count", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor",
    "rope.scaling.original_context_length", "rope.scaling.finetuned", "rope.scale_linear",
)  # fmt: skip


def _rotary(own: Mapping[str, Any], config: dict[str, Any], factors: Sequence[float] | None) -> dict[str, Any]:
    """``rope_scaling``, and keys that are not understood."""
    theta, width = config.get("rope_theta", 10_000.0), _head_dim(config)
    made: dict[str, Any] = {}
    if own.get("rope.dimension_count", width) != width:
        made["rope.dimension_count"] = own["rope.dimension_count"]
    kind, factor = own.get("rope.scaling.type", "none"), own.get("rope.scaling.factor", own.get("rope.scale_linear"))
    if factors is not None:
        made["rope_scaling"] = {"rope_type": "llama3", **_llama3(factors, theta)}
    elif kind == "linear" or (kind == "none" and factor not in (None, 1.0)):
        made["rope_scaling"] = {"rope_type": "linear", "factor": _plain(factor)}
    elif kind == "yarn":
        trained = own.get("rope.scaling.original_context_length")
        made["rope_scaling"] = {
            "rope_type": "yarn", "factor": _plain(factor), "original_max_position_embeddings": trained
        }  # fmt: skip
    elif kind != "none":
        made["rope.scaling.type"] = kind
    return made


def _head_dim(config: Mapping[str, Any]) -> Any:
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    derived = hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads > 0 else None
    return config.get("head_dim", derived)


def _llama3(factors: Sequence[float], theta: float) -> dict[str, float]:
    """The settings behind the factors by which each pair's frequency is divided.

    Raises:
        ModelError: no setting of Llama 3's gives these factors.
    """
    settings = {"factor": float(max(factors)), **_LLAMA3}
    for pair, found in enumerate(factors):
        frequency = theta ** (-pair / len(factors))
        turns = settings["original_max_position_embeddings"] * frequency / (2 * pi)
        low, high = settings["low_freq_factor"], settings["high_freq_factor"]
        keep = min(max((turns - low) / (high - low), 0.0), 1.0)
        if not isclose(found, 1 / (keep + (1 - keep) / settings["factor"]), rel_tol=1e-4):  # stored in fp32
            raise ModelError(f"{FACTORS}: factor {pair} is {found:g}, which no Llama 3 rotary scaling gives")
    return settings
