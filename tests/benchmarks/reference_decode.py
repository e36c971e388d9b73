"""Speed of the reference model on a CPU beside transformers: one-token decode and prefill on the same weights.

    python -m tests.benchmarks.reference_decode [--shape 100m|1b] [--dtype bf16|fp32] [--threads 1] [--rounds 10]

The two are interleaved step by step, so that what else the machine does falls on both. The ceiling is the same
matrices multiplied one after the other in the same process, dtype and layout.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from statistics import quantiles
from typing import Any

import torch
import transformers

from txcalc.configs import architecture_of
from txcalc.errors import RequestError
from txcalc.reference import Transformer, build
from txcalc.reference.packing import PackedHead, PackedLinear, pack

SHAPES: dict[str, dict[str, int]] = {
    "100m": {
        "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12,
        "num_key_value_heads": 4, "vocab_size": 32_000,
    },
    "1b": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128_256,
    },
}  # fmt: skip
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}  # a processor without bf16 products has only the second
PROMPT = 512


def models(shape: str, dtype: torch.dtype) -> tuple[Transformer, Any]:
    """Ours, packed, and theirs, with the same weights."""
    config = {"model_type": "llama", "tie_word_embeddings": True, "max_position_embeddings": 4096, **SHAPES[shape]}
    torch.manual_seed(0)
    made = transformers.AutoConfig.for_model(**config)
    theirs = transformers.AutoModelForCausalLM.from_config(made, dtype=dtype).eval()
    ours = build(architecture_of(config), dtype=dtype)
    state = theirs.state_dict()
    names = {
        "stacks.decoder.": "model.", "embedding.tokens": "embed_tokens", "final_norm": "norm",
        "steps.0.branches.0.sublayer": "self_attn", "steps.1.branches.0.sublayer": "mlp",
        "steps.0.branches.0.norm_in": "input_layernorm", "steps.1.branches.0.norm_in": "post_attention_layernorm",
    }  # fmt: skip
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            for mine, other in names.items():
                name = name.replace(mine, other)
            parameter.copy_(state[name])
    pack(ours)
    return ours, theirs


def seconds(step: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def interleaved(rounds: int, **steps: Callable[[], Any]) -> dict[str, list[float]]:
    """Times of every step, one after the other in each round; the first two rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            took = seconds(step)
            if turn >= 2:
                times[name].append(took)
    return times


def decoding(ours: Transformer, theirs: Any, rounds: int) -> dict[str, Callable[[], Any]]:
    """One more token for each, against a cache of ``PROMPT`` tokens."""
    ids = torch.randint(0, 1000, (1, PROMPT))
    cache = ours.new_cache(batch=1, ctx=PROMPT + rounds + 8)
    ours(ids, cache=cache, last_only=True)
    past = theirs(ids, use_cache=True, logits_to_keep=1).past_key_values
    token = torch.zeros(1, 1, dtype=torch.long)
    return {
        "ours": lambda: ours(token, cache=cache, last_only=True),
        "theirs": lambda: theirs(token, past_key_values=past, use_cache=True, logits_to_keep=1),
        "ceiling": lambda: products(ours, 1),
    }


def prefilling(ours: Transformer, theirs: Any) -> dict[str, Callable[[], Any]]:
    """The whole prompt into an empty cache."""
    ids = torch.randint(0, 1000, (1, PROMPT))
    cache = ours.new_cache(batch=1, ctx=PROMPT)

    def mine() -> None:
        cache.reset()
        ours(ids, cache=cache, last_only=True)

    return {
        "ours": mine,
        "theirs": lambda: theirs(ids, use_cache=True, logits_to_keep=1),
        "ceiling": lambda: products(ours, PROMPT),
    }


def products(ours: Transformer, tokens: int) -> None:
    """Every matrix of the model once, and nothing else; the head on one token."""
    packed = [module for module in ours.modules() if isinstance(module, PackedLinear)]
    fused = {module.fused.product for module in ours.modules() if hasattr(module, "fused")}
    dtype = next(ours.parameters()).dtype
    for product in (*packed, *fused):
        product(torch.zeros(1, tokens, product.in_features, dtype=dtype))
    assert ours.head is not None
    assert isinstance(ours.head.linear, PackedHead)
    head = ours.head.linear.product
    head(torch.zeros(1, 1, head.in_features, dtype=dtype))


def report(what: str, times: dict[str, list[float]]) -> None:
    """Medians with p10 and p90, and the two ratios."""
    marks = {name: quantiles(sorted(each), n=10) for name, each in times.items()}
    for name, deciles in marks.items():
        spread = f"p10 {deciles[0] * 1e3:8.1f}  p50 {deciles[4] * 1e3:8.1f}  p90 {deciles[8] * 1e3:8.1f} ms"
        print(f"{what:<8} {name:<8} {spread}{'  (noisy)' if deciles[8] > 1.5 * deciles[0] else ''}")
    ratios = quantiles(sorted(b / a for a, b in zip(times["ours"], times["theirs"], strict=True)), n=10)
    shares = quantiles(sorted(b / a for a, b in zip(times["ours"], times["ceiling"], strict=True)), n=10)
    print(f"{what:<8} theirs / ours  p10 {ratios[0]:.2f}  p50 {ratios[4]:.2f}  p90 {ratios[8]:.2f}")
    print(f"{what:<8} share of the products' own speed  p10 {shares[0]:.2f}  p50 {shares[4]:.2f}  p90 {shares[8]:.2f}")


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="100m")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = f"{options.threads} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}"
    print(f"{options.shape}, {options.dtype}, {machine}")
    try:
        ours, theirs = models(options.shape, DTYPES[options.dtype])
    except RequestError as error:  # no bf16 products: --dtype fp32
        raise SystemExit(f"{error}; --dtype fp32 runs anywhere") from error
    with torch.inference_mode():
        report("decode", interleaved(options.rounds, **decoding(ours, theirs, options.rounds)))
        report("prefill", interleaved(max(options.rounds // 3, 3), **prefilling(ours, theirs)))


if __name__ == "__main__":
    main()
