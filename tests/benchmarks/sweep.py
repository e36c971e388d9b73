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
    """Run the sweep and print time and memory."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for index in range(200):
        one(index)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    checksum = sum(one(index) for index in range(count))
    elapsed = time.perf_counter() - started
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{count:,} shapes in {elapsed:.2f} s, {1e6 * elapsed / count:.0f} us each; peak memory grew {grown:,} KiB")
    print(f"checksum {checksum:,}")


def one(index: int) -> int:
    """Parameters, cache and FLOPs of one shape, every tree evaluated."""
    model = txcalc.architecture_of(shape(index))
    size = txcalc.params(model).figures()["params.total"]
    cache = txcalc.kv_cache(model, ctx=32_768).figures()["kv_cache.total_bytes"]
    matmul = txcalc.flops(model, seq=8192).find("flops.matmul").value
    return int(size) + int(cache) + int(matmul)


if __name__ == "__main__":
    main()
