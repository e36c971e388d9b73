"""10,000 what-if shapes through the Python API: seconds in all, and whether memory stays flat.

python tests/benchmarks/sweep.py [shapes]
"""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import txcalc

BASE: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128_256,
    "num_attention_heads": 32,
    "torch_dtype": "bfloat16",
}


def shape(index: int) -> dict[str, Any]:
    """The config of one what-if: widths, depth and KV heads all vary."""
    return {
        **BASE,
        "hidden_size": 1024 + 128 * (index % 50),
        "head_dim": 128,
        "intermediate_size": 4096 + 256 * (index % 37),
        "num_hidden_layers": 1 + index % 126,
        "num_key_value_heads": 2 ** (index % 6),
    }


def main() -> None:
    """Run each sweep and print time and memory."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for what in (counts, attention, memory):
        for index in range(200):
            what(index)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started, used = time.perf_counter(), time.process_time()
        checksum = sum(what(index) for index in range(count))
        elapsed, used = time.perf_counter() - started, time.process_time() - used
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        each = f"{1e6 * elapsed / count:.0f} us each, {used:.2f} s of processor"
        print(f"{what.__name__}: {count:,} shapes in {elapsed:.2f} s, {each}; peak memory grew {grown:,} KiB")
        print(f"  checksum {checksum:,}")


def counts(index: int) -> int:
    """Parameters, cache and FLOPs of one shape, every tree evaluated."""
    model = txcalc.architecture_of(shape(index))
    size = txcalc.params(model).figures()["params.total"]
    cache = txcalc.kv_cache(model, ctx=32_768).figures()["kv_cache.total_bytes"]
    matmul = txcalc.flops(model, seq=8192).find("flops.matmul").value
    return int(size) + int(cache) + int(matmul)


def attention(index: int) -> int:
    """Scores and what backends hold of them."""
    found = txcalc.attention(txcalc.architecture_of(shape(index)), ctx=8192).figures()
    return int(found["attention.scores"]) + int(found["attention.materialised"])


def memory(index: int) -> int:
    """Weights, cache and activations of inference."""
    return int(txcalc.memory(txcalc.architecture_of(shape(index)), ctx=8192).figures()["memory.total"])


if __name__ == "__main__":
    main()
