"""Starting values, for models that are trained or run without a checkpoint."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import nn

from txcalc.reference.norms import HeadNorm, Norm

STD = 0.02  # GPT-2's (Radford et al. 2019, section 2.3) and BERT's


@runtime_checkable
class SelfStarting(Protocol):
    """A module some of whose parameters start from values of their own."""

    def initialise(self) -> None:
        """Fill those parameters."""


def initialise(model: nn.Module, seed: int = 0) -> None:
    """Fill every parameter: norms keep their input's size, biases are zero, matrices are small and random."""
    generators = {device: torch.Generator(device).manual_seed(seed) for device in _devices(model)}
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                _fill(module, name, parameter, generators[parameter.device])
            for buffer in module.buffers(recurse=False):
                buffer.zero_()
            if isinstance(module, SelfStarting):
                module.initialise()


def _fill(module: nn.Module, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
    if name.endswith("bias"):
        parameter.zero_()
    elif isinstance(module, Norm | HeadNorm):
        parameter.fill_(0.0 if module.unit_offset else 1.0)
    else:
        parameter.normal_(0.0, STD, generator=generator)


def _devices(model: nn.Module) -> set[torch.device]:
    return {parameter.device for parameter in model.parameters()}
