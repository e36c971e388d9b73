"""From a GGUF file's metadata to the config.json that its model would have had.

Keys: ggml's docs/gguf.md, "Standardized key-value pairs". What is not understood is handed on under its own name, so
that the reader makes the answer an estimate and names it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import isclose, pi
from typing import Any, Final

from txcalc.configs.gguf_kinds import KINDS, MIXTURE, V2, Kind
from txcalc.configs.reader import shown
from txcalc.configs.registry import type_of
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
# The same for every Llama 3.1 to 3.3 (their config.json): only the factor differs.
_LLAMA3: Final = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
FACTORS: Final = "rope_freqs.weight"


def config_of(
    metadata: Mapping[str, Any], tensors: Collection[str], *, factors: Sequence[float] | None = None
) -> dict[str, Any]:
    """The config.json of a GGUF model.

    ``tensors``: the names of the file's tensors, which say whether the head is tied and what has biases; a mapping to
    tensors with a shape tells the rows of the token table too. ``factors``: the values of the tensor
    ``rope_freqs.weight`` where the file has one.

    Raises:
        ModelError: no architecture, or one that is not read; rotary factors of no known rule.
    """
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or name not in KINDS:
        raise ModelError(f"GGUF architecture {shown(name)} is not read", f"known: {', '.join(KINDS)}")
    own = {key.removeprefix(f"{name}."): value for key, value in metadata.items() if key.startswith(f"{name}.")}
    kind = MIXTURE if name == "llama" and own.get("expert_count") else KINDS[name]
    fields = {**_FIELDS, **kind.fields}
    config: dict[str, Any] = {"model_type": kind.model_type, "architectures": [kind.architecture]}
    config |= {
        fields[key]: _plain(own[key]) for key in fields if own.get(key) not in (None, 0) and key not in kind.ignored
    }
    config |= {**kind.fixed, **{field: tensor in tensors for field, tensor in kind.present.items()}}
    config["tie_word_embeddings"] = "output.weight" not in tensors
    config |= _vocabulary(config, metadata, tensors)
    config |= _defaults(config)
    understood = {*fields, *kind.ignored, *_ROTARY, "attention.value_length"}
    config |= _by_kind(name, own, config, kind)
    if kind.beside and isinstance(own.get(kind.beside), int):
        understood.add(kind.beside)
        config |= _beside(own, config, own[kind.beside])
    if "rope.dimension_count" not in kind.fields:
        config |= _rotary(own, config, factors, kind.partial)
    elif factors is not None or own.get("rope.scaling.type", "none") != "none":
        config |= _rotary({**own, "rope.dimension_count": _head_dim(config)}, config, factors, "")
    understood |= _READ_BY_KIND.get(name, set())
    return config | {f"{name}.{key}": value for key, value in own.items() if key not in understood}


def _vocabulary(config: Mapping[str, Any], metadata: Mapping[str, Any], tensors: Collection[str]) -> dict[str, Any]:
    """Rows of the token table: its own, else what the metadata says, else how many tokens there are."""
    table = tensors.get("token_embd.weight") if isinstance(tensors, Mapping) else None
    if table is not None and len(table.shape) == 2:
        return {"vocab_size": table.shape[0]}
    return {} if "vocab_size" in config else {"vocab_size": len(metadata.get("tokenizer.ggml.tokens", ()))}


def _defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """What llama.cpp takes where a file is silent, in place of the type's own defaults: one KV head a query head."""
    known = type_of(config["model_type"]).defaults
    heads, width = config.get("num_attention_heads"), config.get("hidden_size")
    made = {"num_key_value_heads": heads} if "num_key_value_heads" not in config else {}
    if "head_dim" not in config and isinstance(heads, int) and isinstance(width, int) and heads > 0:
        made["head_dim"] = width // heads
    return {key: value for key, value in made.items() if key in known and value is not None}


def _beside(own: Mapping[str, Any], config: Mapping[str, Any], blocks: int) -> dict[str, Any]:
    """llama.cpp counts blocks of multi-token prediction among the layers."""
    layers = config.get("num_hidden_layers")
    if not isinstance(layers, int) or not 0 <= blocks < layers:
        return {}
    return {"num_hidden_layers": layers - blocks, "num_nextn_predict_layers": blocks}


# Keys that a function below reads, by architecture.
_READ_BY_KIND: Final = {
    "deepseek2": {"attention.key_length_mla", "attention.value_length_mla", "expert_gating_func"},
}


def _by_kind(name: str, own: Mapping[str, Any], config: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """What takes more than another name: DeepSeek's head widths, and which of its two types it is."""
    if "kv_lora_rank" not in kind.fields.values():
        return {}
    width, turned = own.get("attention.key_length_mla", own.get("attention.key_length")), config.get("qk_rope_head_dim")
    values = own.get("attention.value_length_mla", own.get("attention.value_length"))
    config.pop("head_dim", None)
    config["num_key_value_heads"] = config.get("num_attention_heads")
    made: dict[str, Any] = {"v_head_dim": values, "q_lora_rank": config.get("q_lora_rank")}
    if isinstance(width, int) and isinstance(turned, int):
        made["qk_nope_head_dim"] = width - turned
    if own.get("expert_gating_func", 1) == 1:
        made |= {"model_type": V2[0], "architectures": [V2[1]]}
        config.pop("norm_topk_prob", None)
    return made


def _plain(value: Any) -> Any:
    """A number stored in fp32, as it was written: 1e-05 and not 9.999999747378752e-06."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


# ---- rotary ---------------------------------------------------------------------------------------------------------

_ROTARY: Final = (
    "rope.dimension_count", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor",
    "rope.scaling.original_context_length", "rope.scaling.finetuned", "rope.scale_linear",
)  # fmt: skip


def _rotary(
    own: Mapping[str, Any], config: dict[str, Any], factors: Sequence[float] | None, partial: str
) -> dict[str, Any]:
    """``rope_scaling``, and keys that are not understood."""
    theta, width = config.get("rope_theta", 10_000.0), _head_dim(config)
    made: dict[str, Any] = {}
    turned = own.get("rope.dimension_count", width)
    if partial and isinstance(turned, int) and isinstance(width, int) and 0 < turned <= width:
        made[partial] = turned / width
    elif turned != width:
        made["rope.dimension_count"] = turned
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
