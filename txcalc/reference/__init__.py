"""The transformer as a torch model, built from an Architecture.

Read in this order. The parts: ``norms``, ``rotary``, ``positions``; ``masks`` and ``backends`` (the attention product),
``attention``; ``feed_forward``, ``experts``. The whole: ``blocks`` (a layer), ``embeddings``, ``heads``, ``stack``,
``model``. Decoding: ``cache`` and ``context``. Then what later papers put in the place of a part:
``latent_attention`` and ``indexer``, ``differential``, ``global_tokens``, ``content_positions``; ``convolution``,
``recurrent``, ``state_space``, ``delta``, ``gated_recurrence``, ``linear_attention``. Beside them: ``device``,
``graph``, ``chunks``, ``packing`` and ``lean`` (speed), ``lora`` and ``initialise`` (training), ``support`` (what is
not built).

Each name below loads torch when it is first used; ``names`` and ``parts`` never do, so that calculators can read them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from txcalc.reference.backends import Backend as Backend
    from txcalc.reference.cache import DecoderCache as DecoderCache
    from txcalc.reference.model import Output as Output
    from txcalc.reference.model import Transformer as Transformer
    from txcalc.reference.model import build as build

_HOMES = {"Backend": "backends", "DecoderCache": "cache", "Output": "model", "Transformer": "model", "build": "model"}

__all__ = ["Backend", "DecoderCache", "Output", "Transformer", "build"]


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module 'txcalc.reference' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"txcalc.reference.{_HOMES[name]}"), name)
