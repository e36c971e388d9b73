"""How sublayers make a layer: residual steps, each with its norms.

    x = norm_after(x + sum of branches)         branch(x) = norm_out(sublayer(norm_in(x)))

Post-norm is the 2017 Transformer (section 3.1: LayerNorm(x + Sublayer(x))); pre-norm, x + Sublayer(LayerNorm(x)), is
GPT-2's and Llama's. Several branches of one step run in parallel (GPT-J).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.cache import CacheSpec, Entry
from txcalc.reference.context import Context
from txcalc.reference.norms import optional_norm
from txcalc.reference.side_streams import AltUp
from txcalc.reference.streams import HyperConnection
from txcalc.reference.sublayers import make_sublayer


class Branch(nn.Module):
    """One sublayer between its norms, times a constant or a learned scale per channel."""

    def __init__(self, branch: arch.Branch) -> None:
        super().__init__()
        self.scale, self.defer = branch.scale, int(branch.defer)
        self.norm_in = optional_norm(branch.norm_in)
        self.sublayer = make_sublayer(branch.sublayer)
        self.norm_out = optional_norm(branch.norm_out)
        width = branch.sublayer.hidden_size
        self.layer_scale = nn.Parameter(torch.empty(width)) if branch.layer_scale else None
        self.scalar_gate = nn.Parameter(torch.empty(1)) if branch.scalar_gate else None

    def forward(self, x_BTD: Tensor, context: Context, kept: Entry | None) -> Tensor:
        """[B, T, D] -> [B, T, D], what this branch adds to the stream."""
        out_BTD: Tensor = self.norm_out(self.sublayer(self.norm_in(x_BTD), context, kept))
        if self.layer_scale is not None:
            out_BTD = out_BTD * self.layer_scale
        if self.scalar_gate is not None:
            out_BTD = out_BTD * self.scalar_gate.tanh()
        if self.scale != 1.0:
            out_BTD = out_BTD * self.scale
        return F.dropout(out_BTD, context.dropout) if context.dropout else out_BTD


class Step(nn.Module):
    """One residual step: branches that read the same input and are added to it."""

    def __init__(self, step: arch.Residual) -> None:
        super().__init__()
        self.residual, self.skip_scale = step.residual, step.skip_scale
        self.norm_in = optional_norm(step.norm_in)
        self.branches = nn.ModuleList(Branch(branch) for branch in step.branches)
        self.norm_out = optional_norm(step.norm_out)
        self.norm_after = optional_norm(step.norm_after)
        width = step.branches[0].sublayer.hidden_size if step.branches else 0
        self.skip = nn.Parameter(torch.empty(width)) if step.learned_skip else None
        self.streams = HyperConnection(step.streams) if step.streams else None

    def forward(self, x_BTD: Tensor, context: Context, kept: Sequence[Entry | None], late: dict[int, Tensor]) -> Tensor:
        """[B, T, D] -> [B, T, D]. ``late``: steps from now -> what a deferred branch adds there."""
        if self.streams is not None:
            return self.streams(x_BTD, lambda h_BTD: self.added(h_BTD, context, kept, late))
        total_BTD = self.added(x_BTD, context, kept, late)
        if self.residual:
            total_BTD = total_BTD + self.skipped(x_BTD)
        y_BTD: Tensor = self.norm_after(total_BTD)
        return y_BTD

    def skipped(self, x_BTD: Tensor) -> Tensor:
        """What goes around the branches."""
        if self.skip is not None:
            return x_BTD * self.skip
        return x_BTD if self.skip_scale == 1.0 else x_BTD * self.skip_scale

    def added(
        self, x_BTD: Tensor, context: Context, kept: Sequence[Entry | None], late: dict[int, Tensor]
    ) -> Tensor:  # fmt: skip
        """The sum of the branches, [B, T, D]."""
        h_BTD = self.norm_in(x_BTD)
        added = [late.pop(0)] if 0 in late else []
        for branch, entry in zip(self.branches, kept, strict=True):
            assert isinstance(branch, Branch)
            out_BTD = branch(h_BTD, context, entry)
            if branch.defer:
                late[branch.defer] = out_BTD
            else:
                added.append(out_BTD)
        total_BTD: Tensor = self.norm_out(sum(added[1:], added[0])) if added else torch.zeros_like(x_BTD)
        return total_BTD


class Layer(nn.Module):
    """Residual steps one after the other."""

    def __init__(self, layer: arch.Layer) -> None:
        super().__init__()
        self.steps = nn.ModuleList(Step(step) for step in layer.steps)
        self.looks = any(isinstance(each, arch.CrossAttention) and each.optional for each in layer.sublayers())
        self.altup = AltUp(layer.altup) if layer.altup else None
        self.scalar: Tensor | None
        self.register_buffer("scalar", torch.ones(1) if layer.scalar else None)

    def initialise(self) -> None:
        """A stored factor starts as 1."""
        if self.scalar is not None:
            self.scalar.fill_(1.0)

    def forward(self, x_BTD: Tensor, context: Context, kept: Sequence[Entry | None] | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]; ``kept`` has one entry a sublayer, in order of execution.

        With several streams [X, B, T, D] -> the same: the last step reads one and is added to the others.
        """
        if self.looks and context.source is None:
            return x_BTD
        if self.altup is None:
            x_BTD = self._run(list(self.steps), x_BTD, context, kept)
            return x_BTD if self.scalar is None else x_BTD * self.scalar
        predicted_XBTD = self.altup.predict(x_BTD)
        active = self.altup.a.active
        out_BTD = self._run(list(self.steps)[:-1], predicted_XBTD[active], context, kept)
        x_XBTD = self.altup.correct(predicted_XBTD, out_BTD)
        added_BTD = self._run(list(self.steps)[-1:], self.altup.scaled(x_XBTD[active]), context, None)
        return torch.cat((x_XBTD[:1], x_XBTD[1:] + added_BTD))

    def _run(
        self, steps: list[nn.Module], x_BTD: Tensor, context: Context, kept: Sequence[Entry | None] | None
    ) -> Tensor:
        late: dict[int, Tensor] = {}
        first = 0
        for step in steps:
            assert isinstance(step, Step)
            count = len(step.branches)
            entries = [None] * count if kept is None else kept[first : first + count]
            x_BTD = step(x_BTD, context, entries, late)
            late = {steps - 1: out_BTD for steps, out_BTD in late.items()}
            first += count
        return x_BTD

    def new_cache(self, spec: CacheSpec) -> list[Entry | None]:
        """One entry a sublayer, in order of execution."""
        return [branch.sublayer.new_cache(spec) for step in self.steps for branch in step.branches]  # type: ignore[union-attr]  # ModuleList forgets its type
