"""The transformer as a torch model, built from an Architecture.

Read in this order: ``norms``, ``rotary`` and ``positions``; ``backends`` (the attention product) and ``attention``;
``feed_forward``; ``blocks`` (a layer), ``stack`` and ``model``; then ``cache``, which makes decoding fast.
"""

from txcalc.reference.backends import Backend
from txcalc.reference.cache import DecoderCache
from txcalc.reference.model import Output, Transformer, build

__all__ = ["Backend", "DecoderCache", "Output", "Transformer", "build"]
