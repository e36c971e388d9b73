"""What an Architecture can describe and this model does not run yet: one list, refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from txcalc import architecture as arch
from txcalc.errors import RequestError

NOT_BUILT: Final = {
    "global_tokens": "Longformer's global tokens",
    "indexer": "the sparse-attention indexer (DeepSeek-V3.2)",
}


def not_built(sublayer: arch.Sublayer) -> None:
    """Refuse what is not built.

    Raises:
        RequestError: naming it.
    """
    for feature in _features(sublayer):
        raise RequestError(
            f"the reference model does not build {NOT_BUILT[feature]} yet",
            "the calculators (params, kvcache, flops) know it",
        )


def _features(sublayer: arch.Sublayer) -> Iterator[str]:
    match sublayer:
        case arch.SelfAttention() if sublayer.global_tokens is not None:
            yield "global_tokens"
        case arch.LatentAttention() if sublayer.indexer is not None:
            yield "indexer"
