"""A checkpoint's own list of tensors: the link from a config to an Architecture, from headers alone.

Every name and shape in the files must be one of the model that the config describes, and the other way round.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from txcalc.architecture import Model
from txcalc.errors import ModelError, RequestError
from txcalc.formulas.params import params
from txcalc.measure.comparing import Comparison, compared, skipped
from txcalc.reference import build
from txcalc.reference.checkpoints import Checkpoint, GgufFile, SafetensorsFile, open_directory
from txcalc.reference.names import table_of
from txcalc.reference.names.gguf import gguf_table_of
from txcalc.reference.names.table import Table
from txcalc.reference.weights import Fit, fit_of

_SHOWN = 3


def against_checkpoint(model: Model, path: str) -> Iterator[Comparison]:
    """Elements of the checkpoint's parameters beside ours, and every tensor by name and shape."""
    oracle = f"tensors of {os.path.basename(os.path.abspath(path))}"
    try:
        checkpoint, table = opened(path, model)
        fit = fit_of(build(model, device="meta"), model, checkpoint, table)
    except ModelError:
        raise  # the path is at fault: that is for whoever typed it
    except RequestError as refused:
        yield skipped(model.name, "params", refused.message, oracle=oracle)
        return
    predicted = int(params(model).figures()["params.total"])
    yield compared(
        model.name,
        "params",
        "params.total",
        f"{len(checkpoint)} tensors by name and shape",
        predicted=predicted,
        measured=fit.num_params,
        oracle=oracle,
        agrees=fit.num_params == predicted and not fit.faults,
        note=_faults(fit),
    )


def opened(path: str, model: Model) -> tuple[Checkpoint, Table]:
    """A file or a directory of weights, and the names that such a file uses for this model.

    Raises:
        ModelError: no such path, or no weights there.
        RequestError: the names of this model's type are not known.
    """
    path = os.path.expanduser(path)
    if not os.path.exists(path):
        raise ModelError(f"{path} does not exist", "--against takes transformers, or a checkpoint's file or directory")
    if path.lower().endswith(".gguf"):
        return GgufFile(path), gguf_table_of(model)
    if path.lower().endswith(".safetensors"):
        return SafetensorsFile(path), table_of(model)
    return open_directory(path), table_of(model)


def _faults(fit: Fit) -> str:
    return "; ".join(f"{what}: {_some(names)}" for what, names in fit.faults.items())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
