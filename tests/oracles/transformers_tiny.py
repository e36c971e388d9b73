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
    bias, and what is added to logits.

    transformers starts norms at 1 and biases at 0: a norm or bias in the wrong place would then go unnoticed.
    """
    torch.manual_seed(seed)
    read = transformers.AutoConfig.for_model(**copy.deepcopy(config))
    kind = getattr(transformers, config["architectures"][0])
    model = kind._from_config(read, attn_implementation=_attention(config)).float().eval()
    _mend(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:  # a table of sines is none that is learned
                parameter.add_(torch.randn_like(parameter) * spread)
        for name, buffer in model.named_buffers():
            if name.endswith(("e_score_correction_bias", "expert_bias", "final_logits_bias")):
                buffer.add_(torch.randn_like(buffer) * spread)
    return model


def _mend(model: Any) -> None:
    """NLLB-MoE's experts read the numbers of chosen experts; transformers 5.23 hands them a mask of 0 and 1."""
    for module in model.modules():
        if type(module).__name__ == "NllbMoeSparseMLP":
            run = module.experts.forward
            module.experts.forward = lambda hidden, mask, probs, run=run: run(hidden, *reversed(probs.topk(2)))


def _attention(config: dict[str, Any]) -> str:
    """Eager, but for Falcon with ALiBi: transformers 5.23 adds the bias there twice, in the mask and to the scores."""
    return "sdpa" if config.get("alibi") else "eager"
