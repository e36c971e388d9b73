"""Every tensor of a model under a name that says what it does: ``decoder.layers.3.attn.q_proj.weight``.

A module's own names say where a tensor stands (step 0, branch 0); these say which sublayer it belongs to, so that a
table of a checkpoint's names can be written down without knowing how a layer is arranged.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from txcalc import architecture as arch

if TYPE_CHECKING:  # tables of names are read without torch
    from txcalc.reference.model import Transformer

_LABELS: Final = {
    arch.SelfAttention: "attn",
    arch.LatentAttention: "mla",
    arch.CrossAttention: "cross",
    arch.MixtureOfExperts: "moe",
    arch.Mamba: "mamba",
    arch.Mamba2: "mamba2",
    arch.GatedDeltaNet: "delta",
    arch.LinearAttention: "linear",
    arch.RealGatedRecurrence: "rglru",
    arch.ShortConvolution: "conv",
    arch.TokenConvolution: "tokenconv",
    arch.FourierMixing: "fourier",
    arch.PerLayerInput: "per_layer",
    arch.LowRankResidual: "low_rank",
}
_STEP: Final = re.compile(r"steps\.(\d+)\.(?:branches\.(\d+)\.)?(?:sublayer(?:\.|$))?(.*)")
_LAYER: Final = re.compile(r"layers\.(\d+)\.(.+)")


class Part(NamedTuple):
    """One tensor: its name in the module's state dict, its shape, the sublayer it belongs to.

    ``numbers``: what a checkpoint's name may count by: ``i`` the layer, ``a`` and ``b`` the numbers in the name under
    which the layer's parameters are shared (ALBERT's group and layer).
    """

    path: str
    shape: tuple[int, ...]
    sublayer: arch.Sublayer | None
    numbers: dict[str, int]


def parts(model: Transformer) -> dict[str, Part]:
    """Every parameter and buffer of the model by its name; of the main stack without the stack's role.

    Layers that share their parameters are there once, under the number of the first that runs.
    """
    layers = {stack.role: stored_layers(stack) for stack in model.model.stacks}
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return dict(_named(path, tuple(tensor.shape), layers) for path, tensor in tensors.items())


def shared(model: arch.Model) -> dict[str, str]:
    """Names under which a checkpoint may hold a tensor once more: tied heads and tables that stacks share."""
    again = {}
    for stack in model.stacks:
        if isinstance(stack.embedding, arch.TokenEmbedding) and stack.embedding.shared_with:
            again[f"{stack.role}.embedding.tokens.weight"] = f"{stack.embedding.shared_with}.embedding.tokens.weight"
    if model.head is not None and model.head.tied:
        table = f"{model.head.tied_to}.embedding.tokens.weight"
        again["head.matrix"] = again.get(table, table)
    return again


def _named(path: str, shape: tuple[int, ...], layers: dict[arch.Role, list[arch.Layer]]) -> tuple[str, Part]:
    if not path.startswith("stacks."):
        return path, Part(path, shape, None, {})
    _, role, rest = path.split(".", 2)
    found = _LAYER.fullmatch(rest)
    if not found:
        return f"{role}.{rest}", Part(path, shape, None, {})
    index, inner = int(found[1]), found[2]
    layer = layers[role][index]  # type: ignore[index]  # the module's stacks are named by role
    name, sublayer = in_layer(layer, inner)
    full, part = layer_part(role, index, layer, name, shape, sublayer)
    return full, part._replace(path=path)


def layer_part(
    role: str, index: int, layer: arch.Layer, name: str, shape: tuple[int, ...], sublayer: arch.Sublayer | None
) -> tuple[str, Part]:
    """A tensor of a layer under its full name; it stands nowhere in a module."""
    numbers = {"i": index, **dict(zip("ab", map(int, re.findall(r"\d+", layer.shared)), strict=False))}
    return f"{role}.layers.{index}.{name}", Part("", shape, sublayer, numbers)


def in_layer(layer: arch.Layer, inner: str) -> tuple[str, arch.Sublayer | None]:
    """``steps.1.branches.0.sublayer.up_proj.weight`` -> (``mlp.up_proj.weight``, the feed-forward).

    A norm of a whole step is named after the step's first branch; what is the layer's own keeps its name.
    """
    if not inner.startswith("steps."):
        return inner, None
    found = _STEP.fullmatch(inner)
    assert found is not None, inner
    step, branch = int(found[1]), int(found[2] or 0)
    if not layer.steps[step].branches:
        number = sum(not each.branches for each in layer.steps[: step + 1])
        return f"stream{number if number > 1 else ''}.{found[3]}", None
    label = _labels(layer)[step][branch]
    if found[2] is None and getattr(layer.steps[step].branches[0], found[3].split(".")[0], None) is not None:
        label += ".step"  # the branch has such a norm too
    return f"{label}.{found[3]}".rstrip("."), layer.steps[step].branches[branch].sublayer


def _labels(layer: arch.Layer) -> list[list[str]]:
    """A label for each branch of each step; a second one of a kind is ``attn2``."""
    seen: dict[str, int] = {}
    labels: list[list[str]] = []
    for step in layer.steps:
        labels.append([])
        for branch in step.branches:
            label = _label(branch.sublayer)
            seen[label] = seen.get(label, 0) + 1
            labels[-1].append(label if seen[label] == 1 else f"{label}{seen[label]}")
    return labels


def _label(sublayer: arch.Sublayer) -> str:
    """A gated feed-forward is ``mlp``, one without a gate ``ffn``: checkpoints name their matrices differently."""
    if isinstance(sublayer, arch.FeedForward):
        return "mlp" if sublayer.gated else "ffn"
    return _LABELS.get(type(sublayer), type(sublayer).__name__.lower())


def stored_layers(stack: arch.Stack) -> list[arch.Layer]:
    """The layers that hold parameters, in the order in which the stack's module holds them."""
    kept: list[arch.Layer] = []
    for layer in stack.sequence():
        if not layer.shared or all(layer.shared != other.shared for other in kept):
            kept.append(layer)
    return kept
