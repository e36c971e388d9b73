"""What Gemma 3n and 4 share: late layers that read earlier ones' keys and values, and inputs of each layer's own."""

from __future__ import annotations

from txcalc.architecture import PerLayerTable
from txcalc.configs.reader import Reader


def kv_sources(r: Reader, kinds: list[str]) -> list[int | None]:
    """Whose keys and values each layer reads, None: its own.

    The last ``num_kv_shared_layers`` read those of the last layer of their kind before them.

    Raises:
        ModelError: as many shared layers as layers, or a kind whose layers all share.
    """
    shared = r.integer("num_kv_shared_layers", minimum=0)
    if not shared:
        return [None] * len(kinds)
    first = len(kinds) - shared
    if first < 1:
        raise r.error("num_kv_shared_layers", f"is {shared} of {len(kinds)} layers", "leave at least one of each kind")
    own = {kind: i for i, kind in enumerate(kinds[:first])}
    missing = sorted(set(kinds) - set(own))
    if missing:
        raise r.error("num_kv_shared_layers", f"is {shared}: no {missing[0]} layer is left that holds keys and values")
    return [None if i < first else own[kind] for i, kind in enumerate(kinds)]


def per_layer_table(r: Reader, num_layers: int, width: int) -> PerLayerTable | None:
    """The second token table, where the layers have inputs of their own."""
    r.ignore("vocab_size_per_layer_input")
    if not width:
        return None
    return PerLayerTable(
        vocab_size=r.integer("vocab_size_per_layer_input"),
        width=width,
        layers=num_layers,
        norm_eps=r.number("rms_norm_eps"),
    )
