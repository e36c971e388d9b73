"""What transformers' modules say of themselves once they are built: settings that no count depends on.

Built on the CPU, because a rotary table on the meta device has no values: small configs only.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers


def model_of(config: dict[str, Any]) -> Any:
    """The causal language model of a small config, with random weights."""
    config = copy.deepcopy(config)
    made = transformers.AutoConfig.for_model(**config)
    return transformers.AutoModelForCausalLM.from_config(made)


def modules(model: torch.nn.Module, ending: str) -> list[Any]:
    """Every module whose class name ends so, in order of layers."""
    return [module for module in model.modules() if type(module).__name__.endswith(ending)]


def inverse_frequencies(theta: float, dim: int, factor: float = 1.0) -> torch.Tensor:
    """theta^(-2i / dim) / factor, i = 0 .. dim / 2 - 1 (Su et al. 2021, section 3.2.2)."""
    return 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim) / factor
