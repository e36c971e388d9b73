"""Parameters, gradients and optimizer states: bytes a parameter, by precision recipe and optimizer.

A recipe says which copies of a parameter there are. Sources stand with each; every figure is bytes a parameter on one
device. What a data-parallel optimizer divides is marked, so that published tables can be checked; sharding itself is
out of scope.
"""

from __future__ import annotations

from typing import Final, Literal

from txcalc.errors import RequestError
from txcalc.expression import Expression, exact, symbol
from txcalc.record import Record

Stage = Literal["none", "optimizer", "gradients", "parameters"]
STAGES: Final[tuple[Stage, ...]] = ("none", "optimizer", "gradients", "parameters")


class Recipe(Record):
    """Bytes a parameter of each copy; ``state``: of one optimizer state.

    ``precision``: what the forward pass runs in. ``buffers``: gradients stand in buffers all the time, so that a new
    one is added and freed; otherwise they come with the backward pass. ``divided``: copies that the recipe's own
    optimizer divides among data-parallel devices.
    """

    name: str
    precision: str
    parameter: int
    gradient: int
    state: int
    master: int = 0
    gradient_copy: int = 0
    buffers: bool = False
    source: str = "torch.optim keeps its states in the parameter's dtype"

    def bytes_per_parameter(self, states: int = 2) -> int:
        """All copies, with that many optimizer states (Adam: 2)."""
        return self.parameter + self.gradient + self.gradient_copy + self.master + states * self.state


_TORCH: Final = (
    Recipe(name="bf16", precision="bf16", parameter=2, gradient=2, state=2),
    Recipe(name="fp16", precision="fp16", parameter=2, gradient=2, state=2),
    Recipe(name="fp32", precision="fp32", parameter=4, gradient=4, state=4),
    Recipe(name="autocast", precision="autocast", parameter=4, gradient=4, state=4),
)
RECIPES: Final = {
    each.name: each
    for each in (
        *_TORCH,
        Recipe(
            name="megatron",
            precision="bf16",
            parameter=2,
            gradient=4,
            state=4,
            master=4,
            buffers=True,
            source="Megatron-LM, docs on its distributed optimizer: 18 bytes a parameter, with it 6 + 12 / DP",
        ),
        Recipe(
            name="deepspeed",
            precision="bf16",
            parameter=2,
            gradient=2,
            gradient_copy=4,
            state=4,
            master=4,
            buffers=True,
            source="DeepSpeed's ZeRO-2 estimate: 2 + 18 / N bytes a parameter; also the Ultra-Scale Playbook's 20",
        ),
        Recipe(
            name="zero-paper",
            precision="fp16",
            parameter=2,
            gradient=2,
            state=4,
            master=4,
            buffers=True,
            source="ZeRO (Rajbhandari et al. 2019, arXiv 1910.02054), section 3.1 and figure 1: 2 + 2 + 12",
        ),
    )
}


class Optimizer(Record):
    """How many states of a parameter's size it keeps; ``factored``: a row and a column of a matrix instead.

    ``counters``: a step counter of 4 bytes a tensor. ``temporary``: torch's foreach implementation, its default on a
    GPU, makes that many tensors of every parameter's size at once; the fused one makes none.
    """

    name: str
    states: int
    factored: bool = False
    counters: bool = False
    temporary: int = 0


OPTIMIZERS: Final = {
    each.name: each
    for each in (
        Optimizer(name="sgd", states=0),
        Optimizer(name="momentum", states=1),
        Optimizer(name="adam", states=2, counters=True, temporary=1),
        Optimizer(name="adamw", states=2, counters=True, temporary=1),
        Optimizer(name="amsgrad", states=3, counters=True, temporary=1),
        Optimizer(name="adafactor", states=0, factored=True, counters=True, temporary=1),
    )
}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        RequestError: an unknown name.
    """
    if name not in RECIPES:
        raise RequestError(f"unknown precision recipe {name!r}", f"one of {', '.join(RECIPES)}")
    return RECIPES[name]


def optimizer_named(name: str) -> Optimizer:
    """The optimizer of that name.

    Raises:
        RequestError: an unknown name.
    """
    if name not in OPTIMIZERS:
        raise RequestError(f"unknown optimizer {name!r}", f"one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]


def states_per_device(
    num_params: int, recipe: Recipe, *, states: int = 2, devices: int = 1, stage: Stage = "none"
) -> float:
    """Bytes of model states on each of ``devices`` data-parallel devices, as a ZeRO stage divides them.

    Stage ``optimizer`` divides states and master copies (P_os), ``gradients`` gradients too (P_os+g), ``parameters``
    everything (P_os+g+p). Source: ZeRO, section 5 and figure 1; Megatron's distributed optimizer is ``optimizer``.
    """
    optimizer = recipe.master + states * recipe.state
    gradients = recipe.gradient + recipe.gradient_copy
    level = STAGES.index(stage)
    kept = [recipe.parameter / (devices if level > 2 else 1)]
    kept += [gradients / (devices if level > 1 else 1), optimizer / (devices if level else 1)]
    return num_params * sum(kept)


def elementwise_states(elements: int, recipe: Recipe, optimizer: Optimizer) -> Expression:
    """Bytes of states as large as the parameters."""
    return exact(optimizer.states) * exact(elements) * symbol("bytes_per_state", recipe.state)
