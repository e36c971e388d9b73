"""One quantity on one model: the node of its tree, made with plain settings that the answer states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from txcalc.architecture import Model
from txcalc.errors import RequestError
from txcalc.formulas.registry import Quantity
from txcalc.result import Node, total

CTX: Final = 8192
BUDGET: Final = 24 * 2**30
TOKENS: Final = 10**12


def _params(model: Model) -> Node:
    from txcalc.formulas.params import params

    return params(model)


def _kv_cache(model: Model) -> Node:
    from txcalc.formulas.kv_cache import Fit, kv_cache

    tree = kv_cache(model, ctx=CTX, block_size=64)
    return tree.replace(children=(*tree.children, *Fit(model, budget=BUDGET, ctx=CTX).nodes()))


def _flops(model: Model) -> Node:
    from txcalc.formulas.flops import flops

    forward = flops(model, seq=CTX)
    training = flops(model, seq=CTX, phase="train").find("flops.matmul")
    return forward.replace(children=(*forward.children, training.replace(key="", aside=True)))


def _train(model: Model) -> Node:
    from txcalc.formulas.training_run import Machine, training_run
    from txcalc.hardware import device

    machine = Machine(device=device("h100-sxm"), count=1, mfu=0.4, price=2.0)
    return training_run(model, seq=CTX, tokens=TOKENS, machine=machine)


def _attention(model: Model) -> Node:
    from txcalc.formulas.attention import attention

    return attention(model, ctx=CTX)


def _memory(model: Model) -> Node:
    from txcalc.formulas.memory import memory

    return memory(model, ctx=CTX, backend="flash", batched_tokens=None)


def _training(model: Model) -> Node:
    from txcalc.formulas.training import Training, training_memory

    return training_memory(model, Training(seq=CTX))


def _lora(model: Model) -> Node:
    from txcalc.formulas.tape.walk import Lora
    from txcalc.formulas.training import Training, training_memory

    return training_memory(model, Training(seq=CTX, lora=Lora(rank=16, projections=("q_proj", "v_proj"))))


def _conventions(model: Model) -> Node:
    from txcalc.formulas.flop_conventions import conventions

    return total("conventions", "FLOPs", [node.replace(aside=True) for node in conventions(model, seq=CTX)])


TREES: Final[dict[str, tuple[Callable[[Model], Node], str]]] = {
    "params": (_params, ""),
    "kv_cache": (_kv_cache, f"ctx {CTX:,}, batch 1, blocks of 64, a budget of 24 GiB"),
    "flops": (_flops, f"seq {CTX:,}, batch 1"),
    "train": (_train, f"seq {CTX:,}, 1T tokens, one H100 at 40% of its peak, 2 an hour"),
    "attention": (_attention, f"ctx {CTX:,}, batch 1, flash"),
    "memory": (_memory, f"inference, ctx {CTX:,}, batch 1, flash"),
    "training": (_training, f"training, seq {CTX:,}, batch 1, the model's dtype, adamw"),
    "lora": (_lora, f"training, seq {CTX:,}, batch 1, adapters of rank 16 on q_proj and v_proj"),
    "conventions": (_conventions, f"seq {CTX:,}, batch 1"),
}


def evaluated(asked: Quantity, model: Model) -> tuple[Node, str]:
    """(the quantity's node on ``model``, the settings it was made with).

    Raises:
        RequestError: the model has no such figure, or it comes from running the model.
    """
    if not asked.tree:
        raise RequestError(
            f"{asked.key} comes from running a model, or from its files", f"txcalc {asked.key.partition('.')[0]} MODEL"
        )
    make, settings = TREES[asked.tree]
    tree: Any = make(model)
    try:
        return tree.find(asked.key), settings
    except KeyError:
        raise RequestError(f"{model.name} has no {asked.key} at {settings}", "name another model") from None
