"""torch's FlopCounterMode over transformers' models on the meta device: what really runs, without weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import masking_utils

from tests.oracles.transformers_meta import build

DEVICE = torch.device("meta")
CONVOLUTION_BACKWARD = torch.ops.aten.convolution_backward


def tokens(batch: int, length: int) -> torch.Tensor:
    """Token ids that nobody reads the values of."""
    return torch.zeros(batch, length, dtype=torch.long, device=DEVICE)


def model_of(config: dict[str, Any]) -> Any:
    """The model of a config; experts run as batched products, so that only the routed ones count."""
    return build({**config, "experts_implementation": "batched_mm"}).eval()


def inputs_of(model: Any, *, batch: int, seq: int, source: int | None = None) -> dict[str, Any]:
    """Inputs of a text model; of two stacks where ``source`` is given."""
    if source is None:
        return {"input_ids": tokens(batch, seq)}
    if model.config.model_type == "whisper":
        frames = torch.zeros(batch, model.config.num_mel_bins, 2 * source, device=DEVICE)
        return {"input_features": frames, "decoder_input_ids": tokens(batch, seq)}
    return {"input_ids": tokens(batch, source), "decoder_input_ids": tokens(batch, seq)}


@contextmanager
def no_values_read() -> Iterator[None]:
    """Making a mask reads position ids and padding, and meta tensors hold no values: nothing is packed or padded."""
    with (
        patch.object(masking_utils, "find_packed_sequence_indices", lambda *_, **__: None),
        patch.object(masking_utils, "fast_all", lambda _: True),
    ):
        yield


def forward(model: Any, **inputs: Any) -> int:
    """FLOPs of one forward pass."""
    with no_values_read(), FlopCounterMode(display=False) as counter:
        model(**inputs)
    return int(counter.get_total_flops())


def backward(model: Any, output: str | int = 0, **inputs: Any) -> tuple[int, int]:
    """(products, convolutions): FLOPs of the backward pass from one output, every parameter trained."""
    with no_values_read():
        found = model(**inputs)[output]
    with FlopCounterMode(display=False) as counter:
        found.sum().backward()
    convolutions = counter.get_flop_counts()["Global"].get(CONVOLUTION_BACKWARD, 0)
    return int(counter.get_total_flops()) - convolutions, convolutions


def decode(model: Any, *, batch: int, ctx: int) -> int:
    """FLOPs of one token after ``ctx`` cached ones."""
    with no_values_read(), torch.no_grad():
        cache = model(input_ids=tokens(batch, ctx), use_cache=True)
        name = "cache_params" if "cache_params" in cache else "past_key_values"
        with FlopCounterMode(display=False) as counter:
            model(input_ids=tokens(batch, 1), use_cache=True, **{name: cache[name]})
    return int(counter.get_total_flops())


def on_cpu(config: dict[str, Any], **inputs: Any) -> int:
    """FLOPs of one forward pass of a tiny model with real tensors, where the model reads values; eager attention,
    because the fused kernel on CPU counts nothing."""
    made = transformers.AutoConfig.for_model(**config)
    model = getattr(transformers, config["architectures"][0])._from_config(made, attn_implementation="eager").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**inputs)
    return int(counter.get_total_flops())
