"""txcalc: the shape and the cost of transformer models: exact, shown and checked.

    >>> import txcalc
    >>> model = txcalc.load("llama3-8b")
    >>> txcalc.params(model).find("params.total").value
    8030261248
    >>> txcalc.kv_cache(model, ctx=8192).find("kv_cache.total_bytes").value
    1073741824

Every function returns a ``Node``: a tree whose every number carries its formula, values, unit, convention and source.
Importing this loads neither torch nor numpy; each name is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; typing itself is left for later
if TYPE_CHECKING:
    from typing import Any

    from txcalc.architecture import Model as Model
    from txcalc.cards import load as load
    from txcalc.configs import architecture_of as architecture_of
    from txcalc.errors import ModelError as ModelError
    from txcalc.errors import RequestError as RequestError
    from txcalc.errors import TxcalcError as TxcalcError
    from txcalc.formulas.attention import attention as attention
    from txcalc.formulas.flop_conventions import conventions as conventions
    from txcalc.formulas.flops import flops as flops
    from txcalc.formulas.kv_cache import kv_cache as kv_cache
    from txcalc.formulas.memory import memory as memory
    from txcalc.formulas.params import params as params
    from txcalc.formulas.training import training_memory as training_memory
    from txcalc.result import Node as Node

__version__ = "0.1.0"

_HOMES = {
    "Model": "txcalc.architecture",
    "ModelError": "txcalc.errors",
    "Node": "txcalc.result",
    "RequestError": "txcalc.errors",
    "TxcalcError": "txcalc.errors",
    "architecture_of": "txcalc.configs",
    "attention": "txcalc.formulas.attention",
    "conventions": "txcalc.formulas.flop_conventions",
    "flops": "txcalc.formulas.flops",
    "kv_cache": "txcalc.formulas.kv_cache",
    "load": "txcalc.cards",
    "memory": "txcalc.formulas.memory",
    "params": "txcalc.formulas.params",
    "training_memory": "txcalc.formulas.training",
}

__all__ = [
    "Model",
    "ModelError",
    "Node",
    "RequestError",
    "TxcalcError",
    "__version__",
    "architecture_of",
    "attention",
    "conventions",
    "flops",
    "kv_cache",
    "load",
    "memory",
    "params",
    "training_memory",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'txcalc' has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return list(__all__)
