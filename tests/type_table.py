"""README's table of model types: what is exact for each, found by asking the code and the tables of the tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from textwrap import fill
from types import ModuleType
from typing import NamedTuple

from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as SEEING

import txcalc
from tests.oracles import transformers_tiny
from txcalc.architecture import Model
from txcalc.configs import architecture_of, known_types
from txcalc.configs.registry import MODULE_OF, REFUSED
from txcalc.errors import TxcalcError
from txcalc.result import Node

#: What a config must say beside its type where the type has no default for it.
NEEDED = {
    "cohere_compass": {"architectures": ["CohereCompassForConditionalGeneration"]},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2},
    "lfm2_moe": {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]},
    "esm": {"pad_token_id": 1, "vocab_size": 33},
    "llama4": {"architectures": ["Llama4ForConditionalGeneration"]},
    "aya_vision": {"vision_config": {"num_attention_heads": 12}},
    **{
        name: {"tie_word_embeddings": False}
        for name in "mistral3 internvl kimi_k25 lighton_ocr deepseek_vl hyperclovax_vision_v2 glmasr "
        "granite_speech granite_speech_plus moss_transcribe_diarize".split()
    },
    "qwen3_5": {"architectures": ["Qwen3_5ForConditionalGeneration"]},
    "qwen3_5_moe": {"architectures": ["Qwen3_5MoeForConditionalGeneration"]},
}


class Profile(NamedTuple):
    """What is exact for a type: one word a column."""

    parameters: str
    kv: str
    flops: str
    logits: str
    check: str


def profiles() -> dict[str, Profile]:
    """Every known type's."""
    held = held_by_logits()
    return {name: profile(name, held) for name in known_types() if name != "transformer"}


def profile(model_type: str, held: frozenset[str]) -> Profile:
    """One type's, by its defaults."""
    try:
        model = architecture_of({"model_type": model_type, **_class_of(model_type), **NEEDED.get(model_type, {})})
    except TxcalcError:
        return Profile("-", "-", "-", "-", "-")
    caches = any(stack.role == "decoder" for stack in model.stacks)
    return Profile(
        parameters=basis(lambda: txcalc.params(model), "params.total"),
        kv=basis(lambda: txcalc.kv_cache(model, ctx=64), "kv_cache.total_bytes") if caches else "none",
        flops=basis(lambda: txcalc.flops(model, seq=64), "flops.matmul"),
        logits="equal" if model_type in held else "-",
        check="yes" if checked(model) else "-",
    )


def _class_of(model_type: str) -> dict[str, list[str]]:
    """The class with a head, where a type that sees is read by the adapters of wrappers."""
    wrapper = MODULE_OF[model_type].startswith("wrappers")
    return {"architectures": [SEEING[model_type]]} if wrapper and model_type in SEEING else {}


def basis(answer: Callable[[], Node], key: str) -> str:
    """How sure a figure is, or a dash where it is refused."""
    try:
        return answer().find(key).basis
    except TxcalcError:
        return "-"


def held_by_logits() -> frozenset[str]:
    """Types of the configs that some test, named for being equal to transformers, runs in both models."""
    found = set[str]()
    for path in sorted((Path(__file__).parent / "reference").glob("test_*.py")):
        module = import_module(f"tests.reference.{path.stem}")
        if vars(module).get("transformers_tiny") is transformers_tiny:
            found.update(_compared(module))
    return frozenset(found)


def _compared(module: ModuleType) -> Iterator[str]:
    """Model types of the configs, by their names in the tables of a module, that its comparisons are run with."""
    values = vars(module)
    tables = [each for each in values.values() if isinstance(each, dict)]
    for name in values:
        if re.fullmatch(r"test_\w+_equals?_transformers", name):
            marks = [mark for mark in getattr(values[name], "pytestmark", ()) if mark.name == "parametrize"]
            keys = {key for mark in marks for key in mark.args[1] if isinstance(key, str)}
            configs = [table[key] for table in tables for key in keys & table.keys()]
            yield from (config["model_type"] for config in configs if "model_type" in config)


def checked(model: Model) -> bool:
    """Whether the reference model can be built, so that ``txcalc check`` proves the formulas on it."""
    from txcalc.reference.support import not_built

    try:
        not_built(model)
    except TxcalcError:
        return False
    return True


def table() -> str:
    """Types of which the same is exact stand together, the most first; above them what is exact, a mark a column."""
    groups: dict[Profile, list[str]] = {}
    for name, found in profiles().items():
        groups.setdefault(found, []).append(f"`{name}`")
    parts = []
    for found, names in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        marks = [f"{column} {_SHOWN.get(word, word)}" for column, word in zip(COLUMNS, found, strict=True)]
        parts.append(f"**{', '.join(marks)}** ({len(names)})\n\n{_wrapped(' '.join(names))}")
    return "\n\n".join(parts)


def refusals() -> str:
    """Every type that is refused, those of one reason together."""
    groups: dict[str, list[str]] = {}
    for name, reason in sorted(REFUSED.items()):
        groups.setdefault(reason, []).append(f"`{name}`")
    return "\n".join(_wrapped(f"- {', '.join(names)}: {reason}", indent="  ") for reason, names in groups.items())


def _wrapped(text: str, indent: str = "") -> str:
    return fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


COLUMNS = ("parameters", "KV cache", "FLOPs", "logits", "check")
_SHOWN = {"exact": "✓", "equal": "✓", "yes": "✓", "-": "–"}
