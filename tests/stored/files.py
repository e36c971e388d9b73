"""Checkpoints for tests: the tensors of a tiny config as its type's files hold them, written by the real package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

from tests.reference import published
from txcalc.configs import architecture_of
from txcalc.reference import build
from txcalc.reference.weights import to_checkpoint

Tensors = dict[str, torch.Tensor]


def tensors(config: Mapping[str, Any]) -> Tensors:
    """Every tensor of the config's model in bf16, as published files name them."""
    made = to_checkpoint(build(architecture_of(config), dtype=torch.bfloat16))
    return {name: tensor.detach().clone() for name, tensor in made.items()}


def written(directory: Path, config: Mapping[str, Any], state: Tensors) -> str:
    """A directory of config.json and model.safetensors."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    return str(directory)


def sharded(directory: Path, config: Mapping[str, Any], state: Tensors, shards: int = 3) -> str:
    """The same in several files and an index."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    where = {name: f"model-{i % shards + 1:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(sorted(state))}
    for file in set(where.values()):
        save_file({name: state[name] for name, each in where.items() if each == file}, directory / file)
    index = {"metadata": {"total_size": sum(t.nbytes for t in state.values())}, "weight_map": where}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return str(directory)


# ---- GGUF -----------------------------------------------------------------------------------------------------------

_OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_INSIDE = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def gguf_name(name: str) -> str:
    """A Llama's tensor as llama.cpp's converter names it."""
    stem = name.removesuffix(".weight")
    if stem in _OUTSIDE:
        return f"{_OUTSIDE[stem]}.weight"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{_INSIDE[rest]}.weight"


def gguf_parts(directory: Path, count: int) -> list[Path]:
    """A tiny Llama in GGUF by the package's own writer, in one file or split as llama.cpp's gguf-split does."""
    state = {gguf_name(name): tensor.float().numpy() for name, tensor in tensors(published.config("llama")).items()}
    paths = []
    for part in range(count):
        path = directory / (f"tiny-{part + 1:05d}-of-{count:05d}.gguf" if count > 1 else "tiny.gguf")
        writer = gguf.GGUFWriter(path, "llama")
        if part == 0:
            sizes = {"block_count": 3, "context_length": 64, "embedding_length": 32, "feed_forward_length": 48,
                     "head_count": 4, "head_count_kv": 2, "vocab_size": 67, "layer_norm_rms_eps": 1e-6}  # fmt: skip
            for key, value in sizes.items():
                getattr(writer, f"add_{key}")(value)
        if count > 1:
            writer.add_uint16("split.count", count)
            writer.add_int32("split.tensors.count", len(state))
        for name in sorted(state)[part::count]:
            writer.add_tensor(name, np.ascontiguousarray(state[name]))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        paths.append(path)
    return paths
