"""The transformer as a torch model, built from an Architecture.

Read in this order. The parts: ``norms``, ``rotary``, ``positions``; ``masks`` and ``backends`` (the attention product),
``attention``; ``feed_forward``, ``experts``. The whole: ``blocks`` (a layer), ``embeddings``, ``heads``, ``stack``,
``model``. Decoding: ``cache`` and ``context``. Then what later papers put in the place of a part:
``latent_attention`` and ``indexer``, ``differential``, ``global_tokens``, ``content_positions``; ``convolution``,
``recurrent``, ``state_space``, ``delta``, ``gated_recurrence``, ``linear_attention``. Beside them: ``device``,
``graph`` and ``packing`` (speed), ``lora`` and ``initialise`` (training), ``support`` (what is not built).
"""

from txcalc.reference.backends import Backend
from txcalc.reference.cache import DecoderCache
from txcalc.reference.model import Output, Transformer, build

__all__ = ["Backend", "DecoderCache", "Output", "Transformer", "build"]
