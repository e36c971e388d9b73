"""What flows where: every tensor of one forward pass, caught by hooks as it leaves its module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from txcalc import architecture as arch
from txcalc.reference.blocks import Branch, Layer, Step
from txcalc.reference.experts import Experts
from txcalc.reference.model import Output, Transformer
from txcalc.reference.parts import in_layer, stored_layers
from txcalc.reference.stack import Stack

_SILENT = (nn.Identity, nn.ModuleList, nn.ModuleDict, nn.ParameterDict, nn.Dropout, Branch, Step, Experts, Transformer)


class Caught(NamedTuple):
    """One tensor: the stack and the depth of the layer that it left (None outside layers), and its size.

    ``name``: ``attn.q_proj``; empty for the hidden states that leave a layer. ``rms``: the root of the mean of its
    squares, None on the meta device. ``sublayer``: what the module is part of.
    """

    stack: str
    layer: int | None
    name: str
    shape: tuple[int, ...]
    rms: float | None
    sublayer: arch.Sublayer | None = None


class Flow(NamedTuple):
    """What a pass left: tensors, stack by stack, in the order in which their modules began; and the pass's output."""

    tensors: list[Caught]
    output: Output


@torch.no_grad()
def flow(model: Transformer, inputs: Tensor, *, source: Tensor | None = None, weights: bool = True) -> Flow:
    """Run the model once and catch what flows; ``weights``: attention weights too."""
    with _catching(model) as slots:
        output = model(inputs, source=source, weights=weights)
    roles = [stack.role for stack in model.model.stacks]
    tensors = [slot for slot in slots if isinstance(slot, Caught)]
    tensors = _tables_first(sorted(tensors, key=lambda each: roles.index(each.stack)))  # type: ignore[arg-type]  # a role
    for (depth, kind), weights_BNTS in output.weights.items():
        tensors = _placed(tensors, model.model.main.role, depth, kind, weights_BNTS)
    for name, logits in (("logits", output.logits), ("pooled logits", output.pooled_logits)):
        if logits is not None:
            tensors.append(_caught("", None, name, logits))
    return Flow(tensors, output)


@contextmanager
def _catching(model: Transformer) -> Iterator[list[Caught | None]]:
    """A list that fills while the model runs: a place is taken when a module begins, and filled when it ends."""
    slots: list[Caught | None] = []
    handles = []
    for stack in model.stacks.values():
        assert isinstance(stack, Stack)
        catcher = _Catcher(stack, slots)
        for path, module in stack.named_modules():
            if path and not path.endswith(".table") and not isinstance(module, _SILENT):
                handles += [
                    module.register_forward_pre_hook(catcher.begin(path, module)),
                    module.register_forward_hook(catcher.end(path, module)),
                ]
    try:
        yield slots
    finally:
        for handle in handles:
            handle.remove()


class _Catcher:
    """The hooks of one stack. ``depth`` counts the layers that ran: layers that share parameters are one module."""

    def __init__(self, stack: Stack, slots: list[Caught | None]) -> None:
        self.role, self.slots, self.layers = stack.stack.role, slots, stored_layers(stack.stack)
        self.depth = -1
        self.open: list[int] = []

    def begin(self, path: str, module: nn.Module) -> Any:
        def hook(*_: Any) -> None:
            self.depth += isinstance(module, Layer)
            self.open.append(len(self.slots))
            self.slots.append(None)

        return hook

    def end(self, path: str, module: nn.Module) -> Any:
        parts = path.split(".", 2)
        inside = parts[0] == "layers"
        layer = self.layers[int(parts[1])] if inside else None
        name, sublayer = in_layer(layer, parts[2]) if layer is not None and len(parts) > 2 else ("", None)

        def hook(_: nn.Module, __: Any, out: Any) -> None:
            slot = self.open.pop()
            tensor = out[0] if isinstance(out, tuple) else out
            if isinstance(tensor, Tensor):
                depth = self.depth if inside else None
                self.slots[slot] = _caught(self.role, depth, name if inside else path, tensor, sublayer)

        return hook


def _caught(stack: str, layer: int | None, name: str, x: Tensor, sublayer: arch.Sublayer | None = None) -> Caught:
    rms = None if x.is_meta or not x.is_floating_point() else float(x.float().square().mean().sqrt())
    return Caught(stack, layer, name, tuple(x.shape), rms, sublayer)


def _tables_first(tensors: list[Caught]) -> list[Caught]:
    """What all layers of a stack share, and its first layer made (relative positions), before that layer."""
    for stack in dict.fromkeys(each.stack for each in tensors):
        inside = [i for i, each in enumerate(tensors) if each.stack == stack and each.layer is not None]
        between = range(inside[0], inside[-1]) if inside else range(0)
        shared = [tensors[i] for i in between if tensors[i].stack == stack and tensors[i].layer is None]
        if shared:
            rest = [each for i, each in enumerate(tensors) if i not in between or each not in shared]
            tensors = [*rest[: inside[0]], *shared, *rest[inside[0] :]]
    return tensors


def _placed(tensors: list[Caught], role: str, depth: int, kind: str, weights_BNTS: Tensor) -> list[Caught]:
    """The attention weights before the projection of what they weigh."""
    labels = ("cross",) if kind == "cross" else ("attn", "mla")
    place = next(
        i
        for i, each in enumerate(tensors)
        if (each.stack, each.layer) == (role, depth) and each.name in [f"{label}.o_proj" for label in labels]
    )
    name = tensors[place].name.replace("o_proj", "weights")
    return [*tensors[:place], _caught(role, depth, name, weights_BNTS), *tensors[place:]]
