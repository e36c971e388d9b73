"""Bytes of a model's weights as its files hold them: read from a file's header, or told from quantization_config."""

from __future__ import annotations

import os
from typing import Final

from txcalc.architecture import Model
from txcalc.cards.finding import Source
from txcalc.errors import RequestError
from txcalc.result import Node, leaf, total
from txcalc.stored import kinds
from txcalc.stored.answer import SOURCE, TOLD
from txcalc.stored.comparing import AGAIN, Accounting, compare
from txcalc.stored.predicted import predicted

_NOT_LOADED: Final = (kinds.MULTI_TOKEN, kinds.OTHER, AGAIN)


def stored_weights(model: Model, source: Source) -> Node | None:
    """``memory.weights``; None where neither a file nor the config tells."""
    config = source.card.config if source.card else {}
    opened = source.opened if source.opened else source.checkpoint() if source.weights else None
    if opened is not None:
        where = os.path.basename(os.path.abspath(opened.where))
        return _node(compare(opened, model, config), SOURCE, f"as {where} stores them")
    try:
        accounting, reasons = predicted(model, config)
    except RequestError:
        return None
    return _node(accounting, TOLD, f"as {model.quantization} stores them").estimated(reasons)


def _node(accounting: Accounting, source: str, convention: str) -> Node:
    held = accounting.checkpoint.tensors
    parts = [
        leaf(component, "bytes", sum(held[name].nbytes for name in names), note=f"{len(names):,} tensors")
        for component, names in accounting.components.items()
        if component not in _NOT_LOADED
    ]
    return total("weights", "bytes", parts, key="memory.weights", source=source, convention=convention)
