"""A model with its weights: found by directory, file or cached hub id, measured against memory, then loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import torch

from txcalc.architecture import Model
from txcalc.cards.files import read_mapping
from txcalc.configs import architecture_of
from txcalc.configs.gguf import FACTORS, config_of
from txcalc.configs.reader import shown
from txcalc.errors import ModelError, RequestError
from txcalc.reference.backends import Backend, Name
from txcalc.reference.chat import chat_prompt, template_of_directory, template_of_gguf
from txcalc.reference.checkpoints import Checkpoint, GgufFile, open_directory
from txcalc.reference.device import device_named
from txcalc.reference.model import Transformer, build
from txcalc.reference.names import table_of
from txcalc.reference.names.gguf import gguf_table_of
from txcalc.reference.names.table import Table
from txcalc.reference.tokenizer import TextTokenizer, tokenizer_of_file, tokenizer_of_gguf
from txcalc.reference.weights import load_state_dict_from

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_FORMS: Final = "give a directory with config.json and safetensors, a GGUF file, or a hub id that is in the cache"
_FILES: Final = ["*.json", "*.safetensors"]
_MOST: Final = 2**36
_SPARE: Final = 2**28  # for activations and the libraries


class Pretrained(NamedTuple):
    """What a path holds: the config, the architecture it describes, the weights and where their names stand."""

    path: str
    config: Mapping[str, Any]
    model: Model
    checkpoint: Checkpoint
    table: Table

    def tokenizer(self) -> TextTokenizer:
        """The model's own.

        Raises:
            ModelError: there is none, or one that is not read.
        """
        if isinstance(self.checkpoint, GgufFile):
            return tokenizer_of_gguf(self.checkpoint.header.metadata, self.path)
        return tokenizer_of_file(os.path.join(self.path, "tokenizer.json"))

    def chat(self, question: str) -> str:
        """A question in the model's own chat form, special tokens written out.

        Raises:
            ModelError: it has none, or one that fails.
        """
        if isinstance(self.checkpoint, GgufFile):
            template, names = template_of_gguf(self.checkpoint.header.metadata, self.path)
        else:
            template, names = template_of_directory(self.path)
        return chat_prompt(template, names, question, self.path)

    def ends(self) -> frozenset[int]:
        """Tokens after which the model has nothing more to say."""
        if isinstance(self.checkpoint, GgufFile):
            names = ("eos", "eot", "eom")
            found = [self.checkpoint.header.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in names]
        else:
            found = [self.setting("eos_token_id")]
        return frozenset(_integers(found))

    def setting(self, key: str) -> Any:
        """A field of generation_config.json, else of config.json; None where neither has it."""
        path = os.path.join(self.path, "generation_config.json")
        generation = read_mapping(path) if os.path.isfile(path) else {}
        value = generation.get(key)
        return self.config.get(key) if value is None else value


def find(name: str) -> Pretrained:
    """What ``name`` holds: a directory, one of its files, a GGUF file, or an id in the hub's cache.

    Raises:
        ModelError: no such thing, or no weights in it.
    """
    path = os.path.expanduser(name.strip())
    if path.lower().endswith(".gguf"):
        return _gguf(path)
    if os.path.isfile(path) and os.path.basename(path) in ("config.json", "model.safetensors"):
        path = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        return _directory(path)
    if os.path.exists(path):
        raise ModelError(f"{path} holds no weights that are read here", _FORMS)
    if _HUB_ID.fullmatch(name.strip()):
        return _directory(_cached(name.strip()))
    if path.startswith((".", "/", "~")) or os.sep in path:
        raise ModelError(f"{shown(path)} does not exist", _FORMS)
    raise ModelError(f"{shown(name)} is no directory or file with weights; a card has none", _FORMS)


def _directory(path: str) -> Pretrained:
    config_path = os.path.join(path, "config.json")
    if not os.path.lexists(config_path):
        raise ModelError(f"{path} has no config.json", _FORMS)
    config = read_mapping(config_path)
    model = architecture_of(config, name=os.path.basename(os.path.abspath(path)))
    return Pretrained(path, config, model, open_directory(path), table_of(model))


def _gguf(path: str) -> Pretrained:
    file = GgufFile(path)
    factors = file[FACTORS].tolist() if FACTORS in file else None
    config = config_of(file.header.metadata, list(file), factors=factors)
    model = architecture_of(config, name=os.path.splitext(os.path.basename(path))[0])
    return Pretrained(path, config, model, file, gguf_table_of(model))


def _cached(name: str) -> str:
    """The directory of a hub id that was fetched before; nothing is fetched here."""
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return str(
            snapshot_download(repository, revision=revision or None, local_files_only=True, allow_patterns=_FILES)
        )
    except Exception as error:  # the hub's own errors, which its versions name differently
        raise ModelError(f"{name} is not in the hub's cache ({type(error).__name__})", f"hf download {name}") from None


def _integers(values: list[Any]) -> list[int]:
    flat = [each for value in values for each in (value if isinstance(value, list) else [value])]
    return [each for each in flat if type(each) is int]


# ---- loading --------------------------------------------------------------------------------------------------------


def load(
    pretrained: Pretrained,
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    backend: Name | Backend = "auto",
    ctx: int = 0,
    source: int = 0,
) -> Transformer:
    """The model with its weights, in the checkpoint's dtype unless another is asked for.

    ``ctx``, ``source``: the cache that will be needed, counted when memory is checked.

    Raises:
        RequestError: weights and cache need more memory than is free (said before any is taken), or tensors that do
            not fit the config.
    """
    dtype = dtype or pretrained.checkpoint.dtype
    model = build(pretrained.model, device="meta", dtype=dtype, backend=backend)
    require_memory(pretrained.model, model, device, ctx=ctx, source=source)
    load_state_dict_from(model, pretrained.model, pretrained.checkpoint, pretrained.table)
    return model.to(device).eval()


def require_memory(architecture: Model, model: Transformer, device: str, *, ctx: int = 0, source: int = 0) -> None:
    """Refuse a model on the meta device that does not fit.

    Raises:
        RequestError: with the sum.
    """
    free = device_named(device).free_memory()
    weights = sum(parameter.nbytes for parameter in model.parameters())
    ctx, source = min(ctx, _MOST), min(source, _MOST)  # longer ones overflow torch's sizes, and fit nowhere
    cache = model.new_cache(batch=1, ctx=ctx, source=source).nbytes if ctx and architecture.stack("decoder") else 0
    if free is not None and weights + cache + _SPARE > free:
        raise RequestError(
            f"{architecture.name} needs {_gib(weights)} of weights, {_gib(cache)} of cache and {_gib(_SPARE)} to "
            f"work in, together {_gib(weights + cache + _SPARE)}; {_gib(free)} are free on {device}",
            "try --dtype bf16, fewer tokens, or a smaller model",
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB"
