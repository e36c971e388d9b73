"""What a benchmark is asked to do, and whether this machine can: sums are made before anything is allocated."""

from __future__ import annotations

from typing import Any, Final

import torch

from txcalc import architecture as arch
from txcalc.errors import RequestError
from txcalc.formulas.kv_cache import kv_cache
from txcalc.formulas.params import params
from txcalc.record import Record
from txcalc.reference.backends import Name

DTYPES: Final = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
WIDTHS: Final = {"fp32": 4, "bf16": 2, "fp16": 2}
SPARE: Final = 2**28  # for activations and the libraries
DEFAULT_CONFIG: Final = {
    "model_type": "llama",
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 32_000,
}


class Plan(Record):
    """``model`` runs; ``whole_layers`` is how many layers the model has that it stands for."""

    model: arch.Model
    whole_layers: int
    ctxs: tuple[int, ...] = (512,)
    batches: tuple[int, ...] = (1, 4)
    backends: tuple[Name, ...] = ("flash", "math")
    new_tokens: int = 32
    dtype: str = "fp32"
    seconds: float = 1.5  # for each group of timings
    limit: float = 50.0  # seconds after which nothing new is begun
    compare_everywhere: bool = False  # every backend at every batch, not at the smallest only
    graphs: bool = False  # decoding recorded once and played back, beside plain
    compiled: bool = False  # decoding through torch.compile, beside plain

    @property
    def torch_dtype(self) -> torch.dtype:
        """torch's own."""
        found: torch.dtype = getattr(torch, DTYPES[self.dtype])
        return found

    def backends_at(self, batch: int) -> tuple[Name, ...]:
        """What is compared there."""
        return self.backends if self.compare_everywhere or batch == min(self.batches) else self.backends[:1]

    @property
    def layers(self) -> int:
        """How many run."""
        return self.model.main.num_hidden_layers

    @property
    def shrunk(self) -> bool:
        """Whether fewer layers run than the model has."""
        return self.layers < self.whole_layers


def default_dtype() -> str:
    """bf16 where the processor multiplies it, else fp32; where it only emulates it, bf16 is many times slower."""
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if "avx2" in has:
        return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") else "fp32"
    mkldnn = torch.ops.mkldnn
    known = hasattr(mkldnn, "_is_mkldnn_bf16_supported")
    return "bf16" if known and mkldnn._is_mkldnn_bf16_supported() else "fp32"


def require_decoder(model: arch.Model) -> None:
    """Refuse what does not write one token after another by itself.

    Raises:
        RequestError: naming the model.
    """
    decodes = model.main.role == "decoder" and model.head is not None and model.head.kind == "lm"
    if not decodes or model.stack("encoder") is not None:
        raise RequestError(
            f"txcalc bench runs decoders with a head over the vocabulary; {model.name} ({model.model_type}) is another",
            "txcalc check holds its formulas against the reference model",
        )


def in_dtype(model: arch.Model, dtype: str) -> arch.Model:
    """The model as it is run: every parameter and the cache in ``dtype``."""
    return model.replace(dtype=DTYPES[dtype])


def with_layers(model: arch.Model, layers: int) -> arch.Model:
    """The model with its first ``layers`` layers.

    Raises:
        RequestError: it has fewer.
    """
    have = model.main.num_hidden_layers
    if layers > have:
        raise RequestError(f"--layers {layers}: {model.name} has {have} layers", f"give 1 to {have}")
    runs, left = [], layers
    for index, count in model.main.runs:
        if left:
            runs.append((index, min(count, left)))
            left -= min(count, left)
    small = model.main.replace(runs=tuple(runs))
    return model.replace(stacks=tuple(small if stack is model.main else stack for stack in model.stacks))


# ---- memory ---------------------------------------------------------------------------------------------------------


def weight_bytes(model: arch.Model, dtype: str) -> int:
    """Bytes of every parameter, by the formula."""
    return int(params(model).figures()["params.total"]) * WIDTHS[dtype]


def cache_bytes(model: arch.Model, *, batch: int, ctx: int) -> int:
    """Bytes of places and states of a cache, by the formula."""
    figures = kv_cache(model, ctx=ctx, batch=batch).figures()
    return int(figures["kv_cache.total_bytes"]) + batch * int(figures["kv_cache.state_bytes"])


def needed(plan: Plan) -> int:
    """Bytes that the smallest cell of the plan takes, before any is allocated; larger ones may be rows that say no."""
    smallest = cache_bytes(plan.model, batch=min(plan.batches), ctx=min(plan.ctxs) + plan.new_tokens)
    return weight_bytes(plan.model, plan.dtype) + smallest + SPARE


def fitted(plan: Plan, free: int | None, *, asked: bool) -> Plan:
    """The plan with as many layers as fit in ``free`` bytes; ``asked``: their number was given and is not changed.

    Raises:
        RequestError: what was asked for does not fit, or not even one layer does: with the sum.
    """
    if free is None or needed(plan) <= free:
        return plan
    most = 0 if asked else _most_layers(plan, free)
    if most < 1:
        weights = weight_bytes(plan.model, plan.dtype)
        total = needed(plan)
        raise RequestError(
            f"{plan.model.name} with {_layers(plan.layers)} in {plan.dtype} needs {_gib(weights)} of weights, "
            f"{_gib(total - weights - SPARE)} of cache and {_gib(SPARE)} to work in, together {_gib(total)}; "
            f"{_gib(free)} are free",
            "try --layers with fewer, --dtype bf16, or a shorter --ctx",
        )
    return plan.replace(model=with_layers(plan.model, most))


def _most_layers(plan: Plan, free: int) -> int:
    low, high = 0, plan.layers
    while high - low > 1:
        middle = (low + high) // 2
        fits = needed(plan.replace(model=with_layers(plan.model, middle))) <= free
        low, high = (middle, high) if fits else (low, middle)
    return low


def _layers(number: int) -> str:
    return f"{number} layer{'s' if number != 1 else ''}"


def _gib(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB"
