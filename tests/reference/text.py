"""A small model with a tokenizer of its own, as a directory and as a GGUF file, to try the commands on text on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.oracles import transformers_tiny

WORDS = "the cat and the hat, a hen in a den: 12345 ways to say it's I'll 3.14 héllo ☃ 日本語 "
CONFIG: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300,
    "max_position_embeddings": 64, "tie_word_embeddings": False, "eos_token_id": 299, "bos_token_id": None,
}  # fmt: skip


def byte_level() -> Tokenizer:
    """Byte-level BPE of 300 tokens, trained on a line of text; GPT-2's way of cutting."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=299, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([WORDS * 3], trainer)
    tokenizer.add_special_tokens(["<|end|>"])
    assert tokenizer.get_vocab_size() == 300
    return tokenizer


def directory(path: Path, config: dict[str, Any] | None = None) -> Path:
    """config.json, model.safetensors and tokenizer.json; weights large enough for a lively text."""
    path.mkdir(parents=True, exist_ok=True)
    transformers_tiny.made(config or CONFIG, spread=0.3).save_pretrained(path)
    byte_level().save(str(path / "tokenizer.json"))
    return path


def vocabulary(tokenizer: Tokenizer) -> dict[str, Any]:
    """The same tokenizer as GGUF metadata."""
    tokens = sorted(tokenizer.get_vocab(with_added_tokens=True), key=tokenizer.token_to_id)
    merges = models_state(tokenizer)["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": [" ".join(merge) for merge in merges],
        "tokenizer.ggml.token_type": [3 if token == "<|end|>" else 1 for token in tokens],
        "tokenizer.ggml.eos_token_id": 299,
    }


def models_state(tokenizer: Tokenizer) -> dict[str, Any]:
    """The merges and vocabulary of a tokenizer, as its JSON has them."""
    import json

    state: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return state


def write_gguf(path: Path, metadata: dict[str, Any], tensors: dict[str, Any]) -> Path:
    """A GGUF file of these; numpy arrays in fp32."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in metadata.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        else:
            writer.add_uint32(key, value)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_model(path: Path, **changes: Any) -> Path:
    """The model of ``directory`` as a GGUF file, written through our own table."""
    from txcalc.configs import architecture_of
    from txcalc.reference import build
    from txcalc.reference.names.gguf import gguf_table_of
    from txcalc.reference.weights import load_state_dict_from, to_checkpoint

    config = {**CONFIG, **changes}
    model = architecture_of(config)
    theirs = transformers_tiny.made(config, spread=0.3)
    ours = load_state_dict_from(build(model), model, theirs.state_dict())
    own = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "rope.dimension_count": config["hidden_size"] // config["num_attention_heads"],
        "rope.freq_base": 10000.0,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "vocab_size": config["vocab_size"],
    }
    metadata = {f"llama.{key}": value for key, value in own.items()} | vocabulary(byte_level())
    tensors = {name: tensor.numpy() for name, tensor in to_checkpoint(ours, gguf_table_of(model)).items()}
    return write_gguf(path, metadata, tensors)
