"""Hugging Face transformers on tiny random models: fp32, eager attention, no parameter at a neutral start."""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def made(config: dict[str, Any], seed: int = 0, spread: float = 0.05) -> Any:
    """The class that ``architectures`` names, with seeded weights; ``spread`` moves every learned parameter and router
    bias.

    transformers starts norms at 1 and biases at 0: a norm or bias in the wrong place would then go unnoticed.
    """
    torch.manual_seed(seed)
    read = transformers.AutoConfig.for_model(**copy.deepcopy(config))
    kind = getattr(transformers, config["architectures"][0])
    model = kind._from_config(read, attn_implementation=_attention(config)).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:  # a table of sines is none that is learned
                parameter.add_(torch.randn_like(parameter) * spread)
        for name, buffer in model.named_buffers():
            if name.endswith(("e_score_correction_bias", "expert_bias")):
                buffer.add_(torch.randn_like(buffer) * spread)
    return model


def _attention(config: dict[str, Any]) -> str:
    """Eager, but for Falcon with ALiBi: transformers 5.23 adds the bias there twice, in the mask and to the scores."""
    return "sdpa" if config.get("alibi") else "eager"
